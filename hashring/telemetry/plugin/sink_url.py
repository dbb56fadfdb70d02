"""SinkURL: where samples go, and the typed options of one kind of sink.

A sink's URL reads ``scheme://user:password@host:port/path?option=value``. This module checks it and
says what is wrong with it, without ever showing a secret. It knows no sink.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any
from urllib.parse import unquote, unquote_plus

from hashring.errors import BadURL
from hashring.url import (
    Option,
    count,
    flag,
    host_and_port,
    masked,
    place,
    positive,
    read_options,
    seconds,
)

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
        userinfo, at, location = authority.rpartition("@")
        if "@" in path or "@" in query or "#" in rest:
            # Otherwise half of a password might pass as a host, a path or an option.
            raise BadURL(
                f"{shown!r}: in a user or password '/' must be written %2F, '?' %3F, '#' %23, "
                "'@' %40 and ':' %3A; and '@' also behind the host"
            )
        user, colon, password = userinfo.partition(":")
        host, port = host_and_port(location, shown, least=0)
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
        return place(self.host, self.port)


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


def typed_options(query: str, options: Sequence[Option], shown: str) -> Mapping[str, Any]:
    """Return every known option, typed, from what stands behind a URL's ``?``.

    Args:
        query: as it is spelled.
        options: those that are known.
        shown: the URL, masked, for messages.

    Raises:
        BadURL: an option is unknown, or cannot be what it is.
    """
    parts = (part.partition("=") for part in query.split("&") if query)
    given = [(unquote_plus(name), unquote_plus(text)) for name, _, text in parts]
    return MappingProxyType(read_options(given, options, repr(shown)))
