"""LoopClient: exchanges on an event loop, thousands at once, each of which ends by its deadline.

What a poll of a small answer costs is mostly what a client adds to it, so this one adds little: a
connection reads its answer by itself (``connection``), and here it is what connections share. Names
are looked up in threads of our own, connections to one host are bounded, and those that wait to be
used again are, over all hosts. A request that met a closing connection is not sent again: it may
have been answered. What holds for each request is said in ``rules``.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from hashring import clock
from hashring.errors import MissingDependency
from hashring.telemetry.errors import BadEncoding
from hashring.telemetry.http.address import Address, address_of, request_of
from hashring.telemetry.http.connection import Connection
from hashring.telemetry.http.inflating import Inflater
from hashring.telemetry.http.rules import REDIRECTS, authorities, left_until, without_login
from hashring.telemetry.http.threads import DaemonThreads

try:
    import aiohappyeyeballs
    from urllib3.exceptions import LocationParseError
    from urllib3.util.ssl_ import create_urllib3_context
except ImportError as error:  # pragma: no cover - the tests of the wheel run without them
    raise MissingDependency("polls over HTTP", "aiohappyeyeballs", "telemetry") from error

__all__ = ["FAILURES", "LoopAnswer", "LoopClient"]

FAILURES = (LocationParseError, OSError, TimeoutError, UnicodeError, BadEncoding)
"""What an exchange may raise. Texts of the libraries' errors have whole URLs in them: say what
:func:`hashring.telemetry.http.reason_of` says instead."""

_LOOKUPS = 32
"""Names that are looked up at once. A look-up that hangs, as the system lets it, holds one."""

_NAMES_FOR = 10.0
"""Seconds for which an address that was looked up is used again."""

_NEXT_ADDRESS = 0.25
"""Seconds after which the next address of a host is tried beside the one that does not answer: what
RFC 8305 recommends."""

_MOST_IDLE = 256
"""Connections that wait to be used again, over all hosts, from which on no more are kept: each is
an open file. Those in flight then may still be kept."""

_SWEEP = 0.1
"""The part of the time for which connections wait, between two looks for those to be closed."""

_Origin = tuple[str, int, ssl.SSLContext | None]
"""Host, port, and how the server's certificate is checked."""


