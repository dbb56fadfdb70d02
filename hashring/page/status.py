"""What a process says of its groups: one value for the page, its JSON and a status file.

Times are seconds: wall-clock ones since the epoch where the name ends in ``_at``, durations
otherwise. Sizes are slots. ``ring.schema.json`` says the same of the JSON, field by field.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from typing import Self

from hashring import clock
from hashring.observe.description import GroupDescription, as_json
from hashring.partition.partition import Partition

__all__ = ["VERSION", "Event", "GroupStatus", "ProcessStatus", "group_status", "to_json"]

VERSION = 1
"""Of the JSON: it changes where a field changes its meaning or goes. New fields may come."""

_WORST = ("fenced", "joining", "settling", "draining", "settled", "left")
"""States of groups: the process's is the first of these that any of its groups is in."""


@dataclasses.dataclass(frozen=True, slots=True)
class Event:
    """Something that has happened to a group, as this process saw it.

    Attributes:
        at: the wall-clock second at which it was seen.
        group: the group's id.
        kind: ``joined``, ``came``, ``left``, ``moved`` (slots have changed hands), ``fenced``,
            ``recovered``, ``store`` (it is away, or back), ``missed``, ``clock`` or ``problem``.
        text: a sentence for a person.
        is_fault: somebody may have to look.
    """

    at: float
    group: str
    kind: str
    text: str
    is_fault: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class GroupStatus:
    """What a process says of one of its groups.

    Attributes:
        state: joining, settling, settled, fenced, draining or left.
        reason: why it is not settled, in a sentence; empty where it is, or has left.
        view_id: the view of the latest reading; ``None`` before the first.
        members: the ids of the view's members.
        slots: how many slots this member holds now.
        resources: how many resources an agent has polled here in its newest window.
        member: this member's id in the group.
        due: how many slots the view gives it.
        waiting_for: whom it waits for, and for how many slots, by id.
        fence_in: seconds until the fence; 0 past it; ``None`` before the first heartbeat.
        fenced_seconds: for how long it held nothing because no heartbeat was confirmed.
        windows: how many windows were begun on time (``on_time``), worked in pieces later
            (``late``), and skipped because it was late itself (``missed``).
        cycles: how many cycles there were (``count``), and how many seconds they took together
            (``seconds``).
        hand_overs: changes of the group that it has gone along with.
        settling: how often it has settled (``count``), and how many seconds that took in all
            (``seconds``).
        store_is_away: the store has not answered the latest heartbeat, or the latest reading.
        store_failures: how many calls on the store have failed.
        problems: the members that keep this one from its slots, by id, and why.
        description: the whole group by the latest reading; ``None`` before the first.
    """

    state: str
    reason: str = ""
    view_id: str | None = None
    members: tuple[str, ...] = ()
    slots: int = 0
    resources: int = 0
    member: str = ""
    due: int = 0
    waiting_for: Mapping[str, int] = dataclasses.field(default_factory=dict)
    fence_in: float | None = None
    fenced_seconds: float = 0.0
    windows: Mapping[str, int] = dataclasses.field(default_factory=dict)
    cycles: Mapping[str, float] = dataclasses.field(default_factory=dict)
    hand_overs: int = 0
    settling: Mapping[str, float] = dataclasses.field(default_factory=dict)
    store_is_away: bool = False
    store_failures: int = 0
    problems: Mapping[str, str] = dataclasses.field(default_factory=dict)
    description: GroupDescription | Mapping[str, object] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProcessStatus:
    """What a process says of itself.

    Attributes:
        version: of the JSON: :data:`VERSION`.
        written_at: the wall-clock second at which this was told.
        host: its host's name.
        pid: its process id.
        state: of its groups' states the one that is farthest from settled.
        groups: each group by its id.
        events: what has happened, the newest last.
    """

    version: int = VERSION
    written_at: float = 0.0
    host: str = ""
    pid: int = dataclasses.field(default_factory=os.getpid)
    state: str = "joining"
    groups: Mapping[str, GroupStatus] = dataclasses.field(default_factory=dict)
    events: tuple[Event, ...] = ()

    def without_what_always_changes(self) -> Self:
        """Return the same without times that run: two that differ have something to say."""
        groups = {
            name: dataclasses.replace(
                group, fence_in=None, fenced_seconds=0.0, cycles={}, description=None
            )
            for name, group in self.groups.items()
        }
        return dataclasses.replace(self, written_at=0.0, groups=groups)


def worst(groups: Mapping[str, GroupStatus]) -> str:
    """Return the state that is farthest from settled; ``joining`` where there is no group.

    >>> worst({"a": GroupStatus(state="settled"), "b": GroupStatus(state="settling")})
    'settling'
    """
    states = {group.state for group in groups.values()}
    return next((state for state in _WORST if state in states), "joining")


def group_status(partition: Partition, description: GroupDescription | None = None) -> GroupStatus:
    """Return what a process says of one of its groups.

    Args:
        partition: its membership there.
        description: the group as of the latest reading.

    Example:
        >>> import hashring
        >>> with hashring.join("memory://doc-status", "pollers", "a") as partition:
        ...     _ = partition.wait_settled(10)
        ...     found = group_status(partition)
        >>> found.state, found.slots, found.waiting_for
        ('settled', 65536, {})
    """
    state, ring, stats = partition.state, partition.ring, partition.stats
    settling, cycles = partition.settling_times, partition.cycle_times
    left = partition.deadline - clock.boottime()
    return GroupStatus(
        state=state,
        reason=partition.reason,
        view_id=partition.view_id,
        members=tuple(sorted(partition.members)),
        slots=0 if state == "left" else len(partition.held),
        member=partition.member,
        due=len(ring.slots(partition.member)) if partition.member in ring.members else 0,
        waiting_for={id: len(slots) for id, slots in sorted(partition.waiting_for.items())},
        fence_in=None if left == -float("inf") else round(max(0.0, left), 3),
        fenced_seconds=round(stats.fenced_seconds, 3),
        windows={
            "on_time": stats.windows_on_time,
            "late": stats.windows_late,
            "missed": stats.windows_missed,
        },
        cycles={"count": cycles.count, "seconds": round(cycles.seconds, 3)},
        hand_overs=stats.hand_overs,
        settling={"count": settling.count, "seconds": round(settling.seconds, 3)},
        store_is_away=partition.store_is_away,
        store_failures=sum(call.failed for call in partition.store_calls.values()),
        problems=dict(partition.problems),
        description=description,
    )


def to_json(status: ProcessStatus) -> dict[str, object]:
    """Return a status as JSON has it: what is infinite becomes ``null``.

    >>> to_json(ProcessStatus(host="web1", pid=1))["state"]
    'joining'
    """
    found: dict[str, object] = as_json(status)
    return found
