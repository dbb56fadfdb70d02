"""`Frozen`: how a member follows the latest word on whether its group is frozen (`freezing.py`)."""

from __future__ import annotations

from hashring.protocol.record import Member
from hashring.protocol.state import State

__all__ = ["Frozen"]


class Frozen(State):
    """What a reading changes of :attr:`State.freeze`. It decides nothing."""

    @property
    def is_frozen(self) -> bool:
        """Whether the group is frozen, as far as this member knows."""
        return self.freeze is not None and self.freeze.on

    def _look_at_freeze(self, mine: Member, wall: float, young: bool) -> None:
        """Copy the latest word on whether the group is frozen; end a freeze that keeps nobody."""
        found = self._roster.freeze
        if found is not None and (self.freeze is None or found.rank > self.freeze.rank):
            self.freeze = found
            self.stays = found.on and self._roster.stays(mine)
        if not young and self.freeze == found and found is not None and self._roster.is_abandoned():
            self.freeze = found.ended_by(self.member, wall)
            self.stays = False
        if self._until_thaw and not self.is_frozen:
            self._back, self._until_thaw = None, False
