"""LoopPool: calls that wait on one event loop, thousands at once, each cut off at its deadline.

What a call has found is handed on by another thread, many at once: whoever takes it may block. A
call that is not over by its deadline is given up and cancelled; should it hold the loop, so that no
other one goes on either, it is still given up from outside, as are all the others at their
deadlines, and no more are begun until the loop turns again. This module knows nothing of what is
called, nor of who takes what was found.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import queue
import threading
from collections import Counter
from collections.abc import Callable, Coroutine, Generator, Hashable, Sequence
from typing import Any, ParamSpec, TypeVar

from hashring import clock
from hashring.telemetry.http.threads import DaemonThreads
from hashring.telemetry.polling.event_loop import new_loop
from hashring.telemetry.polling.pool import Call, Hangs, TimedOut
from hashring.telemetry.polling.watch import Watch

__all__ = ["LoopPool"]

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

_STUCK = 10.0
"""Seconds without a turn of the loop from which on no more calls are begun. A busy machine may hold
it up for a second or two."""

_TOGETHER = 256
"""Calls whose findings are handed on at once, at most."""

_GATHER = 0.05
"""Seconds for which more findings are waited for once there is one, while other calls are in hand.
To wake a thread for each, and to commit each by itself, costs more than what is then done with
it."""

_WORKERS = 8
"""Threads for what computes for long: ``asyncio.to_thread``."""

_END = 5.0
"""Seconds that the loop gets to end once it is told to."""


class LoopPool:
    """A bounded number of coroutines on one event loop, in a thread of its own.

    Callers of different shares (pollsters, say) cannot keep each other out: a share never has more
    than three quarters of the places.

    Args:
        most: calls that run at once.
        take: is called with calls whose ``value`` is what their coroutines returned, in another
            thread; sets their ``error`` where it is not taken. Such calls are claimed: they are not
            given up any more.
        note: is called with a call before each of its steps, in the thread that makes it, and
            ``noted`` with what that returned after it.
        noted: see there.
        name: of the threads.

    Example:
        >>> async def double(call):
        ...     await asyncio.sleep(0)
        ...     return 2 * call.key
        >>> taken = []
        >>> pool = LoopPool(10, lambda calls: taken.extend(call.value for call in calls))
        >>> calls = [pool.submit(n, double, lambda: 5.0) for n in range(3)]
        >>> [call.result() for call in calls] == taken
        True
        >>> pool.close()
        >>> pool.end()
    """

    def __init__(
        self,
        most: int,
        take: Callable[[Sequence[Call[Any]]], None],
        *,
        note: Callable[[Call[Any]], int] | None = None,
        noted: Callable[[int], None] = lambda place: None,
        name: str = "loop",
    ) -> None:
        self._places = most
        self._most = most - max(1, most // 4) if most > 1 else 1  # of one share
        self._take = take
        self._note = note
        self._noted = noted
        self._name = name
        self._changed = threading.Condition()
        self._new: list[Call[Any]] = []  # that the loop has not begun
        self._is_woken = False
        self._working: set[Call[Any]] = set()  # new ones too, and those whose findings wait
        self._hung: set[Hashable] = set()
        self._in_hand: Counter[Hashable] = Counter()
        self._tasks: dict[Call[Any], asyncio.Task[None]] = {}  # on the loop's thread
        self._found: queue.SimpleQueue[Call[Any] | None] = queue.SimpleQueue()
        self._asked_to_turn: float | None = None  # since when, where it has not
        self._is_stuck = False
        self._closed = False
        self._stepping: Call[Any] | None = None  # on the loop's thread
        self._stop_watch = threading.Event()
        self._watch = Watch()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._threads: list[threading.Thread] = []

    def has_room(self, share: Hashable) -> bool:
        """Whether a call may be submitted now, or would be refused."""
        with self._changed:
            if self._closed or self._is_stuck:
                return True
            return len(self._working) < self._places and self._in_hand[share] < self._most

    def submit(
        self,
        key: Hashable,
        function: Callable[[Call[Any]], Coroutine[Any, Any, Any]],
        seconds: Callable[[], float],
        *,
        share: Hashable = None,
        over: Callable[[Call[Any]], None] | None = None,
        owner: object = None,
    ) -> Call[Any]:
        """Have a coroutine run, at once. Whether there is room is the caller's to ask.

        Args:
            key: tells which calls are the same.
            function: makes the coroutine of the :class:`Call` that this returns.
            seconds: how long it may take from now on.
            share: whose call it is; ``None``: nobody's.
            over: is called with the call when that is over; must not block.
            owner: whom the call is made for: see :meth:`give_up`.

        Raises:
            Hangs: the same call was given up and has not come back yet, or the loop is held.
            RuntimeError: the pool is closed.
        """
        call: Call[Any] = Call(key, function, seconds, self._changed, share, over, owner)
        with self._changed:
            if self._closed:
                raise RuntimeError(f"the pool {self._name} is closed")
            if key in self._hung:
                raise Hangs("the last call has not come back yet")
            if self._is_stuck:
                raise Hangs("a call holds the event loop: no other one can be made")
            call.deadline = clock.boottime() + seconds()
            self._watch.look_by(call.deadline)
            self._working.add(call)
            self._in_hand[share] += 1
            self._new.append(call)
            if self._loop is None:
                self._start()
            if not self._is_woken:
                self._is_woken = True
                self._call_soon(self._begin)
        return call

    def _start(self) -> None:
        self._loop = new_loop()
        self._loop.set_default_executor(_Workers(self))
        for target, name in (
            (self._turn, self._name),
            (self._hand_on, f"{self._name}-take"),
            (self._look, f"{self._name}-watch"),
        ):
            thread = threading.Thread(target=target, name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def _call_soon(self, function: Callable[..., object], *args: Any) -> None:
        assert self._loop is not None
        with contextlib.suppress(RuntimeError):  # the loop has ended: so have its calls
            self._loop.call_soon_threadsafe(function, *args)

    # ---- on the loop -----------------------------------------------------------------------

    def _turn(self) -> None:
        loop = self._loop
        assert loop is not None
        try:
            loop.run_forever()
            loop.run_until_complete(_cancel_all())
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            loop.close()  # ends its workers, and waits for none

    def _begin(self) -> None:
        assert self._loop is not None
        with self._changed:
            new, self._new = self._new, []
            self._is_woken = False
        for call in new:
            self._loop.create_task(self._run(call))  # is kept from its first step on

    async def _run(self, call: Call[Any]) -> None:
        # From now on it can be cancelled. A task that is cancelled before would never run.
        task = asyncio.current_task()
        assert task is not None
        self._tasks[call] = task
        value, error = None, None
        try:
            if not call.is_over:
                value = await _Steps(self, call, call.function(call))
        except BaseException as caught:
            error = caught
        del self._tasks[call]
        if error is None:
            call.value = value
            self._found.put(call)
            return
        with self._changed:
            self._is_back(call, error)
            self._changed.notify_all()

    def _cancel(self, calls: Sequence[Call[Any]]) -> None:
        for call in calls:
            task = self._tasks.get(call)
            if task is not None:
                task.cancel()

    def _has_turned(self) -> None:
        with self._changed:
            self._asked_to_turn = None
            if self._is_stuck:
                self._is_stuck = False
                log.warning("the event loop %s turns again: calls are made as before", self._name)

    # ---- what was found --------------------------------------------------------------------

    def _hand_on(self) -> None:
        """Have what was found taken, as much at once as there is."""
        while (call := self._found.get()) is not None:
            if len(self._working) > self._found.qsize() + 1:
                self._stop_watch.wait(_GATHER)
            calls = [call]
            while len(calls) < _TOGETHER and not self._found.empty():
                another = self._found.get()
                if another is None:
                    self._found.put(None)
                    break
                calls.append(another)
            self._hand_on_these(calls)
            del call, calls

    def _hand_on_these(self, calls: list[Call[Any]]) -> None:
        with self._changed:
            claimed = []
            for call in calls:
                if call.is_over:
                    self._is_back(call, None)
                else:
                    call.is_claimed = True
                    claimed.append(call)
        try:
            if claimed:
                self._take(claimed)
        except Exception as error:
            for call in claimed:
                call.error = call.error or error
        with self._changed:
            for call in claimed:
                self._is_back(call, call.error)
            self._changed.notify_all()

    def _is_back(self, call: Call[Any], error: BaseException | None) -> None:
        if call.is_over:  # it was given up
            self._hung.discard(call.key)
            call.value = None
            return
        self._end(call, error)

    def _end(self, call: Call[Any], error: BaseException | None) -> None:
        self._working.discard(call)
        call.error = error
        call.is_over = True
        self._in_hand[call.share] -= 1
        if not self._in_hand[call.share]:
            del self._in_hand[call.share]  # shares come and go
        if call.over is not None:
            call.over(call)

    # ---- from outside ----------------------------------------------------------------------

    def _look(self) -> None:
        """Give up the calls that are past their deadline, and see whether the loop turns."""
        while self._watch.wait():
            now = clock.boottime()
            with self._changed:
                late = [
                    call for call in self._working if call.deadline <= now and not call.is_claimed
                ]
                for call in late:
                    self._hung.add(call.key)
                    self._end(call, TimedOut("given up: it was not back by its deadline"))
                if late:
                    self._call_soon(self._cancel, late)
                    self._changed.notify_all()
                self._ask_to_turn(now)
                # What was claimed is not given up; but the loop is watched while there is any.
                self._watch.looked(
                    [math.inf if call.is_claimed else call.deadline for call in self._working]
                    or [math.inf for _ in self._hung]
                )

    def _ask_to_turn(self, now: float) -> None:
        if self._asked_to_turn is None:
            if self._working or self._hung:
                self._asked_to_turn = now
                self._call_soon(self._has_turned)
        elif now - self._asked_to_turn >= _STUCK and not self._is_stuck:
            self._is_stuck = True
            log.error(
                "the event loop %s has not turned for %.0f s: a pollster blocks it; until it turns "
                "again none of its polls is begun",
                self._name,
                now - self._asked_to_turn,
            )

    def give_up(self, owner: object) -> None:
        """Give up, very soon, the calls that are made for somebody now."""
        with self._changed:
            for call in self._working:
                if call.owner is owner:
                    call.deadline = -math.inf
            self._watch.look_by(-math.inf)

    @property
    def hanging(self) -> int:
        """How many calls have been given up and are not back."""
        with self._changed:
            return len(self._hung)

    def close(self) -> None:
        """Take no more calls, and wait until those in hand are over. The loop turns on."""
        with self._changed:
            self._closed = True
            while self._working:
                self._changed.wait()

    def end(self) -> None:
        """End the loop and all threads; a call that holds the loop is left behind with its thread.

        Whoever has connections on the loop closes them between :meth:`close` and this.
        """
        self.close()
        if self._loop is None:
            return
        self._stop_watch.set()
        self._watch.end()
        self._found.put(None)
        self._call_soon(self._loop.stop)
        deadline = clock.boottime() + _END
        for thread in self._threads:
            thread.join(max(0.0, deadline - clock.boottime()))
            if thread.is_alive():
                log.error("the thread %s does not end: it is left behind", thread.name)


async def _cancel_all() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class _Steps:
    """A coroutine each of whose steps is noted: from where it goes on to where it waits again.

    Thousands wait at once. Only the one that makes a step now can hold up the others, or take all
    memory.
    """

    def __init__(self, pool: LoopPool, call: Call[Any], made: Coroutine[Any, Any, Any]) -> None:
        self._pool = pool
        self._call = call
        self._made = made

    def __await__(self) -> Generator[Any, Any, Any]:
        pool, call, made = self._pool, self._call, self._made
        note, noted = pool._note, pool._noted
        error: BaseException | None = None
        value: Any = None
        while True:
            place = 0 if note is None else note(call)
            pool._stepping = call
            try:
                waits_for = made.send(value) if error is None else made.throw(error)
            except StopIteration as stop:
                return stop.value
            finally:
                pool._stepping = None
                noted(place)
            try:
                value, error = (yield waits_for), None
            except GeneratorExit:
                made.close()
                raise
            except BaseException as caught:
                error = caught


class _Workers(DaemonThreads):
    """Threads for what computes for long, each noted as a step of the call that asked for it."""

    def __init__(self, pool: LoopPool) -> None:
        super().__init__(_WORKERS, f"{pool._name}-work")
        self._pool = pool

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Have a function called: see :class:`DaemonThreads`."""
        call, note = self._pool._stepping, self._pool._note
        if call is None or note is None:
            return super().submit(fn, *args, **kwargs)
        return super().submit(self._noted, call, note, lambda: fn(*args, **kwargs))

    def _noted(
        self, call: Call[Any], note: Callable[[Call[Any]], int], function: Callable[[], T]
    ) -> T:
        place = note(call)
        try:
            return function()
        finally:
            self._pool._noted(place)
