"""`AsyncChanges` and `AsyncLeading`: what is gained and lost, and the lead, on an event loop."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Self, TypeVar

from hashring import clock
from hashring.errors import BadArgument
from hashring.partition.aio.waiter import LoopWaiter, this_task
from hashring.partition.changes import Change, Teller
from hashring.partition.following import Follower
from hashring.partition.leading import TermFacts, follower_of
from hashring.partition.loops import Loops
from hashring.partition.membership import Membership

__all__ = ["AsyncChanges", "AsyncLeading", "AsyncTerm"]

S = TypeVar("S")


class AsyncChanges(AsyncIterator[Change[S]]):
    """The iterator that :meth:`AsyncPartition.changes` returns. For one task."""

    def __init__(self, partition: object, teller: Teller[S], waiter: LoopWaiter) -> None:
        self._partition = partition  # lives as long as who iterates: see `membership.py`
        self._teller = teller
        self._waiter = waiter

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Change[S]:
        teller, follower = self._teller, self._teller.follower
        try:
            teller.finish()
            while (change := teller.next()) is None and not follower.is_over:
                await self._waiter.wait(follower.pause)
        except BaseException:
            self.close()
            raise
        if change is None:
            self.close()
            raise StopAsyncIteration
        if follower.pin is not None:
            follower.pin.thread = this_task()
        return change

    def close(self) -> None:
        """Let go everything that was gained. Takes no lock and does not wait."""
        self._teller.follower.close()

    async def aclose(self) -> None:
        """The same as :meth:`close`, for who expects it to be awaited."""
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError):  # of one that was never finished
            self.close()


class AsyncTerm(TermFacts):
    """The lead, while the ``async with`` block of :meth:`AsyncPartition.leading` runs."""

    def __init__(
        self, name: str, member: Membership, follower: Follower, waiter: LoopWaiter
    ) -> None:
        super().__init__(name, member, follower)
        self._waiter = waiter

    async def wait(self, timeout: float | None = None) -> bool:
        """Wait at most so many seconds until the term is to end; return whether it is.

        Args:
            timeout: seconds; ``None``: for as long as it takes.
        """
        until = None if timeout is None else clock.boottime() + timeout
        while not self.over:
            left = self._follower.pause if until is None else until - clock.boottime()
            if left <= 0:
                return False
            await self._waiter.wait(min(left, self._follower.pause))
        return True


class AsyncLeading:
    """What :meth:`AsyncPartition.leading` returns: waits for the lead, and keeps it."""

    def __init__(
        self,
        partition: object,
        member: Membership,
        loops: Loops,
        waiter: LoopWaiter,
        name: str,
        timeout: float | None,
    ) -> None:
        self._partition = partition
        self._member = member
        self._waiter = waiter
        self._follower = follower_of(member, loops, name)
        self._name = name
        self._timeout = timeout
        self._begun = False

    async def __aenter__(self) -> AsyncTerm:
        if self._begun:
            raise BadArgument("this lead has been waited for before: ask the partition again")
        self._begun = True
        follower = self._follower
        until = None if self._timeout is None else clock.boottime() + self._timeout
        try:
            while True:
                follower.look()
                left = follower.pause if until is None else until - clock.boottime()
                if follower.followed or follower.is_over or left <= 0:
                    break
                await self._waiter.wait(min(left, follower.pause))
        except BaseException:
            follower.close()
            raise
        if follower.pin is not None:
            follower.pin.thread = this_task()
        return AsyncTerm(self._name, self._member, follower, self._waiter)

    async def __aexit__(self, *_: object) -> None:
        self._follower.close()

    def __del__(self) -> None:
        follower = getattr(self, "_follower", None)
        if follower is not None:
            follower.close()
