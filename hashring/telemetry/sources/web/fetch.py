"""Fetcher: one GET, all of it within a deadline and a size; and what to say when it fails.

A request is bounded as a whole: a server that sends a byte now and then keeps no poll past its
deadline. No message of this module shows a secret. It knows URLs and bytes, nothing of meters.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urljoin, urlsplit

from hashring import clock
from hashring.telemetry import http
from hashring.telemetry.errors import BadEncoding, FetchFailed
from hashring.telemetry.http import late
from hashring.url import masked

if TYPE_CHECKING:
    from hashring.telemetry.http.looped import LoopClient

__all__ = ["FetchFailed", "Fetched", "Fetcher", "joined", "same_origin"]

_MAX_BYTES = 64 * 1024 * 1024
_PER_HOST = 64
_CLOSE = 5.0
"""Seconds that a running loop gets to close its connections."""
_MAX_REDIRECTS = 5
_IDLE = 2.0
"""Seconds after which a connection is not used again: servers close idle ones, and a request that
meets the closing one may or may not have been answered. To ask again would be a second poll."""


class Fetched(NamedTuple):
    """An answer.

    Attributes:
        body: decompressed.
        content_type: as the server tells it; empty where it does not.
        url: where it came from, after redirects.
    """

    body: bytes
    content_type: str
    url: str


class Fetcher:
    """Gets URLs, on whichever event loop it is asked; each loop has connections of its own.

    Environment variables for proxies and ``.netrc`` are not looked at, cookies are not kept.

    Args:
        timeout: seconds that any one fetch may take, at most.
        max_bytes: of an answer, decompressed.
        per_host: connections to one host and port at once.

    Raises:
        MissingDependency: httptools is not installed.

    Example:
        >>> import asyncio
        >>> fetcher = Fetcher(timeout=1.0)
        >>> url = "http://127.0.0.1:1/status?token=abc"
        >>> with asyncio.Runner() as runner:
        ...     try:
        ...         runner.run(fetcher.get(url, deadline=fetcher.deadline()))
        ...     finally:
        ...         fetcher.close()
        Traceback (most recent call last):
        ...
        hashring.telemetry.errors.FetchFailed: http://127.0.0.1:1/status?token=***: ...
    """

    def __init__(
        self, *, timeout: float, max_bytes: int = _MAX_BYTES, per_host: int = _PER_HOST
    ) -> None:
        late.require()
        self._timeout = timeout
        self._max_bytes = max_bytes
        self._per_host = per_host
        self._lock = threading.Lock()
        self._clients: dict[asyncio.AbstractEventLoop, LoopClient] = {}

    def deadline(self, timeout: float | None = None) -> float:
        """Return when what begins now must have ended, on the clock of :mod:`hashring.clock`.

        Args:
            timeout: seconds, where it is less than what any fetch may take.
        """
        late.load()
        whole = self._timeout if timeout is None else min(timeout, self._timeout)
        return clock.boottime() + whole

    async def get(
        self,
        url: str,
        *,
        deadline: float,
        headers: Mapping[str, str] | None = None,
        accept: str = "*/*",
        verify: bool | str = True,
        max_bytes: int | None = None,
        took: Callable[[bytes], Awaitable[None]] | None = None,
    ) -> Fetched:
        """Get one URL, after at most five redirects.

        Args:
            url: http or https; a user and password in it are sent as basic authentication.
            deadline: see :meth:`deadline`; the fetch has ended by then.
            headers: sent to the URL's own host alone, wherever it redirects to.
            accept: the content types that are understood.
            verify: whether a server's certificate is checked; a text is a file of authorities.
            max_bytes: of the answer, decompressed.
            took: is called with each piece of the answer as it arrives, decompressed, and waited
                for before any more is taken; what it raises ends the fetch.

        Raises:
            FetchFailed: no answer, not in time, too large, or a status other than 2xx.
        """
        from hashring.telemetry.http.looped import FAILURES

        limit = self._max_bytes if max_bytes is None else max_bytes
        first = url
        for _ in range(_MAX_REDIRECTS + 1):
            own = {"Accept": accept}
            if headers and (url is first or same_origin(first, url)):
                own |= headers
            try:
                found = await self._once(url, own, deadline, verify, limit, took)
            except FAILURES as error:
                raise FetchFailed(f"{masked(url)}: {self._why(error, deadline)}") from None
            if isinstance(found, Fetched):
                return found
            url = joined(url, found)
            if urlsplit(url).scheme not in ("http", "https"):
                raise FetchFailed(f"{masked(first)}: it redirects to {masked(url)}, no HTTP URL")
        raise FetchFailed(f"{masked(first)}: it redirects more than {_MAX_REDIRECTS} times")

    def close(self) -> None:
        """Close all connections, of a loop that runs in another thread or that does not run now.

        A later :meth:`get` opens new ones.
        """
        with self._lock:
            clients, self._clients = self._clients, {}
        for loop, client in clients.items():
            if loop.is_running():
                asyncio.run_coroutine_threadsafe(client.close(), loop).result(_CLOSE)
            elif not loop.is_closed():
                loop.run_until_complete(client.close())

    async def _once(
        self,
        url: str,
        headers: Mapping[str, str],
        deadline: float,
        verify: bool | str,
        limit: int,
        took: Callable[[bytes], Awaitable[None]] | None,
    ) -> Fetched | str:
        async with self._client().exchange(
            "GET", url, deadline=deadline, headers=headers, verify=verify
        ) as answer:
            if answer.location is not None:
                return answer.location
            if not 200 <= answer.status < 300:
                raise FetchFailed(f"{masked(url)}: status {answer.status} {answer.reason}".rstrip())
            if answer.is_plain:
                body = await _whole(answer.read, url, limit, took)
            else:
                chunks = answer.chunks()
                body = await _whole(lambda: anext(chunks, b""), url, limit, took)
            return Fetched(body, answer.headers.get("content-type", ""), url)

    def _client(self) -> LoopClient:
        from hashring.telemetry.http.looped import LoopClient

        loop = asyncio.get_running_loop()
        client = self._clients.get(loop)
        if client is None:
            client = LoopClient(per_host=self._per_host, idle=_IDLE)
            with self._lock:
                self._clients[loop] = client
        return client

    @staticmethod
    def _why(error: BaseException, deadline: float) -> str:
        if isinstance(error, FetchFailed):
            return str(error).partition(": ")[2]
        if not isinstance(error, BadEncoding) and http.is_timeout(error, deadline):
            return "no whole answer in time"
        return http.reason_of(error)


async def _whole(
    read: Callable[[], Awaitable[bytes]],
    url: str,
    limit: int,
    took: Callable[[bytes], Awaitable[None]] | None,
) -> bytes:
    """Return all that is read; most answers come in one piece.

    Raises:
        FetchFailed: it is more than the limit; and what ``took`` raises.
    """
    pieces: list[bytes] = []
    size = 0
    while piece := await read():
        size += len(piece)
        if size > limit:
            raise FetchFailed(f"{masked(url)}: the answer has more than {limit} bytes")
        if took is not None:
            await took(piece)
        pieces.append(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def joined(url: str, link: str) -> str:
    """Return where a link on a page leads; on the same server, with the page's user and password.

    Example:
        >>> joined("http://u:p@web1/a", "http://web1/b"), joined("http://u:p@web1/a", "http://x/")
        ('http://u:p@web1/b', 'http://x/')
    """
    following = urljoin(url, link)
    userinfo, at, _ = urlsplit(url).netloc.rpartition("@")
    parts = urlsplit(following)
    if at and "@" not in parts.netloc and same_origin(url, following):
        following = parts._replace(netloc=f"{userinfo}@{parts.netloc}").geturl()
    return following


def same_origin(one: str, other: str) -> bool:
    """Return whether two URLs have scheme, host and port in common; an upgrade of one host from
    http to https on their usual ports counts too.

    Example:
        >>> same_origin("http://web1/a", "http://web1:80/b")
        True
        >>> same_origin("http://web1/a", "https://web1/b"), same_origin("http://a/", "http://b/")
        (True, False)
    """
    first, second = _origin(one), _origin(other)
    upgraded = first[1] == second[1] and (first[0], first[2]) == ("http", 80)
    return first == second or (upgraded and (second[0], second[2]) == ("https", 443))


def _origin(url: str) -> tuple[str, str, int]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or {"https": 443}.get(parts.scheme, 80)
