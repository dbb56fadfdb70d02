"""Samples by Prometheus's remote write: remotewrite+http://host:9090, remotewrite+https://host.

A request is one message of protobuf (``remotewrite_message``), compressed by snappy. There are two
versions of it. A receiver that knows 1.0 alone may take a message of 2.0, find nothing in it that
it knows, and say that all is well. One that speaks 2.0 is known by the headers in which it says how
much it has written. How requests are sent, and what an answer means otherwise, is the business of
``web``.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

from hashring import clock
from hashring.errors import MissingDependency
from hashring.telemetry.errors import OutputFailed
from hashring.telemetry.model.batch import Batch
from hashring.telemetry.model.settings import Settings
from hashring.telemetry.plugin import Option, positive
from hashring.telemetry.publishers.remotewrite_message import Encoder, EncoderV1, EncoderV2
from hashring.telemetry.publishers.requests import count_of
from hashring.telemetry.publishers.series_labels import ALL, SeriesLabels
from hashring.telemetry.publishers.web import Answer, WebPublisher, judge

try:
    import cramjam
except ImportError as error:
    raise MissingDependency("the publisher remotewrite", "cramjam", "remotewrite") from error

__all__ = ["RemoteWritePublisher"]

log = logging.getLogger(__name__)

_V1 = {
    "Content-Type": "application/x-protobuf",
    "Content-Encoding": "snappy",
    "X-Prometheus-Remote-Write-Version": "0.1.0",
}
_V2 = {
    "Content-Type": "application/x-protobuf;proto=io.prometheus.write.v2.Request",
    "Content-Encoding": "snappy",
    "X-Prometheus-Remote-Write-Version": "2.0.0",
}
_WRITTEN = "X-Prometheus-Remote-Write-Samples-Written"

_AUTO = "auto"
_PROTOCOLS = (_AUTO, "2.0", "1.0")

_UNSUPPORTED = 415
_MAYBE_UNSUPPORTED = frozenset({400, 406, 422, 500, 501})
"""Answers of a receiver that has not yet spoken 2.0, which may mean that it does not know it."""

_AGAIN = 3600.0
"""Seconds after which a receiver that speaks 1.0 alone is asked again: it may be another one."""


def _labels(option: str) -> tuple[str, ...]:
    return tuple(part for part in option.split(",") if part)


def _protocol(option: str) -> str:
    if option not in _PROTOCOLS:
        raise ValueError(f"must be one of {', '.join(_PROTOCOLS)}")
    return option


class RemoteWritePublisher(WebPublisher):
    """Sends samples to whatever takes Prometheus's remote write: ``remotewrite+http://host:9090``.

    The path is ``/api/v1/write`` unless another one is named. A receiver takes a series' samples in
    the order of their times alone: one that comes late, out of the spool, may be refused, and is
    then set aside.
    """

    options: ClassVar[tuple[Option, ...]] = (
        *(option for option in WebPublisher.options if option.name != "batch_size"),
        Option("batch_size", positive, 2000, "the most samples that are sent in one request"),
        Option("labels", _labels, ALL, "keys of the metadata that become labels, a,b,c; *: all"),
        Option("protocol", _protocol, _AUTO, "1.0, 2.0, or auto: 2.0 where the receiver knows it"),
    )
    _default_path = "/api/v1/write"
    _default_port: ClassVar[int | None] = 9090

    def __init__(self, url: str, settings: Settings) -> None:
        super().__init__(url, settings)
        self._closed = False
        labels = SeriesLabels(self._parsed.options["labels"])
        self._protocol: str = self._parsed.options["protocol"]
        self._encoders: tuple[Encoder, Encoder] = EncoderV1(labels), EncoderV2(labels)
        self._has_spoken_v2 = False
        self._v1_until = math.inf if self._protocol == "1.0" else -math.inf

    def _send(self, batches: Sequence[Batch]) -> None:
        if self._closed:
            raise OutputFailed(f"cannot publish to {self._where}: the publisher is closed")
        if clock.boottime() < self._v1_until:
            self._send_v1(batches)
            return
        answer = self._ask(self._body(batches, self._encoders[1]), _V2)
        if not self._is_of_v1(answer):
            self._judge_v2(answer, count_of(batches))
            return
        if self._protocol != _AUTO:
            raise OutputFailed(
                f"cannot publish to {self._where}: it does not know remote write 2.0 (it answered "
                f"{answer.status} without saying what it wrote); take protocol=2.0 out of the URL"
            )
        if 200 <= answer.status < 300 or answer.status == _UNSUPPORTED:
            self._settle_on_v1()
            self._send_v1(batches)
        else:
            self._send_v1(batches)
            self._settle_on_v1()

    def _body(self, batches: Sequence[Batch], encoder: Encoder) -> bytes:
        return bytes(cramjam.snappy.compress_raw(encoder.encoded(batches)))

    def _send_v1(self, batches: Sequence[Batch]) -> None:
        self._post(self._body(batches, self._encoders[0]), _V1)

    def _settle_on_v1(self) -> None:
        log.info(
            "%s does not know remote write 2.0: it gets 1.0, and is asked again in an hour",
            self.url,
        )
        self._has_spoken_v2 = False
        self._v1_until = clock.boottime() + _AGAIN

    def _is_of_v1(self, answer: Answer) -> bool:
        """Return whether the receiver does not know 2.0, or may not."""
        if _written(answer.headers) is not None:
            return False
        if 200 <= answer.status < 300 or answer.status == _UNSUPPORTED:
            return True
        # Of others it is tried, as long as it is not known to speak 2.0.
        return (
            self._protocol == _AUTO
            and not self._has_spoken_v2
            and answer.status in _MAYBE_UNSUPPORTED
        )

    def _judge_v2(self, answer: Answer, sent: int) -> None:
        written = _written(answer.headers)
        if written is not None:
            self._has_spoken_v2 = True
        judge(answer, self._where, self._secrets)
        # It should have said 400 where it did not take all. Which ones, it does not say.
        rejected = sent - min(sent, sent if written is None else written)
        self.refused += rejected
        if rejected and "rejected" not in self._causes:
            self._causes.add("rejected")
            log.error(
                "%s wrote %d of %d samples, and says that all is well (further ones are counted, "
                "not logged)",
                self.url,
                written,
                sent,
            )

    def close(self) -> None:
        """Close the connections."""
        self._closed = True
        super().close()


def _written(headers: Mapping[str, str]) -> int | None:
    """Return how many samples a receiver says that it has written; ``None``: it does not say so."""
    try:
        return int(headers.get(_WRITTEN, ""))
    except ValueError:
        return None
