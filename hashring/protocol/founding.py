"""Founding: whose parameters count where the members of one group differ in ring, ttl or mode.

Pure: it compares records and knows no store, clock or hand-off. The rule, which every member
applies to the same records and so with the same result:

* A group is **founded** when a member first takes slots over under its parameters. Each record
  carries that wall-clock second; whoever settles takes over the earliest one that the records of
  its own parameters show, and keeps it for as long as its process lives. So an outage of the
  store, in which all leases end, costs nobody its place.
* The parameters that were founded first define the group.
* Where nothing is founded yet, those of the member whose id sorts first do; members that weigh
  nothing come after all others, because they found no group.

A record that cannot say when its parameters were founded, of an older release or another make,
counts as the first of all if it has acked a view: it knows nothing of this rule and will not give
way.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from hashring.errors import GroupMismatch
from hashring.protocol.record import Member

__all__ = ["Parameters", "Verdict", "defining", "earliest", "judge", "mismatch"]


@dataclasses.dataclass(frozen=True, slots=True)
class Parameters:
    """What all members of a group must have in common.

    Attributes:
        ring: the ring's parameters (:attr:`HashRing.spec`).
        ttl: the lease in seconds.
        handoff: ``"exclusive"`` or ``"eager"``.
    """

    ring: str
    ttl: float
    handoff: str

    @classmethod
    def of(cls, member: Member) -> Parameters:
        """Return what a member's record says."""
        return cls(member.ring, member.ttl, member.handoff)

    def difference(self, member: Member) -> str | None:
        """Return how a member's parameters differ from these; ``None``: not at all."""
        if member.ring != self.ring:
            return f"ring {member.ring!r:.200} where this member has {self.ring!r}"
        if member.ttl != self.ttl:
            return f"ttl {member.ttl} where this member has {self.ttl}"
        if member.handoff != self.handoff:
            return f"handoff {member.handoff!r} where this member has {self.handoff!r}"
        return None


@dataclasses.dataclass(frozen=True, slots=True)
class Verdict:
    """Who defines the group, as one member sees it.

    Attributes:
        differences: how the parameters of each stranger differ, by member id.
        first: the stranger whose parameters define the group; ``None``: this member's own do.
        is_founded: those parameters are founded, so nobody who differs can take part.
    """

    differences: Mapping[str, str]
    first: Member | None = None
    is_founded: bool = False


_ALONE = Verdict(MappingProxyType({}))


def judge(members: Iterable[Member], parameters: Parameters) -> Verdict:
    """Say who defines the group.

    Args:
        members: all live members, the one that asks among them.
        parameters: of the one that asks.

    Example:
        >>> ours, theirs = Parameters("r", 10.0, "exclusive"), Parameters("r", 3.0, "exclusive")
        >>> a = Member("a", "1", 1.0, "r", 10.0, founded=500.0)
        >>> b = Member("b", "2", 1.0, "r", 3.0, founded=100.0)
        >>> judge([a, b], ours).first.id
        'b'
        >>> judge([a, b], theirs).first is None
        True
    """
    differences: dict[str, str] = {}
    own: list[Member] = []
    strangers: list[Member] = []
    for member in members:
        difference = parameters.difference(member)
        if difference is None:
            own.append(member)
            continue
        differences[member.id] = difference
        if member.founded is not None or not member.draining:
            strangers.append(member)  # one that drains founds nothing any more
    if not differences:
        return _ALONE
    first = min(strangers, key=_rank, default=None)
    if first is None or (own and _rank(min(own, key=_rank)) < _rank(first)):
        return Verdict(MappingProxyType(differences))
    return Verdict(MappingProxyType(differences), first, first.founded is not None)


def defining(members: Iterable[Member]) -> Parameters | None:
    """Return the parameters that define a group; ``None`` where nobody does.

    Args:
        members: all live members.

    Example:
        >>> a = Member("a", "1", 1.0, "r", 10.0, founded=500.0)
        >>> b = Member("b", "2", 1.0, "r", 3.0, founded=100.0)
        >>> defining([a, b]).ttl
        3.0
    """
    present = list(members)
    lasting = [member for member in present if member.founded is not None or not member.draining]
    first = min(lasting or present, key=_rank, default=None)
    return None if first is None else Parameters.of(first)


def _rank(member: Member) -> tuple[float, bool, str]:
    founded = math.inf if member.founded is None else member.founded
    return founded, member.weight == 0, member.id


def earliest(members: Iterable[Member], parameters: Parameters) -> float:
    """Return when these parameters were founded, as the records tell; infinite: they do not."""
    return min(
        (
            member.founded
            for member in members
            if member.founded is not None
            and member.founded > -math.inf
            and parameters.difference(member) is None
        ),
        default=math.inf,
    )


def mismatch(id: str, difference: str) -> GroupMismatch:
    """Return the error for a member whose parameters are not the group's."""
    return GroupMismatch(
        f"member {id!r:.200} of the group has {difference}; all members of a "
        "group need the same ring, ttl and handoff: give this one the group's, or "
        "another group"
    )
