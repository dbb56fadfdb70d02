"""The view that follows from what members say: who owns something, and by which ring.

Pure values. This module knows records and rings, and nothing of stores, clocks or the hand-off's
rules.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import weakref
from collections.abc import Callable, Iterable

from hashring.protocol.record import Member
from hashring.ring.ring import HashRing, SlotSet

__all__ = ["View"]


@functools.lru_cache(maxsize=16)
def _ring(members: tuple[tuple[str, float], ...], spec: str) -> HashRing:
    return HashRing.from_spec(dict(members), spec)


def _no_ring() -> None:
    return None


@dataclasses.dataclass(frozen=True, slots=True)
class View:
    """The members that own something, at one reading; every member computes the same from it.

    Attributes:
        members: ``(member, incarnation, weight)``, sorted.
        spec: the ring's parameters.
        ttl: the lease in seconds.
        id: 32 hex digits: a hash of all the others.
    """

    members: tuple[tuple[str, str, float], ...]
    spec: str
    ttl: float
    id: str = dataclasses.field(init=False)
    # A gate asks for the ring once for each other member: to look it up by all members each time
    # would make a decision cost their number squared. Who remembers a view keeps no ring alive.
    _ring: Callable[[], HashRing | None] = dataclasses.field(
        init=False, repr=False, compare=False, default=_no_ring
    )

    def __post_init__(self) -> None:
        text = json.dumps([self.members, self.spec, self.ttl], separators=(",", ":"))
        object.__setattr__(self, "id", hashlib.sha256(text.encode()).hexdigest()[:32])

    @classmethod
    def of(cls, members: Iterable[Member], spec: str, ttl: float) -> View:
        """Return the view of these live members: less those that drain for good, weigh 0, or
        differ in ring or ttl (they never hold a slot of this group's).
        """
        owning = sorted(
            (member.id, member.incarnation, member.weight)
            for member in members
            if member.weight > 0
            and (not member.draining or member.back is not None)
            and member.ring == spec
            and member.ttl == ttl
        )
        return cls(tuple(owning), spec, ttl)

    @property
    def weights(self) -> dict[str, float]:
        """The weight of each member by id."""
        return {id: weight for id, _, weight in self.members}

    @property
    def ring(self) -> HashRing:
        """The ring of this view; views of the same members share it, of the last few."""
        found = self._ring()
        if found is None:
            found = _ring(tuple((id, weight) for id, _, weight in self.members), self.spec)
            object.__setattr__(self, "_ring", weakref.ref(found))
        return found

    def slots(self, member: str) -> SlotSet:
        """Return ``table(view)[member]``: empty where the view does not have the member."""
        ring = self.ring
        if member in ring.members:
            return ring.slots(member)
        return SlotSet.empty(ring.universe)