class LoopAnswer:
    """What a server says to one request; its body is read while it comes.

    Args:
        connection: that has the head of the answer.

    Attributes:
        status: its number.
        reason: the words beside it; may be empty.
        headers: by name in lower case.
        location: where a redirect leads; ``None`` where it is no redirect.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.status = connection.status
        self.reason = connection.reason
        self.headers: Mapping[str, str] = connection.headers
        location = self.headers.get("location") if self.status in REDIRECTS else None
        self.location = location or None

    @property
    def is_plain(self) -> bool:
        """Whether the body is not compressed, so that :meth:`read` will do."""
        return not self.headers.get("content-encoding")

    async def read(self) -> bytes:
        """Return what has come of the body, as it was sent; nothing at its end.

        Raises:
            BadAnswer, OSError: it was cut off, or did not come in time.
        """
        return await self._connection.read()

    async def chunks(self) -> AsyncIterator[bytes]:
        """Iterate over the body, decompressed, at most 64 KiB at a time where it was compressed.

        Raises:
            BadEncoding: it is compressed by something unknown, or damaged.
            BadAnswer, OSError: it was cut off, or did not come in time.
        """
        read = self._connection.read
        inflater = Inflater(self.headers.get("content-encoding", ""))
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
        self._loop = asyncio.get_running_loop()
        self._per_host = per_host
        self._idle_for = idle
        self._lookups = DaemonThreads(_LOOKUPS, "look up names")
        self._names = _Names(self._lookups)
        self._hosts: dict[_Origin, _Host] = {}
        self._open: set[Connection] = set()
        # Those that wait to be used again, the oldest first: until when, and whose they are.
        self._idle: dict[Connection, tuple[float, _Origin]] = {}
        self._sweeping: asyncio.TimerHandle | None = None

    def exchange(
        self,
        method: str,
        url: str,
        *,
        deadline: float,
        headers: Mapping[str, str],
        verify: bool | str = True,
    ) -> contextlib.AbstractAsyncContextManager[LoopAnswer]:
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
        address = address_of(url)
        context = _context(verify, _state(verify)) if address.scheme == "https" else None
        request = functools.partial(request_of, method, address, headers, login)
        return _Exchange(self, address, context, request, left)

    def _host(self, origin: _Origin) -> _Host:
        host = self._hosts.get(origin)
        if host is None:
            host = self._hosts[origin] = _Host(self._per_host)
        host.users += 1
        return host

    def _leave(self, origin: _Origin, host: _Host) -> None:
        host.users -= 1
        self._forget(origin, host)

    def _forget(self, origin: _Origin, host: _Host) -> None:
        if not host.users and not host.idle:
            self._hosts.pop(origin, None)

    async def _connected(self, address: Address, context: ssl.SSLContext | None) -> Connection:
        host, port = address.host, address.port
        make = functools.partial(Connection, self._lost)
        how: dict[str, Any] = {}
        if context is not None:
            how = {"ssl": context, "server_hostname": host.rstrip(".").partition("%")[0]}
        if address.is_number:
            _, connection = await self._loop.create_connection(make, host, port, **how)
        else:
            opened = await aiohappyeyeballs.start_connection(
                await self._names.look_up(host, port),
                happy_eyeballs_delay=_NEXT_ADDRESS,
                interleave=1,
                loop=self._loop,
            )
            _, connection = await self._loop.create_connection(make, sock=opened, **how)
        if not connection.is_closed:
            self._open.add(connection)
        return connection

    # ---- connections that wait to be used again

    def _waiting_one(self, host: _Host) -> Connection | None:
        """Return a connection that waits, the one used last, if there is one still fresh."""
        while host.idle:
            connection = host.idle.pop()
            until, _ = self._idle.pop(connection)
            if until > clock.boottime():
                return connection
            connection.abort()
        return None

    def _keep(self, connection: Connection, host: _Host, origin: _Origin) -> None:
        host.idle.append(connection)
        self._idle[connection] = clock.boottime() + self._idle_for, origin
        if self._sweeping is None:
            self._sweeping = self._loop.call_later(self._idle_for, self._sweep)

    def _sweep(self) -> None:
        """Close the connections that have waited long enough."""
        self._sweeping = None
        now = clock.boottime()
        while self._idle:
            connection, (until, _) = next(iter(self._idle.items()))
            if until > now:
                # None is used that has waited too long, so they may be closed a little later.
                pause = max(until - now, _SWEEP * self._idle_for)
                self._sweeping = self._loop.call_later(pause, self._sweep)
                return
            self._let_go(connection)
            connection.abort()

    def _let_go(self, connection: Connection) -> None:
        """Have a connection wait no more."""
        found = self._idle.pop(connection, None)
        if found is not None:
            host = self._hosts[found[1]]
            host.idle.remove(connection)
            self._forget(found[1], host)

    def _lost(self, connection: Connection) -> None:
        self._open.discard(connection)
        self._let_go(connection)

    async def close(self) -> None:
        """Close all connections, for good."""
        if self._sweeping is not None:
            self._sweeping.cancel()
        for connection in list(self._open):
            connection.abort()
        self._lookups.shutdown(wait=False, cancel_futures=True)
        await asyncio.sleep(0)  # they are closed at the loop's next turn


class _Exchange:
    """One exchange of a client's, as long as its block runs. (A class: a generator costs more.)"""

    __slots__ = (
        *("_address", "_client", "_connection", "_context", "_has_turn", "_host", "_keeps"),
        *("_origin", "_request", "_timeout"),
    )

    def __init__(
        self,
        client: LoopClient,
        address: Address,
        context: ssl.SSLContext | None,
        request: Callable[..., bytes],
        left: float,
    ) -> None:
        self._client = client
        self._address = address
        self._context = context
        self._request = request
        self._timeout = asyncio.timeout(left)
        self._origin = address.host, address.port, context
        self._connection: Connection | None = None
        self._has_turn = self._keeps = False

    async def __aenter__(self) -> LoopAnswer:
        client = self._client
        self._host = host = client._host(self._origin)
        await self._timeout.__aenter__()
        try:
            await host.turns.acquire()
            self._has_turn = True
            connection = client._waiting_one(host)
            self._keeps = len(client._idle) < _MOST_IDLE
            request = self._request(keeps=self._keeps)
            if connection is None:
                connection = await client._connected(self._address, self._context)
            self._connection = connection
            await connection.ask(request)
        except BaseException as error:
            await self.__aexit__(type(error), error, error.__traceback__)
            raise
        return LoopAnswer(connection)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        connection, client, host = self._connection, self._client, self._host
        if connection is not None:
            if self._keeps and connection.may_be_kept:
                client._keep(connection, host, self._origin)
            else:
                connection.abort()
        if self._has_turn:
            host.turns.release()
        client._leave(self._origin, host)
        await self._timeout.__aexit__(kind, error, trace)


class _Host:
    """What a client has of one origin: turns, and connections that wait to be used again."""

    __slots__ = ("idle", "turns", "users")

    def __init__(self, most: int) -> None:
        self.turns = asyncio.Semaphore(most)
        self.idle: list[Connection] = []  # the one used last is the last
        self.users = 0  # that have a turn, or wait for one


_Found = list[tuple[Any, ...]]
"""What :func:`socket.getaddrinfo` returns."""


class _Names:
    """The addresses of hosts, looked up in threads that nobody has to wait for; known for a while.

    Args:
        threads: in which the system is asked.
    """

    def __init__(self, threads: DaemonThreads) -> None:
        self._threads = threads
        self._asked: dict[tuple[str, int], asyncio.Future[_Found]] = {}
        self._known: dict[tuple[str, int], tuple[float, _Found]] = {}

    async def look_up(self, host: str, port: int) -> _Found:
        """Return the addresses of a host, as :func:`socket.getaddrinfo` does.

        Raises:
            OSError, UnicodeError: it has none.
        """
        key = host, port
        now = clock.boottime()
        until, found = self._known.get(key, (0.0, []))
        if until > now:
            return found
        asked = self._asked.get(key)
        if asked is None:
            ask = functools.partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
            asked = asyncio.get_running_loop().run_in_executor(self._threads, ask)
            self._asked[key] = asked
            asked.add_done_callback(functools.partial(self._answered, key))
        # Who waits no more ends nobody else's look-up.
        return await asyncio.shield(asked)

    def _answered(self, key: tuple[str, int], asked: asyncio.Future[_Found]) -> None:
        del self._asked[key]
        now = clock.boottime()
        for name in [name for name, (until, _) in self._known.items() if until <= now]:
            del self._known[name]
        if not asked.cancelled() and asked.exception() is None:
            self._known[key] = now + _NAMES_FOR, asked.result()


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
