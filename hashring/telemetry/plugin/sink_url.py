"""SinkURL: where samples go, and the typed options of one kind of sink.

A sink's URL reads ``scheme://user:password@host:port/path?option=value``. This module checks it and
says what is wrong with it, without ever showing a secret. It knows no sink.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any
from urllib.parse import quote, unquote, unquote_plus

from hashring.errors import BadURL
from hashring.url import Option, boolean, looks_secret, masked, masked_option

__all__ = ["SinkURL", "count", "flag", "positive", "seconds", "typed_options"]


@dataclasses.dataclass(frozen=True, repr=False)
class SinkURL:
    """The parts of a sink's URL. ``str()`` and ``repr()`` show no secret.

    Attributes:
        scheme: lower case.
        user: percent-decoded, or ``None``; password likewise.
        host: percent-decoded, without brackets; may be empty.
        port: ``None`` where there is none.
        path: as it is spelled, with its leading slash, or empty.
        options: every option that the publisher knows, typed, by its name.
        shown: the whole, masked.

    Example:
        >>> known = (Option("timeout", seconds, 5.0, "seconds to wait for an answer"),)
        >>> url = SinkURL.parse("http://app:s3cret@[::1]:8080/in?timeout=2", known)
        >>> url.host, url.port, url.path, dict(url.options)
        ('::1', 8080, '/in', {'timeout': 2.0})
        >>> url
        http://app:***@[::1]:8080/in?timeout=2
        >>> SinkURL.parse("http://a/?timeuot=2", known)
        Traceback (most recent call last):
        hashring.errors.BadURL: 'http://a/?timeuot=2': unknown option 'timeuot'; known: timeout
    """

    scheme: str
    user: str | None
    password: str | None
    host: str
    port: int | None
    path: str
    options: Mapping[str, Any]
    shown: str

    @classmethod
    def parse(cls, text: str, options: Sequence[Option] = ()) -> SinkURL:
        """Parse a URL and check its options.

        Args:
            text: the URL.
            options: those that the publisher knows.

        Raises:
            BadURL: naming the part that is wrong and, of an option, what would be right.
        """
        shown = masked(text)
        scheme, rest, query = _split(text, shown)
        authority, slash, path = rest.partition("/")
        userinfo, at, place = authority.rpartition("@")
        if "@" in path or "@" in query or "#" in rest:
            # Otherwise half of a password might pass as a host, a path or an option.
            raise BadURL(
                f"{shown!r}: in a user or password '/' must be written %2F, '?' %3F, '#' %23, "
                "'@' %40 and ':' %3A; and '@' also behind the host"
            )
        user, colon, password = userinfo.partition(":")
        host, port = _place(place, shown)
        return cls(
            scheme=scheme,
            user=unquote(user) if at else None,
            password=unquote(password) if colon else None,
            host=host,
            port=port,
            path=slash + path,
            options=typed_options(query, options, shown),
            shown=shown,
        )

    @classmethod
    def parse_path(cls, text: str, options: Sequence[Option] = ()) -> SinkURL:
        """Parse a URL of which all between ``://`` and ``?`` is the path of a file.

        Raises:
            BadURL: as of :meth:`parse`.

        Example:
            >>> SinkURL.parse_path("file:///var/log/50%25.jsonl").path
            '/var/log/50%.jsonl'
        """
        shown = masked(text)
        scheme, rest, query = _split(text, shown)
        if rest.startswith("localhost/"):
            rest = rest.removeprefix("localhost")
        found = typed_options(query, options, shown)
        return cls(scheme, None, None, "", None, unquote(rest), found, shown)

    def __str__(self) -> str:
        return self.shown

    __repr__ = __str__

    @property
    def authority(self) -> str:
        """``host:port``, as it stands in a URL, without user and password."""
        host = f"[{self.host}]" if ":" in self.host else quote(self.host, safe="")
        return host if self.port is None else f"{host}:{self.port}"


def _split(text: str, shown: str) -> tuple[str, str, str]:
    scheme, separator, rest = text.partition("://")
    if not (separator and scheme):
        shown = f"*** ({len(text)} characters)" if "@" in text else shown
        raise BadURL(
            f"{shown!r} is not a publisher: write scheme://host:port/path, "
            "for example file:///var/log/samples.jsonl"
        )
    rest, _, query = rest.partition("?")
    return scheme.lower(), rest, query


def _place(text: str, shown: str) -> tuple[str, int | None]:
    if text.startswith("["):
        host, bracket, port = text[1:].partition("]")
        if not bracket or (port and not port.startswith(":")):
            raise BadURL(f"{shown!r}: an IPv6 address must stand in [brackets]")
        port = port[1:]
    else:
        host, _, port = text.partition(":")
    if not port:
        return unquote(host), None
    if not (port.isascii() and port.isdigit() and int(port) < 65536):
        # What is no number may be a password, of which the host that follows was forgotten.
        port = repr(port) if port.isdigit() and len(port) <= 5 else "***"
        raise BadURL(f"{shown!r}: the port {port} is not a number from 0 to 65535")
    return unquote(host), int(port)


def typed_options(query: str, options: Sequence[Option], shown: str) -> Mapping[str, Any]:
    """Return every known option, typed, from what stands behind a URL's ``?``.

    Args:
        query: as it is spelled.
        options: those that are known.
        shown: the URL, masked, for messages.

    Raises:
        BadURL: an option is unknown, or cannot be what it is.
    """
    known = {option.name: option for option in options}
    found = {option.name: option.default for option in options}
    for part in query.split("&") if query else ():
        name, _, text = part.partition("=")
        name, text = unquote_plus(name), unquote_plus(text)
        if name not in known:
            names = ", ".join(sorted(known)) or "it has none"
            # A word that stands alone may be a token.
            named = "***" if masked_option(part) == "***" else repr(name)
            raise BadURL(f"{shown!r}: unknown option {named}; known: {names}")
        try:
            found[name] = known[name].convert(text)
        except ValueError as error:
            hides = known[name].secret or looks_secret(name)
            value, why = ("***", "") if hides else (repr(masked(text)), f" {error};")
            raise BadURL(
                f"{shown!r}: the option {name!r} cannot be {value}:{why} it is: {known[name].help}"
            ) from None
    return MappingProxyType(found)


def seconds(text: str) -> float:
    """Convert an option to a positive number of seconds."""
    value = _number(text)
    if value <= 0:
        raise ValueError("must be more than 0 seconds")
    return value


def count(text: str) -> int:
    """Convert an option to a whole number that is not negative."""
    try:
        value = int(text)
    except ValueError:
        raise ValueError("not a whole number") from None
    if value < 0:
        raise ValueError("must not be negative")
    return value


def positive(text: str) -> int:
    """Convert an option to a whole number of at least 1."""
    value = count(text)
    if value == 0:
        raise ValueError("must be at least 1")
    return value


def flag(text: str) -> bool:
    """Convert an option that may stand alone, as ``json`` in ``?json``, to a boolean."""
    return boolean(text) if text else True


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ValueError("not a number") from None
    if not math.isfinite(value):
        raise ValueError("not a finite number")
    return value
