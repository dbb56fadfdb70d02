"""`AsyncMap`: a cycle's keys awaited many at once, no call of which begins too late.

What `cycle.map` returns on an event loop. A few tasks take one key after the other; so a poll costs
no task of its own, and each looks at the fence before it begins.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Generic, Protocol, TypeVar

__all__ = ["AsyncMap"]

log = logging.getLogger("hashring")

R = TypeVar("R")

_TURN = 64
"""After so many keys other tasks get a turn, also where no call has anything to wait for."""


class _Fence(Protocol):
    """What a map needs of its cycle."""

    @property
    def valid(self) -> bool: ...
    def _nap_before(self, moment: float) -> float: ...


class AsyncMap(AsyncIterator[R], Generic[R]):
    """The results of the calls, in the order of the keys or as they come: see
    :meth:`AsyncCycle.map`. On one event loop.
    """

    def __init__(
        self,
        cycle: _Fence,
        function: Callable[[Any], Awaitable[R]],
        items: Sequence[Any],
        moments: Sequence[float] | None,
        *,
        in_flight: int,
        ordered: bool,
    ) -> None:
        self._cycle = cycle
        self._function = function
        self._items = items
        self._moments = moments
        self._in_flight = min(in_flight, len(items))
        self._ordered = ordered
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._pacing = asyncio.Lock()  # with moments, one task waits for the next of them
        self._taken = 0
        self._done: dict[int, tuple[R | None, BaseException | None]] = {}
        self._ends: deque[int] = deque()
        self._next = 0
        self._asked: asyncio.Future[None] | None = None
        self._cancelled = False

    def start(self, over: Callable[[], None]) -> None:
        """Begin to call.

        Args:
            over: called when the last call has ended.
        """

        def end(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            if not task.cancelled() and task.exception() is not None:
                log.error("a defect in cycle.map", exc_info=task.exception())
            self._tell()
            if not self._tasks:
                over()

        for _ in range(self._in_flight):
            task = self._loop.create_task(self._work())
            self._tasks.add(task)
            task.add_done_callback(end)

    # ---- in the tasks ----------------------------------------------------------------------

    async def _work(self) -> None:
        while (number := await self._turn_for(self._moments)) is not None:
            try:
                self._put(number, await self._function(self._items[number]), None)
            except asyncio.CancelledError as error:
                if self._cancelled:
                    raise
                self._put(number, None, error)  # of its own making
            except Exception as error:
                self._put(number, None, error)
            if number % _TURN == _TURN - 1:
                await asyncio.sleep(0)

    async def _turn_for(self, moments: Sequence[float] | None) -> int | None:
        """Return the next item once its moment has come; ``None``: no call is to begin."""
        if moments is None:
            return self._take()
        async with self._pacing:
            number = self._take()
            if number is None or await self._wait_for(moments[number]):
                return number
            self._taken = len(self._items)
            return None

    def _take(self) -> int | None:
        number = self._taken
        if number >= len(self._items) or self._cancelled:
            return None
        if not self._cycle.valid:
            self._taken = len(self._items)
            return None
        self._taken += 1
        return number

    async def _wait_for(self, moment: float) -> bool:
        while (nap := self._cycle._nap_before(moment)) > 0:
            await asyncio.sleep(nap)
        return nap == 0

    def _put(self, number: int, result: R | None, error: BaseException | None) -> None:
        self._done[number] = (result, error)
        if not self._ordered:
            self._ends.append(number)
        self._tell()

    def _tell(self) -> None:
        if self._asked is not None and not self._asked.done():
            self._asked.set_result(None)

    # ---- for the caller --------------------------------------------------------------------

    def __aiter__(self) -> AsyncMap[R]:
        return self

    async def __anext__(self) -> R:
        while (number := self._ready()) is None:
            if not self._tasks:
                raise StopAsyncIteration
            await self._something()
        result, error = self._done.pop(number)
        if error is not None:
            raise error
        return result  # type: ignore[return-value]

    def _ready(self) -> int | None:
        """Return an item whose result is next."""
        if not self._ordered:
            return self._ends.popleft() if self._ends else None
        if self._next in self._done:
            self._next += 1
            return self._next - 1
        return None

    async def _something(self) -> None:
        """Wait until a call, or a task, has ended."""
        self._asked = self._loop.create_future()
        try:
            await self._asked
        finally:
            self._asked = None

    @property
    def runs(self) -> bool:
        """Whether a call runs. From any thread."""
        return bool(self._tasks)

    def cancel(self) -> None:
        """Let no further call begin, and cancel those in flight. From any thread; it may be called
        by a finaliser.
        """
        if not self._cancelled and self._tasks:
            self._cancelled = True
            with contextlib.suppress(RuntimeError):  # the loop is closed: no task runs
                self._loop.call_soon_threadsafe(self._cancel_tasks)
        self._cancelled = True

    def _cancel_tasks(self) -> None:
        for task in list(self._tasks):
            task.cancel()

    def finish(self) -> None:
        """Nothing: no thread may wait for an event loop. :meth:`over` waits."""

    async def over(self) -> None:
        """Wait until all keys have been called for, or the fence has passed, and no call runs.

        Cancelled meanwhile, it cancels the calls, and still waits for their end.
        """
        cancelled: asyncio.CancelledError | None = None
        while self._tasks:
            try:
                await asyncio.wait(list(self._tasks))
                await asyncio.sleep(0)  # the tasks' own callbacks first
            except asyncio.CancelledError as error:
                cancelled = error
                self._cancelled = True
                self._cancel_tasks()
        if cancelled is not None:
            raise cancelled
        errors = [error for _, error in self._done.values() if error is not None]
        self._done.clear()
        if errors:
            log.error(
                "%d calls of cycle.map failed, and nobody asked for their results; the first: %r",
                len(errors),
                errors[0],
                exc_info=errors[0],
            )
