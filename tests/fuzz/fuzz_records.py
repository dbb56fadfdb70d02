"""Seeded fuzzing of what strangers write: records, announcements, and whoever reads them.

``python -m tests.fuzz.fuzz_records --seconds 60 --seed 1``. Good records are mutated, byte by byte
and value by value; each must end as a checked member or as ``BadRecord``, and no reader of a member
may fail. A failure names the seed and the input. ``tests/test_record.py`` runs the short form.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time

from hashring.driver import Reading
from hashring.errors import BadRecord
from hashring.protocol.claims import Claim
from hashring.protocol.handoff import Handoff, Publish
from hashring.protocol.record import Member
from hashring.ring.ring import HashRing, SlotSet
from hashring.telemetry.overlap.overlap import Announcement, BadAnnouncement, compare, open_meters
from hashring.telemetry.overlap.peer import Peer, printable

SPEC = HashRing(slots=256).spec
MINE = Announcement("a", "web1", "one", shared=frozenset({"cpu", "disk.*", "m7"}))

HOSTILE = [
    "1" + "0" * 400, "-1e400", "1e300", "NaN", "Infinity", "-0.0", "5e-324", "null", "true", "[]",
    "{}", '""', '"\\ud800"', '"\\u0000"', '"a\\u001b[2J"', '{"\\udfff":1}', '{"a":1,"a":2}',
    "[" * 50 + "]" * 50, "[" * 990 + "]" * 990, '{"a":' * 60 + "1" + "}" * 60, '["web1"]',
    '{"x":["y"]}', "1" * 5000,
    '"' + "*a?" * 80 + '"', '"!!!"', '"[[]"', '"eJwDAAAAAAE="', "1e12", "-1e12", "[null,null]",
]  # fmt: skip


def good_records():
    meters = {open_meters("*", ["cpu*"]), *(f"m{i}" for i in range(200))}
    packed = Announcement("b", "web2", "two", shared=frozenset(meters))
    plain = Announcement("b", "web1", "one", local=frozenset({"cpu"}), shared=frozenset({"ram"}))
    claims = (Claim(5.0, SlotSet.of(range(9), 256)), Claim(-math.inf, SlotSet.of([200], 256)))
    for meta in ({}, {"host": "web2", "role": "agent"}, plain.to_meta(), packed.to_meta()):
        yield Member("b", "i", 1.0, SPEC, 10.0, meta=meta, claims=claims, through=1.0).to_json()
    yield Member("b", "i", 1.0, HashRing(slots=64).spec, 3.0, applied="v", draining=True).to_json()


def mutated(randomly, record):
    for _ in range(randomly.choice((1, 1, 1, 2, 3))):
        record = randomly.choice((_bytes, _bytes, _value, _value, _value))(randomly, record)
    return record


def _bytes(randomly, record):
    at = randomly.randrange(len(record) + 1)
    end = min(len(record), at + randomly.choice((0, 1, 1, 2, 30)))
    fresh = randomly.randbytes(randomly.choice((0, 1, 1, 2))) if randomly.random() < 0.5 else bytes(
        randomly.choices(b'[]{}",:\\0e-.u9', k=randomly.choice((1, 2, 5)))
    )  # fmt: skip
    return record[:at] + fresh + record[end:]


def _value(randomly, record):
    """Put something hostile in the place of one value of the record."""
    try:
        found = json.loads(record)
    except (ValueError, RecursionError):
        return record
    places = list(_places(found))
    if not places:
        return record
    holder, key = randomly.choice(places)
    holder[key] = "@here@"
    return json.dumps(found).replace('"@here@"', randomly.choice(HOSTILE), 1).encode()


def _places(value):
    rest = [value]
    while rest:
        found = rest.pop()
        keys = (
            found
            if isinstance(found, dict)
            else range(len(found))
            if isinstance(found, list)
            else ()
        )
        for key in list(keys):
            yield found, key
            rest.append(found[key])


class Victims:
    """Who reads a stranger's record: a settled member of the group, and an agent."""

    def __init__(self):
        self.handoff = Handoff(
            "a", incarnations=(f"a{i}" for i in range(10**9)), spec=SPEC, ttl=10.0
        )
        self.records = {"a": self.handoff.start().record}
        self.handoff.joined(0.0)
        self.handoff.heartbeat_confirmed(self.handoff.heartbeat_begins(), 0.0)
        self.meet(None)
        assert self.handoff.is_settled

    def meet(self, record):
        """Let the member read the group with this record in it, and then without."""
        for stranger in (record, None):
            for _ in range(4):
                live = self.records if stranger is None else self.records | {"b": stranger}
                token = self.handoff.reading_begins()
                action = self.handoff.step(Reading(dict(live), math.inf), token, now=1.0, wall=1.0)
                if isinstance(action, Publish):
                    self.records["a"] = action.record
                    self.handoff.published()

    @staticmethod
    def _named(said):
        assert "member 'b'" in said
        return False

    def read(self, record):
        """Let everybody read it; return whether it was a member."""
        try:
            member = Member.from_json("b", record)
        except BadRecord as error:
            said = str(error)
            said.encode()
            return self._named(said)
        json.dumps(dict(member.meta), allow_nan=False).encode()
        repr(member).encode()
        peer = Peer.of(member.meta)
        assert peer.host is None or printable(peer.host) == peer.host
        try:
            announcement = Announcement.parse(member.meta)
            overlap = compare(MINE, announcement)
        except BadAnnouncement as error:
            str(error).encode()
        else:
            hash(announcement.identity)
            assert overlap is None or overlap.describe().isprintable()
        return True


def fuzz(seed, rounds=None, seconds=math.inf):
    """Return how many inputs were read, and how many of them were members.

    Raises:
        AssertionError: a reader failed; the seed and the input are in it.
    """
    randomly = random.Random(seed)
    good = list(good_records())
    victims = Victims()
    end = time.monotonic() + seconds
    count = members = 0
    while (rounds is None or count < rounds) and time.monotonic() < end:
        record = mutated(randomly, randomly.choice(good))
        count += 1
        try:
            members += victims.read(record)
            victims.meet(record)
            assert victims.handoff.is_settled
            assert len(victims.handoff.held(1.0)) == 256
        except Exception as error:
            raise AssertionError(f"seed {seed}, input {count}: {record!r}") from error
    return count, members


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    count, members = fuzz(options.seed, seconds=options.seconds)
    said = f"seed {options.seed}: {count} records read, {members} of them members; no reader failed"
    print(said)  # noqa: T201


if __name__ == "__main__":
    main()
