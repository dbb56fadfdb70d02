"""Pool: calls that run at once, a bounded number of them, each cut off at its deadline.

A thread cannot be ended from outside. So a call that does not come back in time is given up: what
it may still return is refused, another thread takes its place, and the same call is not made again
before the first one has returned. This module knows nothing of what is called.
"""

from __future__ import annotations

import dataclasses
import math
import queue
import threading
from collections import Counter
from collections.abc import Callable, Hashable
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from hashring import clock
from hashring.telemetry.polling.watch import Watch

__all__ = ["Call", "Hangs", "Pool", "TimedOut"]

T = TypeVar("T")

_HUNG = 4
"""Threads that may hang for each that works. More are not replaced: whatever makes so many hang
would have all of the machine's memory in the end."""

_LOOK = 0.05
"""Seconds between two looks at whether a thread has ended."""


class TimedOut(Exception):
    """A call was not back by its deadline."""


class Hangs(Exception):
    """The same call was made before, and has not come back yet."""


@dataclasses.dataclass(eq=False, slots=True)
class Call(Generic[T]):
    """One call: made by a thread of a pool, and waited for by whoever asked for it."""

    key: Hashable
    function: Callable[[Call[T]], T]
    seconds: Callable[[], float]
    changed: threading.Condition  # its pool's
    share: Hashable = None
    over: Callable[[Call[T]], None] | None = None
    owner: object = None
    deadline: float = math.inf  # from when it began on; on CLOCK_BOOTTIME
    is_over: bool = False
    is_claimed: bool = False
    value: T | None = None
    error: BaseException | None = None
    thread: threading.Thread | None = None

    def claim(self) -> bool:
        """Whether the call may still do what cannot be undone; from then on it is not given up.

        For the function itself, once it has what takes long behind it.
        """
        with self.changed:
            if self.is_over:
                return False
            self.is_claimed = True
            return True

    def result(self) -> T:
        """Wait until the call is over, and return what it returned.

        Raises:
            TimedOut: it was given up.
            Hangs: it was never made, for too many others hang.
            Exception: what it raised.
        """
        if not self.is_over:
            with self.changed:
                while not self.is_over:
                    self.changed.wait()
        if self.error is not None:
            raise self.error
        return self.value  # type: ignore[return-value]


