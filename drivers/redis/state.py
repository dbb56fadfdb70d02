"""What the Redis driver remembers: its leases, a group as it read it, and who listens to it."""

from __future__ import annotations

import dataclasses
import math
import threading
from typing import Any
from urllib.parse import quote

from .._server_clock import ServerClock
from .._waker import Waker
from .nodes import Deadline, Link, Node
from .script import PARTS

__all__ = ["NOWHERE", "Group", "Known", "Own", "Place", "Reply", "Subscription"]


@dataclasses.dataclass
class Own:
    """A lease of this driver, and the last record that the store has confirmed."""

    token: str
    incarnation: str
    sequence: int
    record: bytes
    ends: int = 0  # by the server's clock, in microseconds: what it confirmed last


@dataclasses.dataclass
class Reply:
    """What the script answers to every operation."""

    node: Node
    status: str
    epoch: bytes
    version: int
    now: int
    since: int
    online: int
    most: int
    ends: int
    mark: bytes
    back: int
    own: list[int]
    said: int  # the last version that a message told of
    held: int  # microseconds for which changes of records are not told of yet
    rest: list[Any]
    began: float
    ended: float

    def ends_on_our_clock(self) -> float:
        """Return when the next lease may run out, on our clock."""
        return math.inf if self.ends < 0 else self.ended + (self.ends - self.now) / 1e6


@dataclasses.dataclass(frozen=True)
class Known:
    """The history of a group that this driver knows: a version of an epoch, and its mark."""

    epoch: bytes = b""
    version: int = -1
    mark: bytes = b""
    at: float = 0.0  # on our clock, when it was asked for


@dataclasses.dataclass(frozen=True)
class Place:
    """A place in the history of a group: a version of an epoch, and its mark."""

    epoch: bytes
    version: int
    mark: bytes

    @property
    def spelled(self) -> tuple[bytes, int, bytes]:
        """As the script is told of it."""
        return self.epoch, self.version, self.mark

    @property
    def cursor(self) -> bytes:
        """As others are told of it."""
        return b"%b %d %b" % self.spelled


NOWHERE = Place(b"", -1, b"")


class Group:
    """What this driver knows of a group; ``lock`` keeps its readers apart."""

    def __init__(self, namespace: str, group: str) -> None:
        tag = quote(group, safe="")
        self.keys = [f"{namespace}:{{{tag}}}:{part}".encode() for part in PARTS]
        self.lock = threading.Lock()
        self.place = NOWHERE  # up to which it was read; nowhere where that failed
        self.records: dict[str, bytes] = {}  # at that place
        self.ends = 0.0  # on our clock, the earliest time at which a lease may run out
        self.held = 0.0  # on our clock, until when changes are perhaps not told of
        self.known = Known()
        self.clock: tuple[bytes, ServerClock] | None = None  # of the server of that epoch
        self.doubtful = False  # a lease may have ended early, and the store was not told yet
        self.waiting = threading.Lock()
        self.subscription: Subscription | None = None

    @property
    def key(self) -> bytes:
        """The key that stands for the group's hash slot, and names its channel."""
        return self.keys[0]

    def key_of(self, part: str) -> bytes:
        """Return the key of one of the group's :data:`PARTS`."""
        return self.keys[PARTS.index(part)]

    def place_of(self, cursor: bytes | None) -> Place | None:
        """Return the place of a cursor; ``None`` for one to which nothing here can be added.

        It is of another history, or of a version that was not read by this driver yet.
        """
        epoch, _, rest = (cursor or b"").partition(b" ")
        version, _, mark = rest.partition(b" ")
        if not epoch or epoch != self.place.epoch or not version.isdigit():
            return None
        found = Place(epoch, int(version), mark)
        return found if found.version <= self.place.version else None

    def read_up_to(self, reply: Reply) -> None:
        """Note which version the records are of, and when to look again at the latest."""
        self.place = Place(reply.epoch, reply.version, reply.mark)
        self.ends = reply.ends_on_our_clock()
        self.held = reply.ended + reply.held / 1e6 if reply.held else 0.0


class Subscription:
    """A connection that hears of a group's changes."""

    def __init__(self, node: Node, channel: bytes, deadline: Deadline) -> None:
        self.node = node
        self.last = -1  # the version in the last message
        self.owed = -1  # one that must have been announced by now
        self._link: Link = node.connect(deadline)
        try:
            self._link.send_command("SUBSCRIBE", channel)
            self._link.read_response()
        except BaseException:
            self._link.disconnect()
            raise

    def heard(self, seconds: float, waker: Waker | None = None) -> int | None:
        """Return the version in the next message, or ``None`` where none comes in time.

        Args:
            seconds: for how long to wait for it.
            waker: ends the wait.
        """
        self._link.bound(seconds + 1.0, 1.0)
        if not self._link.can_read():
            if waker is None or not self._link.arrives(seconds, waker):
                return None
            if not self._link.can_read():  # a part of a TLS record
                return None
        self._link.bound(1.0, 1.0)  # the rest of a message that has begun to arrive
        self.last = int(self._link.read_response()[2])
        return self.last

    def fell_silent(self) -> bool:
        """Return whether the message for a version that is long read never came."""
        while self.last < self.owed:
            if self.heard(0.0) is None:
                return True
        return False

    def wake(self) -> None:
        """Let a :meth:`heard` in another thread fail at once."""
        self._link.wake()

    def close(self) -> None:
        """End the connection."""
        self._link.disconnect()
