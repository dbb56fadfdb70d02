"""Gathering: changes of the group that come together are seen as one view.

No clock: times come in as arguments, in seconds on a clock that never steps. Until a member turns
to a new view it is as one that has not read it yet: this can cost time, and no safety.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from hashring.protocol.record import Member
from hashring.protocol.view import View
from hashring.ring.ring import SlotSet

__all__ = ["DEFAULT_GATHER", "Gathering", "is_planned"]

DEFAULT_GATHER = 0.1
"""Seconds in which a member turns to two views at most. More: fewer views in a burst of joins, and
the last one that joins waits longer."""


_REMEMBERED = 16
"""Views that a member has turned to of late: who shows one of them is behind, not ahead."""


def is_planned(target: View, view: View, members: Mapping[str, Member]) -> bool:
    """Return whether nobody is gone from a view but who says that it drains, or weighs less.

    What a crashed member held is worked by nobody until it is taken over: no such change waits.

    Args:
        target: the view of before.
        view: the one of the latest reading.
        members: the live records of that reading, by id.
    """
    for id, incarnation, weight in set(target.members) - set(view.members):
        record = members.get(id)
        if record is None or record.incarnation != incarnation:
            return False
        if not record.draining and record.weight == weight:
            return False
    return True


class Gathering:
    """When one member turns to a new view: at once, but to no more than two in so many seconds.

    So a lone change never waits, nor one soon after it (a member that is restarted); of many that
    come together, those after the second are waited for and seen as one. Each member decides for
    itself, and follows another that is ahead.

    Args:
        seconds: in which a member turns to two views at most; 0: to each at once.

    Example:
        >>> gathering = Gathering(0.1)
        >>> gathering.turned("v0", 1.0)
        >>> gathering.turned("v1", 5.0)
        >>> gathering.rest(5.02)
        0.0
        >>> gathering.turned("v2", 5.02)
        >>> round(gathering.rest(5.03), 3), gathering.rest(5.12)
        (0.07, 0.0)
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._turned_at = (-math.inf, -math.inf)  # the last time but one, and the last
        self._turned_to: tuple[str, ...] = ()

    def is_led(
        self, target: View, view: View, members: Mapping[str, Member], missing: SlotSet
    ) -> bool:
        """Return whether somebody is ahead of this member, and would wait for it.

        Another one of the view of before has acked a view that this member never turned to: what
        the two hand over would be held up. Or one who comes with the new view is to have what this
        member still misses of the view of before: each would wait for the other.

        Args:
            target: the view of before.
            view: the one of the latest reading.
            members: the live records of that reading, by id.
            missing: what the view of before gives this member and it has not gained.
        """
        known = {id for id, _, _ in target.members}
        for id, member in members.items():
            if member.applied is None or member.applied in self._turned_to:
                continue
            if id in known:
                return True
            if member.applied == view.id and not view.slots(id).isdisjoint(missing):
                return True
        return False

    def rest(self, now: float) -> float:
        """Return for how many more seconds changes are gathered, at local time ``now``."""
        return max(0.0, self._turned_at[0] + self.seconds - now)

    def turned(self, view: str, now: float) -> None:
        """The member turns to the view with this id."""
        if not self.seconds:
            return  # nothing is ever waited for
        # Who has just come has had its two: it may not lead the others on at each that follows it.
        self._turned_at = (self._turned_at[1] if self._turned_to else now, now)
        self._turned_to = (*self._turned_to[1 - _REMEMBERED :], view)
