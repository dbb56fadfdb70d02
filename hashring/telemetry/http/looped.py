"""LoopClient: exchanges on an event loop, thousands at once, each of which ends by its deadline.

On aiohttp: of the kept clients it takes the least processor time a request
(``docs/agents/costs.md``). What holds for each request is said in ``rules``; here it is what a loop
needs beside: names are looked up in threads of our own, connections to one host are bounded, and a
request that met a closing connection is not sent again, which aiohttp would do by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import re
import socket
import ssl
from collections import Counter, deque
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from hashring import clock
from hashring.errors import MissingDependency
from hashring.telemetry.errors import BadEncoding
from hashring.telemetry.http.inflating import Inflater
from hashring.telemetry.http.rules import (
    REDIRECTS,
    authorities,
    left_until,
    merged,
    usual_headers,
    without_login,
)
from hashring.telemetry.http.threads import DaemonThreads

try:
    import aiohttp
    import urllib3.util
    import yarl
    from aiohttp.abc import AbstractResolver, ResolveResult
    from urllib3.exceptions import LocationParseError
    from urllib3.util.ssl_ import create_urllib3_context
except ImportError as error:  # pragma: no cover - the tests of the wheel run without aiohttp
    raise MissingDependency("polls over HTTP", "aiohttp", "telemetry") from error

__all__ = ["FAILURES", "LoopAnswer", "LoopClient"]

FAILURES = (
    aiohttp.ClientError,
    LocationParseError,
    OSError,
    TimeoutError,
    UnicodeError,
    BadEncoding,
)
"""What an exchange may raise. Texts of the libraries' errors have whole URLs in them: say what
:func:`hashring.telemetry.http.reason_of` says instead."""

_LOOKUPS = 32
"""Names that are looked up at once. A look-up that hangs, as the system lets it, holds one."""

_NAMES_FOR = 10
"""Seconds for which an address that was looked up is used again."""

_LONGEST_HEADER = 64 * 1024
"""Bytes of one header, and of a status line: as many as urllib3 takes."""

_MOST_IDLE = 256
"""Connections that wait to be used again, over all hosts, from which on no more are kept: each is
an open file. Those in flight then may still be kept."""

# What needs no thought: no login, no character to be escaped, no segment of dots.
_PLAIN_URL = re.compile(r"https?://[a-z0-9.-]+(:[0-9]{1,5})?(/[\w~-][\w.~-]*)*/?", re.ASCII)


_FULL_ADDRESS = re.compile(r"[1-9][0-9]{0,2}(\.(0|[1-9][0-9]{0,2})){3}", re.ASCII)


class LoopAnswer:
    """What a server says to one request; its body is read while it comes.

    Args:
        response: aiohttp's, of whose body nothing has been read.

    Attributes:
        status: its number.
        reason: the words beside it; may be empty.
        headers: by name, in any case.
        location: where a redirect leads; ``None`` where it is no redirect.
    """

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self.status = response.status
        self.reason = response.reason or ""
        self.headers: Mapping[str, str] = response.headers
        location = response.headers.get("Location") if self.status in REDIRECTS else None
        self.location = location or None

    async def chunks(self) -> AsyncIterator[bytes]:
        """Iterate over the body, decompressed, at most 64 KiB at a time where it was compressed.

        Raises:
            BadEncoding: it is compressed by something unknown, or damaged.
            aiohttp.ClientError, OSError: it was cut off, or did not come in time.
        """
        inflater = Inflater(self.headers.get("Content-Encoding", ""))
        read = self._response.content.readany
        while data := await read():
            is_first = True
            for piece in inflater.feed(data):
                if not is_first:
                    await asyncio.sleep(0)  # others' turn: a little may inflate to very much
                is_first = False
                yield piece
        for piece in inflater.finish():
            yield piece


class LoopClient:
    """Asks servers, over connections that are kept for a while; for the loop that it is made in.

    Args:
        per_host: connections to one host and port at once; further requests wait for one.
        idle: seconds after which a connection is not used again.
    """

    def __init__(self, *, per_host: int, idle: float) -> None:
        self._lookups = DaemonThreads(_LOOKUPS, "look up names")
        self._idle = _Idle(idle)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0,
                limit_per_host=per_host,
                keepalive_timeout=idle,
                ttl_dns_cache=_NAMES_FOR,
                resolver=_Resolver(self._lookups),
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
            max_line_size=_LONGEST_HEADER,
            max_field_size=_LONGEST_HEADER,
        )
        # It would send a GET again that met a closing connection, though that may have been
        # answered. There is no public switch; a test looks that this one works.
        self._session._retry_connection = False

    @contextlib.asynccontextmanager
    async def exchange(
        self,
        method: str,
        url: str,
        *,
        deadline: float,
        headers: Mapping[str, str],
        verify: bool | str = True,
    ) -> AsyncIterator[LoopAnswer]:
        """Ask once; the block reads the answer. All of it has ended by the deadline.

        Args:
            method: ``"GET"``.
            url: http or https; a user and password in it are sent as basic authentication.
            deadline: on the clock of :mod:`hashring.clock`.
            headers: sent beside those that each request has.
            verify: whether a server's certificate is checked; a text is a file, or a folder, of
                authorities.

        Raises:
            one of FAILURES: no answer, or not in time.
        """
        left = left_until(deadline)
        url, login = without_login(url) if "@" in url else (url, None)
        asked = _escaped(url)
        sent = dict(_sent(tuple(headers.items()), login))
        context: ssl.SSLContext | bool = True
        if asked.scheme == "https":
            context = _context(verify, _state(verify))
        origin = asked.scheme, asked.raw_authority
        keeps = self._idle.has_room(origin)
        if not keeps:
            sent["Connection"] = "close"
        async with (
            asyncio.timeout(left),
            self._session.request(
                method, asked, headers=sent, ssl=context, allow_redirects=False
            ) as response,
        ):
            yield LoopAnswer(response)
            if keeps:
                self._idle.freed(origin)

    async def close(self) -> None:
        """Close all connections, for good."""
        await self._session.close()
        self._lookups.shutdown(wait=False, cancel_futures=True)


@functools.lru_cache(maxsize=256)
def _sent(headers: tuple[tuple[str, str], ...], login: str | None) -> Mapping[str, str]:
    """Return all headers of a request: the same for thousands of them."""
    proof = {} if login is None else {"Authorization": login}
    return merged(usual_headers(), dict(headers), proof)


def _escaped(url: str) -> yarl.URL:
    """Return a URL as it is sent: escaped and in ASCII, by the rules of urllib3.

    Raises:
        aiohttp.InvalidURL, urllib3.exceptions.LocationParseError: it cannot be asked.
    """
    if not _PLAIN_URL.fullmatch(url):
        url = urllib3.util.parse_url(url).url
    found = yarl.URL(url, encoded=True)
    try:
        host = found.raw_host if found.port else None
    except ValueError:  # a port that is out of range
        host = None
    if not host:
        raise aiohttp.InvalidURL("")
    if _FULL_ADDRESS.fullmatch(host) or not host.rpartition(".")[2][:1].isdigit():
        return found
    return found.with_host(_canonical(host))


def _canonical(host: str) -> str:
    """Return an address as 127.1 or 0x7f.1, which systems take and aiohttp does not, in full."""
    try:
        return socket.inet_ntoa(socket.inet_aton(host))
    except OSError:
        return host


class _Idle:
    """How many connections wait to be used again; by origin, as that is how they are used.

    An estimate: one that was closed by its server is counted until its time is over.

    Args:
        seconds: for which they wait.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._waiting: Counter[tuple[str, str]] = Counter()
        self._since: deque[tuple[float, tuple[str, str]]] = deque()
        self._total = 0

    def has_room(self, origin: tuple[str, str]) -> bool:
        """Note that a connection is asked for, so that one which waits is taken; return whether
        it may wait again.
        """
        now = clock.boottime()
        while self._since and self._since[0][0] <= now - self._seconds:
            self._take(self._since.popleft()[1])
        self._take(origin)
        return self._total < _MOST_IDLE

    def freed(self, origin: tuple[str, str]) -> None:
        """Note that a connection waits."""
        self._total += 1
        self._waiting[origin] += 1
        self._since.append((clock.boottime(), origin))

    def _take(self, origin: tuple[str, str]) -> None:
        if origin in self._waiting:
            self._total -= 1
            self._waiting[origin] -= 1
            if not self._waiting[origin]:
                del self._waiting[origin]


