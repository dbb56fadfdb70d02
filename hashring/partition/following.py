"""`Follower`: which slots somebody acts on for longer than a window, and what became of them.

It pins what it has told of, so that nobody else gains it, and lets go what it is told to. Changes,
the workers of keys, and leaders stand on it. This module knows no store, no key and no view.
"""

from __future__ import annotations

import dataclasses
import math

from hashring import clock
from hashring.partition.loops import Loops
from hashring.partition.membership import Membership
from hashring.partition.pins import Pin
from hashring.ring.ring import SlotSet

__all__ = ["Follower", "Turn"]

_LOOK = 0.2
"""The longest wait in seconds between two looks: `stop` is asked for without a word."""

_SHORTEST = 0.001
"""The shortest wait in seconds: a fence about to pass does not keep the processor busy."""


@dataclasses.dataclass(frozen=True, slots=True)
class Turn:
    """What one look has found.

    Attributes:
        gained: slots that are this member's from now on; pinned.
        lost: slots that are to be let go. Pinned until they are released, but not past the fence.
    """

    gained: SlotSet
    lost: SlotSet


class Follower:
    """Follows the slots of one member. For one thread or task; each method takes the lock.

    Args:
        member: whose slots.
        loops: where pins are known.
        only: follow no others than these slots; ``None``: all.

    Attributes:
        followed: slots that were told as gained, and not yet as lost.
        releasing: slots that were told as lost, and are still pinned.
        pin: what pins both; ``None`` where there is nothing to pin.
    """

    def __init__(self, member: Membership, loops: Loops, only: SlotSet | None = None) -> None:
        member.check_parent()
        self._member = member
        self._loops = loops
        self._only = only
        self._nothing = member.handoff.held(math.inf)
        self.followed = self.releasing = self._nothing
        self.pin: Pin | None = None
        self._closed = False

    @property
    def is_over(self) -> bool:
        """Whether nothing is followed any more, and nothing more will come."""
        if self.followed or self.releasing:
            return False
        return self._closed or self._member.is_child or self._ends()

    def _ends(self) -> bool:
        return self._member.stopping or self._member.state in ("draining", "left")

    def look(self) -> Turn | None:
        """Return what has changed since the last look, and pin what was gained; ``None``: nothing.

        Raises:
            GroupMismatch, MemberExists: this member can never take part.
        """
        member = self._member
        if self._closed:
            return None
        if member.is_child:
            self.followed = self.releasing = self._nothing
            return None
        with member.lock:
            try:
                member.check()
            except BaseException:
                self.close()
                raise
            if self.pin is not None and not self.pin.valid:
                lost = self._forfeit()
                if lost:
                    return Turn(self._nothing, lost)
            held = self._nothing if self._ends() else member.held
            if self._only is not None:
                held = held & self._only
            gained, lost = held - self.followed - self.releasing, self.followed - held
            if not gained and not lost:
                return None
            self.followed = (self.followed - lost) | gained
            self.releasing = self.releasing | lost
            self._pin()
            return Turn(gained, lost)

    def _forfeit(self) -> SlotSet:
        lost, self.followed, self.releasing = self.followed, self._nothing, self._nothing
        self._pin()
        return lost

    def release(self, slots: SlotSet) -> None:
        """Let go slots that were told as lost: nobody acts on them here any more."""
        with self._member.lock:
            kept = self.releasing - slots
            if kept != self.releasing:
                self.releasing = kept
                self._pin()

    def _pin(self) -> None:
        """Pin what is followed or being released, and nothing else; the caller has the lock."""
        slots = self.followed | self.releasing
        if not slots:
            if self.pin is not None:  # pragma: no branch - what was followed had been pinned
                self.pin.end()
                self.pin = None
        elif self.pin is None:
            self.pin = self._loops.pin(slots)
        else:
            self._loops.pin_other(self.pin, slots)

    @property
    def pause(self) -> float:
        """For how many seconds at most there is no need to look, unless something is told."""
        if self.pin is None:
            return _LOOK
        return max(_SHORTEST, min(_LOOK, self._member.handoff.deadline - clock.boottime()))

    def close(self) -> None:
        """Let everything go. Takes no lock: a finaliser may call it."""
        self._closed = True
        self.followed = self.releasing = self._nothing
        if self.pin is not None:
            self.pin.end()
            self.pin = None
