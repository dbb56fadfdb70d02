"""What has happened to a partition between two looks, in sentences. Pure: it knows no clock."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from hashring.partition.partition import Partition
from hashring.ring.ring import SlotSet

__all__ = ["Glance", "glance", "happened"]

_NAMED = 5
"""How many members a sentence names before it only counts."""


class Glance(NamedTuple):
    """What one look at a partition has shown.

    Attributes:
        state: the partition's.
        members: whether each member drains, by id; those of weight 0 are left out.
        held: the slots held.
        settled: how often it has settled, and how many seconds that took in all.
        fenced_seconds: for how long it was fenced.
        lost: how many members have vanished without a drain.
        missed: windows missed.
        clock_steps: how often the wall clock has stepped, and by how many seconds last.
        store_is_away: the store has not answered.
        problems: members that are in the way, by id, and why.
    """

    state: str
    members: Mapping[str, bool]
    held: SlotSet
    settled: tuple[int, float]
    fenced_seconds: float
    lost: int
    missed: int
    clock_steps: tuple[int, float | None]
    store_is_away: bool
    problems: Mapping[str, str]


def glance(partition: Partition) -> Glance:
    """Look at a partition."""
    stats, settling = partition.stats, partition.settling_times
    records = partition.records
    return Glance(
        state=partition.state,
        members={id: one.draining for id, one in records.items() if one.weight > 0},
        held=partition.held,
        settled=(settling.count, settling.seconds),
        fenced_seconds=stats.fenced_seconds,
        lost=stats.members_lost,
        missed=stats.windows_missed,
        clock_steps=(partition.clock_steps, partition.clock_step),
        store_is_away=partition.store_is_away,
        problems=dict(partition.problems),
    )


def happened(before: Glance | None, now: Glance) -> Iterator[tuple[str, str, bool]]:
    """Yield what has happened between two looks: kind, sentence, and whether it is a fault.

    Args:
        before: the look before; ``None``: there was none.
        now: the present look.
    """
    if before is None:
        yield "joined", f"joined {_members(len(now.members))}", False
        return
    yield from _of_the_store(before, now)
    yield from _of_members(before, now)
    if now.settled[0] > before.settled[0]:
        yield "moved", _moved(before, now), False
    if now.missed > before.missed:
        count = now.missed - before.missed
        yield "missed", f"{count} {'window was' if count == 1 else 'windows were'} missed", True
    if now.clock_steps[0] > before.clock_steps[0]:
        step = now.clock_steps[1] or 0.0
        way = "back" if step < 0 else "forth"
        yield "clock", f"the wall clock has stepped {way} by {abs(step):.1f} s", True


def _of_the_store(before: Glance, now: Glance) -> Iterator[tuple[str, str, bool]]:
    if now.store_is_away != before.store_is_away:
        text = "the store does not answer" if now.store_is_away else "the store answers again"
        yield "store", text, now.store_is_away
    if now.state == "fenced" != before.state:
        yield "fenced", "fenced: no heartbeat was confirmed in time, so nothing is held", True
    elif before.state == "fenced" != now.state:
        yield "recovered", f"no longer fenced, after {now.fenced_seconds:.1f} s in all", False


def _of_members(before: Glance, now: Glance) -> Iterator[tuple[str, str, bool]]:
    if now.state not in ("fenced", "left"):
        if came := sorted(now.members.keys() - before.members.keys()):
            yield "came", f"{_named(came)} joined: {_members(len(now.members))}", False
        if gone := sorted(before.members.keys() - now.members.keys()):
            is_lost = now.lost > before.lost
            how = "lost: the lease has ended" if is_lost else "left"
            yield "left", f"{_named(gone)} {how}: {_members(len(now.members))}", is_lost
    for id in sorted(now.problems.keys() - before.problems.keys()):
        yield "problem", f"{id:.200} is in the way: {now.problems[id]:.300}", True
    for id in sorted(before.problems.keys() - now.problems.keys()):
        yield "problem", f"{id:.200} is in the way no more", False


def _moved(before: Glance, now: Glance) -> str:
    times = now.settled[0] - before.settled[0]
    seconds = (now.settled[1] - before.settled[1]) / times
    gained, lost = len(now.held - before.held), len(before.held - now.held)
    return f"settled in {seconds:.2f} s: {gained:,} slots gained, {lost:,} handed over"


def _members(count: int) -> str:
    return "1 member" if count == 1 else f"{count} members"


def _named(ids: list[str]) -> str:
    more = len(ids) - _NAMED
    return ", ".join(id[:200] for id in ids[:_NAMED]) + (f" and {more} more" if more > 0 else "")
