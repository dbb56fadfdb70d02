"""The WSGI application: from a request to its route, and from what that returns to an answer.

``POST /v1/samples`` is served too where nobody is asked who they are, so that one program on one
port takes the agents' samples and answers the clients.
"""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound, RequestEntityTooLarge
from werkzeug.routing import Map, Rule
from werkzeug.wrappers import Request, Response

from hashring.alarms import intake
from hashring.alarms.actions.catalogue import Catalogue
from hashring.alarms.api.alarm_routes import AlarmRoutes, parsed
from hashring.alarms.api.answers import Refused, invalid
from hashring.alarms.api.asked_rules import Asked
from hashring.alarms.api.authentication import WSGI, authentication
from hashring.alarms.api.drafts import Limits
from hashring.alarms.api.other_routes import OtherRoutes, versions
from hashring.alarms.api.settings import APISettings
from hashring.alarms.database.engine import Database
from hashring.alarms.database.stored import Stored
from hashring.alarms.errors import BadQuery, DatabaseUnavailable, DatabaseUnusable
from hashring.errors import HashringError

__all__ = ["Application"]

log = logging.getLogger(__name__)

_MOST = 1024 * 1024
"""Bytes of a body: an alarm has at most a few thousand."""

_ROUTES = (
    ("GET", "/v2/alarms", "list"),
    ("POST", "/v2/alarms", "create"),
    ("GET", "/v2/alarms/<alarm_id>", "show"),
    ("PUT", "/v2/alarms/<alarm_id>", "change"),
    ("DELETE", "/v2/alarms/<alarm_id>", "delete"),
    ("GET", "/v2/alarms/<alarm_id>/state", "state"),
    ("PUT", "/v2/alarms/<alarm_id>/state", "set_state"),
    ("GET", "/v2/alarms/<alarm_id>/history", "history"),
    ("POST", "/v2/query/alarms", "query_alarms"),
    ("POST", "/v2/query/alarms/history", "query_history"),
    ("GET", "/v2/capabilities", "capabilities"),
    ("GET", "/v2/quotas", "quotas"),
    ("POST", "/v2/quotas", "set_quotas"),
    ("DELETE", "/v2/quotas", "drop_quotas"),
    ("GET", "/v2/metrics", "metrics"),
)

_OPEN = Map(
    [
        Rule("/", endpoint="versions", methods=["GET"]),
        Rule("/healthcheck", endpoint="health", methods=["GET"]),
    ]
)


class _Request(Request):
    max_content_length = _MOST


