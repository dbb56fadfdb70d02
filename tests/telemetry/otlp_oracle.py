"""What OpenTelemetry's SDK and its encoder make of samples: the oracle of our own encoding."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib import metadata
from typing import Any

from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from hashring.telemetry.model.sample import Meter, MeterType, Sample

_INT64 = 1 << 63

_SCOPE = InstrumentationScope("hashring.telemetry", metadata.version("hashring-ha"))


def encoded(samples: Sequence[Sample]) -> bytes:
    """Return a request with these samples."""
    found: bytes = encode_metrics(metrics_data(samples)).SerializeToString()
    return found


def metrics_data(samples: Sequence[Sample]) -> MetricsData:
    """Return samples as OpenTelemetry's values, one data point a sample."""
    members: dict[str, dict[Meter, list[Sample]]] = {}
    for sample in samples:
        members.setdefault(sample.member, {}).setdefault(sample.meter, []).append(sample)
    return MetricsData(
        [
            ResourceMetrics(
                resource=Resource({"service.name": "hashring", "service.instance.id": member}),
                scope_metrics=[
                    ScopeMetrics(
                        scope=_SCOPE,
                        metrics=[_metric(meter, found) for meter, found in meters.items()],
                        schema_url="",
                    )
                ],
                schema_url="",
            )
            for member, meters in members.items()
        ]
    )


def _metric(meter: Meter, samples: Sequence[Sample]) -> Metric:
    points = [_point(sample) for sample in samples]
    data: Gauge | Sum
    if meter.type is MeterType.GAUGE:
        data = Gauge(points)
    elif meter.type is MeterType.CUMULATIVE:
        data = Sum(points, AggregationTemporality.CUMULATIVE, is_monotonic=True)
    else:
        data = Sum(points, AggregationTemporality.DELTA, is_monotonic=False)
    return Metric(_text(meter.name), "", _text(meter.unit), data)


def _point(sample: Sample) -> NumberDataPoint:
    time = _nanoseconds(sample.timestamp)
    start = 0  # not known
    if sample.meter.type is MeterType.DELTA:
        start = _nanoseconds(sample.timestamp - sample.interval)
    volume = sample.volume
    if isinstance(volume, int) and not -_INT64 <= volume < _INT64:
        volume = float(volume)
    return NumberDataPoint(_attributes(sample), start, time, volume)


def _nanoseconds(seconds: float) -> int:
    # A float has no digits beyond these at a time stamp's size: the rest would be noise.
    return max(0, round(seconds * 1_000_000)) * 1000


def _attributes(sample: Sample) -> dict[str, Any]:
    found: dict[str, Any] = {
        "resource_id": sample.resource_id,
        "hashring.sample.id": sample.id,
        "hashring.token": json.dumps(list(sample.token)),
    }
    for name, value in (
        ("project_id", sample.project_id),
        ("user_id", sample.user_id),
        ("hashring.source", sample.source),
    ):
        if value:
            found[name] = value
    for key, value in sample.metadata.items():
        if value is not None:
            found[f"metadata.{key}"] = value
    return {_text(name): _attribute(value) for name, value in found.items()}


def _attribute(value: Any) -> str | bool | int | float:
    if isinstance(value, (bool, float)):
        return value
    if isinstance(value, int):
        return value if -_INT64 <= value < _INT64 else str(value)
    if isinstance(value, str):
        return _text(value)
    return json.dumps(value, default=dict)


def _text(value: str) -> str:
    # A file's name, for one, need not be valid Unicode; protobuf's text must be.
    return value.encode("utf-8", "replace").decode()
