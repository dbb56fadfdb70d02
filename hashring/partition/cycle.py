"""What a user's loop holds in hand: `Cycle`, the iterator `Cycles`, the keys of a cycle.

A cycle has its slots pinned and knows whether they are still held; what pins, waits and ends stands
in `pins.py` and `loops.py`. This module knows no store and no view.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from typing import Any, Protocol, Self, TypeVar, overload

import mmh3

from hashring import clock
from hashring.errors import BadArgument, BadKey
from hashring.partition.fanout import FencedMap
from hashring.partition.keys import explained
from hashring.partition.loops import Loop, Loops, Work
from hashring.partition.membership import Membership
from hashring.partition.token import Token

__all__ = ["Cycle", "CycleFacts", "Cycles", "FencedKeys", "LoopHandle", "OwnedKeys"]

K = TypeVar("K")
R = TypeVar("R")

_IN_FLIGHT = 32
"""The most calls of one `Cycle.map` at once, unless it is told another number."""

_NAP = 0.04
"""Seconds between two looks at the fence while a spread loop waits for a key's moment."""

_EARLY = 0.01
"""The part of a window, and the seconds, by which a key may come before its moment at most: where
there are many keys, one sleep then serves several of them."""


class _Valid(Protocol):
    """What keys are owned by: a cycle or a grip."""

    @property
    def valid(self) -> bool: ...


class FencedKeys(Sequence[K]):
    """Keys that are this member's: a sequence that is safe to iterate slowly.

    Iteration stops the moment what they are owned by is not valid any more.
    """

    def __init__(self, owner: _Valid, keys: list[K]) -> None:
        self._owner = owner
        self._keys = keys

    def __iter__(self) -> Iterator[K]:
        for key in self._keys:
            if not self._owner.valid:
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
        return f"<{len(self._keys)} owned keys of {self._owner!r}>"


class OwnedKeys(FencedKeys[K]):
    """The keys of a cycle that this member holds: a sequence that is safe to iterate slowly.

    Iteration stops, and the cycle's ``valid`` turns false, the moment the fence passes. With a
    spread, each key is yielded at its own moment of the window, which its hash fixes.
    """

    def __init__(
        self, cycle: CycleFacts, keys: list[K], moments: list[float] | None = None
    ) -> None:
        super().__init__(cycle, keys)
        self._cycle = cycle
        self._moments = moments

    def __iter__(self) -> Iterator[K]:
        for number, key in enumerate(self._keys):
            if self._moments is not None and not self._cycle._sleep_until(self._moments[number]):
                return
            if not self._cycle.valid:
                return
            yield key


class CycleFacts:
    """What both faces of a cycle, for threads and for an event loop, answer at once.

    Attributes:
        window: the number of the window, ``floor(time / interval)``; ``None`` for a plain
            :meth:`Partition.cycle`.
        start: the wall-clock second at which the window starts; for a plain cycle, its own start.
        late: only slots that were handed over after this member had begun the window.
        slots: what is pinned.
        token: for idempotent sinks.
    """

    def __init__(self, partition: object, member: Membership, work: Work) -> None:
        self._partition = partition  # lives as long as its cycles: see `membership.py`
        self._member = member
        self._pin = work.pin
        # A key's moment is reckoned from here on the clock that never steps: whatever the wall
        # clock does in this window, its keys come at their pace.
        self._wall_ahead = clock.wall() - clock.boottime()
        self.slots = work.slots
        self.token = Token(work.view_id, work.incarnation, work.window, epoch=work.pin.epoch)
        self.window = work.window
        self.start = work.start
        self.interval = work.interval
        self.late = work.late
        self._early = min(_EARLY, _EARLY * (work.interval or 0.0))

    @property
    def valid(self) -> bool:
        """Whether the slots are still held: false for good from the fence on, or from the end."""
        return self._pin.valid

    @overload
    def owns(self, item: str | bytes, /) -> bool: ...
    @overload
    def owns(self, item: K, /, *, key: Callable[[K], str | bytes]) -> bool: ...
    def owns(self, item: K, /, *, key: Callable[[K], str | bytes] | None = None) -> bool:
        """Whether a key is this member's in this cycle, now.

        Args:
            item: the key; or any object, with ``key``.
            key: what gives an object's key.

        Raises:
            BadKey: the key is neither ``str`` nor ``bytes``.
        """
        try:
            owned = self.slots.owns(item if key is None else key(item))  # type: ignore[arg-type]
        except BadKey as error:
            raise explained(error) from None
        return owned and self.valid

    def _chosen(
        self, keys: Iterable[Any], spread: float, key: Callable[[Any], str | bytes] | None
    ) -> tuple[list[Any], list[float] | None]:
        """Return the keys of :meth:`owned`, and with a spread the moment of each."""
        if isinstance(spread, bool) or not 0 <= spread <= 1:
            raise BadArgument(f"spread must lie between 0 and 1, not {spread!r}")
        try:
            found: list[Any] = self.slots.owned(keys, key=key)
        except BadKey as error:
            raise explained(error) from None
        if not self.valid:
            found = []
        if not spread:
            return found, None
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
        return [found[i] for i in order], [moments[i] for i in order]

    def _sleep_until(self, moment: float) -> bool:
        """Sleep until a wall-clock moment; return whether the cycle is still valid then."""
        while (nap := self._nap_before(moment)) > 0:
            time.sleep(nap)
        return nap == 0

    def _nap_before(self, moment: float) -> float:
        """Return for how long to wait before the next look at whether a wall-clock moment has come.

        Returns:
            Seconds; 0: it has, or nearly; -1: the cycle is not valid any more.
        """
        left = moment - self._wall_ahead - clock.boottime()
        if not self.valid:
            return -1.0
        # A member that is asked to leave works the rest of its window at once.
        if left <= self._early or self._member.stopping:
            return 0.0
        return min(left, _NAP)

    def __repr__(self) -> str:
        window = "" if self.window is None else f" of window {self.window}"
        return f"<{type(self).__name__}{window} with {len(self.slots)} slots>"


