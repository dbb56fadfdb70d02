"""What an observer answers: values, and what they are as JSON.

Numbers carry their unit in their name or docstring: times are seconds, sizes are slots. This module
computes nothing.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

__all__ = [
    "FreezeDescription",
    "GroupDescription",
    "MemberDescription",
    "Ownership",
    "Preview",
    "StopAdvice",
    "Waiting",
    "as_json",
]


@dataclasses.dataclass(frozen=True, slots=True)
class Waiting:
    """One member that waits for another.

    Attributes:
        member: the id of the one that waits.
        whom: the id of the one whose act must end; its own, where its own cycle is in the way.
        slots: how many slots it waits for.
        ranges: the first and the last slot of each run of them.
        since: the wall-clock second since which it waits, as its record says or as this observer
            saw; ``None``: nobody knows.
        reason: what the other one must do.
    """

    member: str
    whom: str
    slots: int
    ranges: tuple[tuple[int, int], ...]
    since: float | None
    reason: str


@dataclasses.dataclass(frozen=True, slots=True)
class MemberDescription:
    """One member, as its record shows it.

    Attributes:
        id: the member's id.
        incarnation: one unbroken membership.
        weight: its share relative to the others'.
        state: ``joining``, ``settling``, ``settled``, ``draining``; ``differs``: it has another
            ring, ttl or handoff than the group; ``away``: it left and said that it is back soon,
            and its place is kept. Whether it is fenced only it can tell.
        acked: the view that it has acked: ``current``, ``older`` (it is known), ``unknown``, or
            ``none``: it holds nothing.
        since: the wall-clock second, by its own clock, at which it saw the group change last;
            ``None`` where its record does not say.
        due: the slots that the current view gives it.
        share: the same as a part of all slots, from 0 to 1.
        holds: the slots that it may hold now, by its record; ``None``: nobody can tell.
        lease_left: seconds until its lease ends, as far as the store tells; else ``None``.
        heartbeat_age: seconds since its last heartbeat, as far as the store tells; else ``None``.
        meta: what it publishes of its own.
        problem: how it differs from the group, or that it is away; else ``None``.
    """

    id: str
    incarnation: str
    weight: float
    state: str
    acked: str
    since: float | None
    due: int
    share: float
    holds: int | None
    lease_left: float | None
    heartbeat_age: float | None
    meta: Mapping[str, Any]
    problem: str | None


@dataclasses.dataclass(frozen=True, slots=True)
class FreezeDescription:
    """A group that is frozen: nobody gains or loses by joins and drains.

    Attributes:
        by: who froze it, by their own word.
        since: when, in wall-clock seconds of theirs.
        kept_out: the ids of those who came later, and own nothing until it is thawed.
        shown_by: the ids of the members that know of it.
    """

    by: str
    since: float
    kept_out: tuple[str, ...]
    shown_by: tuple[str, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class GroupDescription:
    """A group at one reading.

    Attributes:
        url: the store's, secrets masked.
        group: the group's id.
        read_at: the observer's wall-clock second of the reading.
        is_settled: every member holds what the view gives it, and nothing is wrong.
        view_id: of the current view; ``None`` where nobody can be read.
        ring: the ring's parameters.
        ttl: the lease in seconds.
        handoff: ``exclusive`` or ``eager``.
        slots: how many slots the ring has.
        memory_age: seconds for which the store has surely forgotten nothing; ``math.inf``.
        members: by id.
        unreadable: why a record cannot be read, by member id.
        waits: who waits for whom.
        problems: what keeps the group from settling, or would cost it slots, in sentences.
        frozen: who froze it and since when; ``None``: nobody.
        requests: what operators ask of members at this moment, in sentences.
    """

    url: str
    group: str
    read_at: float
    is_settled: bool
    view_id: str | None
    ring: str | None
    ttl: float | None
    handoff: str | None
    slots: int
    memory_age: float
    members: tuple[MemberDescription, ...]
    unreadable: Mapping[str, str]
    waits: tuple[Waiting, ...]
    problems: tuple[str, ...]
    frozen: FreezeDescription | None = None
    requests: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Ownership:
    """Whose a key is.

    Attributes:
        key: the key that was asked for.
        slot: its slot.
        owner: whom the current view gives it; ``None`` where the view is empty.
        holder: who holds it now by the records; ``None`` where nobody does, or nobody can tell.
        previous: who held it before, where a record still claims so; else ``None``.
        reason: why owner and holder differ, or why nobody can tell; empty where they agree.
    """

    key: str
    slot: int
    owner: str | None
    holder: str | None
    previous: str | None
    reason: str


@dataclasses.dataclass(frozen=True, slots=True)
class Preview:
    """What would move if members came or went.

    Attributes:
        slots: how many slots would have another owner.
        share_moved: the same as a part of all slots, from 0 to 1.
        keys: how many of the given keys would; ``None`` where none were given.
        of_keys: how many keys were given.
        before: the slots of each member now, by id.
        after: the same after the change.
        balance: the largest share after the change relative to what its weight asks for; 1 is
            even.
        moves: ``(from, to, slots)``, the largest first; ``None`` stands for nobody.
    """

    slots: int
    share_moved: float
    keys: int | None
    of_keys: int
    before: Mapping[str, int]
    after: Mapping[str, int]
    balance: float
    moves: tuple[tuple[str | None, str | None, int], ...]


@dataclasses.dataclass(frozen=True, slots=True)
class StopAdvice:
    """Whether a member may be stopped now.

    Attributes:
        member: the id of the member.
        can_stop: a SIGTERM, or a drain, costs no window now.
        reasons: why not; empty where it can.
    """

    member: str
    can_stop: bool
    reasons: tuple[str, ...]


def as_json(value: Any) -> Any:
    """Return a description as what JSON can say: an infinite number becomes ``null``.

    >>> as_json(StopAdvice("a", True, ()))
    {'member': 'a', 'can_stop': True, 'reasons': []}
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = dataclasses.fields(value)
        return {field.name: as_json(getattr(value, field.name)) for field in fields}
    if isinstance(value, Mapping):
        return {str(name): as_json(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
