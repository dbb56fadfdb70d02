"""The one HTTP client: exchanges that end, for what is polled and for sinks alike.

A socket's timeout bounds one silence, so a peer that sends a byte now and then never reaches it.
Here connecting, the TLS handshake, sending, and every single read wait for what is left until one
deadline, and no longer. Answers are inflated in small pieces. No redirect is followed here, no
cookie is kept, ``.netrc`` is not read; a user and password are sent as basic authentication, in
UTF-8. It is built on urllib3, and knows nothing of what is asked or sent.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import http.client
import io
import ipaddress
import logging
import socket
import threading
import urllib.request
import zlib
from collections.abc import Iterable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from hashring import clock
from hashring.errors import MissingDependency
from hashring.telemetry.errors import BadEncoding

try:
    import certifi
    import urllib3
    from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError
except ImportError as error:  # pragma: no cover - the tests of the wheel run without urllib3
    raise MissingDependency("the telemetry agent", "urllib3", "telemetry") from error

__all__ = [
    "ENCODINGS",
    "FAILURES",
    "Answer",
    "Client",
    "basic_authentication",
    "is_timeout",
    "merged",
    "reason_of",
    "silence_unchecked",
]

ENCODINGS = "gzip, deflate"
"""What an answer may be compressed with: said in ``Accept-Encoding``."""

FAILURES = (urllib3.exceptions.HTTPError, OSError, UnicodeError, BadEncoding)
"""What an exchange may raise. Texts of the libraries' errors have whole URLs in them: say what
:func:`reason_of` says instead."""

_CHUNK = 64 * 1024
"""Bytes that are read, or inflated to, at once."""

_RECORD = 16 * 1024
"""Bytes that are handed to TLS at once: the largest record it has. Each waits for what is left."""

_BACKOFF = 0.1
"""Seconds before a second further try to connect; they double with each."""

_DISTRIBUTION = "hashring-ha"

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
    if deadline is None:
        return None
    left = deadline - clock.boottime()
    if left <= 0:
        raise TimeoutError("the deadline of the exchange has passed")
    return left


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

        However much a body inflates to, no more than one chunk of it is in memory: who adds them up
        can stop at any one. (The decoders of urllib3 inflate all of what has arrived at once.)

        Raises:
            BadEncoding: it is compressed by something else than :data:`ENCODINGS`, or damaged.
            urllib3.exceptions.HTTPError, OSError: it was cut off, or did not come in time.
        """
        arrived = self._response.stream(_CHUNK, decode_content=False)
        encoding = self.headers.get("content-encoding", "").strip().lower()
        if encoding in ("", "identity"):
            return iter(arrived)
        if encoding in ("gzip", "x-gzip"):
            return _inflated(arrived, 16 + zlib.MAX_WBITS)
        if encoding == "deflate":
            return _inflated(arrived, zlib.MAX_WBITS)
        raise BadEncoding(f"it is compressed by {encoding!r:.40}; {ENCODINGS} are understood")

    def close(self) -> None:
        """Let the connection go: to be used again, where the whole answer has been read."""
        self._response.close()
        self._response.release_conn()


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
        left = deadline - clock.boottime()
        if left <= 0:
            raise TimeoutError("the deadline of the exchange has passed")
        url, login = _without_login(url)
        sent = merged(_usual_headers(), headers, {} if login is None else {"Authorization": login})
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
        proxy = _proxy_for(url) if self._uses_proxies else None
        with self._lock:
            found = self._managers.get((verify, proxy))
            if found is None:
                found = self._managers[verify, proxy] = self._made(verify, proxy)
        return found

    def _made(self, verify: bool | str, proxy: str | None) -> urllib3.PoolManager:
        how: dict[str, Any] = {"num_pools": 10, "maxsize": self._connections}
        how["cert_reqs"] = "CERT_REQUIRED" if verify else "CERT_NONE"
        if verify:
            place = certifi.where() if verify is True else verify
            how["ca_cert_dir" if Path(place).is_dir() else "ca_certs"] = place
        if self._certificate is not None:
            how |= {"cert_file": self._certificate, "key_file": self._key}
        manager: urllib3.PoolManager
        if proxy is None:
            manager = urllib3.PoolManager(**how)
        else:
            proxy, login = _without_login(proxy)
            named = {} if login is None else {"Proxy-Authorization": login}
            manager = urllib3.ProxyManager(proxy, proxy_headers=named, **how)
        manager.pool_classes_by_scheme = _POOLS
        return manager


