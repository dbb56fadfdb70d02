"""What an event loop waits on: woken up once, from anywhere; and calls in threads that end."""

from __future__ import annotations

import asyncio
import threading
import time
import types

import pytest

import hashring
from hashring.driver import DriverURL
from hashring.drivers.memory import MemoryDriver
from hashring.partition.aio.waiter import LoopWaiter, ended, in_thread
from hashring.partition.wakeups import Changed
from tests.partition.conftest import TTL, records, threads_of_ours
from tests.servers.process import wait_until

LONG = 60.0


def changing() -> types.SimpleNamespace:
    """Return what a waiter needs of a member."""
    lock = threading.RLock()
    return types.SimpleNamespace(lock=lock, changed=Changed(lock))


async def turns(count: int = 5) -> None:
    """Let every task that can go on do so."""
    for _ in range(count):
        await asyncio.sleep(0)


# ---- waking up -------------------------------------------------------------------------------


def test_who_waits_is_woken_up_once_however_often_something_changes() -> None:
    async def main() -> None:
        member, loop = changing(), asyncio.get_running_loop()
        waiter = LoopWaiter(member, loop)
        waiting = asyncio.create_task(waiter.wait(LONG))
        await turns()
        with member.lock:
            for _ in range(3):
                member.changed.notify_all()
        loop.call_soon(waiter.wake)  # and on the loop, before who waits has gone on
        await waiting
        waiter.close()
        with member.lock:
            member.changed.notify_all()
        assert not waiter._is_scheduled, "closed, it listens no more"

    asyncio.run(main())


def test_a_wait_whose_time_is_up_as_it_is_woken_up_ends_once() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        waiter = LoopWaiter(changing(), loop)
        loop.call_soon(waiter.wake)  # in the turn in which the time is up too
        await waiter.wait(0.0)
        assert not waiter._waiting
        await waiter.wait(0.0)  # and where nothing wakes it up
        assert not waiter._waiting

    asyncio.run(main())


def test_a_change_after_the_end_of_the_loop_wakes_nobody() -> None:
    member, loop = changing(), asyncio.new_event_loop()
    LoopWaiter(member, loop)
    loop.close()
    with member.lock:
        member.changed.notify_all()


# ---- calls that block ------------------------------------------------------------------------


def test_who_is_cancelled_waits_for_the_end_of_what_it_hastens() -> None:
    async def main() -> None:
        hastened = threading.Event()

        def call() -> None:
            hastened.wait(LONG)
            raise ZeroDivisionError  # of no interest any more

        waiting = asyncio.create_task(in_thread(call, "hashring-test", hastened.set))
        await turns()
        assert threads_of_ours() == ["hashring-test"]
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert threads_of_ours() == []

    asyncio.run(main())


def test_a_task_that_is_cancelled_together_with_who_waits_for_it_is_no_error() -> None:
    async def main() -> None:
        hastened: list[bool] = []
        task = asyncio.create_task(asyncio.sleep(LONG))
        waiting = asyncio.create_task(ended(task, lambda: hastened.append(True)))
        await turns()
        waiting.cancel()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert task.cancelled()
        assert hastened == [True]

    asyncio.run(main())


def test_what_the_call_raises_is_raised_where_it_is_awaited() -> None:
    def call() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        asyncio.run(in_thread(call, "hashring-test"))


def test_a_join_whose_coroutine_is_dropped_ends_by_itself(url: str) -> None:
    other = hashring.join(url, "group", "a", ttl=TTL)
    loop = asyncio.new_event_loop()
    joining = hashring.ajoin(url, "group", "a", ttl=TTL, wait=600)
    task = loop.create_task(joining)
    loop.run_until_complete(turns())
    wait_until(lambda: "hashring-join-group" in threads_of_ours())

    joining.close()
    task._log_destroy_pending = False  # it is what this test is about
    loop.close()

    wait_until(lambda: "hashring-join-group" not in threads_of_ours())
    other.leave()


# ---- a join that is cancelled ----------------------------------------------------------------


class Slow(MemoryDriver):
    """The memory store, whose answers to heartbeats come when the test lets them."""

    def __init__(self, url: str) -> None:
        super().__init__(DriverURL.parse(url), ttl=TTL)
        self.asked, self.answers = threading.Event(), threading.Event()

    def heartbeat(self) -> None:
        self.asked.set()
        assert self.answers.wait(LONG)
        super().heartbeat()


def test_a_join_that_is_cancelled_while_the_store_is_asked_is_taken_back(url: str) -> None:
    async def main() -> None:
        driver = Slow(url)
        joining = asyncio.create_task(hashring.ajoin(driver, "group", "a"))
        while not driver.asked.is_set():
            await asyncio.sleep(0.001)
        joining.cancel()
        await turns()
        driver.answers.set()
        with pytest.raises(asyncio.CancelledError):
            await joining

    asyncio.run(main())
    assert records(url) == set()
    assert threads_of_ours() == []


def test_a_join_that_is_cancelled_the_moment_it_has_worked_is_taken_back(url: str) -> None:
    async def main() -> None:
        joining = asyncio.create_task(hashring.ajoin(url, "group", "a", ttl=TTL))
        await turns()
        # The loop stands still, on purpose, until the thread has nothing more to say to it.
        until = time.monotonic() + LONG
        while "hashring-join-group" in threads_of_ours() and time.monotonic() < until:
            time.sleep(0.001)
        assert records(url) == {"a"}
        joining.cancel()
        with pytest.raises(asyncio.CancelledError):
            await joining

    asyncio.run(main())
    assert records(url) == set()
    assert threads_of_ours() == []
