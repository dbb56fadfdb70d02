"""Samples as OpenTelemetry metrics: otlp+http://host:4318 and otlp+https://host:4318.

The SDK's own pipeline would aggregate, and stamp what it exports with the time of the export. A
sample has a time stamp and an id already, so we build the SDK's values ourselves, one data point a
sample, and let its OTLP encoder make protobuf of them. How they are sent, and what an answer means,
is the business of ``web``.
"""

from __future__ import annotations

import enum
import gzip
import json
import logging
import zlib
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from typing import Any, ClassVar

from hashring.errors import MissingDependency
from hashring.telemetry.errors import OutputFailed
from hashring.telemetry.model.batch import Batch
from hashring.telemetry.model.sample import Meter, MeterType, Sample
from hashring.telemetry.model.settings import Settings
from hashring.telemetry.plugin import Option
from hashring.telemetry.publishers.web import Refused, WebPublisher
from hashring.url import without_secrets

try:
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
        ExportMetricsServiceResponse,
    )
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
except ImportError as error:
    raise MissingDependency(
        "the publisher otlp", "opentelemetry-exporter-otlp-proto-common", "otlp"
    ) from error

__all__ = ["OTLPPublisher", "metrics_data"]

log = logging.getLogger(__name__)

_NANOSECONDS = 1_000_000_000
_INT64 = 1 << 63

_SCOPE = InstrumentationScope("hashring.telemetry", metadata.version("hashring-ha"))


class Compression(enum.Enum):
    """What a request may be compressed with."""

    NONE = "none"
    DEFLATE = "deflate"
    GZIP = "gzip"


_COMPRESS: Mapping[Compression, Callable[[bytes], bytes]] = {
    Compression.DEFLATE: zlib.compress,
    Compression.GZIP: gzip.compress,
}


def metrics_data(samples: Sequence[Sample]) -> MetricsData:
    """Return samples as OpenTelemetry's values, one data point a sample.

    A gauge is a Gauge; a cumulative meter a monotonic, cumulative Sum whose start is not known; a
    delta a Sum over the sample's interval. The process that took a sample is the resource
    (``service.name`` ``hashring``, ``service.instance.id`` the member); what was measured is in the
    attributes: ``resource_id``, ``project_id``, ``user_id``, ``hashring.sample.id``,
    ``hashring.token`` (as JSON), ``hashring.source``, and each key of the metadata as
    ``metadata.KEY``.

    Example:
        >>> meter = Meter("hardware.cpu.util", MeterType.GAUGE, "%")
        >>> sample = Sample(meter, 12.5, "web1:host", 600.25, 10, 60.0, "agent-1", ("v", "i", 10))
        >>> (resource,) = metrics_data([sample]).resource_metrics
        >>> (metric,) = resource.scope_metrics[0].metrics
        >>> (point,) = metric.data.data_points
        >>> metric.name, point.value, point.time_unix_nano, point.attributes["resource_id"]
        ('hardware.cpu.util', 12.5, 600250000000, 'web1:host')
    """
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


def _compression(text: str) -> Compression:
    try:
        return Compression(text.lower())
    except ValueError:
        names = ", ".join(one.value for one in Compression)
        raise ValueError(f"must be one of {names}") from None


class OTLPPublisher(WebPublisher):
    """Sends samples to an OpenTelemetry collector: ``otlp+http://collector:4318``.

    The path is ``/v1/metrics`` unless another one is named. A sink may take but a part of a
    request, and says how much it rejected: that counts as refused.
    """

    options: ClassVar[tuple[Option, ...]] = (
        *WebPublisher.options,
        Option("compression", _compression, Compression.GZIP, "none, gzip or deflate"),
    )
    _default_path = "/v1/metrics"
    _default_port: ClassVar[int | None] = 4318

    def __init__(self, url: str, settings: Settings) -> None:
        super().__init__(url, settings)
        self._closed = False
        self._compression: Compression = self._parsed.options["compression"]

    def _send(self, batches: Sequence[Batch]) -> None:
        if self._closed:
            raise OutputFailed(f"cannot publish to {self._where}: the publisher is closed")
        samples = [sample for batch in batches for sample in batch]
        try:
            body: bytes = encode_metrics(metrics_data(samples)).SerializeToString()
        except Exception as error:
            # Whatever the encoder raises: the same values would be as wrong the next time.
            raise Refused("OpenTelemetry's encoder cannot encode it", str(error)) from None
        headers = {"Content-Type": "application/x-protobuf"}
        if (compress := _COMPRESS.get(self._compression)) is not None:
            body = compress(body)
            headers["Content-Encoding"] = self._compression.value
        self._look_for_rejected(len(samples), self._post(body, headers).body)

    def _look_for_rejected(self, sent: int, body: bytes) -> None:
        try:
            partial = ExportMetricsServiceResponse.FromString(body).partial_success
        except DecodeError:
            return  # some sinks answer with something else, or in JSON
        rejected = min(partial.rejected_data_points, sent)
        if rejected <= 0:
            return
        # Which ones, it does not say, and it is not to be asked again: so says OTLP.
        self.refused += rejected
        if "rejected" not in self._causes:
            self._causes.add("rejected")
            log.error(
                "%s rejected %d of %d samples: %s (further ones are counted, not logged)",
                self.url,
                rejected,
                sent,
                without_secrets(partial.error_message, self._secrets) or "it does not say why",
            )

    def close(self) -> None:
        """Close the connections."""
        self._closed = True
        super().close()
