"""Batches as a request of OTLP: one encoding of a batch.

OpenTelemetry's SDK would make four objects a sample, and protobuf as many again. What a point says
of what was measured is the same in every poll: those attributes are written out once for a series,
by OpenTelemetry's own messages, and a request is made of those bytes. This module knows no sink.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Sequence
from importlib import metadata
from typing import Any

from hashring.errors import MissingDependency
from hashring.telemetry.model.batch import Batch, Series
from hashring.telemetry.model.sample import Meter, MeterType
from hashring.telemetry.publishers.wire import Rows, message, sized

try:
    from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
    from opentelemetry.proto.metrics.v1.metrics_pb2 import (
        AGGREGATION_TEMPORALITY_CUMULATIVE,
        AGGREGATION_TEMPORALITY_DELTA,
        Metric,
        ResourceMetrics,
        ScopeMetrics,
        Sum,
    )
    from opentelemetry.proto.resource.v1.resource_pb2 import Resource
except ImportError as error:
    raise MissingDependency("the publisher otlp", "opentelemetry-proto", "otlp") from error

__all__ = ["Encoder"]

_INT64 = 1 << 63

# Fields of the messages, as OTLP numbers them.
_RESOURCE_METRICS, _SCOPE_METRICS, _METRICS = 1, 2, 2
_GAUGE, _SUM, _DATA_POINTS = 5, 7, 1
_ATTRIBUTES = 7  # of a point

_POINT = bytes((_DATA_POINTS << 3 | 2,))
_start = struct.Struct("<cQ").pack  # a field's number and type, and 64 bits
_time = struct.Struct("<cQ").pack
_double = struct.Struct("<cd").pack
_whole = struct.Struct("<cq").pack
_START, _TIME, _DOUBLE, _WHOLE = b"\x11", b"\x19", b"\x21", b"\x31"
_VALUE = 9  # bytes of a point's value

_SCOPE: bytes = ScopeMetrics(
    scope=InstrumentationScope(name="hashring.telemetry", version=metadata.version("hashring-ha"))
).SerializeToString()


def _attribute(name: str, value: str | bool | int | float) -> bytes:
    """Return an attribute of a point, as protobuf writes it."""
    if isinstance(value, bool):
        found = AnyValue(bool_value=value)
    elif isinstance(value, int):
        found = AnyValue(int_value=value)
    elif isinstance(value, float):
        found = AnyValue(double_value=value)
    else:
        found = AnyValue(string_value=value)
    return message(_ATTRIBUTES, KeyValue(key=name, value=found).SerializeToString())


_ID_LENGTH = 36
_ID = _attribute("hashring.sample.id", "0" * _ID_LENGTH)[:-_ID_LENGTH]


class Encoder:
    """Writes requests, and remembers the attributes of the series that are in use.

    A gauge is a Gauge; a cumulative meter a monotonic, cumulative Sum whose start is not known; a
    delta a Sum over the sample's interval. The process that took a sample is the resource
    (``service.name`` ``hashring``, ``service.instance.id`` the member); what was measured is in the
    attributes: ``resource_id``, ``project_id``, ``user_id``, ``hashring.sample.id``,
    ``hashring.token`` (as JSON), ``hashring.source``, and each key of the metadata as
    ``metadata.KEY``.

    Example:
        >>> from hashring.telemetry.model.batch import batches_of
        >>> from hashring.telemetry.model.sample import Sample
        >>> from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as service
        >>> meter = Meter("hardware.cpu.util", MeterType.GAUGE, "%")
        >>> sample = Sample(meter, 12.5, "web1:host", 600.25, 10, 60.0, "agent-1", ("v", "i", 10))
        >>> request = Encoder().encoded(batches_of([sample]))
        >>> (resource,) = service.ExportMetricsServiceRequest.FromString(request).resource_metrics
        >>> (metric,) = resource.scope_metrics[0].metrics
        >>> (point,) = metric.gauge.data_points
        >>> metric.name, point.as_double, point.time_unix_nano, point.attributes[0].key
        ('hardware.cpu.util', 12.5, 600250000000, 'resource_id')
    """

    def __init__(self) -> None:
        self._rows = Rows(_attributes)

    def encoded(self, batches: Iterable[Batch]) -> bytes:
        """Return a request with one data point a sample.

        Raises:
            Exception: something cannot be encoded, whatever protobuf raises then.
        """
        members: dict[str, dict[Meter, list[bytes]]] = {}
        for batch in batches:
            self._add(batch, members.setdefault(batch.member, {}))
        return b"".join(
            message(_RESOURCE_METRICS, _resource(member, meters))
            for member, meters in members.items()
        )

    def _add(self, batch: Batch, meters: dict[Meter, list[bytes]]) -> None:
        series = batch.series
        token = _attribute("hashring.token", json.dumps(list(batch.token)))
        points: list[list[bytes]] = []
        ends: list[bytes] = []
        for meter, source in zip(series.meters, batch.sources, strict=True):
            points.append(meters.setdefault(meter, []))
            parts = [token]
            if source:
                parts.append(_attribute("hashring.source", _text(source)))
            if meter.type is MeterType.DELTA:
                parts.append(_start(_START, _nanoseconds(batch.timestamp - batch.interval)))
            parts.append(_time(_TIME, _nanoseconds(batch.timestamp)))
            ends.append(b"".join(parts))
        rows = zip(series.meter_of, self._rows.of(series), batch.ids(), batch.volumes, strict=True)
        fixed = len(_ID) + _ID_LENGTH + _VALUE
        for number, about, id_, volume in rows:
            end = ends[number]
            size = sized(len(about) + fixed + len(end))
            points[number] += (_POINT, size, about, _ID, id_.encode(), end, _value(volume))


def _resource(member: str, meters: dict[Meter, list[bytes]]) -> bytes:
    about = Resource(
        attributes=[
            KeyValue(key="service.name", value=AnyValue(string_value="hashring")),
            KeyValue(key="service.instance.id", value=AnyValue(string_value=_text(member))),
        ]
    )
    metrics = b"".join(
        message(_METRICS, _metric(meter, points)) for meter, points in meters.items() if points
    )
    found: bytes = ResourceMetrics(resource=about).SerializeToString()
    return found + message(_SCOPE_METRICS, _SCOPE + metrics)


def _metric(meter: Meter, points: Sequence[bytes]) -> bytes:
    found: bytes = Metric(name=_text(meter.name), unit=_text(meter.unit)).SerializeToString()
    body = b"".join(points)
    if meter.type is MeterType.GAUGE:
        return found + message(_GAUGE, body)
    if meter.type is MeterType.CUMULATIVE:
        kind = Sum(aggregation_temporality=AGGREGATION_TEMPORALITY_CUMULATIVE, is_monotonic=True)
    else:
        kind = Sum(aggregation_temporality=AGGREGATION_TEMPORALITY_DELTA)
    return found + message(_SUM, body + kind.SerializeToString())


def _value(volume: float) -> bytes:
    if isinstance(volume, int) and -_INT64 <= volume < _INT64:
        return _whole(_WHOLE, volume)
    return _double(_DOUBLE, volume)


def _nanoseconds(seconds: float) -> int:
    # A float has no digits beyond these at a time stamp's size: the rest would be noise.
    return max(0, round(seconds * 1_000_000)) * 1000


def _attributes(series: Series) -> list[bytes]:
    """Return, by row, those attributes that are the same in every poll."""
    return [_row(series, row) for row in range(len(series))]


def _row(series: Series, row: int) -> bytes:
    id_ = series.resource_ids[row]
    about, project_id, user_id = series.about(row)
    found: dict[str, Any] = {"resource_id": series.resource_id if id_ is None else id_}
    for name, value in (("project_id", project_id), ("user_id", user_id)):
        if value:
            found[name] = value
    for key, value in about.items():
        if value is not None:
            found[f"metadata.{key}"] = value
    shown = {_text(name): _shown(value) for name, value in found.items()}
    return b"".join(_attribute(name, value) for name, value in shown.items())


def _shown(value: Any) -> str | bool | int | float:
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
