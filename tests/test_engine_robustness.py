"""The compiled engine under abuse: a million calls that leak nothing, and lists that move."""

from __future__ import annotations

import gc
import os
import threading
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from hashring.errors import HashringError


@pytest.fixture(scope="module")
def compiled(twins):
    return twins[0]


def resident():
    """The bytes of memory that this process has."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("calls", [200_000, pytest.param(1_000_000, marks=pytest.mark.long)])
def test_so_many_calls_leak_nothing(compiled, calls):
    # Long because it makes every call there is, in one list.
    ring = compiled.HashRing(["a", "b", "c"], slots=256, vnodes=4)
    some, other = ring.slots("a"), ring.slots("b")
    texts = ["x", "é" * 300, "日本語", b"raw", "z" * 600]
    hashed = compiled.Keys(texts)
    arrays = [
        np.array(["x", "é"]),
        np.array([b"x"]),
        pa.array(["x", "é"]),
        pa.chunked_array([["x"]]),
    ]
    bad = ["x", "y", None]

    def fails(ask, argument):
        with pytest.raises(HashringError):
            ask(argument)

    def all_calls_once():
        for text in texts:
            ring.owner(text)
            some.owns(text)
            ring.slot(text)
        ring.owners("x", 3)
        some & other, some | other, some - other, some ^ other
        some <= other, some == other, hash(some), list(other), some.tobytes()
        for keys in (texts, hashed, tuple(texts), iter(texts), *arrays):
            some.owned(keys)
        some.mask(iter(texts))
        some.owned([1, 2], key=str)
        ring.shares(texts)
        compiled.Keys(texts).remove(["x"])
        compiled.SlotSet.of([1, 2], 256)
        compiled.SlotSet.frombytes(bytes(32), 256)

    def all_failures_once():
        for ask in (some.owned, some.mask, ring.assign, compiled.Keys, hashed.add):
            fails(ask, bad)
        for keys in (pa.array(["x", None]), pa.array([1]), np.array(["\ud800"])):
            fails(some.owned, keys)
        fails(ring.owner, "\ud800")
        fails(ring.owner, None)
        compiled.HashRing(["a", "b"], slots=64, vnodes=2).owners("x", 2)

    done = 0
    for _ in range(2000):  # fills every cache and free list
        all_calls_once()
    all_failures_once()
    gc.collect()
    before = resident()
    while done < calls:
        all_calls_once()
        done += 46
        if not done % 46_000:
            all_failures_once()
    gc.collect()
    assert resident() - before < 16 * 2**20  # a leak of one pointer a call would be 8 MB

    tracemalloc.start()
    try:
        all_calls_once()
        all_failures_once()
        gc.collect()
        start = tracemalloc.get_traced_memory()[0]
        for _ in range(1000):
            all_calls_once()
            all_failures_once()
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - start
    finally:
        tracemalloc.stop()
    assert grown < 32 * 1024  # one object left behind by each round would be 49 KB or more


def run_beside(work, disturb, rounds):
    """Run ``work`` that often while another thread runs ``disturb`` without a pause."""
    done = threading.Event()

    def disturber():
        while not done.is_set():
            disturb()

    thread = threading.Thread(target=disturber)
    thread.start()
    try:
        for _ in range(rounds):
            work()
    finally:
        done.set()
        thread.join()


def test_a_list_that_another_thread_changes_crashes_nothing(twin):
    ring = twin.HashRing(["a", "b"], slots=256, vnodes=4)
    names = [f"key-{i}" for i in range(5000)]
    mine = set(ring.owned("a", names))
    keys = list(names)

    def disturb():
        keys.clear()
        keys.extend([f"key-{i}" for i in range(5000)])
        del keys[100:4000:7]
        keys.reverse()

    def work():
        assert set(ring.owned("a", keys)) <= mine
        assert set(ring.owned("a", iter(keys))) <= mine
        assert set(ring.owned("a", keys, key=lambda item: item)) <= mine
        assert len(ring.mask("a", keys)) <= 5000
        assert set(ring.assign(keys)["a"]) <= mine
        assert set(twin.Keys(keys)) <= set(names)

    run_beside(work, disturb, 30)


def test_keys_that_another_thread_changes_are_seen_before_or_after(twin):
    full = twin.SlotSet.full(64)
    names = [f"key-{i}" for i in range(20_000)]
    more = ["more"] * 20_000
    keys = twin.Keys(names)

    def disturb():
        keys.add(more)
        keys.remove(["more"])

    def work():
        seen = full.owned(keys)
        assert seen in (names, names + more)
        assert len(full.mask(keys)) in (20_000, 40_000)

    run_beside(work, disturb, 30)


def test_an_array_that_another_thread_writes_to_crashes_nothing(compiled):
    half = compiled.HashRing(["a", "b"]).slots("a")
    keys = np.array([f"key-{i}" for i in range(50_000)])
    values = [np.array([f"other-{i}" for i in range(50_000)]).astype(keys.dtype), keys.copy()]

    def disturb():
        for value in values:
            keys[:] = value

    def work():
        assert 0 < len(half.owned(keys)) < 50_000

    run_beside(work, disturb, 30)


def test_rings_are_built_and_asked_by_many_threads_at_once(twin):
    expected = twin.HashRing([f"m{i}" for i in range(20)], slots=256, vnodes=16)
    shared = twin.HashRing([f"m{i}" for i in range(20)], slots=256, vnodes=16)
    keys = [f"key-{i}" for i in range(200)]
    answers = [expected.owners(key, 5) for key in keys]
    wrong = []

    def ask():
        for _ in range(5):
            own = twin.HashRing([f"m{i}" for i in range(20)], slots=256, vnodes=16)
            if own != expected or own.table != expected.table:
                wrong.append(own)
            if [shared.owners(key, 5) for key in keys] != answers:
                wrong.append(shared)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
