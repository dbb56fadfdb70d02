"""Samples as datagrams of msgpack: udp://host:port.

One sample is one datagram, a map as Ceilometer's publisher of this name sends it. Nobody confirms a
datagram: what the network loses is lost. This room knows no file and no thread.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Sequence
from typing import Any, ClassVar

import msgpack

from hashring.errors import BadURL
from hashring.telemetry.errors import OutputFailed
from hashring.telemetry.model.sample import Sample
from hashring.telemetry.model.settings import Settings
from hashring.telemetry.plugin import Option, Publisher, SinkURL, seconds

__all__ = ["UDPPublisher", "message"]

_PORT = 4952
"""The port of Ceilometer's collector."""

_UINT64 = 1 << 64
_INT64 = 1 << 63


def message(sample: Sample) -> dict[str, Any]:
    """Return a sample as the map that Ceilometer's UDP publisher sends, with our keys beside it.

    Beside Ceilometer's keys stand ``id``, ``token``, ``window``, ``interval`` and ``member``.
    ``message_signature`` is empty, as Ceilometer leaves it where ``telemetry_secret`` is empty.

    Example:
        >>> from hashring.telemetry.model.sample import Meter, MeterType
        >>> meter = Meter("hardware.cpu.util", MeterType.GAUGE, "%")
        >>> sample = Sample(meter, 12.5, "web1:host", 600.25, 10, 60.0, "agent-1", ("v", "i", 10))
        >>> found = message(sample)
        >>> found["counter_name"], found["counter_volume"], found["resource_id"]
        ('hardware.cpu.util', 12.5, 'web1:host')
        >>> found["message_id"] == found["id"] == sample.id
        True
    """
    found = sample.to_json()
    return {
        "source": sample.source,
        "counter_name": sample.meter.name,
        "counter_type": str(sample.meter.type),
        "counter_unit": sample.meter.unit,
        "counter_volume": sample.volume,
        "user_id": sample.user_id,
        "project_id": sample.project_id,
        "resource_id": sample.resource_id,
        "timestamp": found["timestamp"],
        "resource_metadata": _packable(sample.metadata),
        "message_id": found["id"],
        "message_signature": "",
        "id": found["id"],
        "token": _packable(found["token"]),
        "window": sample.window,
        "interval": sample.interval,
        "member": sample.member,
    }


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
            raise BadURL(f"{found.shown!r} is no address: write udp://host:port")
        self._host, self._port = found.host, found.port or _PORT
        self._timeout: float = found.options["timeout"]
        self._socket: socket.socket | None = None

    def publish(self, samples: Sequence[Sample]) -> None:
        """Send one datagram a sample; see :class:`Publisher`."""
        odd: list[tuple[Sample, str, str]] = []
        try:
            sink = self._connected()
            for sample in samples:
                if why := self._send(sink, sample):
                    odd.append((sample, *why))
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

    def _send(self, sink: socket.socket, sample: Sample) -> tuple[str, str] | None:
        """Send a sample, or return why it can never be sent: a cause, and details."""
        try:
            # A name that is no valid Unicode, as a file's may be, is sent with question marks.
            datagram = msgpack.packb(message(sample), unicode_errors="replace")
        except (OverflowError, TypeError, ValueError) as error:
            return "it cannot be written as msgpack", str(error)
        try:
            sink.send(datagram)
        except OSError as error:
            if error.errno != errno.EMSGSIZE:
                raise
            return "it is larger than a datagram can be", f"{len(datagram)} bytes of msgpack"
        return None

    def close(self) -> None:
        """Close the socket."""
        sink, self._socket = self._socket, None
        if sink is not None:
            sink.close()
