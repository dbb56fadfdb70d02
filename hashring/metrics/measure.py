"""What the partitions of a process measure now. It knows no exporter."""

from __future__ import annotations

import math
import threading
import weakref
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from hashring import clock
from hashring.metrics.definitions import METRICS, STATES, Merge
from hashring.partition.partition import Partition
from hashring.partition.timings import Timing

__all__ = ["Key", "Partitions", "Value", "measure"]

Value = float | Timing

_MERGES: dict[str, Merge] = {metric.name: metric.merge for metric in METRICS}


class Key(NamedTuple):
    """What a value belongs to.

    Attributes:
        name: the metric's.
        group: the group's id.
        label: what the metric's own label says; empty where it has none.
    """

    name: str
    group: str
    label: str = ""


class Partitions:
    """The partitions that somebody measures. It keeps none alive; those that left are dropped."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._partitions: weakref.WeakSet[Partition] = weakref.WeakSet()

    def add(self, partition: Partition) -> None:
        """Measure one more; one that is measured already once."""
        with self._lock:
            self._partitions.add(partition)

    def measure(self) -> dict[Key, Value]:
        """Return what they measure now."""
        with self._lock:
            present = list(self._partitions)
        for partition in present:
            if partition.state == "left":
                with self._lock:
                    self._partitions.discard(partition)
        return measure(one for one in present if one.state != "left")


def measure(partitions: Iterable[Partition]) -> dict[Key, Value]:
    """Return what some partitions measure now; those of one group are merged.

    Example:
        >>> import hashring
        >>> with hashring.join("memory://doc-measure", "pollers") as partition:
        ...     _ = partition.wait_settled(10)
        ...     found = measure([partition])
        >>> found["hashring_slots_held", "pollers", ""]
        65536.0
    """
    merged: dict[Key, Value] = {}
    for partition in partitions:
        for key, value in _measured(partition):
            before = merged.get(key)
            merged[key] = value if before is None else _merged(key.name, before, value)
    return merged


def _merged(name: str, one: Value, other: Value) -> Value:
    if isinstance(one, Timing) and isinstance(other, Timing):
        buckets = tuple(map(sum, zip(one.buckets, other.buckets, strict=True)))
        return Timing(one.count + other.count, one.seconds + other.seconds, buckets)
    assert isinstance(one, float)
    assert isinstance(other, float)
    merge = _MERGES[name]
    if merge == "sum":
        return one + other
    return min(one, other) if merge == "min" else max(one, other)


def _measured(partition: Partition) -> Iterator[tuple[Key, Value]]:
    group = partition.group
    for name, label, value in _values(partition):
        yield Key(f"hashring_{name}", group, label), value


def _values(partition: Partition) -> Iterator[tuple[str, str, Value]]:
    yield from _of_the_group(partition)
    state = partition.state
    for name in STATES:
        yield "state", name, float(state == name)
    ring, waiting = partition.ring, partition.waiting_for
    due = len(ring.slots(partition.member)) if partition.member in ring.members else 0
    yield "slots_held", "", float(len(partition.held))
    yield "slots_due", "", float(due)
    yield "ownership_ratio", "", due / ring.universe
    yield "waiting_for_members", "", float(len(waiting))
    yield "waiting_for_slots", "", float(max(map(len, waiting.values()), default=0))
    for whom, slots in waiting.items():
        yield "waiting_for", whom[:200], float(len(slots))
    problems, records = partition.problems, partition.records
    yield "problems", "", float(len(problems))
    yield "unreadable_records", "", float(sum(id not in records for id in problems))
    yield "frozen", "", float(partition.frozen is not None)
    yield "settle_seconds", "", partition.settling_times
    yield "lease_remaining_seconds", "", _remaining(partition)
    yield "cycle_seconds", "", partition.cycle_times
    yield "store_memory_age_seconds", "", float(partition.memory_age)
    yield "wall_clock_seconds", "", clock.wall()
    yield "clock_steps", "", float(partition.clock_steps)
    yield from _counted(partition)


def _remaining(partition: Partition) -> float:
    left = partition.deadline - clock.boottime()
    return max(0.0, left) if left > -math.inf else 0.0


def _of_the_group(partition: Partition) -> Iterator[tuple[str, str, Value]]:
    counts = dict.fromkeys(("joining", "settling", "settled", "draining"), 0)
    view = partition.view_id
    for member in partition.records.values():
        if member.draining:
            counts["draining"] += 1
        elif member.applied is None:
            counts["joining"] += 1
        else:
            counts["settled" if member.applied == view and member.took is None else "settling"] += 1
    for state, count in counts.items():
        yield "members", state, float(count)


def _counted(partition: Partition) -> Iterator[tuple[str, str, Value]]:
    stats = partition.stats
    yield "members_lost", "", float(stats.members_lost)
    yield "view_changes", "", float(stats.hand_overs)
    yield "fenced_seconds", "", stats.fenced_seconds
    yield "windows", "on_time", float(stats.windows_on_time)
    yield "windows", "late", float(stats.windows_late)
    yield "windows", "missed", float(stats.windows_missed)
    yield "windows", "given_up", float(stats.windows_given_up)
    for call, found in partition.store_calls.items():
        yield "store_call_seconds", call, found.timing
        yield "store_call_failures", call, float(found.failed)
    if (traffic := partition.store_traffic) is not None:
        yield "store_sent_bytes", "", float(traffic[0])
        yield "store_received_bytes", "", float(traffic[1])
