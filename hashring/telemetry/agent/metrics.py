"""The metrics of an agent beside those of its partitions: what it polls, and where samples go.

The table in the docs is made from :data:`AGENT_METRICS`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.metadata import version
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.registry import Collector

from hashring import clock
from hashring.metrics.definitions import Kind
from hashring.metrics.measure import Key, Value, measure
from hashring.metrics.prometheus import PartitionCollector, cumulative
from hashring.partition.partition import Partition
from hashring.partition.timings import Timing
from hashring.telemetry.agent.status import Status
from hashring.telemetry.polling.counts import OUTCOMES

__all__ = ["AGENT_METRICS", "AgentCollector", "AgentMetric", "registry"]


@dataclasses.dataclass(frozen=True, slots=True)
class AgentMetric:
    """One metric of an agent.

    Attributes:
        name: by Prometheus' conventions, without the ending ``_total`` of a counter.
        kind: ``gauge``, ``counter`` or ``histogram``.
        help: what it measures, and its unit.
        labels: each with what it may say; empty where that is not known beforehand.
    """

    name: str
    kind: Kind
    help: str
    labels: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)


_SOURCE: Mapping[str, tuple[str, ...]] = {"group": (), "source": ()}
_PUBLISHER: Mapping[str, tuple[str, ...]] = {"publisher": ()}

AGENT_METRICS: tuple[AgentMetric, ...] = (
    AgentMetric(
        "hashring_agent_info",
        "gauge",
        "1; the labels say who this is",
        {"member": (), "host": (), "version": ()},
    ),
    AgentMetric(
        "hashring_resources", "gauge", "Resources polled in the newest window", {"group": ()}
    ),
    AgentMetric(
        "hashring_lateness_seconds",
        "gauge",
        "Seconds after the start of its newest window at which the agent began to poll",
    ),
    AgentMetric(
        "hashring_polls",
        "counter",
        "Polls, and polls that were not begun, by how they ended",
        {**_SOURCE, "outcome": OUTCOMES},
    ),
    AgentMetric(
        "hashring_poll_seconds",
        "histogram",
        "Seconds that a pollster took for one resource, those that failed among them",
        _SOURCE,
    ),
    AgentMetric(
        "hashring_polls_hanging", "gauge", "Polls that were given up and have not come back"
    ),
    AgentMetric(
        "hashring_set_aside_resources",
        "gauge",
        "Resources that are not polled for a while because a poll of them stopped an agent",
    ),
    AgentMetric(
        "hashring_samples",
        "counter",
        "Samples that a publisher has taken, or will never get",
        {**_PUBLISHER, "outcome": ("sent", "dropped")},
    ),
    AgentMetric("hashring_samples_waiting", "gauge", "Samples that wait in the spool", _PUBLISHER),
    AgentMetric(
        "hashring_publisher_failures", "counter", "Calls of a publisher that failed", _PUBLISHER
    ),
    AgentMetric("hashring_spool_bytes", "gauge", "Bytes of samples in the spool"),
    AgentMetric(
        "hashring_spool_max_bytes", "gauge", "Bytes of samples that the spool takes at most"
    ),
    AgentMetric(
        "hashring_spool_oldest_sample_seconds",
        "gauge",
        "Seconds since the oldest sample in the spool was measured; 0 where none waits",
    ),
    AgentMetric(
        "hashring_overlaps",
        "gauge",
        "Other agents that poll the same twice, or not the same, by their announcements",
    ),
)
"""In the order in which they are shown."""

_Row = tuple[str, tuple[str, ...], Value]


def _rows(status: Status, times: Mapping[tuple[str, str], Timing]) -> Iterator[_Row]:
    """Yield what an agent measures now: name, labels in order, value."""
    yield "agent_info", (status.member, status.host, version("hashring-ha")), 1.0
    for name, group in status.groups.items():
        yield "resources", (name,), float(group.resources)
    if status.lateness is not None:
        yield "lateness_seconds", (), status.lateness
    for name, sources in status.sources.items():
        for source, counts in sources.items():
            for outcome in OUTCOMES:
                yield "polls", (name, source, outcome), float(counts[outcome])
    for (name, source), timing in times.items():
        yield "poll_seconds", (name, source), timing
    yield "polls_hanging", (), float(status.hanging)
    yield "set_aside_resources", (), float(len(status.set_aside))
    for url, found in status.publishers.items():
        yield "samples", (url, "sent"), float(found["sent"])
        yield "samples", (url, "dropped"), float(found["dropped"])
        yield "samples_waiting", (url,), float(found["waiting"])
        yield "publisher_failures", (url,), float(found["failed"])
    if status.spool is not None:
        yield "spool_bytes", (), float(status.spool["bytes"] or 0)
        yield "spool_max_bytes", (), float(status.spool["max_bytes"] or 0)
        oldest = status.spool["oldest_at"]
        age = 0.0 if oldest is None else max(0.0, clock.wall() - oldest)
        yield "spool_oldest_sample_seconds", (), age
    yield "overlaps", (), float(len(status.overlaps))


class AgentCollector(Collector):
    """The metrics of an agent: measured when it is asked.

    Args:
        status: what the agent says of itself now.
        times: how long its pollsters took, by group and source.
    """

    def __init__(
        self,
        status: Callable[[], Status],
        times: Callable[[], Mapping[tuple[str, str], Timing]],
    ) -> None:
        self._status = status
        self._times = times

    def describe(self) -> Iterator[Any]:
        """Yield the names, without measuring anything."""
        for metric in AGENT_METRICS:
            yield _family(metric)

    def collect(self) -> Iterator[Any]:
        """Yield what is measured now."""
        rows = list(_rows(self._status(), self._times()))
        for metric in AGENT_METRICS:
            family = _family(metric)
            for name, labels, value in rows:
                if f"hashring_{name}" != metric.name:
                    continue
                if isinstance(value, Timing):
                    buckets = cumulative(value)
                    family.add_metric(labels, buckets=buckets, sum_value=value.seconds)
                else:
                    family.add_metric(labels, value)
            yield family


class _Present:
    """The partitions that an agent has now: they come and go with its groups."""

    def __init__(self, partitions: Callable[[], Iterable[Partition]]) -> None:
        self._partitions = partitions

    def measure(self) -> dict[Key, Value]:
        return measure(one for one in self._partitions() if one.state != "left")


def registry(
    status: Callable[[], Status],
    times: Callable[[], Mapping[tuple[str, str], Timing]],
    partitions: Callable[[], Iterable[Partition]],
) -> CollectorRegistry:
    """Return a registry with the metrics of an agent and of its partitions.

    Args:
        status: what the agent says of itself now.
        times: how long its pollsters took, by group and source.
        partitions: its memberships now.
    """
    found = CollectorRegistry()
    found.register(PartitionCollector(_Present(partitions)))
    found.register(AgentCollector(status, times))
    return found


def _family(metric: AgentMetric) -> Any:
    kinds = {
        "gauge": GaugeMetricFamily,
        "counter": CounterMetricFamily,
        "histogram": HistogramMetricFamily,
    }
    return kinds[metric.kind](metric.name, f"{metric.help}.", labels=list(metric.labels))
