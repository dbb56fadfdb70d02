"""What a loop of an event loop holds in hand: `AsyncCycle`, `AsyncCycles`, the keys of a cycle."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from typing import Any, Generic, Self, TypeVar

from hashring.errors import BadArgument
from hashring.partition.aio.calls import AsyncMap
from hashring.partition.aio.waiter import LoopWaiter, this_task
from hashring.partition.cycle import CycleFacts, LoopHandle, OwnedKeys
from hashring.partition.loops import Beginning, Loop, Loops, Work
from hashring.partition.membership import Membership

__all__ = ["AsyncCycle", "AsyncCycleBlock", "AsyncCycles", "AsyncOwnedKeys"]

K = TypeVar("K")
R = TypeVar("R")

_IN_FLIGHT = 100
"""The most calls of one `AsyncCycle.map` at once, unless it is told another number."""

_TURN = 64
"""After so many keys without a wait, other tasks get a turn."""


class AsyncOwnedKeys(OwnedKeys[K]):
    """The keys of a cycle that this member holds, for ``async for``; without a spread for ``for``
    as well. Iteration stops the moment the fence passes.
    """

    def __iter__(self) -> Iterator[K]:
        if self._moments is not None:
            raise BadArgument(
                "keys with a spread wait for their moments: on an event loop use `async for`"
            )
        return super().__iter__()

    def __aiter__(self) -> AsyncIterator[K]:
        return _KeyIterator(self._cycle, self._keys, self._moments)


class _KeyIterator(AsyncIterator[K], Generic[K]):
    """Yields each key at its moment. No generator: one that is left would need a task to end."""

    def __init__(self, cycle: CycleFacts, keys: list[K], moments: list[float] | None) -> None:
        self._cycle = cycle
        self._keys = keys
        self._moments = moments
        self._next = 0

    async def __anext__(self) -> K:
        number = self._next
        if number >= len(self._keys):
            raise StopAsyncIteration
        self._next += 1
        if self._moments is not None:
            await wait_until(self._cycle, self._moments[number])
        if number % _TURN == _TURN - 1:
            await asyncio.sleep(0)
        if not self._cycle.valid:
            self._next = len(self._keys)
            raise StopAsyncIteration
        return self._keys[number]


async def wait_until(cycle: CycleFacts, moment: float) -> bool:
    """Wait until a wall-clock moment; return whether the cycle is still valid then."""
    while (nap := cycle._nap_before(moment)) > 0:
        await asyncio.sleep(nap)
    return nap == 0


class AsyncCycle(CycleFacts):
    """One member's work in one window, on an event loop; its slots are pinned while its block
    runs. The attributes are those of :class:`hashring.Cycle`.
    """

    def owned(
        self,
        keys: Iterable[K],
        *,
        spread: float = 0.0,
        key: Callable[[K], str | bytes] | None = None,
    ) -> AsyncOwnedKeys[K]:
        """Return those of ``keys`` that this member holds, in order, for ``async for``.

        Arguments and errors are those of :meth:`hashring.Cycle.owned`.
        """
        return AsyncOwnedKeys(self, *self._chosen(keys, spread, key))

    def map(
        self,
        function: Callable[[K], Awaitable[R]],
        keys: Iterable[K],
        *,
        spread: float = 0.0,
        key: Callable[[K], str | bytes] | None = None,
        in_flight: int = _IN_FLIGHT,
        ordered: bool = True,
    ) -> AsyncMap[R]:
        """Await ``function`` of each of the ``keys`` that this member holds, many at once.

        ::

            async for cycle in partition.cycles(interval=60):
                async for result in cycle.map(poll, keys, spread=0.8):
                    publish(result)

        No call begins once the fence has passed, and the cycle ends only when those in flight have
        ended. The calls begin at once, also where nobody asks for the results; leaving the cycle
        in order waits for all. Leaving it by an exception or a ``break`` cancels them. Where a
        call raised, that is raised in its result's place, and the iteration may go on.

        Args:
            function: called with one of the keys (or objects); what it returns is awaited.
            keys: as for :meth:`owned`.
            spread: as for :meth:`owned`: each call begins at its key's moment.
            key: as for :meth:`owned`.
            in_flight: the most calls at once.
            ordered: yield the results in the order of the keys, else in that of their ends.

        Raises:
            BadKey: a key is neither ``str`` nor ``bytes``.
            BadArgument: an argument is out of range.
        """
        if isinstance(in_flight, bool) or not isinstance(in_flight, int) or in_flight < 1:
            raise BadArgument(f"in_flight must be a positive int, not {in_flight!r}")
        found: AsyncMap[R] = AsyncMap(
            self, function, *self._chosen(keys, spread, key), in_flight=in_flight, ordered=ordered
        )
        self._pin.maps.append(found)
        found.start(self._pin.wake)
        return found

    async def _finish_maps(self, raised: type[BaseException] | None = None) -> None:
        """Wait for the calls of :meth:`map`; cancel them where the block was left by an error."""
        await finish_maps(self._pin.maps, raised)


async def finish_maps(maps: list[Any], raised: type[BaseException] | None = None) -> None:
    """Wait for all calls of some maps; cancel them first where a block was left by an error."""
    for one in maps:
        if raised is not None:
            one.cancel()
    if raised is None or not issubclass(raised, GeneratorExit):
        for one in maps:
            await one.over()


class AsyncCycleBlock:
    """What :meth:`AsyncPartition.cycle` returns: pins a cycle's slots while its block runs."""

    def __init__(self, partition: object, member: Membership, loops: Loops) -> None:
        self._partition = partition
        self._member = member
        self._loops = loops
        self._cycle: AsyncCycle | None = None

    async def __aenter__(self) -> AsyncCycle:
        if self._cycle is not None:
            raise BadArgument("this cycle has begun before: ask the partition for another")
        work = self._loops.begin_plain()
        work.pin.thread = this_task()
        self._cycle = AsyncCycle(self._partition, self._member, work)
        return self._cycle

    async def __aexit__(self, raised: type[BaseException] | None, *_: object) -> None:
        assert self._cycle is not None, "left, and never entered"
        try:
            await self._cycle._finish_maps(raised)
        finally:
            self._cycle._pin.end()

    def __del__(self) -> None:
        cycle = getattr(self, "_cycle", None)
        if cycle is not None and not cycle._pin.noted:
            cycle._pin.end()


