"""The page as a WSGI application: what is served under which path, and to whom as what.

Nothing is changed by a GET. A POST changes something where the page has a token, for whoever sends
it; without one all methods other than GET and HEAD are refused. This module knows HTTP, and neither
how a group is described or steered nor who listens.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
from collections.abc import Callable, Iterable
from importlib import resources
from typing import Any, NamedTuple, Protocol
from urllib.parse import parse_qs

from hashring.errors import BadKey, EmptyRing
from hashring.observe.description import Ownership, as_json
from hashring.page.posts import Posts, Refusal
from hashring.page.status import ProcessStatus, to_json

__all__ = ["Routes", "Source", "prefers_html"]

_ACTS = "/ring/acts"
"""What was asked of late; below it are the paths of what can be asked."""

_MAX_KEY = 4096
"""Characters of a key that is looked up, at most."""

_WORTH_COMPRESSING = 1400
"""Bytes: what fits into one packet is sent as it is."""

_READY = ("settling", "settled")
"""States in which a member takes part in its group, and its lease runs."""

_PLAIN, _JSON, _HTML = "text/plain", "application/json", "text/html"

_Start = Callable[[str, list[tuple[str, str]]], Any]


class Source(Protocol):
    """What the page shows."""

    def status(self) -> ProcessStatus:
        """Return what there is to say now."""

    def owner(self, name: str, key: str) -> Ownership:
        """Say whose a key is, in the group of this name; see :class:`hashring.page.Watcher`."""


class _Answer(NamedTuple):
    status: str
    kind: str
    body: bytes
    more: tuple[tuple[str, str], ...] = ()


class Routes:
    """Serves ``/ring``, ``/metrics``, ``/livez`` and ``/readyz``.

    Args:
        source: what is shown.
        metrics: the WSGI application behind ``/metrics``; a text: why nothing is served there.
        is_alive: what ``/livez`` asks; by default it always is.
        posts: takes what is to be changed; ``None``: nothing is changed here.
    """

    def __init__(
        self,
        source: Source,
        metrics: Any,
        is_alive: Callable[[], bool] = lambda: True,
        posts: Posts | None = None,
    ) -> None:
        self._source = source
        self._posts = posts
        self._metrics = metrics
        self._is_alive = is_alive
        self._page, self._policy = _page()

    def __call__(self, environ: dict[str, Any], start_response: _Start) -> Iterable[bytes]:
        """Answer one request."""
        method, path = environ["REQUEST_METHOD"], environ.get("PATH_INFO", "")
        takes = "POST" if self._posts and path.startswith(f"{_ACTS}/") else "GET, HEAD"
        if method not in takes.split(", "):
            text = f"{method} is refused: nothing is changed here by it\n".encode()
            answer = _Answer("405 Method Not Allowed", _PLAIN, text, (("Allow", takes),))
        elif self._posts and takes == "POST":
            answer = _taken(self._posts, path.removeprefix(f"{_ACTS}/"), environ)
        elif path == "/metrics" and not isinstance(self._metrics, str):
            found: Iterable[bytes] = self._metrics(environ, start_response)
            return found
        else:
            answer = self._answer(path, environ)
        return _send(answer, environ, start_response, self._policy)

    def _answer(self, path: str, environ: dict[str, Any]) -> _Answer:
        if path == "/ring":
            return self._ring(environ)
        if path == _ACTS and self._posts is not None:
            return _Answer("200 OK", _JSON, self._posts.acts())
        if path == "/readyz":
            return self._ready()
        if path == "/livez":
            alive = self._is_alive()
            return _said(
                "200 OK" if alive else "503 Service Unavailable", "alive" if alive else "stuck"
            )
        if path == "/metrics":
            return _said("501 Not Implemented", self._metrics)
        if path in ("", "/"):
            place = environ.get("SCRIPT_NAME", "") + "/ring"
            return _said("302 Found", f"the page is at {place}", ("Location", place))
        return _said("404 Not Found", "there are /ring, /metrics, /livez and /readyz")

    def _ready(self) -> _Answer:
        groups = self._source.status().groups
        missing = [
            f"{name}: {group.state}{': ' if group.reason else ''}{group.reason}"
            for name, group in groups.items()
            if group.state not in _READY
        ]
        if missing or not groups:
            return _said("503 Service Unavailable", "\n".join(missing) or "no group is joined yet")
        return _said("200 OK", "ready")

    def _ring(self, environ: dict[str, Any]) -> _Answer:
        query = parse_qs(environ.get("QUERY_STRING", ""), keep_blank_values=True)
        if "key" in query:
            return self._owner(query)
        status = json.dumps(to_json(self._source.status()), allow_nan=False).encode()
        vary = (("Vary", "Accept"),)
        if not prefers_html(environ.get("HTTP_ACCEPT", "")):
            return _Answer("200 OK", _JSON, status, vary)
        # In a script element, but as data: nothing in it may end the element.
        data = status.replace(b"<", b"\\u003c")
        steer = b"off" if self._posts is None else b"on"
        page = self._page.replace(b"{{steer}}", steer, 1).replace(b"{{status}}", data, 1)
        return _Answer("200 OK", _HTML, page, vary)

    def _owner(self, query: dict[str, list[str]]) -> _Answer:
        key, name = query["key"][0], query.get("group", [""])[0]
        if len(key) > _MAX_KEY:
            return _said("400 Bad Request", f"a key of more than {_MAX_KEY} characters")
        try:
            found = self._source.owner(name, key)
        except KeyError:
            return _said("404 Not Found", f"no group {name!r:.200} here")
        except (BadKey, EmptyRing) as error:
            return _said("409 Conflict", str(error))
        return _Answer("200 OK", _JSON, json.dumps(as_json(found)).encode())


def _taken(posts: Posts, what: str, environ: dict[str, Any]) -> _Answer:
    try:
        status, told = posts.take(what, environ)
    except Refusal as refusal:
        wants = (("WWW-Authenticate", 'Bearer realm="hashring"'),)
        return _said(refusal.status, str(refusal), *(wants if "401" in refusal.status else ()))
    return _Answer(status, _JSON, told)


def _said(status: str, text: str, *more: tuple[str, str]) -> _Answer:
    return _Answer(status, _PLAIN, f"{text}\n".encode(), more)


def _send(
    answer: _Answer, environ: dict[str, Any], start_response: _Start, policy: str
) -> Iterable[bytes]:
    body = answer.body
    headers = [
        ("Content-Type", f"{answer.kind}; charset=utf-8"),
        ("Cache-Control", "no-store"),
        ("Content-Security-Policy", policy),
        ("X-Content-Type-Options", "nosniff"),
        ("Referrer-Policy", "no-referrer"),
        *answer.more,
    ]
    if len(body) > _WORTH_COMPRESSING and "gzip" in environ.get("HTTP_ACCEPT_ENCODING", ""):
        body = gzip.compress(body, 4)
        headers.append(("Content-Encoding", "gzip"))
    headers.append(("Content-Length", str(len(body))))
    start_response(answer.status, headers)
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]


def _page() -> tuple[bytes, str]:
    """Return the page, and the policy that lets nothing run or load but what stands in it."""
    page = resources.files("hashring.page").joinpath("ring.html").read_bytes()
    (style,) = re.findall(rb"<style>(.*?)</style>", page, re.DOTALL)
    (script,) = re.findall(rb"<script>(.*?)</script>", page, re.DOTALL)
    policy = (
        f"default-src 'none'; script-src {_digest(script)}; style-src {_digest(style)}; "
        "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )
    return page, policy


def _digest(text: bytes) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text).digest()).decode()}'"


def prefers_html(accept: str) -> bool:
    """Return whether a client would rather have HTML than JSON, by its ``Accept``.

    Example:
        >>> prefers_html("text/html,application/xhtml+xml,*/*;q=0.8"), prefers_html("*/*")
        (True, False)
        >>> prefers_html("application/json"), prefers_html("text/html;q=0.5, application/json")
        (False, False)
    """
    weights: dict[str, float] = {}
    for part in accept.split(","):
        kind, *parameters = (piece.strip().lower() for piece in part.split(";"))
        weight = next((text[2:] for text in parameters if text.startswith("q=")), "1")
        try:
            weights[kind] = float(weight)
        except ValueError:
            weights[kind] = 0.0
    html = max(weights.get(_HTML, 0.0), weights.get("text/*", 0.0))
    rest = weights.get("*/*", 0.0)
    return html > 0 and html >= weights.get(_JSON, weights.get("application/*", rest))
