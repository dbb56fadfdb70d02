"""The lease of one member: its incarnation, its fence, and which heartbeat counts.

No clock: times come in as arguments, in seconds on a clock that never steps.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

__all__ = ["FENCE", "Lease"]

FENCE = 0.9
"""The part of the ttl after which a member no longer trusts its lease: the rest is for the
difference in rate between its clock and the store's."""

_LEFT_TO_GAIN = 0.4
"""The part of the ttl that must be left before the fence when slots are gained: the mark that
custody changed hands then stays in the store long enough for everybody to see it, even if the
member crashes the moment after."""


class Lease:
    """What a member knows of its own lease.

    Args:
        ttl: its length in seconds.
        incarnations: unique strings: one for this membership, and one more after each expiry.

    Attributes:
        ttl: as above.
        incarnation: the present one.
        number: counts leases: it changes when everything held was dropped at once.
        deadline: the fence: the local time in seconds from which nothing is held any more.
        in_store: the record was there when we last knew.
        resumes: the join in hand follows a store that forgot, so what is held is kept.
    """

    def __init__(self, ttl: float, incarnations: Iterable[str]) -> None:
        self.ttl = ttl
        self._incarnations = iter(incarnations)
        self.incarnation = next(self._incarnations)
        self.number = 0
        self.deadline = -math.inf
        self.in_store = False
        self.resumes = False

    def is_fenced(self, now: float) -> bool:
        """Return whether the lease could have run out."""
        return now >= self.deadline

    def is_too_old_to_gain(self, now: float) -> bool:
        """Return whether too little of the lease is left to gain slots on it."""
        return now >= self.deadline - self.ttl * _LEFT_TO_GAIN

    def heartbeat_begins(self) -> int:
        """Return a token for :meth:`heartbeat_confirmed`; -1 where there is no lease to renew."""
        return self.number if self.in_store else -1

    def heartbeat_confirmed(self, token: int, started: float) -> None:
        """Move the fence: the store has confirmed a heartbeat that began at ``started``.

        One from an earlier lease proves nothing of this one.
        """
        if self.in_store and token == self.number:
            self.deadline = max(self.deadline, started + self.ttl * FENCE)

    def lost(self, token: int | None = None) -> None:
        """Note that the store no longer has the record, as a call of this lease has found out."""
        if token is None or token == self.number:
            self.in_store = False

    def end(self) -> None:
        """Trust nothing of this lease any more: what comes back is another one."""
        self.deadline = -math.inf
        self.number += 1

    def new_incarnation(self) -> None:
        """Take the next incarnation: the old one's slots may be somebody else's."""
        self.incarnation = next(self._incarnations)
