"""What a user's loop holds in hand: `Cycle`, the iterator `Cycles`, the keys of a cycle.

A cycle has its slots pinned and knows whether they are still held; what pins, waits and ends is
the partition's. This module knows no store and no view.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from typing import Any, NamedTuple, Protocol, Self, TypeVar, overload

import mmh3

from hashring import clock
from hashring.errors import BadArgument
from hashring.partition.fanout import FencedMap
from hashring.partition.notes import Notes
from hashring.protocol.windows import Stream
from hashring.ring.ring import SlotSet

__all__ = ["Cycle", "Cycles", "OwnedKeys", "Token"]

K = TypeVar("K")
R = TypeVar("R")

_IN_FLIGHT = 32
"""The most calls of one `Cycle.map` at once, unless it is told another number."""

_NAP = 0.04
"""Seconds between two looks at the fence while a spread loop waits for a key's moment."""

_EARLY = 0.01
"""The part of a window, and the seconds, by which a key may come before its moment at most: where
there are many keys, one sleep then serves several of them."""


class _Holder(Protocol):
    """What a cycle needs of the partition that made it."""

    _lock: threading.RLock
    _notes: Notes
    _stopping: bool

    def _is_lease(self, lease: int) -> bool: ...
    def _next_cycle(self, stream: Stream, jitter: float) -> Cycle | None: ...
    def _end(self, cycle: Cycle) -> None: ...
    def _open_stream(self, stream: Stream) -> None: ...


class Token(NamedTuple):
    """What a sample carries so that a sink can refuse the impossible.

    Attributes:
        view_id: the view under which the keys were held.
        incarnation: the member's unbroken membership.
        window: the window's number, or ``None`` for a cycle without one.
    """

    view_id: str
    incarnation: str
    window: int | None


class OwnedKeys(Sequence[K]):
    """The keys of a cycle that this member holds: a sequence that is safe to iterate slowly.

    Iteration stops, and the cycle's ``valid`` turns false, the moment the fence passes. With a
    spread, each key is yielded at its own moment of the window, which its hash fixes.
    """

    def __init__(self, cycle: Cycle, keys: list[K], moments: list[float] | None = None) -> None:
        self._cycle = cycle
        self._keys = keys
        self._moments = moments

    def __iter__(self) -> Iterator[K]:
        for number, key in enumerate(self._keys):
            if self._moments is not None and not self._cycle._sleep_until(self._moments[number]):
                return
            if not self._cycle.valid:
                return
            yield key

    def __len__(self) -> int:
        return len(self._keys)

    @overload
    def __getitem__(self, index: int) -> K: ...
    @overload
    def __getitem__(self, index: slice) -> list[K]: ...
    def __getitem__(self, index: int | slice) -> K | list[K]:
        return self._keys[index]

    def __repr__(self) -> str:
        return f"<{len(self._keys)} owned keys of {self._cycle!r}>"


