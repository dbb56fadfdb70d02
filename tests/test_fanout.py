"""Keys handed to threads: no call begins after the fence, and the cycle ends after the last."""

from __future__ import annotations

import gc
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor

import pytest

import hashring
from hashring import clock
from hashring.driver import DriverURL
from hashring.drivers.memory import MemoryDriver
from hashring.errors import BadArgument, StoreUnavailable
from hashring.partition.partition import Partition
from tests.servers.process import wait_until

KEYS = [f"resource-{number}" for number in range(200)]
TTL = 10.0


class Cut(MemoryDriver):
    """The memory store behind a network that can be cut."""

    down = False

    def heartbeat(self) -> None:
        if self.down:
            raise StoreUnavailable("cut by the test")
        super().heartbeat()


@pytest.fixture
def driver() -> Cut:
    return Cut(DriverURL.parse(f"memory://{uuid.uuid4().hex}"), ttl=TTL)


@pytest.fixture
def a(driver: Cut) -> Iterator[Partition]:
    partition = hashring.join(driver, "group", "a")
    assert partition.wait_settled(60)
    yield partition
    partition.leave()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as executor:
        yield executor


class Gate:
    """A poll that waits to be let through."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.begun: list[str] = []
        self.ended: list[str] = []

    def __call__(self, key: str) -> str:
        self.begun.append(key)
        assert self.open.wait(60)
        self.ended.append(key)
        return key.upper()


def test_results_come_in_the_order_of_the_keys(a: Partition, pool: Executor) -> None:
    with a.cycle() as cycle:
        assert list(cycle.map(pool, str.upper, KEYS)) == [key.upper() for key in KEYS]


def test_results_come_as_they_are_ready_where_that_is_asked_for(
    a: Partition, pool: Executor
) -> None:
    late = threading.Event()

    def poll(key: str) -> str:
        if key == KEYS[0]:
            assert late.wait(60)
        return key

    with a.cycle() as cycle:
        results = cycle.map(pool, poll, KEYS, ordered=False)
        found = [next(results) for _ in KEYS[1:]]
        late.set()
        assert set(found) == set(KEYS[1:])
        assert list(results) == [KEYS[0]]


def test_no_call_begins_after_the_fence(
    a: Partition, driver: Cut, pool: Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    poll = Gate()
    with a.cycle() as cycle:
        results = cycle.map(pool, poll, KEYS)
        wait_until(lambda: len(poll.begun) == 4, what="as many calls as threads")
        driver.down = True
        now = clock.boottime
        monkeypatch.setattr(clock, "boottime", lambda: now() + 9.0)  # as where it was paused
        assert not cycle.valid
        poll.open.set()

        assert list(results) == [key.upper() for key in KEYS[:4]]
        # What the cycle gives up is told apart from what it has done.
        assert len(poll.begun) == 4
    assert pool.submit(len, KEYS).result(60) == len(KEYS)  # nothing of it fills the pool
    assert len(poll.begun) == 4


def test_no_more_calls_run_at_once_than_was_said(a: Partition, pool: Executor) -> None:
    poll = Gate()
    with a.cycle() as cycle:
        results = cycle.map(pool, poll, KEYS, in_flight=2)
        wait_until(lambda: len(poll.begun) == 2)
        assert pool.submit(len, KEYS).result(60) == len(KEYS)  # the pool has threads left
        assert len(poll.begun) == 2
        poll.open.set()
        assert len(list(results)) == len(KEYS)


def test_a_cycle_whose_results_nobody_asks_for_ends_when_all_have_been_polled(
    a: Partition, pool: Executor
) -> None:
    polled: list[str] = []
    with a.cycle() as cycle:
        cycle.map(pool, polled.append, KEYS)
    assert sorted(polled) == sorted(KEYS)

    polled.clear()
    windows = a.cycles(0.2)
    next(windows).map(pool, polled.append, KEYS)
    next(windows)
    assert sorted(polled) == sorted(KEYS)
    windows.close()


def test_what_a_call_raises_is_raised_in_its_place(a: Partition, pool: Executor) -> None:
    def poll(key: str) -> str:
        if key == KEYS[2]:
            raise ZeroDivisionError(key)
        return key

    with a.cycle() as cycle:
        results = cycle.map(pool, poll, KEYS)
        assert [next(results), next(results)] == KEYS[:2]
        with pytest.raises(ZeroDivisionError, match=KEYS[2]):
            next(results)
        assert list(results) == KEYS[3:]


def test_an_error_that_nobody_asked_for_is_in_the_log(
    a: Partition, pool: Executor, caplog: pytest.LogCaptureFixture
) -> None:
    with a.cycle() as cycle:
        cycle.map(pool, int, KEYS[:3])

    assert "3 calls of cycle.map failed" in caplog.text


def test_a_block_left_by_an_exception_begins_no_call_and_waits_for_those_in_flight(
    a: Partition, pool: Executor
) -> None:
    poll = Gate()
    ended = -1
    maps = []

    def work() -> None:
        nonlocal ended
        try:
            with a.cycle() as cycle:
                maps.append(cycle.map(pool, poll, KEYS))
                wait_until(lambda: len(poll.begun) == 4)
                _ = 1 / 0
        except ZeroDivisionError:
            ended = len(poll.ended)

    thread = threading.Thread(target=work)
    thread.start()
    wait_until(lambda: maps and maps[0]._cancelled, what="the end of the block")
    poll.open.set()
    thread.join(60)

    assert ended == len(poll.begun) == 4


def test_slots_stay_pinned_until_the_last_call_has_ended_however_the_cycle_ends(
    a: Partition, pool: Executor
) -> None:
    poll = Gate()

    def work() -> Iterator[None]:
        for cycle in a.cycles(3600):
            cycle.map(pool, poll, KEYS)
            yield

    running = work()
    next(running)
    wait_until(lambda: len(poll.begun) == 4)
    del running  # a finaliser ends the cycle, and waits for nothing
    gc.collect()
    b = hashring.join(a._membership.driver.url, "group", "b", ttl=TTL)
    wait_until(lambda: len(b.members) == len(a.members) == 2)
    assert not b.wait_settled(0.3)

    poll.open.set()

    assert b.wait_settled(60)
    assert len(poll.begun) == 4
    b.leave()


def test_a_pool_that_is_shut_down_ends_the_map(a: Partition) -> None:
    poll = Gate()
    pool = ThreadPoolExecutor(1)
    with a.cycle() as cycle:
        blocker: Future[str] = pool.submit(poll, "blocks the pool")
        results = cycle.map(pool, poll, KEYS)
        pool.shutdown(wait=False, cancel_futures=True)
        poll.open.set()
        assert list(results) == []
        assert blocker.result(60)
        with pytest.raises(RuntimeError, match="shutdown"):
            cycle.map(pool, poll, KEYS)


def test_calls_can_be_spread_over_the_window(a: Partition, pool: Executor) -> None:
    cycles = a.cycles(1.0)
    next(cycles)
    cycle = next(cycles)
    moments: dict[str, float] = {}

    def poll(key: str) -> None:
        moments[key] = clock.wall()

    list(cycle.map(pool, poll, KEYS[:40], spread=0.5))

    expected = cycle.owned(KEYS[:40], spread=0.5)
    assert expected._moments is not None
    for key, due in zip(expected._keys, expected._moments, strict=True):
        assert moments[key] >= due - 0.02
    cycles.close()


@pytest.mark.parametrize("in_flight", [0, -1, True, 1.5])
def test_a_wrong_number_in_flight_is_an_error(
    a: Partition, pool: Executor, in_flight: object
) -> None:
    with a.cycle() as cycle, pytest.raises(BadArgument, match="in_flight"):
        cycle.map(pool, len, KEYS, in_flight=in_flight)  # type: ignore[arg-type]


def test_processes_are_refused_since_they_cannot_see_the_fence(a: Partition) -> None:
    with (
        ProcessPoolExecutor(1) as processes,
        a.cycle() as cycle,
        pytest.raises(BadArgument, match="threads"),
    ):
        cycle.map(processes, len, KEYS)
