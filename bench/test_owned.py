"""Which of these keys are mine? Everybody on the same list, and the two floors.

The figure of a contender is its least processor time over the rounds, by key: on a shared machine
noise only adds. Rounds are about as long for all, so that all get as many quiet moments. `Keys` and
the rings are made outside that time.
"""

import dataclasses
import math
import time

import pytest

from bench import contenders, keys
from bench.conftest import keys_within, ring_of, rounds_within

ROUND = 0.025  # seconds: what ours and the floors take for a million keys
MEMBERS = (16, 200, 1_000, 10_000)


@dataclasses.dataclass(frozen=True)
class Case:
    """One contender on one ring and one list."""

    members: int
    count: int
    kind: str
    name: str

    def __str__(self):
        return f"{self.members}-{self.count}-{self.kind}-{self.name}"


def cases(full):
    """Return the cases list by list, so that a list is made once and used by all."""
    everybody = list(contenders.BY_NAME)
    quick = [name for name in everybody if contenders.BY_NAME[name].batch]
    lists = [("uuid", 1_000_000, MEMBERS, everybody), ("shuffled", 1_000_000, (200,), quick)]
    if full:
        lists += [
            ("uuid", 10_000, MEMBERS, everybody),
            *((kind, 1_000_000, MEMBERS, everybody) for kind in ("short", "long", "non-ascii")),
            ("uuid", 10_000_000, MEMBERS, everybody),
        ]
    else:
        some = [*quick, contenders.TOOZ, "by hand: mmh3 and bisect"]
        lists += [
            ("uuid", 10_000, (200,), everybody),
            *((kind, 200_000, (200,), some) for kind in ("short", "long", "non-ascii")),
        ]
    return [
        Case(members, count, kind, name)
        for kind, count, sizes, names in lists
        for members in sizes
        for name in names
    ]


def test_owned(benchmark, case):
    contender = contenders.BY_NAME[case.name]
    try:
        ring = ring_of(case.name, case.members)
    except contenders.PeerMissing as error:
        pytest.fail(str(error))
    member = contenders.members(case.members)[case.members // 2]
    call = contender.owned(ring, member)
    given = keys.make(case.kind, case.count)
    measured = contender.keys(given) if contender.batch else keys_within(ROUND, call, given)
    check(contender, ring, member, call, given[:50])
    benchmark.group = f"owned/{case.members}/{case.count}/{case.kind}"
    benchmark.name = case.name
    benchmark.extra_info.update(form="owned", keys=len(measured), **dataclasses.asdict(case))
    if case.name == contenders.OURS and case.kind == "uuid" and case.count == 1_000_000:
        benchmark.extra_info["over_floor"] = over_floor(call, given)
    benchmark.pedantic(call, (measured,), rounds=rounds_within(20 * ROUND, call, measured))


def check(contender, ring, member, call, some):
    """Hold the batch against the single calls: who is fast must also be right."""
    if contender.one is None:
        return
    one = contender.one(ring)
    expected = [key for key in some if one(contender.one_key(key)) in (member, {member})]
    assert list(call(contender.keys(some))) == expected


def over_floor(call, given):
    """Return our time over that of hashing alone, both measured by turns in the same seconds."""
    floor = contenders.BY_NAME[contenders.HASH].owned(None, "")
    least = {call: math.inf, floor: math.inf}
    for _ in range(30):
        for either in least:
            began = time.process_time()
            either(given)
            least[either] = min(least[either], time.process_time() - began)
    return least[call] / least[floor]
