"""What the etcd driver remembers of its leases and of groups. No connection."""

from __future__ import annotations

import dataclasses
import threading

from .watching import Watch

__all__ = ["Group", "Own"]


@dataclasses.dataclass(eq=False)
class Own:
    """A lease of this driver, and the last record that the store has confirmed.

    Attributes:
        lease: etcd's number of it, which this driver chose.
        revision: of the key, when it was written last; 0: not yet.
        lost: it was reported as gone.
    """

    lease: int
    incarnation: str | None
    record: bytes
    revision: int = 0
    lost: bool = False


class Group:
    """What was read of a group, and the watch for what comes after."""

    def __init__(self) -> None:
        self.revision = 0
        self.seen: dict[str, int] | None = None  # keys, and the revision of each
        self.waiting = threading.Lock()
        self.watch: Watch | None = None
