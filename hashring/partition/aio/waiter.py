"""What an event loop waits on: `LoopWaiter` for changes of a member, `in_thread` for its store."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

from hashring.errors import BadArgument
from hashring.partition.membership import Membership

__all__ = ["LoopWaiter", "ended", "in_thread", "this_task"]

T = TypeVar("T")


def this_task() -> object:
    """Return what pins know the running task by. Its number alone: it may be dropped."""
    return ("task", id(asyncio.current_task()))


class LoopWaiter:
    """Wakes what waits on one event loop whenever a member may have changed.

    Args:
        member: tells of changes, from its own threads.
        loop: the event loop that all who wait run on.
    """

    def __init__(self, member: Membership, loop: asyncio.AbstractEventLoop) -> None:
        self._member = member
        self._loop = loop
        self._waiting: set[asyncio.Future[None]] = set()
        self._is_scheduled = False
        with member.lock:
            member.changed.listen(self.notify)

    def notify(self) -> None:
        """Wake all who wait. From any thread, or a signal handler; takes no lock of ours."""
        if not self._is_scheduled:
            self._is_scheduled = True
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
                self._loop.call_soon_threadsafe(self.wake)

    def wake(self) -> None:
        """Wake all who wait. On the loop."""
        self._is_scheduled = False  # first: what changes from here on is told anew
        for future in self._waiting:
            if not future.done():
                future.set_result(None)

    async def wait(self, seconds: float) -> None:
        """Wait until something may have changed since the caller last looked, or for so long.

        Between that look and this call the caller awaits nothing: then no change is lost.
        """
        if asyncio.get_running_loop() is not self._loop:
            raise BadArgument(
                "this partition was joined on another event loop: use it there, or join on this one"
            )
        future: asyncio.Future[None] = self._loop.create_future()
        self._waiting.add(future)
        timer = self._loop.call_later(seconds, _finish, future)
        try:
            await future
        finally:
            timer.cancel()
            self._waiting.discard(future)

    def close(self) -> None:
        """Listen no more: the member has left."""
        with self._member.lock:
            self._member.changed.ignore(self.notify)
        self.wake()


def _finish(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


async def ended(future: asyncio.Future[T], interrupt: Callable[[], object]) -> T:
    """Return a future's result. Where the caller is cancelled meanwhile, hasten it, and wait all
    the same: nothing is left behind. Then be cancelled.

    Args:
        future: it will be done soon, once ``interrupt`` was called.
        interrupt: hastens it; may be called again.
    """
    cancelled: asyncio.CancelledError | None = None
    while not future.done():
        try:
            await asyncio.wait({future})
        except asyncio.CancelledError as error:
            cancelled = error
            interrupt()
        except GeneratorExit:  # nobody awaits us any more: the thread ends by itself
            interrupt()
            raise
    if cancelled is not None:
        if not future.cancelled():
            future.exception()  # seen, and of no interest
        raise cancelled
    return future.result()


async def in_thread(
    call: Callable[[], T], name: str, interrupt: Callable[[], object] = lambda: None
) -> T:
    """Return what a call returns that blocks, made in a thread of its own, which ends with it.

    Args:
        call: it ends within its timeouts.
        name: the thread's.
        interrupt: lets the call end soon: called where the caller is cancelled.

    Raises:
        CancelledError: the caller was cancelled. The call has ended all the same.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if error is None:
            future.set_result(result)  # type: ignore[arg-type]
        else:
            future.set_exception(error)

    def run() -> None:
        result: T | None = None
        failure: BaseException | None = None
        try:
            result = call()
        except BaseException as error:  # the awaiting task's to handle, whatever it is
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            loop.call_soon_threadsafe(settle, result, failure)

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    try:
        return await ended(future, interrupt)
    finally:
        if future.done():
            thread.join()  # it is in its last lines
