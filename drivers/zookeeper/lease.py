"""What the ZooKeeper driver knows of a lease that it has. A value: it knows no connection."""

from __future__ import annotations

import dataclasses
from typing import Any

from hashring.clock import boottime

from .rewinds import Rewinds

__all__ = ["Lease"]


@dataclasses.dataclass
class Lease:
    """What we know of a node of ours.

    Attributes:
        session: the number of the session that made it.
        incarnation: as it is in the record.
        version: the node's version, which the next write expects.
        sound: when the store last showed that version, in seconds on the boot-time clock: the
            start of that call.
        is_behind: the store has gone back in time, behind the last write that it confirmed.
    """

    session: int
    incarnation: str | None
    version: int
    sound: float
    is_behind: bool = False

    def stands(self, stat: Any, began: float, rewinds: Rewinds) -> bool:
        """Whether a node is the lease's, with what was last confirmed or something later.

        Args:
            stat: of the node.
            began: when it was asked for, on the boot-time clock.
            rewinds: is told where the node has something older.
        """
        if self.is_behind or stat.ephemeralOwner != self.session:
            return False
        if stat.version < self.version:
            self.is_behind = True
            evidence = f"our record had version {self.version}, and has {stat.version}"
            rewinds.tell(evidence, sound=self.sound, now=boottime())
            return False
        self.sound = began
        return True
