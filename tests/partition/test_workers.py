"""Workers: one thread for each key that is held, started on gain and ended on loss."""

from __future__ import annotations

import itertools
import threading
import time
from collections import defaultdict

import pytest

import hashring
from hashring import clock
from hashring.errors import BadArgument, BadKey, GroupMismatch
from hashring.partition.keeping import Keeper
from hashring.partition.partition import Partition
from tests.servers.process import wait_until

KEYS = [f"queue-{number}" for number in range(24)]
TTL = 30.0


class Log:
    """Who works which key, and from when to when."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.at_work: dict[str, list[str]] = defaultdict(list)
        self.begun: dict[str, list[str]] = defaultdict(list)
        self.twice: list[str] = []

    def worker(self, member: str):
        def work(key: str, stop: hashring.Stop) -> None:
            with self.lock:
                if self.at_work[key]:
                    self.twice.append(key)
                self.at_work[key].append(member)
                self.begun[key].append(member)
            stop.wait()
            with self.lock:
                self.at_work[key].remove(member)

        return work

    def of(self, member: str) -> set[str]:
        with self.lock:
            return {key for key, members in self.at_work.items() if member in members}


def comes_and_goes(name: str, log: Log, url: str, workers: hashring.Workers[str]) -> None:
    expected = set(hashring.HashRing(["a", name]).owned(name, KEYS))
    with (
        hashring.join(url, "group", name, ttl=TTL) as other,
        other.keep(log.worker(name), KEYS),
    ):
        wait_until(lambda: log.of(name) == expected)
        assert set(workers.running) == set(KEYS) - expected


def test_each_key_has_one_worker_whoever_comes_and_goes(url: str) -> None:
    log = Log()
    with hashring.join(url, "group", "a", ttl=TTL) as a, a.keep(log.worker("a"), KEYS) as workers:
        wait_until(lambda: log.of("a") == set(KEYS))
        for name in ("b", "c"):
            comes_and_goes(name, log, url, workers)
        wait_until(lambda: log.of("a") == set(KEYS))

    assert log.twice == []
    assert not log.of("a")


def test_a_slot_is_let_go_only_when_its_worker_has_ended(a: Partition, url: str) -> None:
    may_end, told = threading.Event(), threading.Event()

    def slow(key: str, stop: hashring.Stop) -> None:
        stop.wait()
        told.set()
        may_end.wait(60)

    with a.keep(slow, KEYS), hashring.join(url, "group", "b", ttl=TTL) as b:
        assert told.wait(60)
        wait_until(lambda: "a" in b.waiting_for)
        mine = hashring.HashRing(["a", "b"]).owned("b", KEYS)
        assert not b.owned(mine)
        may_end.set()
        wait_until(lambda: b.owned(mine) == mine)


def test_a_worker_that_ends_by_itself_is_started_again_after_a_growing_pause(
    a: Partition, caplog: pytest.LogCaptureFixture
) -> None:
    begun: list[float] = []

    def fails(key: str, stop: hashring.Stop) -> None:
        begun.append(time.monotonic())
        if len(begun) < 4:
            raise ValueError("no connection")
        if len(begun) < 5:
            return
        stop.wait()

    with a.keep(fails, ["one"], first_pause=0.05, longest_pause=1.0):
        wait_until(lambda: len(begun) == 5)

    # Each pause is at least half of its bound, which doubles.
    gaps = [after - before for before, after in itertools.pairwise(begun)]
    assert all(gap >= 0.5 * 0.05 * 2**number for number, gap in enumerate(gaps)), gaps
    assert "the worker of 'one' failed: ValueError('no connection')" in caplog.text


def test_keys_may_be_added_and_removed_while_it_runs(a: Partition) -> None:
    log = Log()
    with a.keep(log.worker("a")) as workers:
        assert workers.running == []
        workers.add("one", "two")
        wait_until(lambda: log.of("a") == {"one", "two"})
        workers.remove("one", "unknown")
        wait_until(lambda: log.of("a") == {"two"})
        workers.replace(["two", "three"])
        wait_until(lambda: log.of("a") == {"two", "three"})
        assert set(workers.keys) == {"two", "three"}
        workers.add("one")
        wait_until(lambda: log.of("a") == {"one", "two", "three"})

    assert log.begun["two"] == ["a"], "who stays is not disturbed"
    assert log.twice == []


def test_at_the_fence_every_worker_is_told_and_afterwards_started_again(cut) -> None:
    log, driver = Log(), cut()
    with hashring.join(driver, "group", "a") as a, a.keep(log.worker("a"), KEYS):
        wait_until(lambda: log.of("a") == set(KEYS))
        driver.down = True
        wait_until(lambda: not log.of("a"))
        driver.down = False
        wait_until(lambda: log.of("a") == set(KEYS))

    assert log.twice == []


def test_a_worker_learns_of_the_fence_by_itself_and_how_long_it_has(cut) -> None:
    driver, seen = cut(), []
    told = threading.Event()

    def work(key: str, stop: hashring.Stop) -> None:
        seen.append((bool(stop), stop.remaining))
        while not stop.wait(0.01):
            pass
        seen.append((stop.is_set(), stop.remaining))
        told.set()

    with hashring.join(driver, "group", "a") as a, a.keep(work, ["one"], longest_pause=60):
        wait_until(lambda: seen)
        driver.down = True
        assert told.wait(60)

    (was_told, had), (is_told, has) = seen[:2]
    assert not was_told
    assert 0 < had <= driver.ttl
    assert is_told
    assert has == 0


def test_stopping_the_partition_ends_the_wait_for_the_workers(a: Partition) -> None:
    log = Log()
    with a.keep(log.worker("a"), KEYS) as workers:
        assert not workers.wait(0.01)
        wait_until(lambda: log.of("a") == set(KEYS))
        a.stop()
        assert workers.wait(60)
        assert not log.of("a")
        assert workers.running == []


def test_a_drain_from_another_thread_ends_the_workers_first(a: Partition, url: str) -> None:
    log = Log()
    with hashring.join(url, "group", "b", ttl=TTL) as b, b.keep(log.worker("b"), KEYS):
        with a.keep(log.worker("a"), KEYS) as workers:
            wait_until(lambda: log.of("a") and log.of("b"))
            assert a.drain(60)
            assert workers.wait(60)
        wait_until(lambda: log.of("b") == set(KEYS))

    assert log.twice == []


def test_a_member_that_can_never_take_part_ends_its_workers_with_the_error(
    a: Partition, url: str
) -> None:
    log = Log()
    with a.keep(log.worker("a"), KEYS) as workers:
        wait_until(lambda: log.of("a") == set(KEYS))
        a._worker._fail(GroupMismatch("another ring"))
        with pytest.raises(GroupMismatch):
            workers.wait(60)
        assert not log.of("a")


def test_where_no_thread_can_be_started_nothing_stays_pinned(
    a: Partition, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = Log()
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "hashring-worker-bad":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with a.keep(log.worker("a"), ["good"]) as workers:
        wait_until(lambda: log.of("a") == {"good"})
        workers.add("bad")
        with pytest.raises(RuntimeError, match="can't start"):
            workers.wait(60)
        wait_until(lambda: not log.of("a"))
        wait_until(lambda: not a._membership.handoff.is_pinned)


def test_a_worker_that_does_not_end_is_named_in_the_log(
    cut, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    may_end = threading.Event()

    def deaf(key: str, stop: hashring.Stop) -> None:
        may_end.wait(60)

    with hashring.join(cut(), "group", "a") as a, a.keep(deaf, ["one"]) as workers:
        wait_until(lambda: workers.running == ["one"])
        workers.remove("one")
        wait_until(lambda: "the worker of 'one' was told to end" in caplog.text)
        may_end.set()
        wait_until(lambda: workers.running == [])


def test_wrong_arguments_are_refused_at_once(a: Partition) -> None:
    with pytest.raises(BadKey, match="key=str"):
        a.keep(lambda key, stop: None, [1])
    with pytest.raises(BadArgument, match="first_pause"):
        a.keep(lambda key, stop: None, first_pause=-1)
    workers = a.keep(lambda key, stop: None)
    with workers, pytest.raises(BadArgument, match="begun before"):
        workers.__enter__()


def test_a_worker_may_close_them_all(a: Partition) -> None:
    def closes(key: str, stop: hashring.Stop) -> None:
        workers.close()
        stop.wait()

    workers = a.keep(closes, KEYS)
    with workers:
        assert workers.wait(60)


def test_a_worker_is_told_of_a_fence_that_was_over_before_anybody_looked(cut) -> None:
    class Running:
        ended, error, told = False, None, False

        def tell(self) -> None:
            self.told = True

    driver, begun = cut(), []

    def begin(key: str, pin: object) -> Running:
        begun.append(Running())
        return begun[-1]

    with hashring.join(driver, "group", "a") as a:
        assert a.wait_settled(60)
        keeper = Keeper(a._membership, a._loops, begin, (1.0, 1.0))
        keeper.add(["one"], None)
        keeper.turn()
        incarnation = a.incarnation
        driver.down = True
        wait_until(lambda: clock.boottime() > a.deadline + driver.ttl)  # the lease has run out
        driver.down = False
        wait_until(lambda: a.incarnation != incarnation and a.state == "settled")
        keeper.turn()

        assert [one.told for one in begun] == [True]
        begun[0].ended = True
        keeper.turn()
        assert [one.told for one in begun] == [True, False], "the next one after its end"
        keeper.abandon()
