"""Address: where a URL leads to, and what is asked there, in the bytes that are sent.

A URL is read by urllib3's rules, but for the plain ones, which need none. This module asks nothing
and looks no name up.
"""

from __future__ import annotations

import functools
import re
import socket
from collections.abc import Mapping
from typing import NamedTuple

from hashring.errors import MissingDependency
from hashring.telemetry.http.rules import merged, usual_headers

try:
    import urllib3.util
    from urllib3.exceptions import LocationParseError
except ImportError as error:  # pragma: no cover - the tests of the wheel run without urllib3
    raise MissingDependency("polls over HTTP", "urllib3", "telemetry") from error

__all__ = ["Address", "address_of", "request_of"]

# What needs no thought: no login, no character to be escaped, no segment of dots.
_PLAIN_URL = re.compile(
    r"(https?)://([a-z0-9.-]+)(?::([0-9]{1,5}))?((?:/[\w~-][\w.~-]*)*/?)", re.ASCII
)

_FULL_ADDRESS = re.compile(r"[1-9][0-9]{0,2}(\.(0|[1-9][0-9]{0,2})){3}", re.ASCII)

_PORTS = {"http": 80, "https": 443}


class Address(NamedTuple):
    """Where a URL leads to.

    Attributes:
        scheme: ``http`` or ``https``.
        host: a name in ASCII, or an address without brackets.
        port: a number from 1 to 65,535.
        path: with the query; escaped.
    """

    scheme: str
    host: str
    port: int
    path: str

    @property
    def is_number(self) -> bool:
        """Whether the host is an address, which need not be looked up."""
        return _FULL_ADDRESS.fullmatch(self.host) is not None or (
            ":" in self.host and "%" not in self.host
        )

    @property
    def name(self) -> str:
        """The host, and the port where it is not the usual one: what a request calls the server."""
        host = f"[{self.host.partition('%')[0]}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


def address_of(url: str) -> Address:
    """Return where a URL without user and password leads to.

    Raises:
        urllib3.exceptions.LocationParseError: it cannot be asked.

    Example:
        >>> address_of("http://web1.example:8080/status")
        Address(scheme='http', host='web1.example', port=8080, path='/status')
        >>> address_of("https://[::1]/é a?b=[1]").path, address_of("http://127.1/a").host
        ('/%C3%A9%20a?b=%5B1%5D', '127.0.0.1')
    """
    plain = _PLAIN_URL.fullmatch(url)
    if plain is not None:
        scheme, host, port, path = plain.groups()
        number = _PORTS[scheme] if port is None else int(port)
    else:
        found = urllib3.util.parse_url(url)
        if found.scheme not in _PORTS or not found.host:
            raise LocationParseError(url)
        scheme, host, path = found.scheme, found.host, found.request_uri
        number = _PORTS[scheme] if found.port is None else found.port
        if host.startswith("["):
            host = host[1:-1].replace("%25", "%")
    if not 0 < number < 65536:
        raise LocationParseError(url)
    if not _FULL_ADDRESS.fullmatch(host) and host.rpartition(".")[2][:1].isdigit():
        host = _canonical(host)
    return Address(scheme, host, number, path or "/")


def _canonical(host: str) -> str:
    """Return an address as 127.1 or 0x7f.1, which systems take, in full."""
    try:
        return socket.inet_ntoa(socket.inet_aton(host))
    except OSError:
        return host


def request_of(
    method: str, address: Address, headers: Mapping[str, str], login: str | None, *, keeps: bool
) -> bytes:
    r"""Return a request without a body, as it is sent.

    Args:
        method: ``"GET"``.
        address: what is asked, and where.
        headers: sent beside those that each request has.
        login: the value of the header that proves who asks.
        keeps: whether the connection may be used again.

    Raises:
        ValueError: a header has a line break in it.

    Example:
        >>> address = address_of("http://web1/a")
        >>> request_of("GET", address, {"Accept": "a/b"}, None, keeps=False).split(b"\r\n")[:2]
        [b'GET /a HTTP/1.1', b'Host: web1']
    """
    rest = _rest_of(tuple(headers.items()), login, keeps)
    return f"{method} {address.path} HTTP/1.1\r\nHost: {address.name}\r\n".encode() + rest


@functools.lru_cache(maxsize=256)
def _rest_of(headers: tuple[tuple[str, str], ...], login: str | None, keeps: bool) -> bytes:
    """Return the headers of a request behind the first: the same for thousands of them."""
    proof = {} if login is None else {"Authorization": login}
    more = {} if keeps else {"Connection": "close"}
    lines = []
    for name, value in merged(usual_headers(), dict(headers), proof, more).items():
        line = f"{name}: {value}"
        if any(character in line for character in "\r\n\0"):
            raise ValueError(f"the header {name!r} has a line break in it: it cannot be sent")
        lines.append(f"{line}\r\n")
    return "".join([*lines, "\r\n"]).encode()
