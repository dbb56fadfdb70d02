"""HTTP exchanges that end: a deadline for the whole of each, and answers inflated in small pieces.

A socket's timeout bounds one silence, so a peer that sends a byte now and then never reaches it.
Here connecting, the TLS handshake, sending, and every single read wait for what is left until one
deadline, and no longer. For what is polled and for sinks alike. This module knows requests and
urllib3, nothing of what is asked or sent.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import socket
import threading
import zlib
from collections.abc import Iterable, Iterator
from typing import Any

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError

from hashring import clock

__all__ = ["ENCODINGS", "Adapter", "BadEncoding", "chunks", "within"]

ENCODINGS = "gzip, deflate"
"""What an answer may be compressed with: said in ``Accept-Encoding``."""

_CHUNK = 64 * 1024
"""Bytes that are read, or inflated to, at once."""

_RECORD = 16 * 1024
"""Bytes that are handed to TLS at once: the largest record it has. Each waits for what is left."""

_now = threading.local()


class BadEncoding(requests.exceptions.ContentDecodingError):
    """An answer is compressed in a way that is not understood, or is damaged."""


@contextlib.contextmanager
def within(deadline: float) -> Iterator[None]:
    """Let what this thread asks for within the block be over by a deadline.

    Holds for requests through an :class:`Adapter`, and for reading their answers after the block.
    Looking up a host's name is up to the system, and has its own limits.

    Args:
        deadline: on the clock of :mod:`hashring.clock`.
    """
    before = getattr(_now, "deadline", None)
    _now.deadline = deadline
    try:
        yield
    finally:
        _now.deadline = before


def _left(deadline: float | None) -> float | None:
    if deadline is None:
        return None
    left = deadline - clock.boottime()
    if left <= 0:
        raise TimeoutError("the deadline of the exchange has passed")
    return left


def chunks(response: requests.Response) -> Iterator[bytes]:
    """Iterate over an answer's body, decompressed, at most 64 KiB at a time.

    However much a body inflates to, no more than one chunk of it is in memory: who adds them up can
    stop at any one. (The decoders of urllib3 inflate all of what has arrived at once.)

    Args:
        response: of a request with ``stream=True``.

    Raises:
        BadEncoding: it is compressed by something else than :data:`ENCODINGS`, or damaged.
        urllib3.exceptions.HTTPError, OSError: it was cut off, or did not come in time.
    """
    arrived = response.raw.stream(_CHUNK, decode_content=False)
    encoding = response.headers.get("content-encoding", "").strip().lower()
    if encoding in ("", "identity"):
        return iter(arrived)
    if encoding in ("gzip", "x-gzip"):
        return _inflated(arrived, 16 + zlib.MAX_WBITS)
    if encoding == "deflate":
        return _inflated(arrived, zlib.MAX_WBITS)
    raise BadEncoding(f"it is compressed by {encoding!r:.40}; {ENCODINGS} are understood")


def _inflated(arrived: Iterable[bytes], bits: int) -> Iterator[bytes]:
    inflate = zlib.decompressobj(bits)
    is_first = True  # nothing has been inflated yet
    for data in arrived:
        while data or (inflate.eof and inflate.unused_data):
            if inflate.eof:
                # A gzip file may be several, one after the other; whatever else follows is noise.
                data = inflate.unused_data or data
                if not data.startswith(b"\x1f\x8b"):
                    return
                inflate = zlib.decompressobj(bits)
            try:
                found = inflate.decompress(data, _CHUNK)
            except zlib.error as error:
                if not is_first or bits != zlib.MAX_WBITS:
                    raise BadEncoding(f"its compression is damaged: {error}") from None
                bits = -zlib.MAX_WBITS  # some servers send deflate without its frame
                inflate = zlib.decompressobj(bits)
                continue
            is_first = False
            if found:
                yield found
            data = inflate.unconsumed_tail
    while not (is_first or inflate.eof):
        found = inflate.decompress(b"", _CHUNK)  # what did not fit into the last piece
        if not found:
            raise BadEncoding("its compression is cut off")
        yield found


class _Timed(io.RawIOBase):
    """Reads from a socket until a deadline, not until a silence of some length."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket, deadline: float | None) -> None:
        self._raw = raw
        self._sock = sock
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = _left(self._deadline)
        if left is not None:
            self._sock.settimeout(left)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Answer(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        raw: Any = self.fp.detach()
        self.fp = io.BufferedReader(_Timed(raw, sock, getattr(_now, "deadline", None)))


class _Deadlined(urllib3.connection.HTTPConnection):
    """Connects and sends until the deadline of the block (:func:`within`) that it is used in."""

    response_class = _Answer

    def _new_conn(self) -> socket.socket:
        try:
            found = socket.getaddrinfo(self._dns_host, self.port, type=socket.SOCK_STREAM)
        except socket.gaierror as error:
            raise NameResolutionError(self.host, self, error) from error
        except UnicodeError:
            raise urllib3.exceptions.LocationParseError(
                f"{self.host!r}, label empty or too long"
            ) from None
        try:
            return self._connected(found)
        except TimeoutError as error:
            raise ConnectTimeoutError(self, f"{self.host}: no connection in time") from error
        except OSError as error:
            raise NewConnectionError(
                self, f"Failed to establish a new connection: {error}"
            ) from error

    def _connected(self, found: list[Any]) -> socket.socket:
        failure: OSError = OSError("getaddrinfo returns an empty list")
        for number, (family, kind, protocol, _, address) in enumerate(found, 1):
            # A host may have an address that is dead and one that is not.
            left = _left(getattr(_now, "deadline", None))
            share = left if left is None or number == len(found) else left / 2
            connection = socket.socket(family, kind, protocol)
            try:
                for option in self.socket_options or ():
                    connection.setsockopt(*option)
                connection.settimeout(share)
                connection.connect(address)
            except OSError as error:
                connection.close()
                failure = error
                continue
            if left is not None:
                connection.settimeout(_left(_now.deadline))  # of the handshake that may follow
            return connection
        raise failure

    def send(self, data: Any) -> None:
        """Send; to whoever takes a byte now and then, no longer than to anybody else."""
        deadline = getattr(_now, "deadline", None)
        if deadline is None or not isinstance(data, bytes | bytearray):
            super().send(data)
            return
        view = memoryview(data)
        for start in range(0, len(view), _RECORD):
            if self.sock is not None:
                self.sock.settimeout(_left(deadline))
            super().send(view[start : start + _RECORD])


class _SecureDeadlined(_Deadlined, urllib3.connection.HTTPSConnection):
    pass


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Deadlined


class _SecurePool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _SecureDeadlined


_POOLS = {"http": _Pool, "https": _SecurePool}


class Adapter(HTTPAdapter):
    """Requests' adapter, with the deadline of the block (:func:`within`) that it is used in."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Make the manager of direct connections."""
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        """Return the manager of the connections through a proxy."""
        manager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = _POOLS
        return manager
