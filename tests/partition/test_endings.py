"""How a partition ends that nobody ended in order: a failed join, a finaliser, Ctrl-C."""

from __future__ import annotations

import gc
import random
import sys
import threading
import types
import uuid
import warnings
from collections.abc import Callable, Iterator

import pytest

import hashring
from hashring.driver import DriverURL, load
from hashring.drivers.memory import MemoryDriver
from hashring.errors import StoreUnavailable
from hashring.partition.notes import Signal
from hashring.partition.partition import Partition
from tests.partition.conftest import TTL, records, threads_of_ours
from tests.servers.process import wait_until
from tests.servers.redis import RedisServer

KEYS = [f"resource-{number}" for number in range(500)]


# ---- a join that fails -----------------------------------------------------------------------


class FailsAt(MemoryDriver):
    """The memory store whose step ``step`` raises once, before or after it has done its work."""

    step = ""
    after = False
    error: BaseException = StoreUnavailable("by the test")
    opened = closed = 0

    def _at(self, name: str, work: Callable[[], object]) -> object:
        failing = self.step == name
        if failing and not self.after:
            raise self.error
        result = work()
        if failing:
            raise self.error
        return result

    def open(self) -> None:
        self.opened += 1
        self._at("open", super().open)

    def close(self) -> None:
        self.closed += 1
        super().close()

    def read(self, group):  # type: ignore[no-untyped-def]
        return self._at("read", lambda: super(FailsAt, self).read(group))

    def join(self, group: str, member: str, record: bytes) -> None:
        self._at("join", lambda: super(FailsAt, self).join(group, member, record))

    def heartbeat(self) -> None:
        self._at("heartbeat", super().heartbeat)


def again_at_once(url: str) -> None:
    again = hashring.join(url, "group", "a", ttl=TTL)
    assert again.wait_settled(60)
    again.leave()


