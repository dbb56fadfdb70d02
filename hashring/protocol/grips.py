"""`Grips`: slots that a member keeps until a time, and not until a block has ended.

For who acts on what it was told without a call that marks the end. A grip is a cycle to the rest of
the protocol: what it pins is not given up before it ends. It ends by itself. The clock is the
caller's, so members and the simulator go through this module alike.
"""

from __future__ import annotations

import dataclasses
import itertools
from typing import Protocol

from hashring.ring.ring import SlotSet

__all__ = ["Gripped", "Grips"]


class _Handoff(Protocol):
    """What grips need of a hand-off."""

    @property
    def lease_number(self) -> int: ...
    @property
    def deadline(self) -> float: ...
    def held(self, now: float) -> SlotSet: ...
    def pin(self, cycle: int, slots: SlotSet) -> None: ...
    def unpin(self, cycle: int) -> None: ...


@dataclasses.dataclass(slots=True, eq=False)
class Gripped:
    """One grip.

    Attributes:
        number: what the hand-off knows it by; negative, since those of cycles are not.
        slots: what it pins.
        lease: the number of the lease under which they were held.
        until: the local time in seconds at which it ends.
        released: its owner has done with it. May be set without a lock.
    """

    number: int
    slots: SlotSet
    lease: int
    until: float
    released: bool = False


class Grips:
    """The grips of one member. To be called with the lock over its hand-off held.

    Args:
        handoff: pins and unpins the slots.
    """

    def __init__(self, handoff: _Handoff) -> None:
        self._handoff = handoff
        self._live: dict[int, Gripped] = {}
        self._numbers = itertools.count(-1, -1)

    def take(self, now: float, seconds: float) -> Gripped:
        """Pin what is held now for so many seconds."""
        handoff = self._handoff
        lease, slots = handoff.lease_number, handoff.held(now)
        grip = Gripped(next(self._numbers), slots, lease, now + seconds)
        self._live[grip.number] = grip
        handoff.pin(grip.number, slots)
        return grip

    def is_valid(self, grip: Gripped, now: float) -> bool:
        """Whether a grip has not ended, and what it pins is still in hand."""
        deadline = self._handoff.deadline  # first: read later, it could be the next lease's
        return (
            now < min(grip.until, deadline)
            and not grip.released
            and grip.lease == self._handoff.lease_number
        )

    def renew(self, grip: Gripped, now: float, seconds: float) -> bool:
        """Let a grip last for at least so many seconds from now; return whether it does.

        One that has ended stays so: what it pinned may be somebody else's.
        """
        if not self.is_valid(grip, now):
            return False
        grip.until = max(grip.until, now + seconds)
        return True

    def end_due(self, now: float) -> bool:
        """Unpin what grips kept that have ended; return whether there were any."""
        due = [grip for grip in self._live.values() if grip.released or now >= grip.until]
        for grip in due:
            grip.released = True  # a clock that is read earlier elsewhere does not revive it
            self._handoff.unpin(grip.number)
            del self._live[grip.number]
        return bool(due)

    def __len__(self) -> int:
        return len(self._live)
