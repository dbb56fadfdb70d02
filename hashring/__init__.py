"""Split keys among processes with a consistent-hash ring, and hand them over safely.

This page has the public names and nothing else. Each is imported when it is first asked for: a
program that only owns keys loads no partition, and none loads the test kit without asking.

>>> import hashring
>>> ring = hashring.HashRing(["a", "b", "c"])
>>> ring.owner("disk-17") in ring.members
True
"""

from __future__ import annotations

import importlib

from hashring._installation import check_files as _check_files
from hashring.errors import (
    BadArgument,
    BadKey,
    BadName,
    BadRecord,
    BadRing,
    BadURL,
    BrokenDriver,
    EmptyRing,
    GroupMismatch,
    HashringError,
    LeaseLost,
    MemberExists,
    MissingDependency,
    NotAcquired,
    NotOffered,
    StoreUnavailable,
    StoreUnusable,
    UnknownDriver,
    UnknownMember,
    UnsupportedPlatform,
)

# A checker takes this name for true. The import of typing would take longer than all the rest.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from hashring import testing as testing
    from hashring.driver import drivers
    from hashring.leases.lock import Lock, lock
    from hashring.partition.aio.changes import AsyncChanges, AsyncTerm
    from hashring.partition.aio.cycle import AsyncCycle, AsyncCycles
    from hashring.partition.aio.partition import AsyncPartition, ajoin
    from hashring.partition.aio.workers import AsyncStop, AsyncWorkers
    from hashring.partition.changes import Change, Changes
    from hashring.partition.cycle import Cycle, Cycles, OwnedKeys
    from hashring.partition.grip import Grip
    from hashring.partition.leading import Term
    from hashring.partition.partition import Partition, join
    from hashring.partition.stats import Stats
    from hashring.partition.token import Token
    from hashring.partition.workers import Stop, Workers
    from hashring.protocol.record import Member
    from hashring.ring.ring import HashRing, Keys, SlotSet

    __version__: str

__all__ = [
    "AsyncChanges",
    "AsyncCycle",
    "AsyncCycles",
    "AsyncPartition",
    "AsyncStop",
    "AsyncTerm",
    "AsyncWorkers",
    "BadArgument",
    "BadKey",
    "BadName",
    "BadRecord",
    "BadRing",
    "BadURL",
    "BrokenDriver",
    "Change",
    "Changes",
    "Cycle",
    "Cycles",
    "EmptyRing",
    "Grip",
    "GroupMismatch",
    "HashRing",
    "HashringError",
    "Keys",
    "LeaseLost",
    "Lock",
    "Member",
    "MemberExists",
    "MissingDependency",
    "NotAcquired",
    "NotOffered",
    "OwnedKeys",
    "Partition",
    "SlotSet",
    "Stats",
    "Stop",
    "StoreUnavailable",
    "StoreUnusable",
    "Term",
    "Token",
    "UnknownDriver",
    "UnknownMember",
    "UnsupportedPlatform",
    "Workers",
    "ajoin",
    "drivers",
    "join",
    "lock",
]

_check_files()

if not TYPE_CHECKING:  # a checker that saw this would accept any name
    _WHERE = {
        "AsyncChanges": "hashring.partition.aio.changes",
        "AsyncCycle": "hashring.partition.aio.cycle",
        "AsyncCycles": "hashring.partition.aio.cycle",
        "AsyncPartition": "hashring.partition.aio.partition",
        "AsyncStop": "hashring.partition.aio.workers",
        "AsyncTerm": "hashring.partition.aio.changes",
        "AsyncWorkers": "hashring.partition.aio.workers",
        "Change": "hashring.partition.changes",
        "Changes": "hashring.partition.changes",
        "Cycle": "hashring.partition.cycle",
        "Cycles": "hashring.partition.cycle",
        "Grip": "hashring.partition.grip",
        "HashRing": "hashring.ring.ring",
        "Keys": "hashring.ring.ring",
        "Lock": "hashring.leases.lock",
        "Member": "hashring.protocol.record",
        "OwnedKeys": "hashring.partition.cycle",
        "Partition": "hashring.partition.partition",
        "SlotSet": "hashring.ring.ring",
        "Stats": "hashring.partition.stats",
        "Stop": "hashring.partition.workers",
        "Term": "hashring.partition.leading",
        "Token": "hashring.partition.token",
        "Workers": "hashring.partition.workers",
        "ajoin": "hashring.partition.aio.partition",
        "drivers": "hashring.driver",
        "join": "hashring.partition.partition",
        "lock": "hashring.leases.lock",
    }
    _MODULES = frozenset({"driver", "ring", "testing"})

    def __getattr__(name: str) -> object:
        if name in _WHERE:
            value = getattr(importlib.import_module(_WHERE[name]), name)
        elif name in _MODULES:
            return importlib.import_module(f"hashring.{name}")
        elif name == "__version__":
            from importlib import metadata  # takes as long to import as all the rest

            value = metadata.version("hashring-ha")
        else:
            raise AttributeError(f"module 'hashring' has no attribute {name!r}")
        # `import hashring.drivers` puts the package here, which can be called in its place.
        return globals().setdefault(name, value)

    def __dir__() -> list[str]:
        return [*__all__, "__version__", "testing"]
