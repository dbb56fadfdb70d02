"""Split keys among processes with a consistent-hash ring, and hand them over safely.

This page has the public names and nothing else. ``hashring.testing`` is imported when it is first
asked for.

>>> import hashring
>>> ring = hashring.HashRing(["a", "b", "c"])
>>> ring.owner("disk-17") in ring.members
True
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from hashring.driver import drivers
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
    StoreUnavailable,
    StoreUnusable,
    UnknownDriver,
    UnknownMember,
)
from hashring.partition.cycle import Cycle, Cycles, OwnedKeys, Token
from hashring.partition.partition import Partition, join
from hashring.partition.stats import Stats
from hashring.protocol.view import Member
from hashring.ring.ring import HashRing, Keys, SlotSet

if TYPE_CHECKING:
    from hashring import testing as testing

__all__ = [
    "BadArgument",
    "BadKey",
    "BadName",
    "BadRecord",
    "BadRing",
    "BadURL",
    "BrokenDriver",
    "Cycle",
    "Cycles",
    "EmptyRing",
    "GroupMismatch",
    "HashRing",
    "HashringError",
    "Keys",
    "LeaseLost",
    "Member",
    "MemberExists",
    "MissingDependency",
    "OwnedKeys",
    "Partition",
    "SlotSet",
    "Stats",
    "StoreUnavailable",
    "StoreUnusable",
    "Token",
    "UnknownDriver",
    "UnknownMember",
    "drivers",
    "join",
]


if not TYPE_CHECKING:  # a checker that saw this would accept any name

    def __getattr__(name: str) -> Any:
        # The test kit brings its own dependencies; a program that only owns keys never loads it.
        if name == "testing":
            return importlib.import_module("hashring.testing")
        raise AttributeError(f"module 'hashring' has no attribute {name!r}")

    def __dir__() -> list[str]:
        return [*__all__, "testing"]
