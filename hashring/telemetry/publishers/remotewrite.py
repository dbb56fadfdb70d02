"""Samples by Prometheus's remote write 1.0: remotewrite+http://host:9090, remotewrite+https://host.

A request is one message of protobuf, compressed by snappy: series, each a list of labels and of
values with their time. The labels of what was measured are written out once, and serve every poll
that measures the same. How requests are sent, and what an answer means, is the business of ``web``.
"""

from __future__ import annotations

import functools
import json
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from hashring.errors import MissingDependency
from hashring.telemetry.errors import OutputFailed
from hashring.telemetry.model.batch import Batch, Series
from hashring.telemetry.model.sample import Meter
from hashring.telemetry.model.settings import Settings
from hashring.telemetry.plugin import Option, positive
from hashring.telemetry.publishers.web import WebPublisher
from hashring.telemetry.publishers.wire import Rows, message, sized, text, varint

try:
    import cramjam
except ImportError as error:
    raise MissingDependency("the publisher remotewrite", "cramjam", "remotewrite") from error

__all__ = ["RemoteWritePublisher", "write_request"]

_PREFIX = "prometheus."
"""Of the meters that were read from Prometheus's own formats: there they had no such prefix."""

_HEADERS = {
    "Content-Type": "application/x-protobuf",
    "Content-Encoding": "snappy",
    "X-Prometheus-Remote-Write-Version": "0.1.0",
}

_ALL = ("*",)

_LABELS, _NAME, _VALUE = 1, 1, 2  # fields of a series, and of a label
# Fields and their types, as protobuf writes them: number << 3 | type.
_SERIES, _SAMPLE = b"\x0a", 0x12
_VOLUME, _TIME = 0x09, 0x10


def _labels(option: str) -> tuple[str, ...]:
    return tuple(part for part in option.split(",") if part)


@functools.lru_cache(maxsize=4096)
def series_name(meter: Meter) -> str:
    """Return a meter's name as Prometheus allows it.

    Example:
        >>> from hashring.telemetry.model.sample import MeterType
        >>> series_name(Meter("prometheus.node_load1", MeterType.GAUGE, ""))
        'node_load1'
        >>> series_name(Meter("disk.device.read.bytes", MeterType.CUMULATIVE, "B"))
        'disk_device_read_bytes'
    """
    name = re.sub(r"[^a-zA-Z0-9_:]", "_", meter.name.removeprefix(_PREFIX))
    return name if re.match(r"[a-zA-Z_:]", name) else f"_{name}"


@functools.lru_cache(maxsize=4096)
def _label_name(key: str) -> str:
    # Names that begin with two underscores are Prometheus' own.
    name = re.sub(r"[^a-zA-Z0-9_]", "_", key)
    if name.startswith("__"):
        name = name.lstrip("_")
    return name if re.match(r"[a-zA-Z_]", name) else f"_{name}"


class _Encoder:
    """Writes batches as messages, and remembers the labels of the series that are in use."""

    def __init__(self, labels: tuple[str, ...]) -> None:
        self._labels = labels
        self._rows = Rows(lambda series: [self._row(series, row) for row in range(len(series))])

    def encoded(self, batches: Sequence[Batch]) -> bytes:
        """Return a request: one series a sample."""
        parts: list[bytes] = []
        for batch in batches:
            time = varint(max(0, round(batch.timestamp * 1000)))
            end = bytes((_TIME,)) + time
            head = bytes((_SAMPLE, 9 + len(end), _VOLUME))
            pack = struct.Struct(f"<{len(head)}sd{len(end)}s").pack
            size = len(head) + 8 + len(end)
            for labels, volume in zip(self._rows.of(batch.series), batch.volumes, strict=True):
                try:
                    value = pack(head, volume, end)
                except (OverflowError, struct.error):
                    value = pack(head, _as_float(volume), end)
                parts += (_SERIES, sized(len(labels) + size), labels, value)
        return b"".join(parts)

    def _row(self, series: Series, row: int) -> bytes:
        metadata, project_id, user_id = series.about(row)
        id_ = series.resource_ids[row]
        found = {_label_name(key): value for key, value in self._chosen(metadata)}
        found["resource_id"] = series.resource_id if id_ is None else id_
        for name, value in (("project_id", project_id), ("user_id", user_id)):
            if value:
                found[name] = value
        found["__name__"] = series_name(series.meters[series.meter_of[row]])
        # Sorted by name: a receiver may refuse what is not.
        return b"".join(_label(name, found[name]) for name in sorted(found) if found[name])

    def _chosen(self, metadata: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        for key, value in metadata.items():
            if value is not None and (self._labels == _ALL or key in self._labels):
                yield key, value if isinstance(value, str) else json.dumps(value, default=dict)


def write_request(batches: Sequence[Batch], labels: tuple[str, ...] = _ALL) -> bytes:
    """Return batches as one message, not compressed: see :class:`RemoteWritePublisher`."""
    return _Encoder(labels).encoded(batches)


def _as_float(volume: float) -> float:
    try:
        return float(volume)
    except OverflowError:  # a whole number that no double is near
        return float("inf") if volume > 0 else float("-inf")


def _label(name: str, value: str) -> bytes:
    return message(_LABELS, text(_NAME, name) + text(_VALUE, value))


class RemoteWritePublisher(WebPublisher):
    """Sends samples to whatever takes Prometheus's remote write: ``remotewrite+http://host:9090``.

    The path is ``/api/v1/write`` unless another one is named. A receiver takes a series' samples in
    the order of their times alone: one that comes late, out of the spool, may be refused, and is
    then set aside.
    """

    options: ClassVar[tuple[Option, ...]] = (
        *(option for option in WebPublisher.options if option.name != "batch_size"),
        Option("batch_size", positive, 2000, "the most samples that are sent in one request"),
        Option("labels", _labels, _ALL, "keys of the metadata that become labels, a,b,c; *: all"),
    )
    _default_path = "/api/v1/write"
    _default_port: ClassVar[int | None] = 9090

    def __init__(self, url: str, settings: Settings) -> None:
        super().__init__(url, settings)
        self._closed = False
        self._encoder = _Encoder(self._parsed.options["labels"])

    def _send(self, batches: Sequence[Batch]) -> None:
        if self._closed:
            raise OutputFailed(f"cannot publish to {self._where}: the publisher is closed")
        body = bytes(cramjam.snappy.compress_raw(self._encoder.encoded(batches)))
        self._post(body, _HEADERS)

    def close(self) -> None:
        """Close the connections."""
        self._closed = True
        super().close()
