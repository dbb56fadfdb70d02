"""Whether a ZooKeeper went back in time, and for how long it surely has not.

A ZooKeeper that is rebuilt from nothing, or restored from an older copy, forgets what was confirmed
since. Clients are not told. What they can know, and what this module makes of it:

* Who goes back must stop first, and begins another *life*: an ensemble a new epoch (the upper half
  of each transaction's number), a single server a new series of session numbers.
* The store keeps a *mark*: the life in which it was written, a random name, and for how long the
  writer knew the store by then. A copy cannot hold the mark of a life that began after it. So a
  mark of the present life says that nothing was forgotten since it was written.
* Nobody's clock is compared with another's: each counts from its own first sight of a mark, on a
  connection that has not broken since, and adds what the mark says.

It knows marks, transactions and time as values; it must not know sessions, groups or records.
"""

from __future__ import annotations

import dataclasses
import json
import math
import secrets

__all__ = ["History", "Life"]

_EPOCH_BITS = 32  # of a transaction's number, those of the counter within an epoch
_SERVER_BITS = 56  # of a session's number, those below the server's own number
# A server numbers its sessions one by one, from the millisecond in which it began, times 65,536. So
# a server that began 50 ms later is past this number, and one that lives has sessions enough.
_SESSIONS = 50 << 16


@dataclasses.dataclass(frozen=True)
class Life:
    """One life of a store: from the start of a server, or the election of a leader, to the next.

    Attributes:
        epoch: of an ensemble; 0 for a single server, which has none.
        session: the number of a session that was begun in this life.
    """

    epoch: int
    session: int

    @classmethod
    def of(cls, zxid: int, session: int) -> Life:
        """Return the life in which a transaction was committed and a session was begun."""
        return cls(zxid >> _EPOCH_BITS, session & ((1 << _SERVER_BITS) - 1))

    def continues(self, other: Life) -> bool:
        """Whether this is the same life as another that was seen before.

        >>> Life.of(7, 5 << 16).continues(Life.of(3, 5 << 16)), Life(0, 1).continues(Life(4, 1))
        (True, False)
        """
        if self.epoch or other.epoch:
            return self.epoch == other.epoch
        # Sessions that began at the same time may be told in either order.
        return abs(self.session - other.session) < _SESSIONS


@dataclasses.dataclass(frozen=True)
class _Mark:
    life: Life
    name: str
    age: float  # seconds for which the writer knew that nothing was forgotten

    def encoded(self) -> bytes:
        return json.dumps([self.life.epoch, self.life.session, self.name, self.age]).encode()

    @classmethod
    def decoded(cls, data: bytes | None) -> _Mark | None:
        """Return what a mark says; ``None`` for one that is missing or not ours."""
        try:
            epoch, session, name, age = json.loads(data or b"null")
        except (ValueError, TypeError, RecursionError):
            return None
        numbers = isinstance(epoch, int) and isinstance(session, int) and isinstance(name, str)
        if not numbers or not isinstance(age, int | float) or not 0 <= age < math.inf:
            return None
        return cls(Life(epoch, session), name, float(age))


class History:
    """What one client knows of a store's past.

    Attributes:
        newest: the newest transaction of which the store has told.
    """

    def __init__(self) -> None:
        self.newest = 0
        self._life = Life(0, 0)
        self._name: str | None = None
        self._since = math.inf
        self._told = 0.0

    def connected(
        self, zxid: int, session: int, mark: bytes | None, now: float, *, rewound: bool = False
    ) -> bool:
        """Take in what a new connection shows.

        Args:
            zxid: a transaction that was committed on it; a majority has taken part.
            session: the number of a session that was begun on it.
            mark: the mark as it stood after that transaction; ``None``: no mark.
            now: after the answer, in seconds on the boot-time clock.
            rewound: the mark is older than it was when it was last read, or is gone. An ensemble
                that is restored begins a new epoch, and its transactions alone do not tell.

        Returns:
            Whether the store has gone back behind something of which it told before.
        """
        went_back = rewound or zxid < self.newest
        self.newest = zxid
        self._life = Life.of(zxid, session)
        self._told = 0.0
        known = None if went_back else self._name
        if not self.adopt(mark):
            self._name = None
        if self._name is None or self._name != known:
            self._since = now
        return went_back

    def adopt(self, mark: bytes | None) -> bool:
        """Take in a mark that is read on the same connection; return whether it is of this life."""
        found = _Mark.decoded(mark)
        if found is None or not self._life.continues(found.life):
            return False
        self._name, self._told = found.name, found.age
        return True

    def age(self, now: float) -> float:
        """Return the seconds for which the store has surely forgotten nothing.

        It holds while the connection does.
        """
        return max(0.0, now - self._since, self._told)

    def due(self, now: float, enough: float) -> bytes | None:
        """Return what is to be written as the mark; ``None`` where it says all that others need.

        Args:
            now: in seconds on the boot-time clock.
            enough: seconds; others need not be told of more.
        """
        age = now - self._since
        if self._name is not None and not self._told < enough <= age:
            return None
        name = self._name or secrets.token_hex(8)
        return _Mark(self._life, name, math.floor(1000 * max(0.0, age)) / 1000).encoded()
