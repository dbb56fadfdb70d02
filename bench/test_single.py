"""Whose is this one key? A thousand calls in a row, each a call of its own from Python."""

import collections

import pytest

from bench import contenders, keys
from bench.conftest import keys_within, ring_of, rounds_within


def cases(full):
    names = [name for name, contender in contenders.BY_NAME.items() if contender.one]
    return [f"{size}-{name}" for size in (16, 200, 1_000, 10_000) for name in names]


def test_single(benchmark, case):
    size, _, name = case.partition("-")
    contender = contenders.BY_NAME[name]
    try:
        one = contender.one(ring_of(name, int(size)))
    except contenders.PeerMissing as error:
        pytest.fail(str(error))
    # tooz takes bytes: its keys are encoded beforehand, which favours it.
    given = [contender.one_key(key) for key in keys.make("uuid", 1_000)]

    def call(some):
        # The thinnest loop there is, the same for all: no Python bytecode around the calls.
        collections.deque(map(one, some), maxlen=0)

    measured = keys_within(0.01, call, given)
    benchmark.group = f"single/{size}"
    benchmark.name = name
    benchmark.extra_info.update(form="single", members=int(size), name=name, keys=len(measured))
    benchmark.pedantic(call, (measured,), rounds=rounds_within(0.3, call, measured))
