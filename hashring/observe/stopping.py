"""Whether a member may be stopped now without anybody's missing a window."""

from __future__ import annotations

from collections.abc import Iterator

from hashring.errors import UnknownMember
from hashring.observe.description import GroupDescription, StopAdvice

__all__ = ["can_stop"]


def can_stop(group: GroupDescription, member: str) -> StopAdvice:
    """Say whether a member may be stopped: by SIGTERM or a drain, which hand over.

    Args:
        group: the group, described.
        member: the id of the member.

    Raises:
        UnknownMember: it is not in the group.
    """
    if member in group.unreadable:
        return StopAdvice(
            member, can_stop=True, reasons=()
        )  # nobody gains while it lives: the sooner it goes, the better
    found = next((one for one in group.members if one.id == member), None)
    if found is None:
        known = ", ".join(one.id for one in group.members) or "none"
        raise UnknownMember(
            f"no member {member!r:.200} in {group.group!r}; there are: {known:.500}"
        )
    reasons = tuple(_reasons(group, member))
    return StopAdvice(member, not reasons, reasons)


def _reasons(group: GroupDescription, member: str) -> Iterator[str]:
    (found,) = (one for one in group.members if one.id == member)
    if found.state == "differs" or not (found.due or found.holds is None or found.holds):
        return  # it holds nothing that anybody would have to take over
    heirs = [
        one
        for one in group.members
        if one.id != member and one.weight > 0 and one.state not in ("draining", "differs")
    ]
    if group.frozen is not None:
        yield (
            f"the group is frozen, by {group.frozen.by!r}: nobody would take over before it is "
            "thawed"
        )
    if not heirs:
        yield "it is the last member that holds anything: nobody would take over"
    for wait in group.waits:
        if wait.whom == member and wait.member != member:
            yield f"{wait.member} waits for {wait.slots} slots of its: {wait.reason}"
    yield from _in_the_way(group, member)
    for one in group.members:
        if one.state == "draining" and one.id != member and one.holds != 0:
            yield f"{one.id} is leaving and has not handed over yet"


def _in_the_way(group: GroupDescription, member: str) -> Iterator[str]:
    for id in group.unreadable:
        yield f"nobody gains slots while {id} lives: its record cannot be read"
    if group.ttl is not None and not group.memory_age >= group.ttl:
        left = group.ttl - group.memory_age
        yield f"the store may have forgotten members: nobody gains slots for {left:.1f} s more"
    for wait in group.waits:
        if member not in (wait.whom, wait.member):
            yield f"{wait.member} still waits for {wait.whom}: the group has not settled"
