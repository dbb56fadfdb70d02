"""The API, served by waitress until a signal ends it; and made for another WSGI server."""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from waitress import create_server, wasyncore

from hashring.alarms import options as evaluators_options
from hashring.alarms.actions.catalogue import Catalogue
from hashring.alarms.api import options
from hashring.alarms.api.application import Application
from hashring.alarms.api.asked_rules import Asked, PrometheusRules
from hashring.alarms.api.gnocchi_rules import GnocchiRules
from hashring.alarms.api.settings import APISettings
from hashring.alarms.running import opened
from hashring.alarms.settings import Settings
from hashring.alarms.sources.gnocchi import Gnocchi
from hashring.alarms.sources.gnocchi_access import access_to_gnocchi
from hashring.alarms.sources.prometheus import PrometheusSource
from hashring.errors import BadArgument
from hashring.telemetry.agent.signals import Signals
from hashring.url import host_and_port

__all__ = ["Serving", "run_api", "wsgi"]

log = logging.getLogger(__name__)

_LOOK = 0.25
"""Seconds between two looks whether the server is to end."""

_IDLE = 30
"""Seconds for which a connection may say nothing."""

_CONNECTIONS = 200


class Serving:
    """Serves an application for as long as its block runs.

    Args:
        application: the WSGI application.
        listen: ``host:port``; port 0 is a free one.
        threads: requests at once.

    Raises:
        BadArgument: it is no address, or nobody can listen there.
    """

    def __init__(self, application: Callable[..., Any], listen: str, threads: int) -> None:
        self._sockets: dict[int, Any] = {}
        try:
            host, port = host_and_port(listen, listen, least=0)
            self._server = create_server(
                application,
                map=self._sockets,
                host=host or "127.0.0.1",
                port=8042 if port is None else port,
                threads=threads,
                connection_limit=_CONNECTIONS,
                channel_timeout=_IDLE,
                ident="hashring",
            )
        except (ValueError, OSError) as error:
            raise BadArgument(f"cannot listen on {listen!r}: {error}") from None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="api")

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.effective_port)

    def _run(self) -> None:
        while not self._ended.is_set():
            wasyncore.loop(timeout=_LOOK, map=self._sockets, count=1)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._server.task_dispatcher.shutdown()  # what is being answered ends first
        wasyncore.close_all(self._sockets, ignore_all=True)


def run_api(settings: Settings, api: APISettings) -> int:
    """Serve the API until told to end; return the exit code.

    Args:
        settings: of the evaluators: where the database is, and what actions need.
        api: of the server.
    """
    ended = threading.Event()
    with contextlib.ExitStack() as stack:
        actions = Catalogue(settings)
        stack.callback(actions.close)
        asked = _asked(settings, api)
        stack.callback(asked.close)
        with opened(settings) as database:
            application = Application(database, api, actions, asked)
            if api.auth_mode == "noauth" and not _is_of_this_host(settings.listen):
                log.warning(
                    "whoever reaches %s can change every alarm: [api] auth_mode is noauth",
                    settings.listen,
                )
            with Serving(application, settings.listen, api.threads), Signals(ended.set):
                log.info("Aodh's API is served at %s", settings.listen)
                ended.wait()
    return 0


def _asked(settings: Settings, api: APISettings) -> Asked:
    """Return who is asked about rules: the sources of which something says where they are."""
    prometheus = None
    if settings.prometheus_url is not None:
        prometheus = PrometheusRules(
            PrometheusSource(
                settings.prometheus_url, api.threads, settings.prometheus_ca, settings.project_label
            )
        )
    return Asked(_gnocchi(settings, api), prometheus)


def _gnocchi(settings: Settings, api: APISettings) -> GnocchiRules | None:
    access = access_to_gnocchi(settings)
    if access is None:
        return None
    name, domain = api.gnocchi_owner, api.gnocchi_owner_domain
    return GnocchiRules(
        Gnocchi(access, api.threads),
        lambda deadline: access.project_id(name, domain, deadline),
        settings.query_timeout,
    )


def _is_of_this_host(listen: str) -> bool:
    host, _ = host_and_port(listen, listen, least=0)
    try:
        return host in (None, "localhost") or ipaddress.ip_address(str(host)).is_loopback
    except ValueError:
        return False


def wsgi(*config_files: str) -> Application:
    """Return the application for gunicorn, uWSGI or mod_wsgi.

    Args:
        config_files: such as ``/etc/aodh/aodh.conf``.

    Raises:
        HashringError: as ``hashring alarm api`` does.
    """
    paths = [Path(path) for path in config_files]
    settings = evaluators_options.load(paths)
    api, notes = options.load(paths)
    for note in notes:
        log.warning("%s", note)
    with opened(settings) as database:
        # As the block ends its connections are closed: a server that forks then must not share
        # them. It opens others.
        return Application(database, api, Catalogue(settings), _asked(settings, api))