class AsyncCycles(LoopHandle, AsyncIterator[AsyncCycle]):
    """The iterator that :meth:`AsyncPartition.cycles` returns, for ``async for``. For one task.

    Attributes:
        interval: seconds; may be set, and then holds from the end of the window in hand.
    """

    def __init__(
        self, partition: object, member: Membership, loops: Loops, loop: Loop, waiter: LoopWaiter
    ) -> None:
        super().__init__(partition, member, loops, loop)
        self._waiter = waiter

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> AsyncCycle:
        loop = self._loop
        try:
            if loop.pin is not None:
                await finish_maps(loop.pin.maps)
            loop.end_cycle()
            work = None if loop.closed else await self._next_work()
        except BaseException:
            # Cancelled, too: a loop that nobody may come back to keeps no hand-over waiting.
            self.close()
            raise
        if work is None:
            self.close()
            raise StopAsyncIteration
        work.pin.thread = this_task()
        return AsyncCycle(self._partition, self._member, work)

    async def _next_work(self) -> Work | None:
        if self._loop.thread is None:
            self._loop.open()
        self._loop.thread = this_task()
        if self._loop.finishing:
            return None
        beginning = Beginning()
        while isinstance(found := self._loops.try_next(self._loop, beginning), float):
            await self._waiter.wait(found)
        return found

    async def aclose(self) -> None:
        """End the cycle in hand, cancel its calls, and stop."""
        maps = [] if self._loop.pin is None else self._loop.pin.maps
        self.close()
        await finish_maps(maps, asyncio.CancelledError)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, raised: type[BaseException] | None, *_: object) -> None:
        try:
            if self._loop.pin is not None:
                await finish_maps(self._loop.pin.maps, raised)
        finally:
            self.close()
