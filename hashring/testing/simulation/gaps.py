"""When nobody could begin a window of a slot: it was between two owners, or they were at work."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hashring.ring.ring import SlotSet

if TYPE_CHECKING:
    from hashring.testing.simulation.members import SimulatedMember

__all__ = ["Gaps"]


class Gaps:
    """From when to when no loop over windows of one length waited for the next one of a slot.

    Args:
        interval: that length, in seconds.
        full: all slots.
    """

    def __init__(self, interval: float, full: SlotSet) -> None:
        self._interval = interval
        self._full = self._free = full
        self._since = dict.fromkeys(full, 0.0)  # by slot, those that are free
        self._ready: dict[SimulatedMember, SlotSet] = {}
        self._over: dict[int, list[tuple[float, float]]] = {}  # by slot: from when to when

    def look(self, member: SimulatedMember, now: float) -> None:
        """Note of which slots a member would begin a window that starts now.

        Args:
            member: one that has just done something.
            now: seconds of simulated time.
        """
        ready = member.ready(self._interval)
        before = self._ready.get(member)
        if ready == before or (before is None and not ready):
            return
        self._ready[member] = ready
        free = self._full
        for slots in self._ready.values():
            free = free - slots
        for slot in self._free - free:
            since = self._since.pop(slot)
            self._over.setdefault(slot, []).append((since, now))
        for slot in free - self._free:
            self._since[slot] = now
        self._free = free

    def spans(self, slot: int, first: float, last: float) -> bool:
        """Return whether nobody could begin a window of a slot from one moment to the other."""
        if slot in self._since and self._since[slot] <= first:
            return True
        ended = self._over.get(slot, [])
        return any(since <= first and last <= until for since, until in ended)
