"""Who asks: by Keystone, by a file of passwords, or by what the request says of itself.

Keystone's own middleware checks tokens; it comes with the extra ``keystone``. Passwords are those
of ``htpasswd -B``. Without authentication a request's headers are believed, as Aodh's server does.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import os
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from werkzeug.datastructures import Headers

from hashring.alarms.api.answers import Refused
from hashring.alarms.api.identity import Identity
from hashring.alarms.api.settings import APISettings
from hashring.errors import BadArgument, MissingDependency
from hashring.url import masked_prose

__all__ = ["Authentication", "Passwords", "authentication"]

log = logging.getLogger(__name__)

WSGI = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

_KEYSTONE = 10
"""Seconds for an answer of Keystone to its middleware, which then tries again."""

_KEPT = 1000
"""Passwords whose check is remembered."""


class Authentication:
    """Knows who asks by a request's headers, which Keystone's middleware has checked, if it is on.

    Args:
        is_checked: whether somebody before us has checked the headers.
    """

    def __init__(self, *, is_checked: bool) -> None:
        self._is_checked = is_checked

    def identity(self, headers: Headers) -> Identity:
        """Return who asks.

        Raises:
            Refused: nobody whom we know.
        """
        user, project = headers.get("X-User-Id"), headers.get("X-Project-Id")
        roles = headers.get("X-Roles", "")
        if not self._is_checked and user is None and project is None and not roles:
            return Identity(None, None, frozenset({"admin"}))  # on this host, without a Keystone
        found = frozenset(role.strip().lower() for role in roles.split(",") if role.strip())
        return Identity(user, project, found)

    def wrapped(self, application: WSGI) -> WSGI:
        """Return the application with what must come before it."""
        return application


class _Keystone(Authentication):
    def __init__(self, config_files: Iterable[Path]) -> None:
        super().__init__(is_checked=True)
        try:
            from keystonemiddleware import auth_token
        except ImportError as error:
            raise MissingDependency(
                "[api] auth_mode = keystone", "keystonemiddleware", "keystone"
            ) from error
        from keystoneauth1.exceptions import ClientException
        from oslo_config import cfg

        self._failures = ClientException
        self._protocol = auth_token.AuthProtocol
        self._conf = cfg.ConfigOpts()
        self._conf(
            args=[],
            project="aodh",
            default_config_files=[str(path) for path in config_files],
            default_config_dirs=[],
        )
        for group, options in auth_token.list_opts():
            self._conf.register_opts(options, group=group)
        # It would wait without end for a Keystone that takes connections and says nothing, with
        # each of our threads. What the files say counts.
        self._conf.set_default("http_connect_timeout", _KEYSTONE, group="keystone_authtoken")

    def wrapped(self, application: WSGI) -> WSGI:
        found: WSGI = self._protocol(application, {"oslo_config_config": self._conf})

        def checked(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
            try:
                return found(environ, start)
            except self._failures as error:
                # It says so itself where it cannot connect; not where Keystone does not answer in
                # time, or refuses who we are.
                log.error("a token cannot be checked: %s", masked_prose(str(error)))  # noqa: TRY400
                away = Refused("The Keystone service is temporarily unavailable.", 503)
                body = json.dumps(away.body).encode()
                kind = ("Content-Type", "application/json")
                start("503 Service Unavailable", [kind, ("Content-Length", str(len(body)))])
                return [body]

        return checked


class Passwords(Authentication):
    """Knows who asks by name and password. May be used by several threads.

    A user has a project of their own, which is called as they are.

    Args:
        path: lines of ``name:hash``, as ``htpasswd -B`` writes them; read again when it changes.
        admins: names of administrators.

    Raises:
        BadArgument: the file cannot be read, or has another kind of hash.
        MissingDependency: bcrypt is not installed.
    """

    def __init__(self, path: Path, admins: frozenset[str]) -> None:
        super().__init__(is_checked=True)
        try:
            import bcrypt
        except ImportError as error:
            raise MissingDependency("[api] auth_mode = basic", "bcrypt", "alarms") from error
        self._matches = bcrypt.checkpw
        self._path = path
        self._admins = admins
        self._lock = threading.Lock()
        self._secret = os.urandom(32)  # a dump of our memory tells no password
        self._known: dict[bytes, None] = {}
        self._read_at: tuple[int, int, int] | None = None
        self._hashes: Mapping[str, bytes] = {}
        self._nobody = bcrypt.hashpw(b"", bcrypt.gensalt(5))
        self._current()

    def identity(self, headers: Headers) -> Identity:
        """Return who asks; see :meth:`Authentication.identity`."""
        name, password = _given(headers.get("Authorization", ""))
        known = self._current().get(name)
        # One who is not known takes as long, so that names cannot be guessed.
        if not self._is_right(password, known or self._nobody) or known is None:
            raise _unknown()
        roles = {"reader", "member"} | ({"admin"} if name in self._admins else set())
        return Identity(name, name, frozenset(roles))

    def _is_right(self, password: bytes, known: bytes) -> bool:
        mark = hmac.new(self._secret, known + b"\0" + password, hashlib.sha256).digest()
        with self._lock:
            if mark in self._known:
                return True
        if not self._matches(password[:72], known):
            return False
        with self._lock:
            if len(self._known) >= _KEPT:
                self._known.clear()
            self._known[mark] = None
        return True

    def _current(self) -> Mapping[str, bytes]:
        try:
            found = self._path.stat()
            stamp = (found.st_ino, found.st_size, found.st_mtime_ns)
            with self._lock:
                if stamp != self._read_at:
                    self._hashes = _hashes(self._path.read_text(encoding="utf-8"), self._path)
                    self._read_at = stamp
                return self._hashes
        except (OSError, UnicodeDecodeError) as error:
            raise BadArgument(f"the password file {self._path}: {error}") from None


def _hashes(text: str, path: Path) -> dict[str, bytes]:
    found = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, _, known = line.strip().partition(":")
        if not name or not known.startswith(("$2y$", "$2b$", "$2a$")):
            raise BadArgument(
                f"{path}:{number}: must be a name and a bcrypt hash, as htpasswd -B writes them"
            )
        found[name] = known.replace("$2y$", "$2b$", 1).encode()
    return found


def _given(header: str) -> tuple[str, bytes]:
    kind, _, coded = header.partition(" ")
    if kind.lower() != "basic":
        raise _unknown()
    try:
        name, _, password = base64.b64decode(coded.strip(), validate=True).partition(b":")
        return name.decode(), password
    except ValueError:
        raise _unknown() from None


def _unknown() -> Refused:
    return Refused("Authorization required: a name and a password that are known here", 401)


def authentication(settings: APISettings) -> Authentication:
    """Return how the server knows who asks.

    Raises:
        BadArgument: something that it needs is not given, or wrong.
        MissingDependency: a package is not installed.
    """
    if settings.auth_mode == "keystone":
        return _Keystone(settings.config_files)
    if settings.auth_mode == "basic":
        if settings.password_file is None:
            raise BadArgument("[api] auth_mode = basic needs [api] password_file")
        return Passwords(settings.password_file, settings.admins)
    return Authentication(is_checked=False)