class Cycle:
    """One member's work in one window; its slots are pinned while its block runs.

    Attributes:
        window: the number of the window, ``floor(time / interval)``; ``None`` for a plain
            :meth:`Partition.cycle`.
        start: the wall-clock second at which the window starts; for a plain cycle, its own start.
        late: only slots that were handed over after this member had begun the window.
        slots: what is pinned.
        token: for idempotent sinks.
    """

    def __init__(
        self,
        partition: _Holder,
        number: int,
        slots: SlotSet,
        token: Token,
        *,
        lease: int,
        start: float,
        interval: float | None = None,
        late: bool = False,
    ) -> None:
        self._partition = partition
        self._number = number
        self._lease = lease
        self._over = False
        self._fenced = False
        # A key's moment is reckoned from here on the clock that never steps: whatever the wall
        # clock does in this window, its keys come at their pace.
        self._wall_ahead = clock.wall() - clock.boottime()
        self._maps: list[FencedMap[Any]] = []
        self.slots = slots
        self.token = token
        self.window = token.window
        self.start = start
        self.interval = interval
        self.late = late

    @property
    def valid(self) -> bool:
        """Whether the slots are still held: false for good from the fence on, or from the end."""
        if not self._fenced and not self._partition._is_lease(self._lease):
            self._fenced = True
        return not (self._fenced or self._over)

    def owns(self, key: str | bytes) -> bool:
        """Whether ``key`` is this member's in this cycle, now."""
        return self.slots.owns(key) and self.valid

    def owned(
        self,
        keys: Iterable[K],
        *,
        spread: float = 0.0,
        key: Callable[[K], str | bytes] | None = None,
    ) -> OwnedKeys[K]:
        """Return those of ``keys`` that this member holds, in order.

        Args:
            keys: ``str`` or ``bytes``, any iterable, or :class:`Keys`.
            spread: the part of the window, 0 to 1, over which iteration spreads the keys: each
                has its own moment, fixed by its hash, so whoever owns it polls at that phase, to
                within a hundredth of the window or of a second. The order is then that of the
                moments.
            key: for other objects: what gives an object's key.

        Raises:
            BadKey: a key is neither ``str`` nor ``bytes``.
            BadArgument: ``spread`` is out of range, or the cycle has no window to spread over.
        """
        if isinstance(spread, bool) or not 0 <= spread <= 1:
            raise BadArgument(f"spread must lie between 0 and 1, not {spread!r}")
        if key is None:
            found: list[Any] = self.slots.owned(keys)
        else:
            found = self.slots.owned(keys, key=key)
        if not self.valid:
            found = []
        if not spread:
            return OwnedKeys(self, found)
        if self.interval is None:
            raise BadArgument("spread needs a window: take the cycle from cycles(interval)")
        name = key if key is not None else (lambda found: found)
        # Another hash than the ring's: its high bits are the slot, and a member's slots would
        # bunch its keys together.
        moments = [
            self.start + mmh3.hash(name(item), signed=False) / 2**32 * spread * self.interval
            for item in found
        ]
        order = sorted(range(len(found)), key=moments.__getitem__)
        return OwnedKeys(self, [found[i] for i in order], [moments[i] for i in order])

    def map(
        self,
        executor: Executor,
        function: Callable[[K], R],
        keys: Iterable[K],
        *,
        spread: float = 0.0,
        key: Callable[[K], str | bytes] | None = None,
        in_flight: int = _IN_FLIGHT,
        ordered: bool = True,
    ) -> FencedMap[R]:
        """Call ``function`` in an executor's threads, with the ``keys`` that this member holds.

        ::

            with ThreadPoolExecutor(16) as executor:
                for cycle in partition.cycles(interval=60):
                    for result in cycle.map(executor, poll, keys):
                        publish(result)

        No call begins once the fence has passed, and the cycle ends only when those in flight have
        ended. With ``executor.map(poll, cycle.owned(keys))`` neither is so: it takes all keys
        before the first call, and so it goes on with them where another member has them by now.

        The calls begin at once, also where nobody asks for the results; leaving the cycle in
        order waits for all, leaving it by an exception or a ``break`` for those in flight. Where a
        call raised, that is raised in its result's place, and the iteration may go on.

        Args:
            executor: a `ThreadPoolExecutor`, or another whose calls run in this process.
            function: called with one of the keys (or objects).
            keys: as for :meth:`owned`.
            spread: as for :meth:`owned`: each call begins at its key's moment; a thread waits.
            key: as for :meth:`owned`.
            in_flight: the most calls at once; the executor's own number of threads is a limit too.
            ordered: yield the results in the order of the keys, else in that of their ends.

        Returns:
            An iterator of results. It stops early at the fence; see :attr:`valid`.

        Raises:
            BadKey: a key is neither ``str`` nor ``bytes``.
            BadArgument: an argument is out of range, or the executor's calls run in processes.
        """
        if isinstance(in_flight, bool) or not isinstance(in_flight, int) or in_flight < 1:
            raise BadArgument(f"in_flight must be a positive int, not {in_flight!r}")
        owned = self.owned(keys, spread=spread, key=key)
        found: FencedMap[R] = FencedMap(
            self,
            executor,
            function,
            owned._keys,
            owned._moments,
            in_flight=in_flight,
            ordered=ordered,
            over=self._partition._notes.wake.set,
        )
        self._maps.append(found)
        found.start()
        return found

    def _finish_maps(self, raised: type[BaseException] | None = None) -> None:
        """Wait for what :meth:`map` began. Not where a generator is closed: that may be by the
        garbage collector, in any thread; the slots then stay pinned until the last call has ended.
        """
        if raised is not None:
            self._cancel_maps()
        if raised is None or not issubclass(raised, GeneratorExit):
            for one in self._maps:
                one.finish()

    def _cancel_maps(self) -> None:
        for one in self._maps:
            one.cancel()

    @property
    def _runs_calls(self) -> bool:
        return any(one.runs for one in self._maps)

    def _sleep_until(self, moment: float) -> bool:
        """Sleep until a wall-clock moment; return whether the cycle is still valid then."""
        early = min(_EARLY, _EARLY * (self.interval or 0.0))
        while True:
            left = moment - self._wall_ahead - clock.boottime()
            if not self.valid:
                return False
            if left <= early or self._partition._stopping:
                # A member that is asked to leave works the rest of its window at once.
                return True
            time.sleep(min(left, _NAP))

    def __repr__(self) -> str:
        window = "" if self.window is None else f" of window {self.window}"
        return f"<Cycle{window} with {len(self.slots)} slots>"


