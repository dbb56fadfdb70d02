"""URLs: parsed, spelled, and shown without their secrets; and the typed options behind the ``?``.

The only module that knows what a secret looks like. Stores, sinks, targets, hypervisors and
definitions all show a URL with :func:`masked`, any other value with :func:`shown`, and what a
library said of it with :func:`without_secrets`. It knows no scheme's meaning and opens nothing.

The rule is to hide what is not clear. Of a URL that cannot be taken apart, or of which a part could
be a piece of a password that was not percent-encoded, the scheme and the length are shown alone.
"""

from __future__ import annotations

import base64
import dataclasses
import itertools
import operator
import re
import reprlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any
from urllib.parse import quote, quote_plus, unquote, unquote_plus

from hashring.errors import BadURL

__all__ = [
    "DriverURL",
    "Option",
    "boolean",
    "check_node_path",
    "looks_secret",
    "masked",
    "masked_option",
    "masked_prose",
    "secrets_in",
    "shown",
    "without_secrets",
]

_HIDDEN = "***"

_SECRET_NAME = re.compile(
    r"passw|passphrase|secret|token|auth|credential|signature|bearer|cookie"
    r"|(api|access|account|private|shared|signing|subscription|master|encryption)[^a-z0-9]?key"
    r"|session[^a-z]?id|(^|[^a-z])(pass|pwd|jwt|psk)$|^(key|sig|sas)$",
    re.IGNORECASE,
)

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+._-]*")

_HOST = re.compile(r"(\[[0-9A-Za-z:.%_~-]*\]|[^\s:@\[\]/?#=&;\"'<>]*)(:[0-9]{0,5})?")
"""A host and its port, as far as it takes to see that they are not a piece of a password."""

_WORD = re.compile(r"[A-Za-z][A-Za-z_.-]{0,19}")
"""An option without a value, such as ``json``. What has digits or is longer may be a token."""

# Each begins where a word begins, or long words would be read once from every letter on.
_NAMED = re.compile(r"(?<![\w.%-])([\w.%-]+)\s*[=:]")
_LOGIN = re.compile(r":[^/@:]*@")
_IN_PROSE = re.compile(r"(?<![\w+.-])[\w+.-]+://[^\s\"'<>]+")

_FILE_SCHEMES = frozenset({"sqlite", "file", "tooz+file"})
"""Schemes whose path is a file's: its name may hold any character."""

_SHORTEST = 3
"""Characters. A shorter piece is no secret, and a text without it could not be read."""


def boolean(text: str) -> bool:
    """Convert a URL option to a boolean: ``1/0``, ``true/false``, ``yes/no``, ``on/off``.

    >>> boolean("yes"), boolean("off")
    (True, False)
    """
    lowered = text.lower()
    if lowered in {"1", "true", "yes", "on"}:
        return True
    if lowered in {"0", "false", "no", "off"}:
        return False
    raise ValueError("not a boolean: use true or false")


@dataclasses.dataclass(frozen=True)
class Option:
    """One typed option of a driver's URL.

    Attributes:
        name: as it is spelled in the URL.
        convert: from the URL's text to a value; raises ``ValueError`` for what it refuses.
        default: the value where the URL does not name the option.
        help: one line for ``hashring drivers``.
        secret: the value is masked wherever the URL is shown.
    """

    name: str
    convert: Callable[[str], Any]
    default: Any
    help: str
    secret: bool = False


def looks_secret(name: str) -> bool:
    """Return whether an option, field or header of this name bears a secret, as a name can tell.

    >>> [name for name in ("api_key", "Authorization", "keyword", "timeout") if looks_secret(name)]
    ['api_key', 'Authorization']
    """
    return _SECRET_NAME.search(name) is not None


def masked(text: str) -> str:
    """Return a URL with its secrets as ``***``; the text need not be a well-formed one.

    Hidden are a password, a user without one (it may be a token), the values of options and path
    segments whose names look like a secret's or that hold such URLs themselves, and the fragment.
    An ``@`` behind the host may be the end of a password that was not percent-encoded: then no more
    than the host is shown, and without a user before the host nothing but scheme and length.

    >>> masked("https://app:s3cret@sink:8080/in?timeout=3&api_token=x")
    'https://app:***@sink:8080/in?timeout=3&api_token=***'
    >>> masked("https://t0ken@sink/"), masked("https://u:p@h/p?mail=a@b.c")
    ('https://***@sink/', 'https://u:***@h/***')
    >>> masked("redis://me/s3cret@h:6379/1")
    'redis://*** (26 characters)'
    """
    scheme, separator, rest = text.partition("://")
    if not separator:
        return f"{_HIDDEN} ({len(text)} characters)" if _bears_secret(text) else text
    if not _SCHEME.fullmatch(scheme):
        return f"{_HIDDEN} ({len(text)} characters)"
    end = next((at for at, char in enumerate(rest) if char in "/?#"), len(rest))
    authority, tail = rest[:end], rest[end:]
    login, at, hosts = authority.rpartition("@")
    if not all(map(_is_host, hosts.split(","))):
        return f"{scheme}://{_HIDDEN} ({len(text)} characters)"
    user, _, password = login.partition(":")
    if at:
        hosts = f"{user}:{_HIDDEN}@{hosts}" if password else f"{_HIDDEN}@{hosts}"
    if "@" in tail and not _is_clear(scheme.lower(), authority, tail):
        if at:
            return f"{scheme}://{hosts}/{_HIDDEN}"
        return f"{scheme}://{_HIDDEN} ({len(text)} characters)"
    tail, sharp, fragment = tail.partition("#")
    path, question, query = tail.partition("?")
    anchor = f"{sharp}{_HIDDEN if fragment else ''}"
    return f"{scheme}://{hosts}{_masked_path(path)}{question}{_masked_query(query)}{anchor}"


