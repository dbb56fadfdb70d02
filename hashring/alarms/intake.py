"""Intake: samples and events over HTTP into the database: ``POST /v1/samples``, ``/v1/events``.

A batch is answered once it is committed. What is wrong with it is answered with 400, so that the
agent splits it and sets the wrong sample aside; while the database is away, with 503, so that it
waits.
"""

from __future__ import annotations

import json
import logging
import threading
import zlib
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Self

from hashring import clock
from hashring.alarms.database.engine import Database
from hashring.alarms.database.events import Events
from hashring.alarms.database.samples import Samples, volumes_of
from hashring.alarms.errors import (
    BadEvents,
    BadSamples,
    DatabaseUnavailable,
    DatabaseUnusable,
)
from hashring.alarms.event import events_of
from hashring.errors import BadArgument
from hashring.telemetry.publishers.serving import bind
from hashring.url import host_and_port

__all__ = ["Intake", "application"]

log = logging.getLogger(__name__)

_MOST = 8 * 1024 * 1024
"""Bytes of a body, also once it is inflated."""

_Start = Callable[[str, list[tuple[str, str]]], Any]


def application(database: Database) -> Callable[[dict[str, Any], _Start], Iterable[bytes]]:
    """Return the WSGI application.

    Args:
        database: where samples and events go.
    """
    samples, events = Samples(database), Events(database)

    def answer(environ: dict[str, Any]) -> tuple[str, str]:
        method, path = environ.get("REQUEST_METHOD"), environ.get("PATH_INFO")
        if path == "/healthcheck" and method in ("GET", "HEAD"):
            with database.reading():
                return "200 OK", "OK"
        if path not in ("/v1/samples", "/v1/events"):
            return "404 Not Found", "there are /v1/samples, /v1/events and /healthcheck"
        what = path.rpartition("/")[2]
        if method != "POST":
            return "405 Method Not Allowed", f"post a list of {what}"
        posted = _parsed(_body(environ), what)
        if what == "events":
            found = events_of(posted)
            fresh = events.keep(found, clock.wall())
            return "200 OK", f"{len(found)} events, {fresh} new"
        volumes = volumes_of(posted)
        samples.keep(volumes)
        return "200 OK", f"{len(volumes)} samples"

    def serve(environ: dict[str, Any], start: _Start) -> Iterable[bytes]:
        try:
            status, text = answer(environ)
        except _TooLarge:
            status, text = "413 Content Too Large", f"at most {_MOST} bytes"
        except (BadSamples, BadEvents) as error:
            status, text = "400 Bad Request", str(error)
        except (DatabaseUnavailable, DatabaseUnusable) as error:
            log.error("samples and events are refused for now: %s", error)  # noqa: TRY400
            status, text = "503 Service Unavailable", "the database is away; try again"
        except Exception:
            log.exception("a request could not be served")
            status, text = "500 Internal Server Error", "see the log"
        body = f"{text}\n".encode()
        start(
            status,
            [
                ("Content-Type", "text/plain; charset=utf-8"),
                ("Content-Length", str(len(body))),
                *([("Retry-After", "5")] if status.startswith("503") else []),
            ],
        )
        return [body]

    return serve


class _TooLarge(Exception):
    pass


def _body(environ: dict[str, Any]) -> bytes:
    try:
        length = int(environ.get("CONTENT_LENGTH") or 0)
    except ValueError:
        raise BadSamples("Content-Length must be a number") from None
    if length > _MOST:
        raise _TooLarge
    body: bytes = environ["wsgi.input"].read(length) if length > 0 else b""
    encoding = (environ.get("HTTP_CONTENT_ENCODING") or "identity").strip().lower()
    if encoding == "identity":
        return body
    if encoding not in ("gzip", "deflate"):
        raise BadSamples(f"Content-Encoding {encoding!r:.40}: gzip and deflate are understood")
    try:
        inflate = zlib.decompressobj(32 + zlib.MAX_WBITS)
        body = inflate.decompress(body, _MOST)
    except zlib.error:
        raise BadSamples("its compression is damaged") from None
    if inflate.unconsumed_tail:
        raise _TooLarge
    return body


def _parsed(body: bytes, what: str) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise BadSamples(f"the body must be JSON: a list of {what}") from None


class Intake:
    """Serves for as long as its block runs.

    Args:
        listen: ``host:port``; port 0 is a free one.
        database: where samples go.

    Raises:
        BadArgument: it is no address, or nobody can listen there.
    """

    def __init__(self, listen: str, database: Database) -> None:
        try:
            host, port = host_and_port(listen, listen, least=0)
            self._server = bind(host or "127.0.0.1", 8042 if port is None else port)
        except (ValueError, OSError) as error:
            raise BadArgument(f"cannot listen on {listen!r}: {error}") from None
        self._server.set_app(application(database))
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, name="intake"
        )

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.server_port)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
