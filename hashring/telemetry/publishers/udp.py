"""Samples as datagrams of msgpack: udp://host:port.

One sample is one datagram, a map as Ceilometer's publisher of this name sends it. Nobody confirms a
datagram: what the network loses is lost. This module knows no file and no thread.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import msgpack

from hashring.errors import BadURL
from hashring.telemetry.errors import OutputFailed
from hashring.telemetry.model.batch import Batch, Series, batches_of
from hashring.telemetry.model.sample import Sample, time_text
from hashring.telemetry.model.settings import Settings
from hashring.telemetry.plugin import Option, Publisher, SinkURL, seconds
from hashring.telemetry.publishers.wire import Rows

__all__ = ["Datagrams", "UDPPublisher"]

_PORT = 4952
"""The port of Ceilometer's collector."""

_UINT64 = 1 << 64
_INT64 = 1 << 63


class Datagrams:
    """Writes samples as the maps that Ceilometer's UDP publisher sends, with our keys beside them.

    Beside Ceilometer's keys stand ``id``, ``token``, ``window``, ``interval`` and ``member``.
    ``message_signature`` is empty, as Ceilometer leaves it where ``telemetry_secret`` is empty.

    Example:
        >>> from hashring.telemetry.model.sample import Meter, MeterType
        >>> meter = Meter("hardware.cpu.util", MeterType.GAUGE, "%")
        >>> sample = Sample(meter, 12.5, "web1:host", 600.25, 10, 60.0, "agent-1", ("v", "i", 10))
        >>> (datagram,) = Datagrams().of(batches_of([sample])[0])
        >>> found = msgpack.unpackb(datagram)
        >>> found["counter_name"], found["counter_volume"], found["resource_id"]
        ('hardware.cpu.util', 12.5, 'web1:host')
        >>> found["message_id"] == found["id"] == sample.id
        True
    """

    def __init__(self) -> None:
        self._rows = Rows(lambda series: [_row(series, row) for row in range(len(series))])

    def of(self, batch: Batch) -> Iterator[bytes | Exception]:
        """Iterate over a batch's samples, each as a datagram or the error that it cannot be one."""
        series = batch.series
        common = _pairs(
            timestamp=time_text(batch.timestamp),
            message_signature="",
            token=_packable(batch.token),
            window=batch.window,
            interval=batch.interval,
            member=batch.member,
        )
        heads = [
            _MAP
            + common
            + _pairs(
                source=source,
                counter_name=meter.name,
                counter_type=str(meter.type),
                counter_unit=meter.unit,
            )
            for meter, source in zip(series.meters, batch.sources, strict=True)
        ]
        for number, about, id_, volume in zip(
            series.meter_of, self._rows.of(series), _ids_of(batch), batch.volumes, strict=True
        ):
            if isinstance(about, Exception):
                yield about
                continue
            if isinstance(id_, Exception):
                yield id_
                continue
            shown = b"\xd9\x24" + id_.encode()  # a text of 36 bytes
            try:
                value = msgpack.packb(volume)
            except (OverflowError, TypeError, ValueError) as error:
                yield error
            else:
                yield b"".join(
                    (heads[number], about, _VOLUME, value, _MESSAGE_ID, shown, _ID, shown)
                )


def _ids_of(batch: Batch) -> Sequence[str | Exception]:
    """Return the samples' ids; of one whose resource has a name of no valid Unicode, the error."""
    try:
        return batch.ids()
    except UnicodeError:
        return [_id_of(one) for one in batch]


def _id_of(sample: Sample) -> str | Exception:
    try:
        return sample.id
    except UnicodeError as error:
        return error


def _pairs(**found: Any) -> bytes:
    """Return keys and values as they stand in a map."""
    # A name that is not valid Unicode, as a file's may be, is sent with question marks.
    return b"".join(
        msgpack.packb(part, unicode_errors="replace") for pair in found.items() for part in pair
    )


_MAP = b"\xde\x00\x11"  # of 17 pairs
_VOLUME: bytes = msgpack.packb("counter_volume")
_MESSAGE_ID: bytes = msgpack.packb("message_id")
_ID: bytes = msgpack.packb("id")