def _is_host(text: str) -> bool:
    found = _HOST.fullmatch(text)
    return found is not None and (found[2] is None or int(found[2][1:] or 0) < 65536)


def _is_clear(scheme: str, authority: str, tail: str) -> bool:
    """Return whether each ``@`` behind the host belongs there, and ends no password."""
    path, question, _ = tail.partition("?")
    if "@" in tail[len(path) + len(question) :] or "#" in path:
        return False
    if scheme in _FILE_SCHEMES:
        return authority in ("", "localhost")
    # A segment such as "/users/@me"; not the first one, since a token may end with a slash.
    is_web = scheme.endswith(("http", "https")) and "@" not in authority
    return is_web and all(part[-1:] == "/" != part for part in path.split("@")[:-1])


def _masked_path(path: str) -> str:
    if _LOGIN.search(unquote(path)):
        return f"/{_HIDDEN}"
    return "".join(
        part if part in "/;&," else masked_option(part, path=True)
        for part in re.split("([/;&,])", path)
    )


def _masked_query(query: str) -> str:
    return "".join(
        part if part in "&;" else masked_option(part) for part in re.split("([&;])", query)
    )


def masked_option(part: str, *, path: bool = False) -> str:
    """Return one ``name=value`` of a query, or of a path, without what may be a secret.

    >>> masked_option("json"), masked_option("sig=x"), masked_option("9f86d081884c7d659a2f")
    ('json', 'sig=***', '***')
    """
    name, equals, value = part.partition("=")
    if path:
        return f"{name}={_HIDDEN}" if equals and looks_secret(unquote(name)) else part
    if not equals or (not value.strip("=") and not _WORD.fullmatch(name)):
        # A name alone, or Base64 that ends with its padding.
        return part if _WORD.fullmatch(part) else _HIDDEN
    if looks_secret(unquote_plus(name)) or _bears_secret(value):
        return f"{name}={_HIDDEN}"
    return part


def _bears_secret(text: str) -> bool:
    """Return whether a text, which may be percent-encoded, holds a login or a named secret."""
    for _ in range(3):
        if _LOGIN.search(text) or any(map(looks_secret, _NAMED.findall(text))):
            return True
        nested = text.count("://")
        if nested > 3 or (nested and masked(text) != text):
            return True
        text, before = unquote_plus(text), text
        if text == before:
            return False
    return "@" in text or "=" in text


def masked_prose(text: str) -> str:
    """Return a text, such as a library's error, in which each URL is :func:`masked`.

    >>> masked_prose("no route to 'http://u:s3cret@web1/?token=x': timed out")
    "no route to 'http://u:***@web1/?token=***': timed out"
    """
    return _IN_PROSE.sub(lambda match: masked(match[0]), text)


_SHOWN_ITEMS = 8
"""Of a list or mapping; a message shows fewer, and the others need not be looked at."""


def shown(value: object, limit: int = 200) -> str:
    """Return a value from a file for a message: short, and without what may be a secret.

    Args:
        value: what YAML or JSON may hold; a text is taken for one URL if it could be one.
        limit: the most characters.

    >>> shown(["redis://h?auth=s3cret", {"password": "s3cret", "limit": 5}])
    "['redis://h?auth=***', {'limit': 5, 'password': '***'}]"
    """
    text = _Shorter().repr(_unsecret(value))
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


