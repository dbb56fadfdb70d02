"""A store's URL: parsed, spelled, and shown without its secrets.

It knows no scheme's meaning and opens nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from urllib.parse import quote, unquote, unquote_plus

from hashring.errors import BadURL
from hashring.url.authority import host_and_port, place
from hashring.url.masking import (
    FILE_SCHEMES,
    HIDDEN,
    bears_secret,
    looks_secret,
    masked,
    masked_path,
    secrets_in,
    without_secrets,
)

__all__ = ["DriverURL", "check_node_path"]


@dataclasses.dataclass(frozen=True, repr=False)
class DriverURL:
    """A store's address: ``scheme://user:secret@host:port,host2:port/path?option=value``.

    ``str()`` and ``repr()`` mask the secret and every option that is one or looks like one.

    Attributes:
        scheme: lower case; what stands before a ``+`` names the driver (``tooz+file``).
        user: percent-decoded, or ``None``.
        secret: percent-decoded, or ``None``.
        hosts: pairs of host and port (``None``: the store's default), in order; may be empty.
        path: percent-decoded, with its leading slash, or empty.
        options: as spelled in the URL, percent-decoded, not yet typed. The values of an option
            that stands several times are joined by commas, in order.
        masked: names of options whose values are secrets, whatever they are called.

    Example:
        >>> url = DriverURL.parse("redis://app:s3cret@a:6379,b/0?timeout=2")
        >>> url.hosts, url.path, dict(url.options)
        ((('a', 6379), ('b', None)), '/0', {'timeout': '2'})
        >>> print(url)
        redis://app:***@a:6379,b/0?timeout=2
    """

    scheme: str
    user: str | None = None
    secret: str | None = None
    hosts: tuple[tuple[str, int | None], ...] = ()
    path: str = ""
    options: Mapping[str, str] = dataclasses.field(
        default_factory=lambda: MappingProxyType({}), hash=False
    )
    masked: frozenset[str] = frozenset()

    @classmethod
    def parse(cls, text: str) -> DriverURL:
        """Parse a URL.

        Raises:
            BadURL: naming the part that is wrong; the text itself is shown masked.
        """
        if not isinstance(text, str):
            raise BadURL(f"a store's URL must be a str, not {type(text).__name__}")
        shown = masked(text)
        scheme, separator, rest = text.partition("://")
        if not separator:
            shown = f"{HIDDEN} ({len(text)} characters)" if "@" in text else shown
            raise BadURL(
                f"{shown!r} is not a URL: write scheme://host:port/path, "
                "for example sqlite:///var/lib/agent/group.db"
            )
        scheme = scheme.lower()
        if not scheme.isascii() or not scheme or not all(c.isalnum() or c in "+-." for c in scheme):
            raise BadURL(f"{shown!r} has no legal scheme before '://'")
        rest, question, query = rest.partition("?")
        authority, slash, path = rest.partition("/")
        userinfo, at, hostlist = authority.rpartition("@")
        if "@" in query or ("@" in path and (authority or scheme not in FILE_SCHEMES)):
            # Otherwise the front half of a secret would pass as a host, and its rest as a path.
            raise BadURL(
                f"{shown!r}: an '@' behind the host must be written %40; so must it be in a user "
                "or secret, and there '/' %2F, ':' %3A, '?' %3F and '#' %23"
            )
        if "#" in text:
            raise BadURL(f"{shown!r}: a '#' must be written %23; a store's URL has no fragment")
        user = secret = None
        if at:
            user_text, colon, secret_text = userinfo.partition(":")
            user = unquote(user_text) or None
            secret = unquote(secret_text) if colon else None
        return cls(
            scheme=scheme,
            user=user,
            secret=secret,
            hosts=tuple(_host(part, shown) for part in hostlist.split(",") if part),
            path=unquote(slash + path),
            options=MappingProxyType(_options(query, shown) if question else {}),
        )

    def __str__(self) -> str:
        authority = ",".join(place(*address) for address in self.hosts)
        if self.secret:
            authority = f"{quote(self.user or '', safe='')}:{HIDDEN}@{authority}"
        elif self.user is not None or self.secret is not None:
            authority = f"{HIDDEN}@{authority}"  # a user without a password may be a token
        query = "&".join(
            f"{quote(name, safe='')}={HIDDEN if self._hides(name, value) else _quoted(value)}"
            for name, value in self.options.items()
        )
        path = masked_path(quote(self.path, safe="/*"))
        return f"{self.scheme}://{authority}{path}{'?' + query if query else ''}"

    @property
    def spelled(self) -> str:
        """The URL with its secrets, for whoever connects; never for a message."""
        authority = ",".join(place(*address) for address in self.hosts)
        if self.user is not None or self.secret is not None:
            secret = f":{quote(self.secret, safe='')}" if self.secret is not None else ""
            authority = f"{quote(self.user or '', safe='')}{secret}@{authority}"
        query = "&".join(
            f"{quote(name, safe='')}={_quoted(value)}" for name, value in self.options.items()
        )
        return f"{self.scheme}://{authority}{quote(self.path)}{'?' + query if query else ''}"

    def hide(self, text: str) -> str:
        """Return what a library or a server said, without this URL's secrets and any other's."""
        return without_secrets(text, secrets_in(self.spelled, self.masked))

    def __repr__(self) -> str:
        return f"DriverURL({str(self)!r})"

    def _hides(self, option: str, value: str = "") -> bool:
        return option in self.masked or looks_secret(option) or bears_secret(value)


def _quoted(value: str) -> str:
    return quote(value, safe=",:/")


def _options(query: str, shown: str) -> dict[str, str]:
    options: dict[str, str] = {}
    for part in query.split("&"):
        name, equals, value = part.partition("=")
        if not (name and equals):
            raise BadURL(f"the options of {shown!r} must read ?name=value&name=value")
        name, value = unquote_plus(name), unquote_plus(value)
        # tooz spells a list by repetition (several sentinels): the order is kept.
        options[name] = f"{options[name]},{value}" if name in options else value
    return options


def _host(part: str, shown: str) -> tuple[str, int | None]:
    host, port = host_and_port(part, shown)
    if not host:
        raise BadURL(f"{shown!r}: a host is missing before a ':'")
    if any(char in "=&;@" for char in part):
        raise BadURL(f"{shown!r}: a host's name has no '=', '&', ';' or '@'")
    return host, port


def check_node_path(url: DriverURL) -> None:
    """Refuse a path that cannot be meant as a node's name or a namespace in a store.

    A second address behind the first one's path would otherwise become a name that everybody who
    looks into the store can read, with the password in it.

    Raises:
        BadURL: the path has an ``@``, a comma or ``://``.

    >>> check_node_path(DriverURL.parse("zookeeper://zk1/agents,zk2"))
    Traceback (most recent call last):
    hashring.errors.BadURL: zookeeper://zk1/***: the path has a ',': ...
    """
    found = [sign for sign in ("://", "@", ",") if sign in url.path]
    if found:
        hidden = dataclasses.replace(url, path=f"/{HIDDEN}")
        raise BadURL(
            f"{hidden}: the path has a {found[0]!r}: it must name one node; all hosts stand before "
            "the path (scheme://user:password@host1,host2/path)"
        )
