"""Samples as an exporter that Prometheus scrapes: prometheus://[address]:port[/path].

The last value of each meter and resource is shown until it is stale. A value that is no longer
measured here, since its resource has moved to another agent, is thus soon shown by that agent
alone. Which format a scraper asks for is prometheus-client's business, what is shown that of
``last_values``, and when samples are taken nobody's.
"""

from __future__ import annotations

import errno
import gzip
import http.client
import logging
import threading
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar
from urllib.parse import parse_qs

from prometheus_client.exposition import choose_encoder, gzip_accepted

from hashring.errors import BadURL
from hashring.telemetry.model.batch import Batch, batches_of
from hashring.telemetry.model.sample import Sample
from hashring.telemetry.model.settings import Settings
from hashring.telemetry.plugin import Option, Publisher, SinkURL, positive, seconds, unopened
from hashring.telemetry.publishers.last_values import LABELS, LastValues, family_name, label_name
from hashring.telemetry.publishers.serving import BoundedServer, bind

__all__ = ["PrometheusPublisher", "family_name", "label_name"]

log = logging.getLogger(__name__)

_LOOPBACK = "127.0.0.1"
"""What is listened on where no address is named: what an agent knows is not for everybody."""

_PROBE_TIMEOUT = 1.0
"""Seconds in which an agent's exporter that holds a port must say that it is one."""

_SERVER = "hashring"
"""How an exporter names itself in its answers."""

_OPENMETRICS = "application/openmetrics-text"

_LEVEL = 1
"""Of compression: who scrapes waits for it, over a network that is rarely the narrow place."""


def _labels(text: str) -> tuple[str, ...]:
    keys = tuple(part for part in text.split(",") if part)
    names = [label_name(key) for key in keys]
    if len({*names, *LABELS}) < len(names) + len(LABELS):
        raise ValueError("two labels would have one name")
    return keys


class PrometheusPublisher(Publisher):
    """Serves the last values to Prometheus: ``prometheus://:9464``, ``prometheus://[::1]:9464/m``.

    Without an address it listens on 127.0.0.1 alone, and says so; ``prometheus://0.0.0.0:9464`` and
    ``prometheus://[::]:9464`` listen on all of them. The path is ``/metrics`` unless another one is
    named. Agents that run on one host need a port each: ``ports=4`` takes the first free one of
    four, from the one that is named on.

    Attributes:
        port: the port that it listens on.
    """

    options: ClassVar[tuple[Option, ...]] = (
        Option(
            "stale",
            seconds,
            None,
            "seconds without a sample after which a series is no longer shown; "
            "else 2.5 of the sample's intervals",
        ),
        Option(
            "max_series",
            positive,
            100_000,
            "the most series; samples of further ones are set aside",
        ),
        Option("labels", _labels, (), "keys of the metadata that are shown as labels, a,b,c"),
        Option(
            "ports", positive, 1, "how many ports to try, one after the other, until one is free"
        ),
    )

    def __init__(self, url: str, settings: Settings) -> None:
        super().__init__(url, settings)
        found = SinkURL.parse(url, self.options)
        if found.path.startswith("/metrics/job/"):
            raise BadURL(
                f"{found.shown!r} is the address of a Pushgateway, as Ceilometer's publisher takes "
                "it; this one is an exporter that Prometheus scrapes: write prometheus://:9464"
            )
        if found.port is None:
            raise BadURL(f"{found.shown!r} names no port: write prometheus://:9464")
        if found.user is not None:
            raise BadURL(f"{found.shown!r}: there is no user or password to be had")
        options = found.options
        self._values = LastValues(options["stale"], options["labels"], options["max_series"])
        self._server: BoundedServer | None = _listen(found, options["ports"])
        self.port: int = self._server.server_port
        if not found.host:
            log.warning(
                "%s names no address: it listens on %s alone; write prometheus://0.0.0.0:%d or "
                "prometheus://[::]:%d where others are to scrape it",
                found,
                _LOOPBACK,
                found.port,
                found.port,
            )
        self._path = found.path if found.path not in ("", "/") else "/metrics"
        self._server.set_app(self._serve)
        self._thread = threading.Thread(
            target=self._server.serve_forever,
            kwargs={"poll_interval": 0.1},
            name=f"prometheus:{self.port}",
            daemon=True,
        )
        self._thread.start()

    def _serve(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        def start(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
            return start_response(status, [*headers, ("Server", _SERVER)], *rest)

        if environ["PATH_INFO"] != self._path:
            start("404 Not Found", [("Content-Type", "text/plain; charset=utf-8")])
            return [f"the metrics are at {self._path}\n".encode()]
        if environ["REQUEST_METHOD"] != "GET":
            start("405 Method Not Allowed", [("Allow", "GET")])
            return [b"use GET\n"]
        _, content_type = choose_encoder(environ.get("HTTP_ACCEPT", ""))
        names = parse_qs(environ.get("QUERY_STRING", "")).get("name[]")
        body = self._values.rendered(
            is_openmetrics=content_type.startswith(_OPENMETRICS), names=names
        )
        headers = [("Content-Type", content_type)]
        if gzip_accepted(environ.get("HTTP_ACCEPT_ENCODING", "")):
            body = gzip.compress(body, _LEVEL, mtime=0)
            headers.append(("Content-Encoding", "gzip"))
        start("200 OK", headers)
        return [body]

    def publish(self, samples: Sequence[Sample]) -> None:
        """Keep the values until Prometheus asks for them, or they are stale. Never fails."""
        # Its own, not that of a subclass that hands its samples on to here.
        PrometheusPublisher.publish_batches(self, batches_of(samples))

    def publish_batches(self, batches: Sequence[Batch]) -> None:
        """Keep the values until Prometheus asks for them, or they are stale. Never fails."""
        for batch in batches:
            for one in self._values.add(batch):
                self.set_aside([batch[one.row]], one.cause, one.detail)

    def close(self) -> None:
        """Stop serving, and wait for the scrapes that are going on."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            self._thread.join()
            server.server_close()


def _listen(url: SinkURL, ports: int) -> BoundedServer:
    assert url.port is not None
    tried = [0] if url.port == 0 else list(range(url.port, min(url.port + ports, 65536)))
    for port in tried:
        try:
            return bind(url.host or _LOOPBACK, port)
        except OSError as error:
            failure = error
    shown = str(tried[0]) if len(tried) == 1 else f"{tried[0]} to {tried[-1]}"
    raise unopened(
        f"cannot listen on {url.host or _LOOPBACK}, port {shown}, for {url}: "
        f"{failure.strerror or failure}; name another one, or with ?ports= as many as there are "
        "agents on this host",
        failure,
        is_held_by_agent=failure.errno == errno.EADDRINUSE and _is_agent(url.host, tried[0]),
    )


def _is_agent(host: str, port: int) -> bool:
    """Return whether an agent's exporter answers there: it names itself as the server."""
    probe = http.client.HTTPConnection(host or _LOOPBACK, port, timeout=_PROBE_TIMEOUT)
    try:
        probe.request("HEAD", "/")
        return probe.getresponse().getheader("Server") == _SERVER
    except (OSError, http.client.HTTPException):
        return False
    finally:
        probe.close()