@functools.cache
def _usual_headers() -> Mapping[str, str]:
    return {
        "User-Agent": f"hashring/{metadata.version(_DISTRIBUTION)}",
        "Accept-Encoding": ENCODINGS,
        "Accept": "*/*",
    }


def merged(*headers: Mapping[str, str | bytes]) -> dict[str, Any]:
    """Return headers in which each name, however it is spelled, has the last one's value.

    >>> merged({"Accept": "*/*", "X-A": "1"}, {"accept": "text/plain"})
    {'accept': 'text/plain', 'X-A': '1'}
    """
    found: dict[str, tuple[str, str | bytes]] = {}
    for each in headers:
        found |= {name.lower(): (name, value) for name, value in each.items()}
    return dict(found.values())


def basic_authentication(user: str, password: str) -> str:
    """Return the value of a header that proves who asks.

    >>> basic_authentication("app", "s3cret")
    'Basic YXBwOnMzY3JldA=='
    """
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


def _without_login(url: str) -> tuple[str, str | None]:
    """Return a URL without user and password, and the header's value for them.

    >>> _without_login("http://app:s3cr%20et@web1/a")
    ('http://web1/a', 'Basic YXBwOnMzY3IgZXQ=')
    """
    parts = urlsplit(url)
    login, at, place = parts.netloc.rpartition("@")
    if not at:
        return url, None
    url = parts._replace(netloc=place).geturl()
    if not login:
        return url, None
    user, _, password = login.partition(":")
    header = basic_authentication(unquote(user), unquote(password))
    return url, header


def _proxy_for(url: str) -> str | None:
    """Return the proxy that the environment names for a URL, if any."""
    parts = urlsplit(url)
    proxies = urllib.request.getproxies()
    found = proxies.get(parts.scheme) or proxies.get("all")
    host = parts.hostname or ""
    if not found or urllib.request.proxy_bypass(host):
        return None
    if _is_in_networks(host, proxies.get("no", "")):
        return None
    return found if "://" in found else f"http://{found}"


def _is_in_networks(host: str, exceptions: str) -> bool:
    """Return whether a host is an address in one of the networks among names and networks.

    >>> _is_in_networks("10.1.2.3", "localhost, 10.0.0.0/8"), _is_in_networks("web1", "10.0.0.0/8")
    (True, False)
    """
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    for one in exceptions.split(","):
        with contextlib.suppress(ValueError):
            if address in ipaddress.ip_network(one.strip(), strict=False):
                return True
    return False


def silence_unchecked() -> None:
    """Let urllib3 not warn at every request to a server whose certificate is not checked.

    For whoever turns that check off, and says so once.
    """
    urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)


def _innermost(error: BaseException) -> BaseException:
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return error


def is_timeout(error: BaseException, deadline: float) -> bool:
    """Return whether an exchange failed because it was not over by its deadline."""
    inner = _innermost(error)
    says_why = isinstance(inner, OSError) and bool(inner.strerror)
    return isinstance(inner, TimeoutError) or (clock.boottime() >= deadline and not says_why)


def reason_of(error: BaseException) -> str:
    """Return what went wrong in words that hold no URL: those of the libraries show all of it."""
    if isinstance(error, BadEncoding):
        return str(error)
    inner = _innermost(error)
    if isinstance(inner, OSError) and inner.strerror:
        return inner.strerror
    return type(inner).__name__