ERRORS = [
    StoreUnavailable("by the test"),
    MemoryError("by the test"),
    KeyboardInterrupt("by the test"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", ["open", "read", "join", "heartbeat"])
def test_a_join_that_fails_in_the_store_leaves_nothing(
    url: str, step: str, after: bool, error: BaseException
) -> None:
    driver = FailsAt(DriverURL.parse(url), ttl=TTL)
    driver.step, driver.after, driver.error = step, after, error

    with pytest.raises(type(error)) as raised:
        hashring.join(driver, "group", "a")

    assert raised.value is error
    assert threads_of_ours() == []
    assert driver.closed == driver.opened == 1
    assert records(url) == set()
    again_at_once(url)


@pytest.mark.parametrize("error", [RuntimeError, MemoryError, KeyboardInterrupt])
@pytest.mark.parametrize(
    ("which", "begins"), [("heartbeat", False), ("reconcile", False), ("reconcile", True)]
)
def test_a_join_whose_thread_cannot_be_started_leaves_nothing(
    url: str,
    which: str,
    begins: bool,
    error: type[BaseException],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start = threading.Thread.start

    def failing(thread: threading.Thread) -> None:
        if f"hashring-{which}" not in thread.name:
            start(thread)
            return
        if begins:
            start(thread)
        raise error("by the test")

    driver = FailsAt(DriverURL.parse(url), ttl=TTL)
    monkeypatch.setattr(threading.Thread, "start", failing)
    with pytest.raises(error, match="by the test"):
        hashring.join(driver, "group", "a")
    monkeypatch.undo()

    assert threads_of_ours() == []
    assert driver.closed == 1
    assert records(url) == set()
    again_at_once(url)


def test_a_join_that_cannot_be_taken_back_says_so_and_raises_why_it_failed(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    class Gone(FailsAt):
        step = "heartbeat"

        def leave(self, group: str, member: str) -> None:
            raise StoreUnavailable("nor now")

    driver = Gone(DriverURL.parse(url), ttl=TTL)
    with pytest.raises(StoreUnavailable, match="by the test"):
        hashring.join(driver, "group", "a")

    assert driver.closed == 1
    assert "its lease has to run out: nor now" in caplog.text


def test_a_failed_join_leaves_redis_without_a_member_or_a_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with RedisServer() as server, server.client() as client:

        def connections() -> int:
            return len(client.client_list())

        mine = connections()
        for step in ("open", "read", "join", "heartbeat"):
            with monkeypatch.context() as patch:
                driver = load(DriverURL.parse(server.url), ttl=TTL)
                work = getattr(driver, step)

                def failing(*arguments: object, work: Callable[..., object] = work) -> None:
                    work(*arguments)
                    raise KeyboardInterrupt

                patch.setattr(driver, step, failing)
                with pytest.raises(KeyboardInterrupt):
                    hashring.join(driver, "group", "a")
            wait_until(lambda: connections() == mine, what="no connection is left")
            assert threads_of_ours() == []
        hashring.join(server.url, "group", "a", ttl=TTL).leave()  # not MemberExists


# ---- finalisers ------------------------------------------------------------------------------


def only_for_the_collector(*things: object) -> None:
    """Make garbage of these that only the collector finds, not the count of references."""
    knot: list[object] = [*things]
    knot.append(knot)


@pytest.fixture
def no_automatic_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def block(partition: Partition) -> Iterator[None]:
    with partition.cycle():
        yield


def loop(partition: Partition) -> Iterator[None]:
    for _ in partition.cycles(3600):
        yield


def whole(url: str) -> Iterator[None]:
    with hashring.join(url, "other", "x", ttl=TTL) as partition:
        partition.wait_settled(60)
        yield


def with_the_lock(partition: Partition) -> None:
    with partition._membership.lock:
        gc.collect()


def in_a_change(partition: Partition) -> None:
    with partition._membership.changed:
        partition._membership.changed.notify_all()
        gc.collect()


def in_the_set_of_a_flag(partition: Partition) -> None:
    def collecting(*_: object) -> None:
        gc.collect()

    flag = partition._membership.gone  # nobody minds that it is set
    sys.setprofile(collecting)  # at every call that set() makes
    try:
        flag.set()
    finally:
        sys.setprofile(None)


def in_the_threads_wait(partition: Partition) -> None:
    driver = partition._membership.driver
    wait, collected = driver.wait, threading.Event()

    def waiting(group: str, timeout: float) -> None:
        gc.collect()
        collected.set()
        wait(group, timeout)

    driver.wait = waiting  # type: ignore[method-assign]
    assert collected.wait(60)


@pytest.mark.usefixtures("no_automatic_collection")
@pytest.mark.parametrize("begin", [block, loop])
@pytest.mark.parametrize(
    "collect", [with_the_lock, in_a_change, in_the_set_of_a_flag, in_the_threads_wait]
)
def test_a_cycle_that_is_collected_inside_a_lock_blocks_nobody(
    url: str, begin: Callable[[Partition], Iterator[None]], collect: Callable[[Partition], None]
) -> None:
    with hashring.join(url, "group", "a", ttl=TTL) as a:
        assert a.wait_settled(60)
        running = begin(a)
        next(running)
        assert a._membership.handoff.is_pinned
        only_for_the_collector(running)
        del running

        thread = threading.Thread(target=collect, args=(a,), daemon=True)
        thread.start()
        thread.join(60)

        assert not thread.is_alive()
        wait_until(
            lambda: not a._membership.handoff.is_pinned, within=60, what="the slots are free again"
        )
        with hashring.join(url, "group", "b", ttl=TTL) as b:
            wait_until(lambda: len(b.members) == 2 and b.state == "settled")
            assert b.held


def test_a_finaliser_takes_no_lock_at_all(url: str) -> None:
    with hashring.join(url, "group", "a", ttl=TTL) as a:
        assert a.wait_settled(60)
        for begin in (block, loop):
            running = begin(a)
            next(running)
            held = threading.Event()
            release = threading.Event()

            def hold(held: threading.Event = held, release: threading.Event = release) -> None:
                with a._membership.lock:
                    held.set()
                    release.wait(60)

            holder = threading.Thread(target=hold)
            holder.start()
            assert held.wait(60)
            del running  # another thread has the lock: this returns all the same
            assert holder.is_alive()
            release.set()
            holder.join()
        wait_until(
            lambda: not a._membership.handoff.is_pinned, within=60, what="the slots are free again"
        )


@pytest.mark.usefixtures("no_automatic_collection")
def test_a_finaliser_in_the_midst_of_a_signal_may_set_it_again() -> None:
    signal = Signal()

    class SetsAgain:
        def __del__(self) -> None:
            signal.set()

    def collecting(*_: object) -> None:
        gc.collect()

    only_for_the_collector(SetsAgain())
    sys.setprofile(collecting)  # at every call that set() makes
    try:
        signal.set()
    finally:
        sys.setprofile(None)

    assert signal.wait(0)
    signal.clear()
    assert not signal.is_set()


@pytest.mark.usefixtures("no_automatic_collection")
def test_a_generator_with_a_partition_in_it_is_collected_without_waiting_for_itself(
    url: str,
) -> None:
    running = whole(url)
    next(running)
    partition = running.gi_frame.f_locals["partition"]  # type: ignore[attr-defined]
    membership = partition._membership
    del partition
    only_for_the_collector(running)
    del running

    def collect() -> None:
        with membership.lock:
            gc.collect()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        thread = threading.Thread(target=collect, daemon=True)
        thread.start()
        thread.join(60)
        assert not thread.is_alive()
        assert membership.gone.wait(60)


# ---- Ctrl-C ----------------------------------------------------------------------------------


class Interrupts:
    """Raises KeyboardInterrupt where this thread enters a Python function for the n-th time.

    That is one of the places where Python runs a signal's handler.
    """

    def __init__(self, at: int) -> None:
        self.left = at
        self.where = ""
        self.before = sys.gettrace()  # what counts coverage goes on afterwards

    def __call__(self, frame: types.FrameType, event: str, argument: object) -> None:
        self.left -= 1
        if self.left == 0:
            self.where = f"{frame.f_code.co_filename}:{frame.f_lineno}"
            sys.settrace(self.before)
            raise KeyboardInterrupt


def a_whole_life(url: str) -> None:
    with hashring.join(url, "group", "a", ttl=TTL, wait=1) as partition:
        partition.wait_settled(60)
        with partition.cycle() as cycle:
            list(cycle.owned(KEYS[:2]))
        for cycle in partition.cycles(0.01):
            list(cycle.owned(KEYS[:2]))
            break
        with partition.cycles(0.01) as loop:
            next(loop)


def interrupted(url: str, at: int) -> Interrupts:
    trace = Interrupts(at)
    sys.settrace(trace)
    try:
        a_whole_life(url)
    except KeyboardInterrupt:
        pass
    finally:
        sys.settrace(trace.before)
    return trace


# One that comes upon a finaliser is lost in it, as Python has it; then all goes on.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("moments", [15, pytest.param(200, marks=pytest.mark.long)])
def test_ctrl_c_at_any_moment_leaves_no_thread_and_no_member(moments: int) -> None:
    whole = 10**9 - interrupted(f"memory://{uuid.uuid4().hex}", at=10**9).left
    assert whole > 300
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # of one that it came upon before `with`
        for at in random.Random(1).sample(range(1, whole), moments):
            url = f"memory://{uuid.uuid4().hex}"

            where = interrupted(url, at).where

            gc.collect()
            wait_until(lambda: not threads_of_ours(), within=60, what=f"the end, from {where}")
            wait_until(lambda url=url: not records(url), within=60, what=f"no member, from {where}")


def test_ctrl_c_in_the_call_that_tells_the_store_lets_it_be_told_all_the_same(monkeypatch) -> None:
    url = f"memory://{uuid.uuid4().hex}"
    driver = load(url, ttl=TTL)
    partition = hashring.join(driver, "group", "a", ttl=TTL)
    leave, calls = driver.leave, []

    def interrupted_once(group: str, member: str) -> None:
        calls.append(member)
        if len(calls) == 1:
            raise KeyboardInterrupt
        leave(group, member)

    monkeypatch.setattr(driver, "leave", interrupted_once)
    with pytest.raises(KeyboardInterrupt):
        partition.leave()

    assert calls == ["a", "a"]
    assert not records(url)
    assert not threads_of_ours()