def _row(series: Series, row: int) -> bytes | Exception:
    """Return the pairs that are the same in every poll, or why there are none."""
    metadata, project_id, user_id = series.about(row)
    id_ = series.resource_ids[row]
    try:
        return _pairs(
            user_id=user_id,
            project_id=project_id,
            resource_id=series.resource_id if id_ is None else id_,
            resource_metadata=_packable(metadata),
        )
    except (OverflowError, TypeError, ValueError) as error:
        return error


def _packable(value: Any) -> Any:
    """Return JSON types as what msgpack can write: its whole numbers have 64 bits."""
    if isinstance(value, int) and not -_INT64 <= value < _UINT64:
        return str(value)
    if isinstance(value, (list, tuple)):
        return [_packable(item) for item in value]
    if hasattr(value, "items"):
        return {str(name): _packable(item) for name, item in value.items()}
    return value


class UDPPublisher(Publisher):
    """Sends each sample as one datagram of msgpack: ``udp://host:port``, ``udp://[::1]:4952``.

    A sample that is larger than a datagram can be is set aside. Where the host says that nobody
    listens, which it need not, that is a failure and the samples are sent again; otherwise what
    has been sent counts as taken.
    """

    options: ClassVar[tuple[Option, ...]] = (
        Option("timeout", seconds, 5.0, "seconds to wait while the system's send buffer is full"),
    )

    def __init__(self, url: str, settings: Settings) -> None:
        super().__init__(url, settings)
        found = SinkURL.parse(url, self.options)
        if not found.host or found.port == 0 or found.path not in ("", "/"):
            raise BadURL(f"{found.shown!r} is not an address: write udp://host:port")
        self._host, self._port = found.host, found.port or _PORT
        self._timeout: float = found.options["timeout"]
        self._socket: socket.socket | None = None
        self._datagrams = Datagrams()

    def publish(self, samples: Sequence[Sample]) -> None:
        """Send one datagram a sample; see :class:`Publisher`."""
        # Its own, not that of a subclass that hands its samples on to here.
        UDPPublisher.publish_batches(self, batches_of(samples))

    def publish_batches(self, batches: Sequence[Batch]) -> None:
        """Send one datagram a sample; see :class:`Publisher`."""
        odd: list[tuple[Sample, str, str]] = []
        try:
            sink = self._connected()
            for batch in batches:
                for row, datagram in enumerate(self._datagrams.of(batch)):
                    if why := _sent(sink, datagram):
                        odd.append((batch[row], *why))
            # The answer to a datagram for a port where nobody listens shows up as an error here,
            # if there is one and it came by now.
            error = sink.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        except (OSError, UnicodeError) as failure:
            raise self._failure(getattr(failure, "strerror", None) or str(failure)) from None
        if error:
            raise self._failure(os.strerror(error))
        for sample, cause, detail in odd:
            self.set_aside([sample], cause, detail)

    def _failure(self, reason: str) -> OutputFailed:
        # The next try looks the host up anew: it may have moved.
        self.close()
        return OutputFailed(f"cannot send to {self.url}: {reason}")

    def _connected(self) -> socket.socket:
        if self._socket is None:
            places = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_DGRAM)
            family, kind, protocol, _, address = places[0]
            sink = socket.socket(family, kind, protocol)
            sink.settimeout(self._timeout)
            with contextlib.ExitStack() as undo:
                undo.callback(sink.close)
                sink.connect(address)
                undo.pop_all()
            self._socket = sink
        return self._socket

    def close(self) -> None:
        """Close the socket."""
        sink, self._socket = self._socket, None
        if sink is not None:
            sink.close()


def _sent(sink: socket.socket, datagram: bytes | Exception) -> tuple[str, str] | None:
    """Send a sample, or return why it can never be sent: a cause, and details."""
    if isinstance(datagram, Exception):
        return "it cannot be written as msgpack", str(datagram)
    try:
        sink.send(datagram)
    except OSError as error:
        if error.errno != errno.EMSGSIZE:
            raise
        return "it is larger than a datagram can be", f"{len(datagram)} bytes of msgpack"
    return None
