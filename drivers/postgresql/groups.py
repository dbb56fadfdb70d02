"""What the driver remembers of groups and of its leases, and what it makes of rows."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Sequence
from typing import Any

from .server import lock_number

__all__ = ["Found", "Group", "Own", "digest", "taken"]


def digest(name: str) -> bytes:
    """Return what stands for an id in the table's key: an id may be longer than an index takes."""
    return hashlib.sha256(name.encode()).digest()


@dataclasses.dataclass(eq=False)
class Own:
    """A lease of this driver, and the last record that the store has confirmed.

    Attributes:
        until: on our clock, how long the lease runs at least, as it was confirmed last.
        lost: it was reported as gone.
        left: :meth:`leave` was called.
    """

    token: str
    incarnation: bytes | None
    sequence: int
    record: bytes
    until: float
    lost: bool = False
    left: bool = False


class Group:
    """What this driver knows of a group.

    Attributes:
        key: stands for the group in the table.
        lock: the number of its advisory lock.
        channel: on which its changes are announced.
        version: as it was read last; ``None``: never, or by nobody ever joined.
        heard: versions that were announced since.
        ends: on our clock, when the next lease may run out.
    """

    def __init__(self, table: str, group: str) -> None:
        self.name = group.encode()
        self.key = digest(group)
        self.lock = lock_number("group", table, group)
        self.channel = f"hashring_{hashlib.sha256(table.encode() + self.key).hexdigest()[:40]}"
        self.version: int | None = None
        self.heard: set[int] = set()
        self.ends = 0.0


@dataclasses.dataclass(frozen=True)
class Found:
    """What a reading found.

    Attributes:
        records: of the members whose leases run.
        age: seconds for which the store has surely forgotten nothing.
        version: of the group, if anybody ever joined it.
        next_end: seconds until the next lease may run out.
        now: the server's time.
        amiss: something must be written before the group can be judged.
        broken: the group's rows contradict each other: the store forgot.
    """

    records: dict[str, bytes]
    age: float
    version: int | None
    next_end: float
    now: float
    amiss: bool
    broken: bool


def taken(rows: Sequence[tuple[Any, ...]], identity: str) -> Found:
    """Judge a reading's rows.

    Args:
        rows: as the statement ``read`` returns them.
        identity: of the server that was asked.
    """
    records: dict[str, bytes] = {}
    next_end, version, since = math.inf, None, math.inf
    knows_store = broken = over = False
    now = 0.0
    for in_group, id_, name, record, rest, ttl, seen, age, written, ours, at in rows:
        now = at
        if in_group is None:  # no row at all
            continue
        if not in_group:
            knows_store = ours and seen == identity and age >= 0
            since = min(since, age)
        elif not id_:
            version = written
            broken = broken or not ours
            if age is not None:
                broken = broken or age < 0
                since = min(since, age)
        else:
            broken = broken or not ours
            over = over or not 0 < rest <= ttl
            next_end = min(next_end, rest)
            if rest > 0:
                records[name.decode()] = record
    if records and version is None:
        broken = True
    # Who may only look cannot write down since when it knows the server.
    age = max(0.0, since) if knows_store and not broken else 0.0
    return Found(records, age, version, next_end, now, not knows_store or broken or over, broken)