class Pool:
    """A bounded number of threads that make calls.

    Callers of different shares (pollsters, say) cannot keep each other out: a share never has more
    than three quarters of the threads, and none while as many of its calls hang.

    Args:
        threads: calls that run at once.
        name: of the threads.

    Example:
        >>> with Pool(2) as pool:
        ...     calls = [pool.submit(n, lambda call, n=n: n * n, lambda: 5.0) for n in range(4)]
        ...     [call.result() for call in calls]
        [0, 1, 4, 9]
    """

    def __init__(self, threads: int, name: str = "polls") -> None:
        self._threads = threads
        self._most = threads - max(1, threads // 4) if threads > 1 else 1  # of one share
        self._name = name
        self._changed = threading.Condition()
        self._queue: queue.SimpleQueue[Call[Any] | None] = queue.SimpleQueue()
        self._waiting = 0  # calls that no thread has begun
        self._working: set[Call[Any]] = set()
        self._hung: set[Hashable] = set()
        self._hanging = 0
        self._in_hand: Counter[Hashable] = Counter()  # calls that wait or run, by share
        self._hanging_of: Counter[Hashable] = Counter()
        self._running: set[threading.Thread] = set()  # those that are not given up
        self._closed = False
        self._watch = Watch()
        self._watching: threading.Thread | None = None

    def has_room(self, share: Hashable) -> bool:
        """Whether :meth:`submit` would not block now, or would raise."""
        with self._changed:
            return self._has_room(share)

    def _has_room(self, share: Hashable) -> bool:
        if self._closed or self._is_lost(share):
            return True
        return self._waiting < self._threads and (
            share is None or self._in_hand[share] < self._most
        )

    def _is_lost(self, share: Hashable) -> bool:
        if not self._running and self._hanging >= _HUNG * self._threads:
            return True
        return share is not None and self._hanging_of[share] >= self._most

    def submit(
        self,
        key: Hashable,
        function: Callable[[Call[T]], T],
        seconds: Callable[[], float],
        *,
        share: Hashable = None,
        over: Callable[[Call[T]], None] | None = None,
        owner: object = None,
    ) -> Call[T]:
        """Have a call made; blocks while as many as there are threads wait already.

        Args:
            key: tells which calls are the same.
            function: is called with the :class:`Call` that this returns.
            seconds: how long it may take, asked when it begins.
            share: whose call it is; ``None``: nobody's, who is not bounded.
            over: is called with the call when that is over; must not block.
            owner: whom the call is made for: see :meth:`give_up`.

        Raises:
            Hangs: the same call was given up and has not come back yet, or too many hang.
            RuntimeError: the pool is closed.
        """
        call: Call[T] = Call(key, function, seconds, self._changed, share, over, owner)
        with self._changed:
            while not self._has_room(share):
                self._changed.wait()
            if self._closed:
                raise RuntimeError(f"the pool {self._name} is closed")
            if key in self._hung:
                raise Hangs("the last call has not come back yet")
            if self._is_lost(share):
                raise Hangs(f"{self._hanging} calls hang: no thread is left to make another")
            self._waiting += 1
            if share is not None:
                self._in_hand[share] += 1
            self._queue.put(call)
            if self._waiting > len(self._running) - len(self._working):
                self._add_thread()
            if self._watching is None:
                self._watching = threading.Thread(
                    target=self._look, name=f"{self._name}-watch", daemon=True
                )
                self._watching.start()
        return call

    def give_up(self, owner: object) -> None:
        """Give up, very soon, the calls that are made for somebody now; not those that wait."""
        with self._changed:
            for call in self._working:
                if call.owner is owner:
                    call.deadline = -math.inf
            self._watch.look_by(-math.inf)

    def _add_thread(self) -> None:
        if len(self._running) < self._threads and self._hanging < _HUNG * self._threads:
            thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._running.add(thread)
            thread.start()

    def _run(self) -> None:
        while True:
            call = self._queue.get()
            if call is None:
                return
            with self._changed:
                self._waiting -= 1
                call.thread = threading.current_thread()
                call.deadline = clock.boottime() + call.seconds()
                self._watch.look_by(call.deadline)
                self._working.add(call)
                self._changed.notify_all()
            value, error = None, None
            try:
                value = call.function(call)
            except BaseException as caught:
                error = caught
            with self._changed:
                if call.is_over:  # It was given up, and this thread with it.
                    self._hung.discard(call.key)
                    self._hanging -= 1
                    self._count(self._hanging_of, call.share, -1)
                    if self._waiting:
                        self._add_thread()
                    self._changed.notify_all()
                    return
                self._working.discard(call)
                call.value = value
                self._end(call, error)
                self._changed.notify_all()
            del call, value, error

    def _end(self, call: Call[Any], error: BaseException | None) -> None:
        call.error = error
        call.is_over = True
        self._count(self._in_hand, call.share, -1)
        if call.over is not None:
            call.over(call)

    @staticmethod
    def _count(counts: Counter[Hashable], share: Hashable, change: int) -> None:
        if share is None:
            return
        counts[share] += change
        if not counts[share]:
            del counts[share]  # shares come and go

    def _look(self) -> None:
        """Give up the calls that are past their deadline, each with its thread."""
        while self._watch.wait():
            now = clock.boottime()
            with self._changed:
                late = [
                    call for call in self._working if call.deadline <= now and not call.is_claimed
                ]
                for call in late:
                    self._working.discard(call)
                    self._hung.add(call.key)
                    self._hanging += 1
                    self._count(self._hanging_of, call.share, 1)
                    assert call.thread is not None
                    self._running.discard(call.thread)
                    self._end(call, TimedOut("given up: it was not back by its deadline"))
                    if self._waiting:
                        self._add_thread()
                if late:
                    if not self._running:
                        self._refuse_waiting()
                    self._changed.notify_all()
                self._watch.looked(call.deadline for call in self._working if not call.is_claimed)

    def _refuse_waiting(self) -> None:
        """End the calls that nobody will make: so many hang that there is no thread for them."""
        while self._waiting:
            call = self._queue.get_nowait()
            if call is not None:
                self._waiting -= 1
                self._end(
                    call, Hangs(f"{self._hanging} calls hang: no thread is left to make another")
                )

    @property
    def hanging(self) -> int:
        """How many calls have been given up and are not back."""
        with self._changed:
            return self._hanging

    def close(self) -> None:
        """End the threads, once the calls that wait are made; those that hang end with theirs."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        while True:
            with self._changed:
                thread = next(iter(self._running), None)
            if thread is None:
                break
            self._queue.put(None)
            thread.join(_LOOK)
            if not thread.is_alive():
                with self._changed:
                    self._running.discard(thread)
        self._watch.end()
        if self._watching is not None:
            self._watching.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