class Application:
    """Aodh's API v2 as a WSGI application. It may be used by several threads.

    Args:
        database: the alarms' database, its tables in order.
        settings: of the server.
        actions: the actions that are installed.
        asked: the sources that are asked about rules; ``None``: none is.

    Raises:
        BadArgument: something that the authentication needs is wrong.
        MissingDependency: a package that it needs is not installed.
    """

    def __init__(
        self,
        database: Database,
        settings: APISettings,
        actions: Catalogue,
        asked: Asked | None = None,
    ) -> None:
        self._stored = Stored(database)
        limits = Limits(settings.most_actions, actions.check, asked or Asked())
        self._alarms = AlarmRoutes(self._stored, settings, limits)
        self._others = OtherRoutes(self._stored, settings)
        self._authentication = authentication(settings)
        self._map = Map(
            [Rule(path, endpoint=name, methods=[method]) for method, path, name in _ROUTES],
            strict_slashes=False,
        )
        self._protected: WSGI = self._authentication.wrapped(self._serve_protected)
        self._intake = intake.application(database) if settings.auth_mode == "noauth" else None
        self._basic = settings.auth_mode == "basic"

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        """Serve a request, as WSGI has it."""
        path = environ.get("PATH_INFO", "")
        if path.startswith("/v2/") or path == "/v2":
            return self._protected(environ, start_response)
        if path.startswith("/v1/") and self._intake is not None:
            return self._intake(environ, start_response)
        return self._answered(environ, self._serve_open)(environ, start_response)

    def _serve_open(self, request: Request) -> Response:
        endpoint, _ = _OPEN.bind_to_environ(request.environ).match()
        if endpoint == "health":
            self._stored.ping()
            return _json({"detailed": False, "reasons": []})
        return _json(versions(request.host_url))

    def _serve_protected(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        return self._answered(environ, self._serve)(environ, start_response)

    def _serve(self, request: Request) -> Response:
        endpoint, found = self._map.bind_to_environ(request.environ).match()
        identity = self._authentication.identity(request.headers)
        alarms, others = self._alarms, self._others
        arguments, project = request.args, request.args.get("project_id")
        alarm_id = found.get("alarm_id", "").replace("\0", "?")  # no database takes it

        def body(argument: str) -> Any:
            return parsed(request.get_data(), argument)

        match endpoint:
            case "list":
                return _json(alarms.list(identity, arguments))
            case "create":
                made = alarms.create(identity, body("data"))
                answer = _json(made, 201)
                answer.headers["Location"] = f"{request.host_url}v2/alarms/{made['alarm_id']}"
                return answer
            case "show":
                return _json(alarms.show(identity, alarm_id))
            case "change":
                return _json(alarms.change(identity, alarm_id, body("data")))
            case "delete":
                alarms.delete(identity, alarm_id)
                return Response(status=204)
            case "state":
                return _json(alarms.state(identity, alarm_id))
            case "set_state":
                return _json(alarms.set_state(identity, alarm_id, body("state")))
            case "history":
                return _json(alarms.history(identity, arguments, alarm_id))
            case "query_alarms":
                return _json(others.query_alarms(identity, body("body")))
            case "query_history":
                return _json(others.query_history(identity, body("body")))
            case "capabilities":
                return _json(others.capabilities())
            case "quotas":
                return _json(others.quotas(identity, project))
            case "set_quotas":
                return _json(others.set_quotas(identity, body("body")), 201)
            case "drop_quotas":
                others.drop_quotas(identity, project)
                return Response(status=204)
            case "metrics":
                return _json(others.metrics())
        raise NotFound

    def _answered(self, environ: dict[str, Any], serve: Callable[[Request], Response]) -> Response:
        """Return the answer to a request, whatever happens."""
        request_id = f"req-{uuid.uuid4()}"
        try:
            answer = serve(_Request(environ))
        except Exception as error:
            answer = self._fault(error, request_id)
        answer.headers["x-openstack-request-id"] = request_id
        return answer

    def _fault(self, error: Exception, request_id: str) -> Response:
        if isinstance(error, BadQuery):
            error = invalid(error.field, error.value, error.why)
        if isinstance(error, Refused):
            answer = _json(error.body, error.status)
            if error.status == 401 and self._basic:
                answer.headers["WWW-Authenticate"] = 'Basic realm="alarms", charset="UTF-8"'
            return answer
        if isinstance(error, RequestEntityTooLarge):
            return _json(Refused(f"The body has more than {_MOST} bytes", 413).body, 413)
        if isinstance(error, NotFound | MethodNotAllowed):
            return _unserved(error)
        if isinstance(error, HTTPException):
            status = error.code or 400
            return _json(Refused(error.name, status).body, status)
        if isinstance(error, DatabaseUnavailable | DatabaseUnusable):
            log.error("request %s: %s", request_id, error)
            # Without Retry-After: Aodh's client fails on it, and does not show what we say.
            return _json(Refused("The database is away; try again", 503).body, 503)
        if isinstance(error, HashringError):
            log.error("request %s: %s", request_id, error)
        else:
            log.error("request %s could not be served", request_id, exc_info=error)
        return _json(Refused(f"See the log for {request_id}", 500).body, 500)


def _unserved(error: NotFound | MethodNotAllowed) -> Response:
    description = None if error.code == 404 else ""
    body = {"code": error.code, "title": error.name, "description": description}
    answer = _json({"error_message": body}, error.code or 404)
    if isinstance(error, MethodNotAllowed) and error.valid_methods:
        answer.headers["Allow"] = ", ".join(sorted(error.valid_methods))
    return answer


def _json(value: Mapping[str, Any] | Any, status: int = 200) -> Response:
    return Response(json.dumps(value), status, mimetype="application/json")