class _Resolver(AbstractResolver):
    """Looks up names in threads that nobody has to wait for."""

    def __init__(self, threads: DaemonThreads) -> None:
        self._threads = threads

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        look_up = functools.partial(
            socket.getaddrinfo, host, port, family=family, type=socket.SOCK_STREAM
        )
        found = await asyncio.get_running_loop().run_in_executor(self._threads, look_up)
        return [
            ResolveResult(
                hostname=host,
                host=_text_of(address),
                port=int(address[1]),
                family=of,
                proto=protocol,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for of, _, protocol, _, address in found
        ]

    async def close(self) -> None:
        """Hold nothing: the threads are the client's."""


def _text_of(address: tuple[str | int | bytes, ...]) -> str:
    """Return a host's address as a text, with its zone where it is of one link only."""
    zone = address[3] if len(address) > 3 else 0
    return f"{address[0]!s}%{zone!s}" if zone else str(address[0])


def _state(verify: bool | str) -> tuple[int, int]:
    """Return what tells one state of a file of authorities from another."""
    if not isinstance(verify, str):
        return 0, 0
    found = Path(verify).stat()
    return found.st_mtime_ns, found.st_ino


@functools.lru_cache(maxsize=64)
def _context(verify: bool | str, state: tuple[int, int]) -> ssl.SSLContext:
    """Return how to check servers' certificates: made anew where the authorities have changed."""
    context = create_urllib3_context(cert_reqs=ssl.CERT_REQUIRED if verify else ssl.CERT_NONE)
    context.check_hostname = bool(verify)
    places = authorities(verify)
    if places:
        context.load_verify_locations(places.get("ca_certs"), places.get("ca_cert_dir"))
    return context
