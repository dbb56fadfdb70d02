"""Posts: who may ask the page to change something, and what. HTTP, and nothing of groups.

Only whoever sends the token, in a header, is heard. A page of another site cannot do that in the
name of a person who looks at it: a browser keeps no token of ours, sends this header and JSON to
another site only if that allows it, which this one never does, and names the site that asks, which
is compared all the same.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import threading
from typing import Any

from hashring import clock
from hashring.errors import BadArgument
from hashring.page.steering import ACTS, OF_A_MEMBER, Steering
from hashring.page.token import Token

__all__ = ["Posts", "Refusal"]

log = logging.getLogger("hashring")

_MAX_BODY = 16 * 1024
"""Bytes of a request: an id has 1 KiB at most."""

_PATIENCE = 2.0
"""Seconds to wait for the end of an act before it is told that it runs: a connection has ten."""

_COMPLAIN = 60.0
"""Seconds between two warnings that somebody does not know the token."""

_MAX_NAME = 100
"""Characters of the name of whoever asks."""


class Refusal(Exception):
    """A request that is refused.

    Attributes:
        status: of HTTP.
    """

    def __init__(self, status: str, why: str) -> None:
        super().__init__(why)
        self.status = status


class Posts:
    """Takes requests that change something.

    Args:
        token: that they must bear.
        steering: does what they ask.
    """

    def __init__(self, token: Token, steering: Steering) -> None:
        self._token = token
        self._steering = steering
        self._lock = threading.Lock()
        self._refused, self._complain_at = 0, 0.0

    def acts(self) -> bytes:
        """Return what was asked of late as JSON, the newest last."""
        found = [dataclasses.asdict(act) for act in self._steering.acts]
        return json.dumps({"acts": found}).encode()

    def take(self, what: str, environ: dict[str, Any]) -> tuple[str, bytes]:
        """Do what is asked; return the status of HTTP and the act as JSON.

        Args:
            what: the last part of the path.
            environ: of WSGI.

        Raises:
            Refusal: it is not done.
        """
        if what not in ACTS:
            raise Refusal("404 Not Found", f"there are {', '.join(ACTS)}")
        _check_origin(environ)
        self._check_token(environ)
        asked = _body(environ)
        group, member = _text(asked, "group"), _text(asked, "member")
        by, force = _text(asked, "by"), asked.get("force", False)
        if (what in OF_A_MEMBER) != bool(member):
            wants = "needs a member" if what in OF_A_MEMBER else "is for a whole group: no member"
            raise Refusal("400 Bad Request", f"{what} {wants}")
        if not isinstance(force, bool):
            raise Refusal("400 Bad Request", "force must be true or false")
        client = environ.get("REMOTE_ADDR", "")
        who = f"{by[:_MAX_NAME] or 'somebody'}, by the page" + (f" from {client}" if client else "")
        try:
            act = self._steering.begin(what, group, member, by=who, force=force)
        except KeyError:
            raise Refusal("404 Not Found", f"no group {group!r:.200} here") from None
        except BadArgument as error:
            raise Refusal("503 Service Unavailable", str(error)) from None
        log.info("%s: is asked to %s %s by %r", group, what, member or "the group", who)
        act = self._steering.wait(act.id, _PATIENCE)
        status = "202 Accepted" if act.state == "running" else "200 OK"
        return status, json.dumps(dataclasses.asdict(act)).encode()

    def _check_token(self, environ: dict[str, Any]) -> None:
        kind, _, given = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
        try:
            right = self._token.is_right(given.strip() if kind.lower() == "bearer" else "")
        except BadArgument as error:
            log.warning("the page refuses a change: %s", error)
            raise Refusal("503 Service Unavailable", "the token cannot be read here") from None
        if not right:
            self._complain(environ.get("REMOTE_ADDR", ""))
            raise Refusal("401 Unauthorized", "the token is missing, or is another one")

    def _complain(self, client: str) -> None:
        with self._lock:
            self._refused += 1
            now = clock.boottime()
            if now < self._complain_at:
                return
            self._complain_at, count, self._refused = now + _COMPLAIN, self._refused, 0
        log.warning(
            "the page has refused %d requests without the right token, the last from %s",
            count,
            client or "a socket",
        )


def _check_origin(environ: dict[str, Any]) -> None:
    """Refuse what a page of another site asks."""
    origin = environ.get("HTTP_ORIGIN", "")
    _, _, host = origin.partition("://")
    if environ.get("HTTP_SEC_FETCH_SITE", "same-origin") not in ("same-origin", "none"):
        raise Refusal("403 Forbidden", "another site's page may not ask for this")
    # A proxy before us may name itself as the host.
    hosts = {environ.get("HTTP_HOST", ""), environ.get("HTTP_X_FORWARDED_HOST", "")}
    if origin and (not host or host not in hosts):  # "null" is that of a page without a site
        raise Refusal("403 Forbidden", f"the page of {origin:.200} may not ask for this")


def _body(environ: dict[str, Any]) -> dict[str, Any]:
    kind = environ.get("CONTENT_TYPE", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Refusal("415 Unsupported Media Type", "send application/json")
    try:
        length = int(environ.get("CONTENT_LENGTH") or "")
    except ValueError:
        raise Refusal("411 Length Required", "say how long the request is") from None
    if not 0 <= length <= _MAX_BODY:
        raise Refusal("413 Content Too Large", f"at most {_MAX_BODY} bytes")
    try:
        found = json.loads(environ["wsgi.input"].read(length))
    except (ValueError, RecursionError):
        raise Refusal("400 Bad Request", "this is no JSON") from None
    if not isinstance(found, dict):
        raise Refusal("400 Bad Request", "send an object")
    if unknown := found.keys() - {"group", "member", "by", "force"}:
        raise Refusal("400 Bad Request", f"unknown: {', '.join(sorted(unknown)):.200}")
    return found


def _text(asked: dict[str, Any], name: str) -> str:
    found = asked.get(name, "")
    if not isinstance(found, str):
        raise Refusal("400 Bad Request", f"{name} must be a text")
    return found
