"""The judge of rule 7: each holder of a slot has a greater epoch than the one before it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hashring.ring.ring import SlotSet

if TYPE_CHECKING:
    from hashring.testing.simulation.members import SimulatedMember

__all__ = ["Epochs"]

_Holder = tuple[str, str]


class Epochs:
    """Who held each slot last, and with which epoch at most.

    Attributes:
        successions: how often a slot was seen in another one's hands than before.
        missing: how often slots were seen in the hands of a member without an epoch.
    """

    def __init__(self) -> None:
        self.successions = self.missing = 0
        self._last: dict[int, tuple[_Holder, int]] = {}  # by slot
        self._seen: dict[_Holder, tuple[SlotSet, int]] = {}  # what was looked at already

    def look(self, member: SimulatedMember, mine: SlotSet) -> str | None:
        """Look at what a member has in hand; return what is wrong with its epoch, if anything.

        Args:
            member: one that has just done something.
            mine: what it has in hand; not empty.
        """
        epoch = member.handoff.epoch
        if epoch is None:
            self.missing += 1
            return None
        holder = member.name, member.handoff.incarnation
        if self._seen.get(holder) == (mine, epoch):
            return None
        for slot in mine:
            before, known = self._last.get(slot, (holder, epoch))
            if before != holder:
                self.successions += 1
                self._seen.pop(before, None)  # should it have the slot again, that is a change
            if epoch < known or (epoch == known and before != holder):
                return (
                    f"{member.name} has slot {slot} with epoch {epoch}, and before it "
                    f"{before[0]} had it with epoch {known}"
                )
            self._last[slot] = holder, epoch
        self._seen[holder] = mine, epoch
        return None