class _Shorter(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = 120


def _unsecret(value: object, depth: int = 4) -> object:
    if isinstance(value, str):
        return masked(value)
    if not isinstance(value, dict | list | tuple | set | frozenset):
        return value
    if depth == 0:
        return type(value)()
    if isinstance(value, dict):
        return {
            _unsecret(key, 0) if isinstance(key, str) else key: _HIDDEN
            if isinstance(key, str) and looks_secret(key)
            else _unsecret(found, depth - 1)
            for key, found in itertools.islice(value.items(), _SHOWN_ITEMS)
        }
    return [_unsecret(found, depth - 1) for found in itertools.islice(value, _SHOWN_ITEMS)]


def secrets_in(text: str, names: Iterable[str] = ()) -> frozenset[str]:
    """Return the secrets of a URL as a library may print them: as they are written, and decoded.

    Args:
        text: the URL.
        names: options that are secrets, whatever they are called.
    """
    return frozenset(_spellings(_raw_secrets(text, frozenset(names))))


def _raw_secrets(text: str, names: frozenset[str]) -> Iterator[str]:
    rest = text.partition("://")[2] or text
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    logins = [authority.rpartition("@")[0]]
    if not _is_clear(text.partition("://")[0].lower(), authority, rest[len(authority) :]):
        logins.append(rest.rpartition("@")[0])  # of a password that was not percent-encoded
    hosts = authority.rpartition("@")[2]
    if not all(map(_is_host, hosts.split(","))):
        yield hosts
        yield hosts.partition(":")[2]
    for login in logins:
        user, colon, password = login.partition(":")
        yield password or user
        if colon and password:
            yield base64.b64encode(unquote(login).encode("utf-8", "replace")).decode()
    yield rest.partition("#")[2]
    for part in re.split("[&;]", rest.partition("?")[2].partition("#")[0]):
        name, _, value = part.partition("=")
        if masked_option(part) != part or unquote_plus(name) in names:
            yield value if value.strip("=") else name
    for part in re.split("[/;&,]", rest.partition("?")[0]):
        if masked_option(part, path=True) != part:
            yield part.partition("=")[2]


def _spellings(secrets: Iterable[str]) -> Iterator[str]:
    for secret in secrets:
        for plain in (secret, unquote(secret), unquote_plus(secret)):
            escaped = repr(plain)[1:-1]
            yield from (plain, escaped, quote(plain), quote(plain, safe=""), quote_plus(plain))


def without_secrets(text: str, secrets: Iterable[str] = ()) -> str:
    """Return a text that others wrote, an error's or a server's, with no secret in it.

    Args:
        text: any text.
        secrets: what must not show; see :func:`secrets_in`. URLs in the text are masked besides.

    >>> without_secrets("bad login me s3cret", secrets_in("redis://me:s3cret@h"))
    'bad login me ***'
    """
    # Marked before any is replaced: two may overlap, and what is left of one would show.
    hidden = bytearray(len(text))
    for secret in secrets:
        begin = text.find(secret) if len(secret) >= _SHORTEST else -1
        while begin >= 0:
            hidden[begin : begin + len(secret)] = b"\1" * len(secret)
            begin = text.find(secret, begin + 1)
    parts = itertools.groupby(zip(text, hidden, strict=True), key=operator.itemgetter(1))
    return masked_prose(
        "".join(_HIDDEN if is_hidden else "".join(c for c, _ in part) for is_hidden, part in parts)
    )


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
            shown = f"{_HIDDEN} ({len(text)} characters)" if "@" in text else shown
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
        if "@" in query or ("@" in path and (authority or scheme not in _FILE_SCHEMES)):
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
        authority = ",".join(map(_place, self.hosts))
        if self.secret:
            authority = f"{quote(self.user or '', safe='')}:{_HIDDEN}@{authority}"
        elif self.user is not None or self.secret is not None:
            authority = f"{_HIDDEN}@{authority}"  # a user without a password may be a token
        query = "&".join(
            f"{quote(name, safe='')}={_HIDDEN if self._hides(name, value) else _quoted(value)}"
            for name, value in self.options.items()
        )
        path = _masked_path(quote(self.path, safe="/*"))
        return f"{self.scheme}://{authority}{path}{'?' + query if query else ''}"

    @property
    def spelled(self) -> str:
        """The URL with its secrets, for whoever connects; never for a message."""
        authority = ",".join(map(_place, self.hosts))
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
        return option in self.masked or looks_secret(option) or _bears_secret(value)


def _place(address: tuple[str, int | None]) -> str:
    host, port = address
    host = f"[{host}]" if ":" in host else quote(host, safe="")
    return host if port is None else f"{host}:{port}"


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
    if part.startswith("["):
        host, bracket, port_text = part[1:].partition("]")
        if not bracket or (port_text and not port_text.startswith(":")):
            raise BadURL(f"{shown!r}: an IPv6 address must stand in [brackets]")
        port_text = port_text[1:]
    else:
        host, _, port_text = part.partition(":")
    if not host:
        raise BadURL(f"{shown!r}: a host is missing before a ':'")
    if any(char in "=&;@" for char in host):
        raise BadURL(f"{shown!r}: a host's name has no '=', '&', ';' or '@'")
    if not port_text:
        return unquote(host), None
    if not (port_text.isascii() and port_text.isdigit() and 0 < int(port_text) < 65536):
        # What is no number may be a password, of which the host that follows was forgotten.
        port = repr(port_text) if _is_number(port_text) else _HIDDEN
        raise BadURL(f"{shown!r}: the port {port} is not a number from 1 to 65535")
    return unquote(host), int(port_text)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 5


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
        hidden = dataclasses.replace(url, path=f"/{_HIDDEN}")
        raise BadURL(
            f"{hidden}: the path has a {found[0]!r}: it must name one node; all hosts stand before "
            "the path (scheme://user:password@host1,host2/path)"
        )
