"""Publisher: what takes samples away, and what every one of them has: a URL with typed options.

A sink's URL reads ``scheme://user:password@host:port/path?option=value``. This module checks it and
says what is wrong with it, without ever showing a secret. It knows samples, but no sink.
"""

from __future__ import annotations

import abc
import dataclasses
import errno
import logging
import math
import socket
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar
from urllib.parse import quote, unquote, unquote_plus

from hashring.errors import BadURL, HashringError
from hashring.telemetry.model.sample import Sample
from hashring.telemetry.model.settings import Settings
from hashring.url import Option, boolean, looks_secret, masked, masked_option

__all__ = [
    "Option",
    "OutputClosed",
    "OutputFailed",
    "Publisher",
    "SinkURL",
    "SinkUnusable",
    "boolean",
    "count",
    "flag",
    "masked",
    "positive",
    "seconds",
    "unopened",
]

log = logging.getLogger(__name__)


class OutputFailed(HashringError, OSError):
    """Samples could not be written; the message says where and why. The next try may succeed.

    Args:
        message: where, and why.
        retry_after: the seconds that the sink asked to be left alone, where it did.
    """

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class SinkUnusable(OutputFailed):
    """A sink will take nothing until a person mends something: an address, a folder, a right.

    The samples wait, and it is tried again; but an agent does not start with such a sink, and does
    not wait for it when it ends.

    Args:
        message: what is wrong, and what to do.
        is_held_by_agent: another agent of this host has it, and would have to end first.
    """

    def __init__(self, message: str, *, is_held_by_agent: bool = False) -> None:
        super().__init__(message)
        self.is_held_by_agent = is_held_by_agent


_HEALS = frozenset(
    (
        *(errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EINTR, errno.EAGAIN),
        *(errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE, errno.ETIMEDOUT),
    )
)
"""Errors of the system that may be over at the next try, without anybody's doing."""


def unopened(message: str, error: OSError, *, is_held_by_agent: bool = False) -> OutputFailed:
    """Return the error that a sink cannot be opened: one that heals by itself, or one that cannot.

    Args:
        message: where, why, and what to do.
        error: as the system raised it.
        is_held_by_agent: as of :class:`SinkUnusable`.
    """
    if isinstance(error, socket.gaierror):
        heals = error.errno in (socket.EAI_AGAIN, socket.EAI_MEMORY)
    else:
        heals = error.errno in _HEALS
    if heals:
        return OutputFailed(message)
    return SinkUnusable(message, is_held_by_agent=is_held_by_agent)


class OutputClosed(HashringError, BrokenPipeError):
    """Whoever read the samples has gone: there is no use in taking more."""


class Publisher(abc.ABC):
    """Takes samples away. A plug-in is a subclass under the entry-point group
    ``hashring.publishers``, named by the scheme that it serves (``file``, ``stdout``).

    :meth:`publish` is called by one thread at a time. What has a network in it has a timeout.

    Args:
        url: the sink, whole: ``file:///var/log/samples.jsonl?max_bytes=1000000``.
        settings: what the agent is told to do.

    Attributes:
        url: the sink with its secrets masked, for messages.
        settings: what the agent is told to do.
        refused: samples that the sink will never take, and that were therefore set aside.
        options: what may stand behind the ``?`` of its URL; for messages and documentation.

    Raises:
        BadURL: the URL cannot be parsed, or an option in it is unknown or ill-typed.
        OutputFailed: the sink cannot be used now; :class:`SinkUnusable`: not before somebody
            mends something.
    """

    options: ClassVar[tuple[Option, ...]] = ()
    refused: int = 0

    def __init__(self, url: str, settings: Settings) -> None:
        self.url = masked(url)
        self.settings = settings
        self._causes: set[str] = set()

    @classmethod
    def check(cls, url: str) -> None:
        """Check a sink's URL without going there, so that a wrong one is told at the start.

        Raises:
            BadURL: it has an option that is unknown or ill-typed.
        """
        if cls.options:  # a plug-in that declares none may read its URL by itself
            _typed(url.partition("?")[2], cls.options, masked(url))

    @abc.abstractmethod
    def publish(self, samples: Sequence[Sample]) -> None:
        """Hand over samples; when it returns, the sink has taken them or will never take them.

        A sample that the sink refuses for good, whatever is done, is counted in :attr:`refused`
        and logged; it does not hold up the others.

        Raises:
            OutputFailed: some or all could not be handed over; the same call may succeed later.
                What was taken the first time may then be taken twice: a sample's id tells.
            OutputClosed: nobody will take any more.
        """

    @abc.abstractmethod
    def close(self) -> None:
        """Let go of the sink. Idempotent."""

    def release(self) -> None:
        """Let go of a sink that was made to see whether it can be, and of what that has made."""
        self.close()

    def set_aside(self, samples: Sequence[Sample], cause: str, detail: str) -> None:
        """Count samples that the sink will never take; log the first of each cause.

        Args:
            samples: what is given up.
            cause: a few words, the same each time: each cause is logged once.
            detail: what the log says besides.
        """
        self.refused += len(samples)
        if samples and cause not in self._causes:
            self._causes.add(cause)
            first = samples[0]
            log.error(
                "%s will never take the sample %s (%s of %s), %s: %s; it is given up "
                "(further ones are counted, not logged)",
                self.url,
                first.id,
                first.meter.name,
                first.resource_id,
                cause,
                detail,
            )


@dataclasses.dataclass(frozen=True, repr=False)
class SinkURL:
    """The parts of a sink's URL. ``str()`` and ``repr()`` show no secret.

    Attributes:
        scheme: lower case.
        user: percent-decoded, or ``None``; password likewise.
        host: percent-decoded, without brackets; may be empty.
        port: ``None`` if the URL has no port.
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
            options=_typed(query, options, shown),
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
        found = _typed(query, options, shown)
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


def _typed(query: str, options: Sequence[Option], shown: str) -> Mapping[str, Any]:
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
