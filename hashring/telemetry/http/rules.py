"""What holds for each request of an agent, whatever library sends it.

Who asks is said by a header, not by the URL; proxies are the environment's, and used where a
caller says so; authorities are certifi's unless a file or folder is named; what went wrong is said
in words that hold no URL. This module sends nothing.
"""

from __future__ import annotations

import base64
import contextlib
import email.utils
import functools
import ipaddress
import math
import os
import urllib.request
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from hashring import clock
from hashring.errors import MissingDependency
from hashring.telemetry.errors import BadAnswer, BadEncoding
from hashring.telemetry.http.inflating import ENCODINGS

try:
    import certifi
except ImportError as error:  # pragma: no cover - the tests of the wheel run without certifi
    raise MissingDependency("the telemetry agent", "certifi", "telemetry") from error

__all__ = [
    "ENCODINGS",
    "REDIRECTS",
    "authorities",
    "basic_authentication",
    "is_timeout",
    "left_until",
    "merged",
    "proxy_for",
    "reason_of",
    "retry_after",
    "usual_headers",
    "without_login",
]

REDIRECTS = frozenset({301, 302, 303, 307, 308})
"""The statuses whose ``Location`` says where to ask instead."""

_DISTRIBUTION = "hashring-ha"

_ASYNCIO_SAYS = ("Connect call failed", "Multiple exceptions")
"""How asyncio begins what it says of a connection: with addresses, in place of what went wrong."""


def left_until(deadline: float) -> float:
    """Return the seconds until a deadline on the clock of :mod:`hashring.clock`.

    Raises:
        TimeoutError: it has passed.
    """
    left = deadline - clock.boottime()
    if left <= 0:
        raise TimeoutError("the deadline of the exchange has passed")
    return left


def authorities(verify: bool | str) -> dict[str, str]:
    """Return where the certificates lie that a server's is checked by; none: it is not checked.

    Args:
        verify: whether it is checked; a text is a file, or a folder, of authorities.
    """
    if not verify:
        return {}
    place = certifi.where() if verify is True else verify
    return {"ca_cert_dir" if Path(place).is_dir() else "ca_certs": place}


@functools.cache
def usual_headers() -> Mapping[str, str]:
    """Return the headers that each request has, where a caller says nothing else."""
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


def without_login(url: str) -> tuple[str, str | None]:
    """Return a URL without user and password, and the header's value for them.

    >>> without_login("http://app:s3cr%20et@web1/a")
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


def proxy_for(url: str) -> str | None:
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


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Iterate over an error and what it came of, the innermost one last."""
    found: BaseException | None = error
    while found is not None:
        yield found
        found = found.__cause__ or found.__context__


def is_timeout(error: BaseException, deadline: float) -> bool:
    """Return whether an exchange failed because it was not over by its deadline."""
    chain = list(_chain(error))
    says_why = isinstance(chain[-1], OSError) and bool(chain[-1].strerror)
    is_late = clock.boottime() >= deadline and not says_why
    # A timeout of asyncio comes of a cancellation, which is not what went wrong.
    return any(isinstance(one, TimeoutError) for one in chain) or is_late


def reason_of(error: BaseException) -> str:
    """Return what went wrong in words that hold no URL: those of the libraries show all of it."""
    if isinstance(error, BadAnswer | BadEncoding):
        return str(error)
    *_, inner = _chain(error)
    if not isinstance(inner, OSError) or not inner.strerror:
        return type(inner).__name__
    if inner.errno is not None and inner.strerror.startswith(_ASYNCIO_SAYS):
        return os.strerror(inner.errno)
    return inner.strerror


def retry_after(text: str | None, longest: float) -> float | None:
    """Return for how many seconds a server asks to be left alone, by its ``Retry-After``.

    Args:
        text: the header; a number of seconds, or a date.
        longest: seconds, at most, that anybody is left alone.

    Returns:
        ``None`` where it asks for nothing that can be understood.

    Example:
        >>> retry_after("30", 60.0), retry_after("-1", 60.0), retry_after("1e9", 60.0)
        (30.0, 0.0, 60.0)
        >>> retry_after("Thu, 01 Jan 1970 00:00:00 GMT", 60.0), retry_after("soon", 60.0)
        (0.0, None)
    """
    if text is None:
        return None
    try:
        asked = float(text)
    except ValueError:
        try:
            asked = email.utils.parsedate_to_datetime(text).timestamp() - clock.wall()
        except (ValueError, OverflowError):
            return None
    return min(max(asked, 0.0), longest) if math.isfinite(asked) else None