class CycleBlock:
    """What :meth:`Partition.cycle` returns: pins a cycle's slots while its ``with`` block runs.

    No generator: one that is left to the garbage collector would run its end in any thread.
    """

    def __init__(self, partition: _Holder, start: Callable[[], Cycle]) -> None:
        self._partition = partition
        self._start = start
        self._cycle: Cycle | None = None

    def __enter__(self) -> Cycle:
        if self._cycle is not None:
            raise BadArgument("this cycle has begun before: ask the partition for another")
        self._cycle = self._start()
        return self._cycle

    def __exit__(self, raised: type[BaseException] | None, *_: object) -> None:
        if self._cycle is not None:
            try:
                self._cycle._finish_maps(raised)
            finally:
                self._partition._end(self._cycle)

    def __del__(self) -> None:
        # Entered, and never left.
        cycle = getattr(self, "_cycle", None)
        if cycle is not None and not cycle._over:
            self._partition._end(cycle)


class Cycles(Iterator[Cycle]):
    """The iterator that :meth:`Partition.cycles` returns.

    Attributes:
        interval: seconds; may be set, and then holds from the end of the window in hand.
    """

    def __init__(self, partition: _Holder, stream: Stream, jitter: float) -> None:
        self._partition = partition
        self._stream = stream
        self._jitter = jitter
        self._cycle: Cycle | None = None
        self._finishing = False
        self._closed = False
        self._thread: int | None = None  # the one that iterates

    @property
    def interval(self) -> float:
        """The length of a window in seconds."""
        return self._stream.interval

    @interval.setter
    def interval(self, interval: float) -> None:
        with self._partition._lock:
            self._stream.change_interval(interval, clock.wall())

    @property
    def missed(self) -> int:
        """How many windows this member skipped because it was late itself."""
        return self._stream.missed

    @property
    def started_through(self) -> int | None:
        """The newest window that has begun, if it and all before it were started, by this member
        or by who had its slots before; ``None`` while something waits to be started.
        """
        with self._partition._lock:
            wall = clock.wall()
            self._stream.follow(wall)
            return self._stream.window_of(wall) if self._stream.next_start() > wall else None

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Cycle:
        if self._cycle is not None:
            self._cycle._finish_maps()
        self._end_cycle()
        if self._closed:
            raise StopIteration
        if self._thread is None:
            self._partition._open_stream(self._stream)
        if self._finishing:
            self.close()
            raise StopIteration
        self._thread = threading.get_ident()
        try:
            cycle = self._partition._next_cycle(self._stream, self._jitter)
        except BaseException:
            self.close()
            raise
        if cycle is None:
            self.close()
            raise StopIteration
        self._cycle = cycle
        return cycle

    def _end_cycle(self) -> None:
        if self._cycle is not None:
            self._partition._end(self._cycle)
            self._cycle = None

    def finish(self) -> None:
        """Let the loop end after the cycle in hand, and the member stay. From any thread.

        Windows that begin later are worked by nobody here: it is for a loop that is no longer
        wanted. To leave the group, stop the partition.
        """
        self._finishing = True
        self._stream.ending = True

    def close(self) -> None:
        """End the cycle in hand and stop. Takes no lock and does not wait.

        Begun windows that were not started are the next owner's, unless another loop of this
        member has worked windows that start later.
        """
        self._end_cycle()
        if not self._closed:
            self._closed = True
            self._partition._notes.close(self._stream)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, raised: type[BaseException] | None, *_: object) -> None:
        try:
            if self._cycle is not None:
                self._cycle._finish_maps(raised)
        finally:
            self.close()

    def __del__(self) -> None:
        # `break` in a for loop leaves the iterator to the collector: the slots must not stay
        # pinned for good. That may run in any thread and inside any lock, so it is only noted.
        with contextlib.suppress(AttributeError):  # of one that was never finished
            self.close()
