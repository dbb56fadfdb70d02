"""Who is in a group, who waits for whom and since when, and what is wrong, at one reading."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from hashring.observe.description import (
    FreezeDescription,
    GroupDescription,
    MemberDescription,
    Waiting,
)
from hashring.observe.records import Records, ranges
from hashring.protocol.record import Member
from hashring.ring.ring import SlotSet

__all__ = ["describe", "first_seen"]

_CYCLE = "has not acked the current view: it is in a cycle, slow, or paused"
_UNREADABLE = "its record cannot be read, so it may hold anything until it leaves"
_STRANGER = "has another ring, ttl or handoff, and must leave"
_OWN_CYCLE = "its own cycle must end before it can ack the current view"

_Pair = tuple[str, str]


def describe(
    records: Records,
    *,
    url: str,
    group: str,
    wall: float,
    leases: Mapping[str, float] | None = None,
    seen: dict[_Pair, float] | None = None,
) -> GroupDescription:
    """Describe a group.

    Args:
        records: one reading of it.
        url: the store's, secrets masked.
        group: the group's id.
        wall: wall-clock time of the reading, in seconds.
        leases: seconds left of each member's lease, as far as the store tells.
        seen: since when this observer has seen one member wait for another, in wall-clock
            seconds; brought up to date.
    """
    leases = {} if leases is None else leases
    waits = tuple(first_seen(_waits(records), {} if seen is None else seen, wall))
    members = tuple(_member(records, member, leases) for member in _sorted(records))
    members += tuple(_away(records, id) for id in sorted(records.away))
    parameters = records.parameters
    problems = tuple(_problems(records))
    unsettled = any(
        member.state not in ("settled", "draining") for member in members if member.weight > 0
    )
    return GroupDescription(
        url=url,
        group=group,
        read_at=wall,
        is_settled=bool(members) and not (unsettled or waits or problems),
        view_id=None if records.view is None else records.view.id,
        ring=None if parameters is None else parameters.ring,
        ttl=None if parameters is None else parameters.ttl,
        handoff=None if parameters is None else parameters.handoff,
        slots=records.slots,
        memory_age=records.memory_age,
        members=members,
        unreadable=records.problems,
        waits=waits,
        problems=problems,
        frozen=_frozen(records),
        requests=tuple(
            f"{request.by!r} asks {request.member} to {request.what}"
            for request in records.requests
        ),
    )


def _frozen(records: Records) -> FreezeDescription | None:
    word = records.word
    if word is None or not word.on:
        return None
    shown = sorted(id for id, member in records.members.items() if member.freeze == word)
    return FreezeDescription(word.by, word.at, tuple(records.kept_out), tuple(shown))


def first_seen(
    waits: Iterator[Waiting], seen: dict[_Pair, float], wall: float
) -> Iterator[Waiting]:
    """Yield waits with the time since when each is known to last.

    Args:
        waits: those of one reading.
        seen: since when this observer knows of each; brought up to date.
        wall: wall-clock time of the reading, in seconds.
    """
    now: set[_Pair] = set()
    for wait in waits:
        pair = wait.member, wait.whom
        now.add(pair)
        since = seen.setdefault(pair, wall if wait.since is None else min(wait.since, wall))
        yield _since(wait, since)
    for pair in seen.keys() - now:
        del seen[pair]


def _since(wait: Waiting, since: float) -> Waiting:
    return Waiting(wait.member, wait.whom, wait.slots, wait.ranges, since, wait.reason)


def _sorted(records: Records) -> list[Member]:
    return [records.members[id] for id in sorted(records.members)]


def _waits(records: Records) -> Iterator[Waiting]:
    """Yield who keeps a member from what the view gives it, as that member reasons."""
    if records.view is None:
        return
    for waiter in _sorted(records):
        if waiter.id in records.strangers or waiter.applied is None:
            continue
        missing = records.missing(waiter)
        if not records.is_current(waiter):
            yield from _waits_for_itself(records, waiter, missing)
        elif missing:
            for id in sorted(records.problems):
                yield _wait(waiter, id, missing, _UNREADABLE)
            for other in _sorted(records):
                held = records.may_hold(other, missing)
                if other.id != waiter.id and held:
                    yield _wait(waiter, other.id, held, _why(records, other))


def _waits_for_itself(records: Records, waiter: Member, due: SlotSet) -> Iterator[Waiting]:
    before = records.acked(waiter)
    if before is None:
        return
    held = before.slots(waiter.id)
    if due - held and held - due:  # only what it loses can keep it from acking
        yield _wait(waiter, waiter.id, due - held, _OWN_CYCLE)


def _wait(waiter: Member, whom: str, slots: SlotSet, reason: str) -> Waiting:
    return Waiting(waiter.id, whom, len(slots), ranges(slots), waiter.since, reason)


def _why(records: Records, other: Member) -> str:
    if other.id in records.strangers:
        return f"{_STRANGER}: it has {records.strangers[other.id]}"
    return _CYCLE


def _member(records: Records, member: Member, leases: Mapping[str, float]) -> MemberDescription:
    due = records.due(member.id)
    holds = records.holds(member)
    left = leases.get(member.id)
    return MemberDescription(
        id=member.id,
        incarnation=member.incarnation,
        weight=member.weight,
        state=_state(records, member),
        acked=_acked(records, member),
        since=member.since,
        due=len(due),
        share=len(due) / records.slots if records.slots else 0.0,
        holds=None if holds is None else len(holds),
        lease_left=left,
        heartbeat_age=None if left is None else max(0.0, member.ttl - left),
        meta=member.meta,
        problem=records.strangers.get(member.id),
    )


def _away(records: Records, id: str) -> MemberDescription:
    due = records.due(id)
    return MemberDescription(
        id=id,
        incarnation="",
        weight=records.away[id],
        state="away",
        acked="none",
        since=None,
        due=len(due),
        share=len(due) / records.slots if records.slots else 0.0,
        holds=0,
        lease_left=None,
        heartbeat_age=None,
        meta={},
        problem="it is away; its place is kept until it is back or the time is over",
    )


def _state(records: Records, member: Member) -> str:
    if member.id in records.strangers:
        return "differs"
    if member.draining:
        return "draining"
    if member.applied is None:
        return "joining"
    return "settled" if records.is_current(member) and not records.missing(member) else "settling"


def _acked(records: Records, member: Member) -> str:
    if member.applied is None:
        return "none"
    if records.is_current(member):
        return "current"
    return "unknown" if records.acked(member) is None else "older"


def _problems(records: Records) -> Iterator[str]:
    for id, problem in sorted(records.problems.items()):
        yield f"nobody gains slots while member {id!r:.200} lives: {problem}"
    for id, difference in sorted(records.strangers.items()):
        yield f"member {id!r:.200} has {difference}: it takes no part"
    parameters = records.parameters
    if parameters is None:
        return
    if not records.memory_age >= parameters.ttl:
        yield (
            f"the store has been known for {records.memory_age:.1f} s only, and may have forgotten "
            f"members: nobody gains slots for {parameters.ttl - records.memory_age:.1f} s more"
        )
    if records.view is not None and not records.view.members:
        yield "no member owns anything: nobody works"
