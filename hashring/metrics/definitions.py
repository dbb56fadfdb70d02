"""Every metric: its name, kind, unit and meaning. The table in the docs is made from it."""

from __future__ import annotations

import dataclasses
from typing import Literal

__all__ = ["METRICS", "Kind", "Merge", "Metric"]

Kind = Literal["gauge", "counter", "histogram"]

Merge = Literal["sum", "min", "max"]
"""What becomes of the values where a process has several members of one group."""


@dataclasses.dataclass(frozen=True, slots=True)
class Metric:
    """One metric.

    Attributes:
        name: by Prometheus' conventions, without the ending ``_total`` of a counter.
        kind: ``gauge``, ``counter`` or ``histogram``.
        help: what it measures, and its unit.
        label: the label beside ``group``, or ``None``.
        values: what that label may say; empty where that is not known beforehand.
        merge: what becomes of several members of one group in one process.
    """

    name: str
    kind: Kind
    help: str
    label: str | None = None
    values: tuple[str, ...] = ()
    merge: Merge = "sum"

    @property
    def unit(self) -> str:
        """The unit, as OpenTelemetry spells it; empty for a number of things.

        >>> Metric("hashring_fenced_seconds", "counter", "...").unit
        's'
        >>> Metric("hashring_store_sent_bytes", "counter", "...").unit
        'By'
        """
        return {"seconds": "s", "bytes": "By"}.get(self.name.rpartition("_")[2], "")


STATES = ("joining", "settling", "settled", "fenced", "draining", "left")
OUTCOMES = ("on_time", "late", "missed", "given_up")
CALLS = ("open", "join", "publish", "heartbeat", "read", "read_since", "leave")

METRICS: tuple[Metric, ...] = (
    Metric(
        "hashring_members",
        "gauge",
        "Members of the group at the latest reading, by what their records show",
        "state",
        ("joining", "settling", "settled", "draining"),
        merge="max",
    ),
    Metric(
        "hashring_state",
        "gauge",
        "Whether this member is in this state: 1 in one of them, 0 in all others",
        "state",
        STATES,
    ),
    Metric("hashring_slots_held", "gauge", "Slots that this member may act on now"),
    Metric("hashring_slots_due", "gauge", "Slots that the latest view gives this member"),
    Metric(
        "hashring_ownership_ratio",
        "gauge",
        "Part of all slots that the latest view gives this member, 0 to 1",
    ),
    Metric(
        "hashring_waiting_for_members",
        "gauge",
        "Members whose act must end before this one gains what the view gives it",
    ),
    Metric("hashring_waiting_for_slots", "gauge", "Slots that this member is due and waits for"),
    Metric(
        "hashring_waiting_for",
        "gauge",
        "Slots that this member waits for, by the member whose act must end: shown while it waits",
        "whom",
    ),
    Metric(
        "hashring_members_lost",
        "counter",
        "Other members that vanished without a drain: their lease ended, or they left at once",
        merge="max",
    ),
    Metric(
        "hashring_problems",
        "gauge",
        "Members that keep this one from its slots: unreadable records, other parameters",
        merge="max",
    ),
    Metric(
        "hashring_frozen",
        "gauge",
        "Whether an operator has frozen the group: nobody gains or loses by joins and drains",
        merge="max",
    ),
    Metric(
        "hashring_unreadable_records",
        "gauge",
        "Members whose record this one cannot read: nobody gains slots while they live",
        merge="max",
    ),
    Metric(
        "hashring_view_changes",
        "counter",
        "Changes of the group that this member has gone along with",
    ),
    Metric(
        "hashring_settle_seconds",
        "histogram",
        "Seconds from seeing a change of the group until this member held all that it is due",
    ),
    Metric(
        "hashring_lease_remaining_seconds",
        "gauge",
        "Seconds until the fence: this member holds nothing from then on unless a heartbeat is "
        "confirmed",
        merge="min",
    ),
    Metric(
        "hashring_fenced_seconds",
        "counter",
        "Seconds for which this member held nothing because no heartbeat was confirmed",
    ),
    Metric(
        "hashring_windows",
        "counter",
        "Windows: begun on time, pieces worked late after a hand-over, missed by being late, and "
        "too old once handed over",
        "outcome",
        OUTCOMES,
    ),
    Metric("hashring_cycle_seconds", "histogram", "Seconds that a cycle lasted"),
    Metric(
        "hashring_store_call_seconds",
        "histogram",
        "Seconds that a call on the store lasted, those that failed among them",
        "call",
        CALLS,
    ),
    Metric(
        "hashring_store_call_failures",
        "counter",
        "Calls on the store that raised an error",
        "call",
        CALLS,
    ),
    Metric(
        "hashring_store_sent_bytes",
        "counter",
        "Bytes that this member's driver has sent to the store: shown where the driver counts them",
    ),
    Metric(
        "hashring_store_received_bytes",
        "counter",
        "Bytes that this member's driver has received from the store: shown where it counts them",
    ),
    Metric(
        "hashring_store_memory_age_seconds",
        "gauge",
        "Seconds for which the store had surely forgotten nothing; infinite where it never does",
        merge="min",
    ),
    Metric(
        "hashring_wall_clock_seconds",
        "gauge",
        "This process's wall clock, in seconds since the epoch: to be compared with the scraper's",
        merge="max",
    ),
    Metric(
        "hashring_clock_steps",
        "counter",
        "How often the wall clock has stepped by more than the ttl",
        merge="max",
    ),
)
"""In the order in which they are shown. Each has the label ``group``."""
