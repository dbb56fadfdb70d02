"""`FencedMap`: a cycle's keys handed to an executor's threads, no call of which begins too late.

What `cycle.map` returns. ``executor.map`` takes all keys at once, so the fence stops nothing. Here
each thread takes one key at a time, and looks at the cycle before it calls. This module knows no
store and no view.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future
from typing import Any, Generic, Protocol, TypeVar

from hashring.errors import BadArgument

__all__ = ["FencedMap"]

log = logging.getLogger("hashring")

R = TypeVar("R")

_LOOK = 0.1
"""Seconds between two looks at the fence while results are waited for."""


class _Fence(Protocol):
    """What a map needs of its cycle."""

    @property
    def valid(self) -> bool: ...
    def _sleep_until(self, moment: float) -> bool: ...


def _is_of_processes(executor: Executor) -> bool:
    # Who has such an executor has imported it; imported here, it would slow down every program.
    processes = sys.modules.get("concurrent.futures.process")
    return processes is not None and isinstance(executor, processes.ProcessPoolExecutor)


class FencedMap(Iterator[R], Generic[R]):
    """The results of the calls, in the order of the keys or as they come. See :meth:`Cycle.map`.

    Args:
        cycle: the fence.
        executor: runs the calls; a pool of threads.
        function: is called with one item.
        items: what to call it with.
        moments: when to call it for each, in wall-clock seconds; ``None``: at once.
        in_flight: the most calls at once.
        ordered: yield the results in the order of ``items``.
        over: called without a lock when the last call has ended after the cycle has.
    """

    def __init__(
        self,
        cycle: _Fence,
        executor: Executor,
        function: Callable[[Any], R],
        items: Sequence[Any],
        moments: Sequence[float] | None,
        *,
        in_flight: int,
        ordered: bool,
        over: Callable[[], None],
    ) -> None:
        if _is_of_processes(executor):
            raise BadArgument(
                "cycle.map needs an executor of threads: another process cannot see the fence, so "
                "let the threads talk to the processes"
            )
        self._cycle = cycle
        self._function = function
        self._items = items
        self._moments = moments
        self._ordered = ordered
        self._over = over
        self._changed = threading.Condition(threading.Lock())
        self._taken = 0  # how many items have been taken by a thread
        self._active: set[int] = set()  # items whose calls run
        self._done: dict[int, tuple[R | None, BaseException | None]] = {}
        self._in_order_of_end: deque[int] = deque()
        self._next = 0
        self._unseen = 0  # errors that nobody has asked for
        self._cancelled = False
        self._executor = executor
        self._in_flight = in_flight
        self._workers: list[Future[None]] = []

    def start(self) -> None:
        """Begin to call."""
        # Each worker takes keys until there are none. So no call waits in the executor's queue,
        # where the fence would not reach it.
        try:
            for _ in range(min(self._in_flight, len(self._items))):
                self._workers.append(self._executor.submit(self._work))
        except BaseException:
            self.cancel()
            raise

    # ---- in the executor's threads ---------------------------------------------------------

    def _work(self) -> None:
        while (number := self._take()) is not None:
            result: R | None = None
            error: BaseException | None = None
            try:
                if not self._may_begin(number):
                    self._put_back(number)
                    return
                result = self._function(self._items[number])
            except BaseException as raised:  # the caller's to handle, whatever it is
                error = raised
            self._put(number, result, error)

    def _take(self) -> int | None:
        with self._changed:
            if self._taken >= len(self._items) or self._cancelled or not self._cycle.valid:
                self._changed.notify_all()
                return None
            number = self._taken
            self._taken += 1
            self._active.add(number)
            return number

    def _may_begin(self, number: int) -> bool:
        if self._moments is not None and not self._cycle._sleep_until(self._moments[number]):
            return False
        # The last look before the call.
        return not self._cancelled and self._cycle.valid

    def _put_back(self, number: int) -> None:
        """A call did not begin: the fence has passed. None begins any more."""
        with self._changed:
            self._cancelled = True
            self._active.discard(number)
            self._changed.notify_all()
        self._over()

    def _put(self, number: int, result: R | None, error: BaseException | None) -> None:
        with self._changed:
            self._active.discard(number)
            self._done[number] = (result, error)
            self._in_order_of_end.append(number)
            self._unseen += error is not None
            self._changed.notify_all()
        if self._cancelled:
            self._over()

    # ---- for the caller --------------------------------------------------------------------

    def __iter__(self) -> FencedMap[R]:
        return self

    def __next__(self) -> R:
        with self._changed:
            while True:
                number = self._ready()
                if number is not None:
                    break
                if self._is_over():
                    raise StopIteration
                self._changed.wait(_LOOK)
            result, error = self._done.pop(number)
            self._unseen -= error is not None
        if error is not None:
            raise error
        return result  # type: ignore[return-value]

    def _ready(self) -> int | None:
        """Return an item whose result is next."""
        if not self._ordered:
            return self._in_order_of_end.popleft() if self._in_order_of_end else None
        while self._next < self._taken:
            if self._next in self._done:
                self._next += 1
                return self._next - 1
            if self._next in self._active:
                return None
            self._next += 1  # it was put back
        return None

    def _is_over(self) -> bool:
        """Whether no call runs, and none will begin."""
        if self._active:
            return False
        return (
            self._taken >= len(self._items)
            or self._cancelled
            or not self._cycle.valid
            or all(worker.done() for worker in self._workers)  # the executor was shut down
        )

    @property
    def runs(self) -> bool:
        """Whether a call runs."""
        with self._changed:
            return bool(self._active)

    def cancel(self) -> None:
        """Let no further call begin. Takes no lock and does not wait."""
        self._cancelled = True

    def finish(self) -> None:
        """Wait until all keys have been called for, or the fence has passed and no call runs."""
        with self._changed:
            while not self._is_over():
                self._changed.wait(_LOOK)
            unseen = self._unseen
            first = next((error for _, error in self._done.values() if error is not None), None)
            self._unseen = 0
        for worker in self._workers:
            worker.cancel()  # those that never got a thread
        if unseen:
            log.error(
                "%d calls of cycle.map failed, and nobody asked for their results; the first: %r",
                unseen,
                first,
                exc_info=first,
            )
