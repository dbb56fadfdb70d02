"""Client: exchanges for threads, each of which ends by its deadline; on urllib3.

A socket's timeout bounds one silence, so a peer that sends a byte now and then never reaches it.
Here connecting, the TLS handshake, sending, and every single read wait for what is left until one
deadline, and no longer. What else holds for each request is said in ``rules``.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import logging
import socket
import threading
from collections.abc import Iterator, Mapping
from typing import Any

from hashring.errors import MissingDependency
from hashring.telemetry.errors import BadEncoding
from hashring.telemetry.http.inflating import PIECE, Inflater
from hashring.telemetry.http.rules import (
    authorities,
    left_until,
    merged,
    proxy_for,
    usual_headers,
    without_login,
)

try:
    import urllib3
    from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError
except ImportError as error:  # pragma: no cover - the tests of the wheel run without urllib3
    raise MissingDependency("the telemetry agent", "urllib3", "telemetry") from error

__all__ = ["FAILURES", "Answer", "Client", "silence_unchecked"]

FAILURES = (urllib3.exceptions.HTTPError, OSError, UnicodeError, BadEncoding)
"""What an exchange may raise. Texts of the libraries' errors have whole URLs in them: say what
:func:`hashring.telemetry.http.reason_of` says instead."""

_RECORD = 16 * 1024
"""Bytes that are handed to TLS at once: the largest record it has. Each waits for what is left."""

_BACKOFF = 0.1
"""Seconds before a second further try to connect; they double with each."""

_now = threading.local()


@contextlib.contextmanager
def _within(deadline: float) -> Iterator[None]:
    """Let what this thread asks for within the block be over by a deadline."""
    before = getattr(_now, "deadline", None)
    _now.deadline = deadline
    try:
        yield
    finally:
        _now.deadline = before


def _left(deadline: float | None) -> float | None:
    return None if deadline is None else left_until(deadline)


class Answer:
    """What a server says to one request; its body is read while it comes.

    Args:
        response: urllib3's, of which nothing has been read.

    Attributes:
        status: its number.
        reason: the words beside it; may be empty.
        headers: by name, in any case.
        location: where a redirect leads; ``None`` where it is no redirect.
    """

    def __init__(self, response: urllib3.BaseHTTPResponse) -> None:
        self._response = response
        self.status: int = response.status
        self.reason: str = response.reason or ""
        self.headers: Mapping[str, str] = response.headers
        self.location: str | None = response.get_redirect_location() or None

    def chunks(self) -> Iterator[bytes]:
        """Iterate over the body, decompressed, at most 64 KiB at a time.

        Raises:
            BadEncoding: it is compressed by something else than :data:`ENCODINGS`, or damaged.
            urllib3.exceptions.HTTPError, OSError: it was cut off, or did not come in time.
        """
        inflater = Inflater(self.headers.get("content-encoding", ""))
        return self._inflated(inflater)

    def _inflated(self, inflater: Inflater) -> Iterator[bytes]:
        for data in self._response.stream(PIECE, decode_content=False):
            yield from inflater.feed(data)
        yield from inflater.finish()

    def close(self) -> None:
        """Let the connection go: to be used again, where the whole answer has been read."""
        self._response.close()
        self._response.release_conn()


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


class Client:
    """Asks servers, over connections that are kept. It may be used by several threads.

    Args:
        connections: how many are kept open to each of at most ten servers.
        certificate: a file with the certificate to show to a server.
        key: a file with its key; ``None``: the certificate's file has it.
        retries: further tries to connect. What has been sent is never sent again.
        uses_proxies: whether the environment's proxies are used (``https_proxy``, ``no_proxy``).
    """

    def __init__(
        self,
        *,
        connections: int = 10,
        certificate: str | None = None,
        key: str | None = None,
        retries: int = 0,
        uses_proxies: bool = False,
    ) -> None:
        # It logs whole URLs, secrets and all: each connection, and each further try. What fails in
        # the end is raised.
        logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
        self._certificate = certificate
        self._key = key
        self._connections = connections
        self._retry = urllib3.Retry(
            *(retries, retries, 0, 0, 0, 0),  # in all; to connect; whatever comes after that
            backoff_factor=_BACKOFF,
        )
        self._uses_proxies = uses_proxies
        self._lock = threading.Lock()
        self._managers: dict[tuple[bool | str, str | None], urllib3.PoolManager] = {}

    @contextlib.contextmanager
    def exchange(
        self,
        method: str,
        url: str,
        *,
        deadline: float,
        headers: Mapping[str, str | bytes],
        body: bytes | None = None,
        verify: bool | str = True,
    ) -> Iterator[Answer]:
        """Ask once; the block reads the answer. All of it has ended by the deadline.

        Looking up the host's name is up to the system, and has its own limits.

        Args:
            method: ``"GET"``, ``"POST"``.
            url: http or https; a user and password in it are sent as basic authentication.
            deadline: on the clock of :mod:`hashring.clock`.
            headers: sent beside those that each request has.
            body: what is sent.
            verify: whether a server's certificate is checked; a text is a file, or a folder, of
                authorities.

        Raises:
            one of FAILURES: no answer, or not in time.
        """
        left = left_until(deadline)
        url, login = without_login(url)
        sent = merged(usual_headers(), headers, {} if login is None else {"Authorization": login})
        with _within(deadline):
            answer = Answer(
                self._manager(url, verify).urlopen(
                    method,
                    url,
                    body=body,
                    headers=sent,
                    timeout=urllib3.Timeout(connect=left, read=left),
                    retries=self._retry,
                    redirect=False,
                    preload_content=False,
                    decode_content=False,
                )
            )
            try:
                yield answer
            finally:
                answer.close()

    def close(self) -> None:
        """Close all connections. A later request opens new ones."""
        with self._lock:
            managers = list(self._managers.values())
        for manager in managers:
            manager.clear()

    def _manager(self, url: str, verify: bool | str) -> urllib3.PoolManager:
        proxy = proxy_for(url) if self._uses_proxies else None
        with self._lock:
            found = self._managers.get((verify, proxy))
            if found is None:
                found = self._managers[verify, proxy] = self._made(verify, proxy)
        return found

    def _made(self, verify: bool | str, proxy: str | None) -> urllib3.PoolManager:
        how: dict[str, Any] = {"num_pools": 10, "maxsize": self._connections}
        how["cert_reqs"] = "CERT_REQUIRED" if verify else "CERT_NONE"
        how |= authorities(verify)
        if self._certificate is not None:
            how |= {"cert_file": self._certificate, "key_file": self._key}
        manager: urllib3.PoolManager
        if proxy is None:
            manager = urllib3.PoolManager(**how)
        else:
            proxy, login = without_login(proxy)
            named = {} if login is None else {"Proxy-Authorization": login}
            manager = urllib3.ProxyManager(proxy, proxy_headers=named, **how)
        manager.pool_classes_by_scheme = _POOLS
        return manager


def silence_unchecked() -> None:
    """Let urllib3 not warn at every request to a server whose certificate is not checked.

    For whoever turns that check off, and says so once.
    """
    urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
