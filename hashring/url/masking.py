"""What a secret looks like, and how a URL, a value or a message is shown without it.

The only module that knows it. Stores, sinks, targets, hypervisors and definitions all show a URL
with :func:`masked`, any other value with :func:`shown`, and what a library said of it with
:func:`without_secrets`. It knows no scheme's meaning and opens nothing.

The rule is to hide what is not clear. Of a URL that cannot be taken apart, or of which a part could
be a piece of a password that was not percent-encoded, the scheme and the length are shown alone.
"""

from __future__ import annotations

import base64
import itertools
import operator
import re
import reprlib
from collections.abc import Iterable, Iterator
from urllib.parse import quote, quote_plus, unquote, unquote_plus

__all__ = [
    "FILE_SCHEMES",
    "HIDDEN",
    "bears_secret",
    "looks_secret",
    "masked",
    "masked_option",
    "masked_path",
    "masked_prose",
    "secrets_in",
    "shown",
    "without_secrets",
]

HIDDEN = "***"
"""Stands for what is not shown."""

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
_LOGIN = re.compile(r":[^@:]*@")  # a password may have a raw slash
_IN_PROSE = re.compile(r"(?<![\w+.-])[\w+.-]+://[^\s\"'<>]+")

FILE_SCHEMES = frozenset({"sqlite", "file", "tooz+file"})
"""Schemes whose path is a file's: its name may hold any character."""

_SHORTEST = 3
"""Characters. A shorter piece is no secret, and a text without it could not be read."""


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
        return f"{HIDDEN} ({len(text)} characters)" if bears_secret(text) else text
    if not _SCHEME.fullmatch(scheme):
        return f"{HIDDEN} ({len(text)} characters)"
    end = next((at for at, char in enumerate(rest) if char in "/?#"), len(rest))
    authority, tail = rest[:end], rest[end:]
    login, at, hosts = authority.rpartition("@")
    if not all(map(_is_host, hosts.split(","))):
        return f"{scheme}://{HIDDEN} ({len(text)} characters)"
    user, _, password = login.partition(":")
    if at:
        hosts = f"{user}:{HIDDEN}@{hosts}" if password else f"{HIDDEN}@{hosts}"
    if "@" in tail and not _is_clear(scheme.lower(), authority, tail):
        if at:
            return f"{scheme}://{hosts}/{HIDDEN}"
        return f"{scheme}://{HIDDEN} ({len(text)} characters)"
    tail, sharp, fragment = tail.partition("#")
    path, question, query = tail.partition("?")
    anchor = f"{sharp}{HIDDEN if fragment else ''}"
    return f"{scheme}://{hosts}{masked_path(path)}{question}{_masked_query(query)}{anchor}"


def _is_host(text: str) -> bool:
    found = _HOST.fullmatch(text)
    return found is not None and (found[2] is None or int(found[2][1:] or 0) < 65536)


def _is_clear(scheme: str, authority: str, tail: str) -> bool:
    """Return whether each ``@`` behind the host belongs there, and ends no password."""
    path, question, _ = tail.partition("?")
    if "@" in tail[len(path) + len(question) :] or "#" in path:
        return False
    if scheme in FILE_SCHEMES:
        return authority in ("", "localhost")
    # A segment such as "/users/@me"; not the first one, since a token may end with a slash.
    is_web = scheme.endswith(("http", "https")) and "@" not in authority
    return is_web and all(part[-1:] == "/" != part for part in path.split("@")[:-1])


def masked_path(path: str) -> str:
    """Return a URL's path, percent-encoded, without what may be a secret."""
    if _LOGIN.search(unquote(path)):
        return f"/{HIDDEN}"
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
        return f"{name}={HIDDEN}" if equals and looks_secret(unquote(name)) else part
    if not equals or (not value.strip("=") and not _WORD.fullmatch(name)):
        # A name alone, or Base64 that ends with its padding.
        return part if _WORD.fullmatch(part) else HIDDEN
    if looks_secret(unquote_plus(name)) or bears_secret(value):
        return f"{name}={HIDDEN}"
    return part


def bears_secret(text: str) -> bool:
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
            _unsecret(key, 0) if isinstance(key, str) else key: HIDDEN
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
        # What seems to be the path may go on with the password, up to an end that is missing.
        for piece in (hosts, rest):
            yield piece
            yield piece.partition(":")[2]
        yield rest[len(authority) :]
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
        "".join(HIDDEN if is_hidden else "".join(c for c, _ in part) for is_hidden, part in parts)
    )
