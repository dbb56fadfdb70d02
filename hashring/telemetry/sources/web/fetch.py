"""Fetcher: one GET, all of it within a deadline and a size; and what to say when it fails.

A request is bounded as a whole: a server that sends a byte now and then keeps no thread past its
deadline. No message of this room shows a secret. It knows URLs and bytes, nothing of meters.
"""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable, Mapping
from http.cookiejar import DefaultCookiePolicy
from importlib import metadata
from typing import NamedTuple
from urllib.parse import urljoin, urlsplit

from hashring import clock
from hashring.errors import MissingDependency
from hashring.telemetry.errors import FetchFailed
from hashring.url import masked

try:
    import requests
    import urllib3

    from hashring.telemetry.sources.web import exchange
except ImportError as error:  # pragma: no cover - the tests of the wheel run without requests
    raise MissingDependency("the telemetry agent", "requests", "telemetry") from error

__all__ = ["FetchFailed", "Fetched", "Fetcher", "joined", "same_origin"]

_MAX_BYTES = 64 * 1024 * 1024
_MAX_REDIRECTS = 5
_IDLE = 2.0
"""Seconds after which a connection is not used again: servers close idle ones, and a request that
meets the closing one may or may not have been answered. To ask again would be a second poll."""

_DISTRIBUTION = "hashring-ha"


_FAILURES = (requests.RequestException, urllib3.exceptions.HTTPError, OSError, UnicodeError)


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
    """Gets URLs; used by several threads, each with connections of its own.

    Environment variables for proxies and ``.netrc`` are not looked at, cookies are not kept.

    Args:
        timeout: seconds that any one fetch may take, at most.
        max_bytes: of an answer, decompressed.

    Example:
        >>> fetcher = Fetcher(timeout=1.0)
        >>> fetcher.get("http://127.0.0.1:1/status?token=abc", deadline=fetcher.deadline())
        Traceback (most recent call last):
        ...
        hashring.telemetry.errors.FetchFailed: http://127.0.0.1:1/status?token=***: ...
        >>> fetcher.close()
    """

    def __init__(self, *, timeout: float, max_bytes: int = _MAX_BYTES) -> None:
        self._timeout = timeout
        self._max_bytes = max_bytes
        # It logs whole URLs, secrets and all, where the agent logs its debugging lines.
        logging.getLogger("urllib3.connectionpool").setLevel(logging.INFO)
        self._agent = f"hashring/{metadata.version(_DISTRIBUTION)}"
        self._local = threading.local()
        self._lock = threading.Lock()
        self._sessions: weakref.WeakSet[requests.Session] = weakref.WeakSet()

    def deadline(self, timeout: float | None = None) -> float:
        """Return when what begins now must have ended, on the clock of :mod:`hashring.clock`.

        Args:
            timeout: seconds, where it is less than what any fetch may take.
        """
        whole = self._timeout if timeout is None else min(timeout, self._timeout)
        return clock.boottime() + whole

    def get(
        self,
        url: str,
        *,
        deadline: float,
        headers: Mapping[str, str] | None = None,
        accept: str = "*/*",
        verify: bool | str = True,
        max_bytes: int | None = None,
        took: Callable[[bytes], None] | None = None,
    ) -> Fetched:
        """Get one URL, after at most five redirects.

        Args:
            url: http or https; a user and password in it are sent as basic authentication.
            deadline: see :meth:`deadline`; the fetch has ended by then (looking up the host's
                name is up to the system, and has its own limits).
            headers: sent to the URL's own host alone, wherever it redirects to.
            accept: the content types that are understood.
            verify: whether a server's certificate is checked; a text is a file of authorities.
            max_bytes: of the answer, decompressed.
            took: is called with each piece of the answer as it arrives, decompressed; what it
                raises ends the fetch, before any more is taken.

        Raises:
            FetchFailed: no answer, not in time, too large, or a status other than 2xx.
        """
        limit = self._max_bytes if max_bytes is None else max_bytes
        first = url
        for _ in range(_MAX_REDIRECTS + 1):
            own = {"User-Agent": self._agent, "Accept": accept}
            if headers and same_origin(first, url):
                own |= headers
            try:
                with exchange.within(deadline):
                    found = self._once(url, own, deadline, verify, limit, took)
            except _FAILURES as error:
                raise FetchFailed(f"{masked(url)}: {self._why(error, deadline)}") from None
            if isinstance(found, Fetched):
                return found
            url = joined(url, found)
            if urlsplit(url).scheme not in ("http", "https"):
                raise FetchFailed(f"{masked(first)}: it redirects to {masked(url)}, no HTTP URL")
        raise FetchFailed(f"{masked(first)}: it redirects more than {_MAX_REDIRECTS} times")

    def close(self) -> None:
        """Close all connections. A later :meth:`get` opens new ones."""
        with self._lock:
            sessions = list(self._sessions)
        for session in sessions:
            session.close()

    def _once(
        self,
        url: str,
        headers: Mapping[str, str],
        deadline: float,
        verify: bool | str,
        limit: int,
        took: Callable[[bytes], None] | None,
    ) -> Fetched | str:
        left = deadline - clock.boottime()
        if left <= 0:
            raise TimeoutError
        session = self._session(url)
        with session.get(
            url,
            headers=dict(headers),
            timeout=left,
            verify=verify,
            allow_redirects=False,
            stream=True,
        ) as response:
            if response.is_redirect:
                return response.headers["location"]
            if not 200 <= response.status_code < 300:
                raise FetchFailed(
                    f"{masked(url)}: status {response.status_code} {response.reason or ''}".rstrip()
                )
            body = bytearray()
            for chunk in exchange.chunks(response):
                if len(body) + len(chunk) > limit:
                    raise FetchFailed(f"{masked(url)}: the answer has more than {limit} bytes")
                if took is not None:
                    took(chunk)
                body += chunk
            return Fetched(bytes(body), response.headers.get("content-type", ""), url)

    def _session(self, url: str) -> requests.Session:
        local = self._local
        if not hasattr(local, "session"):
            local.session, local.used = self._new(), {}
            with self._lock:
                self._sessions.add(local.session)
        session: requests.Session = local.session
        origin, now = _origin(url), clock.boottime()
        if origin in local.used and now - local.used[origin] > _IDLE:
            session.close()  # its connections; it opens new ones
            local.used.clear()
        local.used[origin] = now
        return session

    def _new(self) -> requests.Session:
        session = requests.Session()
        session.trust_env = False
        session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        for scheme in ("http://", "https://"):
            session.mount(scheme, exchange.Adapter())
        session.headers["Accept-Encoding"] = exchange.ENCODINGS
        return session

    def _why(self, error: BaseException, deadline: float) -> str:
        """Say what went wrong in words that hold no URL: those of the libraries show all of it."""
        if isinstance(error, FetchFailed):
            return str(error).partition(": ")[2]
        if isinstance(error, exchange.BadEncoding):
            return str(error)
        inner: BaseException = error
        while (cause := inner.__cause__ or inner.__context__) is not None:
            inner = cause
        if clock.boottime() >= deadline or isinstance(inner, TimeoutError):
            return "no whole answer in time"
        if isinstance(inner, OSError) and inner.strerror:
            return inner.strerror
        return f"{type(inner).__name__}"


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
