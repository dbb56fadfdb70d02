"""Instruments of OpenTelemetry's API: they measure when a reader asks, and cost nothing in between.

OpenTelemetry has no histogram that is measured from outside. Each of ours becomes two counters, of
how often and of how many seconds, named with ``_count`` and ``_sum`` as Prometheus spells them. It
has no infinity either: what is infinite is not shown.
"""

from __future__ import annotations

import math
import threading
import weakref
from collections.abc import Callable, Iterable
from typing import Any

from hashring.errors import MissingDependency
from hashring.metrics.definitions import METRICS, Metric
from hashring.metrics.measure import Partitions, Value
from hashring.partition.partition import Partition
from hashring.partition.timings import Timing

try:
    from opentelemetry import metrics
    from opentelemetry.metrics import CallbackOptions, Meter, Observation
except ImportError as error:
    raise MissingDependency("hashring.metrics", "opentelemetry-api", "otlp") from error

__all__ = ["observe"]

_lock = threading.Lock()
_observed: weakref.WeakKeyDictionary[Any, Partitions]
_observed = weakref.WeakKeyDictionary()


def observe(partition: Partition, provider: Any = None) -> None:
    """See :func:`hashring.metrics.observe`."""
    provider = metrics.get_meter_provider() if provider is None else provider
    with _lock:
        partitions = _observed.get(provider)
        if partitions is None:
            partitions = _observed[provider] = Partitions()
            _make_instruments(provider.get_meter("hashring"), partitions)
        partitions.add(partition)


def _make_instruments(meter: Meter, partitions: Partitions) -> None:
    for metric in METRICS:
        if metric.kind == "gauge":
            make: Callable[..., object] = meter.create_observable_gauge
            parts = [("", metric.unit, _number)]
        else:
            make = meter.create_observable_counter
            parts = [("", metric.unit, _number)]
            if metric.kind == "histogram":
                parts = [("_count", "", _count), ("_sum", "s", _sum)]
        for ending, unit, part in parts:
            make(
                metric.name + ending,
                callbacks=[_callback(partitions, metric, part)],
                unit=unit,
                description=f"{metric.help}.",
            )


def _callback(
    partitions: Partitions, metric: Metric, part: Callable[[Value], float]
) -> Callable[[CallbackOptions], Iterable[Observation]]:
    def measure(options: CallbackOptions) -> Iterable[Observation]:
        for key, value in partitions.measure().items():
            if key.name == metric.name and (isinstance(value, Timing) or math.isfinite(value)):
                attributes = {"group": key.group}
                if metric.label is not None:
                    attributes[metric.label] = key.label
                yield Observation(part(value), attributes)

    return measure


def _number(value: Value) -> float:
    assert isinstance(value, float)
    return value


def _count(value: Value) -> float:
    assert isinstance(value, Timing)
    return value.count


def _sum(value: Value) -> float:
    assert isinstance(value, Timing)
    return value.seconds
