"""Samples as an exporter that Prometheus scrapes: prometheus://[address]:port[/path].

The last value of each meter and resource is shown until it is stale. A value that is no longer
measured here, since its resource has moved to another agent, is thus soon shown by that agent
alone. What a scrape looks like is prometheus-client's business, when samples are taken nobody's.
"""

from __future__ import annotations

import errno
import http.client
import logging
import re
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar, NamedTuple

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    Metric,
    UnknownMetricFamily,
)
from prometheus_client.registry import Collector

from hashring import clock
from hashring.errors import BadURL
from hashring.telemetry.model.sample import Meter, MeterType, Sample
from hashring.telemetry.model.settings import Settings
from hashring.telemetry.plugin import Option, Publisher, SinkURL, positive, seconds, unopened
from hashring.telemetry.publishers.serving import BoundedServer, bind

__all__ = ["PrometheusPublisher", "family_name", "label_name"]

log = logging.getLogger(__name__)

_STALE_INTERVALS = 2.5
"""A series outlives one missed sample, and the lateness of the next, but no more."""

_LOOPBACK = "127.0.0.1"
"""What is listened on where no address is named: what an agent knows is not for everybody."""

_PROBE_TIMEOUT = 1.0
"""Seconds in which an agent's exporter that holds a port must say that it is one."""

_SERVER = "hashring"
"""How an exporter names itself in its answers."""

_PURGE_PAUSE = 1.0
"""Seconds between two searches for stale series to make room: each looks at all of them."""

_LABELS = ("resource_id", "project_id", "user_id")

_FAMILIES: dict[MeterType, type[GaugeMetricFamily | CounterMetricFamily | UnknownMetricFamily]] = {
    MeterType.GAUGE: GaugeMetricFamily,
    MeterType.CUMULATIVE: CounterMetricFamily,
    MeterType.DELTA: UnknownMetricFamily,  # Prometheus has none that would be right
}


def family_name(meter: Meter) -> str:
    """Return a meter's name as Prometheus allows it: as Ceilometer's publisher spells it.

    Whatever is neither a letter nor a digit becomes ``_``. To the name of a cumulative meter the
    exporter adds ``_total``, as Prometheus demands of counters.

    Example:
        >>> family_name(Meter("disk.device.read.bytes", MeterType.CUMULATIVE, "B"))
        'disk_device_read_bytes'
        >>> family_name(Meter("1st-level", MeterType.GAUGE, "l"))
        '_1st_level'
    """
    name = re.sub(r"[^a-zA-Z0-9_]", "_", meter.name)
    if meter.type is MeterType.CUMULATIVE:
        name = name.removesuffix("_total")
    return name if name[:1].isalpha() or name.startswith("_") else f"_{name}"


def label_name(key: str) -> str:
    """Return a key of the metadata as a label's name.

    >>> label_name("display-name"), label_name("__name__"), label_name("2nd")
    ('display_name', 'name__', '_2nd')
    """
    # Names that begin with two underscores are Prometheus' own.
    name = re.sub(r"[^a-zA-Z0-9_]", "_", key)
    if name.startswith("__"):
        name = name.lstrip("_")
    return name if name[:1].isalpha() or name.startswith("_") else f"_{name}"


def _labels(text: str) -> tuple[str, ...]:
    keys = tuple(part for part in text.split(",") if part)
    names = [label_name(key) for key in keys]
    if len({*names, *_LABELS}) < len(names) + len(_LABELS):
        raise ValueError("two labels would have one name")
    return keys


class _Series(NamedTuple):
    """The last value of one series."""

    order: tuple[float, float]  # the start of its window, and its time stamp: later ones are newer
    expires: float  # on the clock of clock.boottime()
    labels: list[str]  # the values
    volume: float | int


