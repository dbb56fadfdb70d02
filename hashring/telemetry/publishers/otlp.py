"""Samples as OpenTelemetry metrics: otlp+http://host:4318 and otlp+https://host:4318.

The SDK's own pipeline would aggregate, and stamp what it exports with the time of the export. A
sample has a time stamp and an id already, so it is one data point (``otlp_message``). How they are
sent, and what an answer means, is the business of ``web``.
"""

from __future__ import annotations

import enum
import gzip
import logging
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

from hashring.errors import MissingDependency
from hashring.telemetry.errors import OutputFailed
from hashring.telemetry.model.batch import Batch
from hashring.telemetry.model.settings import Settings
from hashring.telemetry.plugin import Option, positive
from hashring.telemetry.publishers.otlp_message import Encoder
from hashring.telemetry.publishers.requests import count_of
from hashring.telemetry.publishers.web import Refused, WebPublisher
from hashring.url import without_secrets

try:
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
        ExportMetricsServiceResponse,
    )
except ImportError as error:
    raise MissingDependency("the publisher otlp", "opentelemetry-proto", "otlp") from error

__all__ = ["OTLPPublisher"]

log = logging.getLogger(__name__)

_LEVEL = 1
"""Of compression. Messages repeat their labels over and over: higher levels make them a fifth
smaller, and take several times as long as all the rest."""


class Compression(enum.Enum):
    """What a request may be compressed with."""

    NONE = "none"
    DEFLATE = "deflate"
    GZIP = "gzip"


_COMPRESS: Mapping[Compression, Callable[[bytes], bytes]] = {
    Compression.DEFLATE: lambda body: zlib.compress(body, _LEVEL),
    Compression.GZIP: lambda body: gzip.compress(body, _LEVEL, mtime=0),
}


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
        *(option for option in WebPublisher.options if option.name != "batch_size"),
        Option("batch_size", positive, 2000, "the most samples that are sent in one request"),
        Option("compression", _compression, Compression.GZIP, "none, gzip or deflate"),
    )
    _default_path = "/v1/metrics"
    _default_port: ClassVar[int | None] = 4318

    def __init__(self, url: str, settings: Settings) -> None:
        super().__init__(url, settings)
        self._closed = False
        self._encoder = Encoder()
        self._compression: Compression = self._parsed.options["compression"]

    def _send(self, batches: Sequence[Batch]) -> None:
        if self._closed:
            raise OutputFailed(f"cannot publish to {self._where}: the publisher is closed")
        try:
            body = self._encoder.encoded(batches)
        except Exception as error:
            # Whatever protobuf raises: the same values would be as wrong the next time.
            raise Refused("it cannot be encoded as protobuf", str(error)) from None
        headers = {"Content-Type": "application/x-protobuf"}
        if (compress := _COMPRESS.get(self._compression)) is not None:
            body = compress(body)
            headers["Content-Encoding"] = self._compression.value
        self._look_for_rejected(count_of(batches), self._post(body, headers).body)

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
