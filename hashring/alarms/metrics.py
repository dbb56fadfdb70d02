"""The metrics of an evaluator beside those of its partition: the docs have a table of them.

Numbers of the whole database are shown by each evaluator alike: take the maximum, not the sum.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from hashring import clock
from hashring.alarms.model import State
from hashring.alarms.status import Status
from hashring.metrics.prometheus import register
from hashring.partition.partition import Partition
from hashring.telemetry.agent.metrics import AgentMetric as Metric

__all__ = ["ALARM_METRICS", "AlarmCollector", "registry"]

_STATES = tuple(str(state) for state in State)
_TRIES = ("delivered", "failed", "given_up")

ALARM_METRICS: tuple[Metric, ...] = (
    Metric(
        "hashring_alarm_info",
        "gauge",
        "1; the labels say who this is",
        {"member": (), "host": (), "version": ()},
    ),
    Metric(
        "hashring_alarm_interval_seconds",
        "gauge",
        "Length of a window in seconds: each alarm is evaluated once in each",
    ),
    Metric("hashring_alarm_owned", "gauge", "Alarms of this evaluator in its newest window"),
    Metric(
        "hashring_alarm_invalid",
        "gauge",
        "Alarms of this evaluator whose definition is wrong: they are not evaluated",
    ),
    Metric(
        "hashring_alarm_window_seconds",
        "gauge",
        "Seconds from the start of the newest window until all of its alarms were evaluated",
    ),
    Metric(
        "hashring_alarm_evaluations",
        "counter",
        "Alarms evaluated, each in a window, by whether their sources answered",
        {"outcome": ("answered", "unanswered")},
    ),
    Metric(
        "hashring_alarm_repeated",
        "counter",
        "Evaluations that found their window done by another: nothing was written",
    ),
    Metric(
        "hashring_alarm_overtaken",
        "counter",
        "Evaluations that a user's change overtook, and that were made anew",
    ),
    Metric("hashring_alarm_changes", "counter", "Alarms that entered a state"),
    Metric(
        "hashring_alarm_questions", "counter", "Questions that sources were asked: equal ones once"
    ),
    Metric(
        "hashring_alarm_notifications",
        "counter",
        "Tries of notifications, by how they ended",
        {"outcome": _TRIES},
    ),
    Metric("hashring_alarm_sinks_away", "gauge", "Sinks that do not answer this evaluator"),
    Metric(
        "hashring_alarm_database_away",
        "gauge",
        "Whether the database has not answered this evaluator's latest survey: 1 or 0",
    ),
    Metric(
        "hashring_alarm_states",
        "gauge",
        "Enabled alarms of the whole database, by state",
        {"state": _STATES},
    ),
    Metric(
        "hashring_alarm_overdue",
        "gauge",
        "Alarms of the whole database that have not been evaluated for two windows, those with "
        "time constraints apart",
    ),
    Metric(
        "hashring_alarm_notifications_waiting",
        "gauge",
        "Notifications of the whole database that are to be delivered",
    ),
    Metric(
        "hashring_alarm_oldest_notification_seconds",
        "gauge",
        "Seconds since the oldest of them was written; 0 where none waits",
    ),
    Metric(
        "hashring_alarm_dead_letters",
        "gauge",
        "Notifications of the whole database that were given up, for as long as they are kept",
    ),
)
"""In the order in which they are shown."""

_Row = tuple[str, tuple[str, ...], float]


def _rows(status: Status) -> Iterator[_Row]:
    """Yield what an evaluator measures now: name, labels in order, value."""
    found = status.alarms
    yield "info", (status.member, status.host, version("hashring-ha")), 1.0
    yield "interval_seconds", (), found.interval
    yield "owned", (), float(found.owned)
    yield "invalid", (), float(found.invalid)
    if found.took is not None:
        yield "window_seconds", (), found.took
    yield "evaluations", ("answered",), float(found.evaluated - found.unanswered)
    yield "evaluations", ("unanswered",), float(found.unanswered)
    yield "repeated", (), float(found.repeated)
    yield "overtaken", (), float(found.overtaken)
    yield "changes", (), float(found.changes)
    yield "questions", (), float(found.questions)
    for outcome in _TRIES:
        yield "notifications", (outcome,), float(getattr(found, outcome))
    yield "sinks_away", (), float(len(found.sinks_away))
    yield "database_away", (), float(found.database_is_away)
    if found.surveyed_at is None:
        return
    for state in _STATES:
        yield "states", (state,), float(found.states.get(state, 0))
    yield "overdue", (), float(found.overdue)
    yield "notifications_waiting", (), float(found.waiting)
    since = found.waiting_since
    age = 0.0 if since is None else max(0.0, clock.wall() - since)
    yield "oldest_notification_seconds", (), age
    yield "dead_letters", (), float(found.dead_letters)


class AlarmCollector(Collector):
    """The metrics of an evaluator: measured when it is asked. No request asks the database.

    Args:
        status: what the evaluator says of itself now.
    """

    def __init__(self, status: Callable[[], Status]) -> None:
        self._status = status

    def describe(self) -> Iterator[Any]:
        """Yield the names, without measuring anything."""
        for metric in ALARM_METRICS:
            yield _family(metric)

    def collect(self) -> Iterator[Any]:
        """Yield what is measured now."""
        rows = list(_rows(self._status()))
        for metric in ALARM_METRICS:
            family = _family(metric)
            for name, labels, value in rows:
                if f"hashring_alarm_{name}" == metric.name:
                    family.add_metric(labels, value)
            yield family


def _family(metric: Metric) -> Any:
    kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    return kind(metric.name, f"{metric.help}.", labels=list(metric.labels))


def registry(status: Callable[[], Status], partition: Partition) -> CollectorRegistry:
    """Return a registry with the metrics of an evaluator and of its partition.

    Args:
        status: what the evaluator says of itself now.
        partition: its membership.
    """
    found = CollectorRegistry()
    register(partition, found)
    found.register(AlarmCollector(status))
    return found
