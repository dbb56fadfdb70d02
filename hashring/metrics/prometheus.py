"""A collector for prometheus_client: it measures when it is asked, and costs nothing in between."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator
from typing import Any

from hashring.errors import MissingDependency
from hashring.metrics.definitions import METRICS, Metric
from hashring.metrics.measure import Key, Partitions, Value
from hashring.partition.partition import Partition
from hashring.partition.timings import BOUNDS, Timing

try:
    import prometheus_client
    from prometheus_client.core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
    )
    from prometheus_client.registry import Collector
except ImportError as error:
    raise MissingDependency("hashring.metrics", "prometheus-client", "metrics") from error

__all__ = ["PartitionCollector", "cumulative", "register"]

_lock = threading.Lock()
_collectors: weakref.WeakKeyDictionary[Any, PartitionCollector]
_collectors = weakref.WeakKeyDictionary()


def register(partition: Partition, registry: Any = None) -> None:
    """See :func:`hashring.metrics.register`."""
    registry = prometheus_client.REGISTRY if registry is None else registry
    with _lock:
        collector = _collectors.get(registry)
        if collector is None:
            collector = _collectors[registry] = PartitionCollector()
            registry.register(collector)
        collector.partitions.add(partition)


class PartitionCollector(Collector):
    """The metrics of some partitions of this process.

    Args:
        partitions: measures them; by default those that are added.

    Attributes:
        partitions: what is measured.
    """

    def __init__(self, partitions: Any = None) -> None:
        self.partitions = Partitions() if partitions is None else partitions

    def describe(self) -> Iterator[Any]:
        """Yield the names, without measuring anything."""
        for metric in METRICS:
            yield _family(metric)

    def collect(self) -> Iterator[Any]:
        """Yield what is measured now."""
        measured = self.partitions.measure()
        for metric in METRICS:
            family = _family(metric)
            for key, value in measured.items():
                if key.name == metric.name:
                    _add(family, metric, key, value)
            yield family


def _family(metric: Metric) -> Any:
    kinds = {
        "gauge": GaugeMetricFamily,
        "counter": CounterMetricFamily,
        "histogram": HistogramMetricFamily,
    }
    labels = ["group"] if metric.label is None else ["group", metric.label]
    return kinds[metric.kind](metric.name, f"{metric.help}.", labels=labels)


def _add(family: Any, metric: Metric, key: Key, value: Value) -> None:
    labels = [key.group] if metric.label is None else [key.group, key.label]
    if isinstance(value, Timing):
        family.add_metric(labels, buckets=cumulative(value), sum_value=value.seconds)
    else:
        family.add_metric(labels, value)


def cumulative(timing: Timing) -> list[tuple[str, float]]:
    """Return the buckets of a histogram as prometheus_client takes them."""
    found, total = [], 0
    for bound, count in zip((*map(str, BOUNDS), "+Inf"), timing.buckets, strict=True):
        total += count
        found.append((bound, float(total)))
    return found
