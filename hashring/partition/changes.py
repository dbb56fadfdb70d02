"""`Changes`: what this member gains and loses, told as it happens, and kept until it is let go.

For work that is no polling: a connection, a consumer or a scheduler for each key or slot, to be
started on gain and stopped on loss. `following.py` finds what has changed and pins it.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, Self, TypeVar

from hashring import clock
from hashring.partition.following import Follower, Turn
from hashring.partition.keys import by_slot
from hashring.partition.loops import Loops
from hashring.partition.membership import Membership
from hashring.partition.pins import Pin
from hashring.ring.ring import SlotSet

__all__ = ["Change", "Changes", "Teller"]

S = TypeVar("S")
"""What a change speaks of: a `SlotSet`, or a frozenset of keys."""


class Change(Generic[S]):
    """What was gained and lost at one moment.

    Attributes:
        gained: what is this member's from now on: start its work.
        lost: what is to be let go: end its work, then say :meth:`done`. Until then nobody else
            gets it, and others may wait for it.
        epoch: a number for sinks that refuse late writers, as :attr:`hashring.Token.epoch`. It
            holds for all that is held at this change; ``None`` too where that is nothing.
    """

    def __init__(
        self, member: Membership, follower: Follower, turn: Turn, gained: S, lost: S
    ) -> None:
        self._member = member
        self._follower = follower
        self._pin: Pin | None = follower.pin
        self._turn = turn
        self.gained = gained
        self.lost = lost
        self.epoch = None if follower.pin is None else follower.pin.epoch

    @property
    def valid(self) -> bool:
        """Whether what is followed is still held: false for good once the fence has passed."""
        return self._pin is not None and self._pin.valid

    @property
    def deadline(self) -> float:
        """When what is lost is somebody else's, done or not: in seconds on ``CLOCK_BOOTTIME``.

        That is the fence as it stands now, which each heartbeat moves on, or the end of a drain's
        timeout. In the past once the fence has passed; ``inf`` where nothing is lost.
        """
        if not self._turn.lost:
            return math.inf
        if not self.valid:
            return -math.inf
        return min(self._member.handoff.deadline, self._member.leave_by)

    @property
    def remaining(self) -> float:
        """Seconds until :attr:`deadline`; 0 where it has passed."""
        return max(0.0, self.deadline - clock.boottime())

    def done(self) -> None:
        """Say that nothing here acts on what is lost any more. May be said again."""
        if not self._member.is_child:
            self._follower.release(self._turn.lost)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.done()

    def __repr__(self) -> str:
        turn = self._turn
        return f"<Change: {len(turn.gained)} slots gained, {len(turn.lost)} lost>"


class Teller(Generic[S]):
    """Makes changes of what a follower finds. Both faces of the iterator stand on it.

    Args:
        member: whose slots.
        loops: where pins are known.
        keys: what to tell of, as they are now; ``None``: of the slots themselves.
        key: for other objects than ``str`` and ``bytes``: what gives an object's key.

    Raises:
        BadKey: a key is neither ``str`` nor ``bytes``.
    """

    def __init__(
        self,
        member: Membership,
        loops: Loops,
        keys: Iterable[Any] | None,
        key: Callable[[Any], str | bytes] | None,
    ) -> None:
        self._member = member
        universe = member.handoff.held(math.inf).slots
        self._keys = None if keys is None else by_slot(keys, key, universe)
        self._last: Change[S] | None = None
        only = None if self._keys is None else SlotSet.of(self._keys, universe)
        self.follower = Follower(member, loops, only)

    def _words(self, slots: SlotSet) -> Any:
        """Return what a change says of slots."""
        if self._keys is None:
            return slots
        return frozenset(key for slot, keys in self._keys.items() if slot in slots for key in keys)

    def next(self) -> Change[S] | None:
        """Return the next change; ``None``: nothing has changed yet. See ``follower.is_over``."""
        turn = self.follower.look()
        if turn is None:
            return None
        self._last = Change(
            self._member, self.follower, turn, self._words(turn.gained), self._words(turn.lost)
        )
        return self._last

    def finish(self) -> None:
        """The block of the change in hand has ended."""
        if self._last is not None:
            self._last.done()
            self._last = None


class Changes(Iterator[Change[S]]):
    """The iterator that :meth:`hashring.Partition.changes` returns. For one thread."""

    def __init__(self, partition: object, member: Membership, teller: Teller[S]) -> None:
        self._partition = partition  # lives as long as who iterates: see `membership.py`
        self._member = member
        self._teller = teller

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Change[S]:
        teller, follower = self._teller, self._teller.follower
        try:
            teller.finish()
            if follower.pin is not None:
                follower.pin.thread = threading.get_ident()
            while True:
                if self._member.is_child or follower.is_over:
                    break
                with self._member.lock:
                    change = teller.next()
                    if change is not None:
                        return change
                    if not follower.is_over:
                        self._member.changed.wait(follower.pause)
        except BaseException:
            self.close()
            raise
        self.close()
        raise StopIteration

    def close(self) -> None:
        """Let go everything that was gained. Takes no lock and does not wait."""
        self._teller.follower.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError):  # of one that was never finished
            self.close()