class _Values(Collector):
    """The last values, as they are now: written by the publisher, read by whoever scrapes."""

    def __init__(self, stale: float | None, labels: tuple[str, ...], most: int) -> None:
        self._stale = stale
        self._metadata = labels
        self._label_names = [*_LABELS, *(label_name(key) for key in labels)]
        self._most = most
        self._lock = threading.Lock()
        self._families: dict[Meter, dict[str, _Series]] = {}
        self._names: dict[str, Meter] = {}
        self._units: dict[Meter, str] = {}
        self._size = 0
        self._purged = float("-inf")

    def add(self, sample: Sample) -> tuple[str, str] | None:
        """Take a sample, or return why it cannot be shown: a cause, and details."""
        now = clock.boottime()
        order = (sample.window * sample.interval, sample.timestamp)
        # A sample that has waited elsewhere is as old as it is. Its time stamp is of the wall
        # clock; from here on only a clock counts that never steps.
        age = max(0.0, clock.wall() - sample.timestamp)
        stale = self._stale if self._stale is not None else _STALE_INTERVALS * sample.interval
        # What names and types one agent's meters have, another's have too; a unit is but told.
        meter = sample.meter._replace(unit="")
        with self._lock:
            family = self._families.get(meter)
            before = family.get(sample.resource_id) if family else None
            if before is None and age >= stale:
                return None
            if before is not None and order < before.order:
                return None
            if before is None:
                if self._size >= self._most:
                    self._purge(now)
                if self._size >= self._most:
                    return "there are too many series", f"max_series is {self._most}"
                if holder := self._claim(meter):
                    detail = f"the {holder.type} meter {holder.name!r} is shown under it"
                    return "another meter has its name", detail
                family = self._families.setdefault(meter, {})
                self._units.setdefault(meter, sample.meter.unit)
                self._size += 1
            assert family is not None
            family[sample.resource_id] = _Series(
                order, now + stale - age, self._labels_of(sample), sample.volume
            )
        return None

    def _claim(self, meter: Meter) -> Meter | None:
        """Take a meter's names, or return the meter that has one of them."""
        name = family_name(meter)
        names = [name, f"{name}_total"] if meter.type is MeterType.CUMULATIVE else [name]
        for one in names:
            if self._names.get(one, meter) != meter:
                return self._names[one]
        for one in names:
            self._names[one] = meter
        return None

    def _labels_of(self, sample: Sample) -> list[str]:
        more = (sample.metadata.get(key) for key in self._metadata)
        values = (sample.resource_id, sample.project_id, sample.user_id, *more)
        return ["" if value is None else _text(value) for value in values]

    def _purge(self, now: float) -> None:
        if now - self._purged < _PURGE_PAUSE:
            return
        self._purged = now
        kept: dict[Meter, dict[str, _Series]] = {}
        for meter, family in self._families.items():
            alive = {key: series for key, series in family.items() if series.expires > now}
            if alive:
                kept[meter] = alive
        self._families = kept
        self._size = sum(len(family) for family in kept.values())
        self._names = {name: meter for name, meter in self._names.items() if meter in kept}
        self._units = {meter: unit for meter, unit in self._units.items() if meter in kept}

    def collect(self) -> Iterable[Metric]:
        """Return the series that are not stale."""
        now = clock.boottime()
        with self._lock:
            self._purge(now)
            families = [
                (meter, self._units[meter], [one for one in family.values() if one.expires > now])
                for meter, family in self._families.items()
            ]
        return self._metrics(families)

    def _metrics(self, families: list[tuple[Meter, str, list[_Series]]]) -> Iterator[Metric]:
        for meter, unit, family in families:
            if not family:
                continue
            about = f"{meter.name} in {unit}" if unit else meter.name
            metric = _FAMILIES[meter.type](family_name(meter), about, labels=self._label_names)
            for series in family:
                metric.add_metric(series.labels, series.volume)
            yield metric


def _text(value: Any) -> str:
    """Return a label's value; what is no valid Unicode, as a file's name may be, as ``?``."""
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return text.encode("utf-8", "replace").decode()


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
        self._values = _Values(options["stale"], options["labels"], options["max_series"])
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
        registry = CollectorRegistry()
        registry.register(self._values)
        self._path = found.path if found.path not in ("", "/") else "/metrics"
        self._metrics = make_wsgi_app(registry)
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
        found: Iterable[bytes] = self._metrics(environ, start)
        return found

    def publish(self, samples: Sequence[Sample]) -> None:
        """Keep the values until Prometheus asks for them, or they are stale. Never fails."""
        for sample in samples:
            if why := self._values.add(sample):
                self.set_aside([sample], *why)

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