class Cycle(CycleFacts):
    """One member's work in one window; its slots are pinned while its block runs.

    Attributes:
        window: the number of the window, ``floor(time / interval)``; ``None`` for a plain
            :meth:`Partition.cycle`.
        start: the wall-clock second at which the window starts; for a plain cycle, its own start.
        late: only slots that were handed over after this member had begun the window.
        slots: what is pinned.
        token: for idempotent sinks.
    """

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
        return OwnedKeys(self, *self._chosen(keys, spread, key))

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
            over=self._pin.wake,
        )
        self._pin.maps.append(found)
        found.start()
        return found


class CycleBlock:
    """What :meth:`Partition.cycle` returns: pins a cycle's slots while its ``with`` block runs.

    No generator: one that is left to the garbage collector would run its end in any thread.
    """

    def __init__(self, partition: object, member: Membership, loops: Loops) -> None:
        self._partition = partition
        self._member = member
        self._loops = loops
        self._cycle: Cycle | None = None

    def __enter__(self) -> Cycle:
        if self._cycle is not None:
            raise BadArgument("this cycle has begun before: ask the partition for another")
        self._cycle = Cycle(self._partition, self._member, self._loops.begin_plain())
        return self._cycle

    def __exit__(self, raised: type[BaseException] | None, *_: object) -> None:
        assert self._cycle is not None, "left, and never entered"
        try:
            self._cycle._pin.finish_maps(raised)
        finally:
            self._cycle._pin.end()

    def __del__(self) -> None:
        # Entered, and never left; or a Ctrl-C came while it was.
        cycle = getattr(self, "_cycle", None)
        if cycle is not None and not cycle._pin.noted:
            cycle._pin.end()


class LoopHandle:
    """What both faces of a loop over windows, for threads and for an event loop, have in common.

    Attributes:
        interval: seconds; may be set, and then holds from the end of the window in hand.
    """

    def __init__(self, partition: object, member: Membership, loops: Loops, loop: Loop) -> None:
        self._partition = partition
        self._member = member
        self._loops = loops
        self._loop = loop

    @property
    def interval(self) -> float:
        """The length of a window in seconds."""
        return self._loop.stream.interval

    @interval.setter
    def interval(self, interval: float) -> None:
        self._loop.change_interval(interval)

    @property
    def missed(self) -> int:
        """How many windows this member skipped because it was late itself."""
        return self._loop.stream.missed

    @property
    def started_through(self) -> int | None:
        """The newest window that has begun, if it and all before it were started, by this member
        or by who had its slots before; ``None`` while something waits to be started.
        """
        return self._loop.started_through()

    def finish(self) -> None:
        """Let the loop end after the cycle in hand, and the member stay. From any thread.

        Windows that begin later are worked by nobody here: it is for a loop that is no longer
        wanted. To leave the group, stop the partition.
        """
        self._loop.finish()

    def close(self) -> None:
        """End the cycle in hand and stop. Takes no lock and does not wait.

        Begun windows that were not started are the next owner's, unless another loop of this
        member has worked windows that start later.
        """
        self._loop.close()

    def __del__(self) -> None:
        # `break` in a for loop leaves the iterator to the collector: the slots must not stay
        # pinned for good. That may run in any thread and inside any lock, so it is only noted.
        with contextlib.suppress(AttributeError):  # of one that was never finished
            self.close()


class Cycles(LoopHandle, Iterator[Cycle]):
    """The iterator that :meth:`Partition.cycles` returns.

    Attributes:
        interval: seconds; may be set, and then holds from the end of the window in hand.
    """

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Cycle:
        loop = self._loop
        if loop.pin is not None:
            loop.pin.finish_maps()
        loop.end_cycle()
        if loop.closed:
            raise StopIteration
        if loop.thread is None:
            loop.open()
        if loop.finishing:
            self.close()
            raise StopIteration
        loop.thread = threading.get_ident()
        try:
            work = self._loops.next_work(loop)
        except BaseException:
            self.close()
            raise
        if work is None:
            self.close()
            raise StopIteration
        return Cycle(self._partition, self._member, work)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, raised: type[BaseException] | None, *_: object) -> None:
        try:
            if self._loop.pin is not None:
                self._loop.pin.finish_maps(raised)
        finally:
            self.close()
