"""What the ZooKeeper driver knows of a lease that it has. A value: it knows no connection."""

from __future__ import annotations

import dataclasses

__all__ = ["Lease"]


@dataclasses.dataclass
class Lease:
    """What we know of a node of ours.

    Attributes:
        session: the number of the session that made it.
        incarnation: as it is in the record.
        version: the node's version, which the next write expects.
        is_behind: the store has gone back in time, behind the last write that it confirmed.
    """

    session: int
    incarnation: str | None
    version: int
    is_behind: bool = False
