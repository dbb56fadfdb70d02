"""What stands in memcached's keys: a member's lease with its record, and a group's list."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import secrets
from urllib.parse import quote

__all__ = [
    "DATE",
    "DAY",
    "LAG",
    "PREFIX",
    "Lease",
    "Listing",
    "keeps",
    "list_key",
    "member_key",
    "number_key",
    "version_key",
]

PREFIX = "hashring"
DAY = 86_400  # seconds after which a key that nobody renews may go
DATE = 30 * DAY  # memcached takes a longer time for a date, long past, and drops the key at once
# Seconds by which the uptime that a driver reads may lag behind the server's time: one since it
# counts whole seconds, one since it ticks once a second, and two that ServerTime does not notice.
LAG = 4


@dataclasses.dataclass(frozen=True)
class Lease:
    """What stands in a member's key: a line of JSON, then the record."""

    token: str
    incarnation: str | None
    ttl: float
    until: int  # the server's uptime in seconds
    dead: bool
    record: bytes

    def encoded(self) -> bytes:
        """Return what stands in the key."""
        # The random part: a restarted server gives out the same numbers again.
        beat = secrets.token_hex(4)
        head = [beat, self.token, self.incarnation, self.ttl, self.until, self.dead]
        return json.dumps(head).encode() + b"\n" + self.record

    @classmethod
    def decoded(cls, value: bytes) -> Lease:
        """Read what stands in a key."""
        head, _, record = value.partition(b"\n")
        _, token, incarnation, ttl, until, dead = json.loads(head)
        return cls(token, incarnation, ttl, until, dead, record)

    @property
    def keeps(self) -> int:
        """Seconds after which the server may drop the key where nobody renews it."""
        return keeps(self.ttl)


@dataclasses.dataclass(frozen=True)
class Listing:
    """What stands in a group's key."""

    since: int | None  # the server's uptime in seconds; None: the list is new and not stamped yet
    members: frozenset[str]

    def encoded(self) -> bytes:
        """Return what stands in the key."""
        return json.dumps([self.since, sorted(self.members)]).encode()

    @classmethod
    def decoded(cls, value: bytes) -> Listing:
        """Read what stands in a key."""
        since, members = json.loads(value)
        return cls(since, frozenset(members))


def keeps(ttl: float) -> int:
    """Return the seconds after which the server may drop a key where nobody renews it."""
    return DAY + 2 * math.ceil(ttl)


def _legal(name: str) -> str:
    """Return what stands for an id in a key: itself where it can, else a hash.

    Keys have at most 250 bytes, without spaces and control characters.
    """
    quoted = quote(name, safe="")
    return quoted if len(quoted) <= 80 else f"#{hashlib.sha256(name.encode()).hexdigest()}"


def list_key(group: str) -> str:
    """Return the key of a group's list."""
    return f"{PREFIX}:{_legal(group)}"


def version_key(group: str) -> str:
    """Return the key of a group's version, which moves with each change."""
    return f"{PREFIX}:{_legal(group)}:version"


def number_key(group: str) -> str:
    """Return the key of the number of a group's last publish."""
    return f"{PREFIX}:{_legal(group)}:number"


def member_key(group: str, member: str) -> str:
    """Return the key of a member's lease and record."""
    return f"{PREFIX}:{_legal(group)}:member:{_legal(member)}"
