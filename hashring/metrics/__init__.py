"""Metrics of a program's partitions, for Prometheus and for OpenTelemetry.

::

    import hashring.metrics

    with hashring.join(url, "pollers") as partition:
        hashring.metrics.register(partition)      # in prometheus_client's registry
        hashring.metrics.observe(partition)       # or with OpenTelemetry's meter

::

    definitions     every metric: its name, kind, unit and meaning
    measure         what a partition measures now: values, and no exporter
    prometheus      register: a collector of prometheus_client
    opentelemetry   observe: instruments of OpenTelemetry's API

Both packages are optional, and imported when they are asked for. A partition is let go when its
program lets it go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hashring.metrics.definitions import METRICS, Metric

if TYPE_CHECKING:
    from hashring.partition.partition import Partition

__all__ = ["METRICS", "Metric", "observe", "register"]


def register(partition: Partition, registry: Any = None) -> None:
    """Let a registry of prometheus_client show a partition's metrics, until it has left.

    Args:
        partition: what to measure. Those of one group in one process are added up.
        registry: a ``prometheus_client.CollectorRegistry``; by default the package's own.

    Raises:
        MissingDependency: prometheus_client is not installed.
    """
    from hashring.metrics import prometheus

    prometheus.register(partition, registry)


def observe(partition: Partition, provider: Any = None) -> None:
    """Let OpenTelemetry observe a partition's metrics, until it has left.

    Args:
        partition: what to measure. Those of one group in one process are added up.
        provider: an ``opentelemetry.metrics.MeterProvider``; by default the process's.

    Raises:
        MissingDependency: opentelemetry-api is not installed.
    """
    from hashring.metrics import opentelemetry

    opentelemetry.observe(partition, provider)
