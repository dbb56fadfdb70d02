"""Prometheus's targets as meters: whatever a target exposes, under ``prometheus.``.

A sample ``node_cpu_seconds_total{cpu="0"}`` of a target becomes a measurement of the meter
``prometheus.node_cpu_seconds_total``; its labels become metadata and part of the resource's id. How
the formats are read is the business of ``exposition_series``, and which there are that of
``exposition_formats``. This module knows no file and no source.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from hashring.telemetry.errors import BadExposition
from hashring.telemetry.model.batch import Measured
from hashring.telemetry.model.resource import Resource
from hashring.telemetry.model.sample import Measurement, Meter, MeterType
from hashring.telemetry.model.settings import Settings
from hashring.telemetry.plugin import AsyncPollster
from hashring.telemetry.sources.web import answers
from hashring.telemetry.sources.web.exposition_formats import Form, accepted, form_of
from hashring.telemetry.sources.web.exposition_series import ExpositionReader, count_samples
from hashring.telemetry.sources.web.exposition_text import Metric, Metrics, metrics_of, samples_of
from hashring.telemetry.sources.web.fetch import Fetched, Fetcher
from hashring.telemetry.sources.web.labels import finite, shown, with_target
from hashring.telemetry.sources.web.targets import EXPOSITION, url_of

if TYPE_CHECKING:
    from prometheus_client.samples import Sample

__all__ = ["BadExposition", "ExpositionPollster", "measurements"]

log = logging.getLogger(__name__)

PREFIX = "prometheus."

_CUMULATIVE: Mapping[str, frozenset[str]] = {
    "counter": frozenset(("", "_total")),
    "histogram": frozenset(("_bucket", "_count", "_sum")),
    "summary": frozenset(("_count", "_sum")),
}
"""By a metric's type: the suffixes of those of its samples that only grow."""

_COUNTS = ("_bucket", "_count", "_gcount")  # of observations, whatever these are measured in
_UNITS: Mapping[str, str] = {
    "amperes": "A",
    "bytes": "B",
    "celsius": "C",
    "grams": "g",
    "hertz": "Hz",
    "joules": "J",
    "meters": "m",
    "seconds": "s",
    "volts": "V",
    "watts": "W",
}
"""Units by the words in which Prometheus's conventions let a metric's name end."""


class ExpositionPollster(AsyncPollster):
    """Asks a target for its metrics, and tells all of them.

    Attributes:
        skipped: samples that are not measurements, by why: ``"not finite"``, ``"repeated"``.
    """

    kinds = frozenset({EXPOSITION})
    prefix = PREFIX

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._fetcher = Fetcher(
            timeout=settings.poll_timeout,
            max_bytes=answers.MAX_ANSWER,
            per_host=settings.max_per_host,
        )
        self._accepted = accepted(settings.scrape_protocols)
        self._reader = ExpositionReader(_meter)
        self._lock = threading.Lock()
        self.skipped: Counter[str] = Counter()

    def close(self) -> None:
        """Close the connections."""
        self._fetcher.close()
        super().close()

    async def measure(self, resource: Resource) -> Measured:
        """Ask a target once, and measure what it exposes.

        Raises:
            FetchFailed: no answer, not in time, too large, or a status other than 2xx.
            BadExposition: the answer is in none of the formats; nothing of it is told.
        """
        deadline = self._fetcher.deadline()
        skipped: Counter[str] = Counter()
        with answers.reading(resource.id, deadline) as reading:
            fetched = await self._fetcher.get(
                url_of(resource), deadline=deadline, accept=self._accepted, took=reading.took
            )
            found = await self._read(fetched, resource, reading, skipped)
        self._count(skipped, resource)
        return found

    async def _read(
        self, fetched: Fetched, resource: Resource, reading: answers.Reading, skipped: Counter[str]
    ) -> Measured:
        body = fetched.body
        try:
            form = form_of(fetched.content_type)
        except BadExposition as error:
            raise BadExposition(f"{resource.id}: the answer cannot be read: {error}") from None
        if form is Form.PROTOBUF:
            # Where the twin in plain Python counts, that takes its time: not on the event loop.
            count = await reading.read(lambda: count_samples(body))
        else:
            count = body.count(b"\n") + 1

        def read() -> Measured:
            with reading.among_few(), _named(resource, form):
                if form is Form.PROTOBUF:
                    return self._reader.read_messages(
                        body, resource, skipped=skipped, look=reading.took_samples
                    )
                return self._reader.read(
                    body,
                    resource,
                    is_openmetrics=form is Form.OPENMETRICS,
                    skipped=skipped,
                    look=reading.took_samples,
                )

        return await reading.read(read, samples=count)

    def _count(self, skipped: Counter[str], resource: Resource) -> None:
        with self._lock:
            first = [why for why in skipped if why not in self.skipped]
            self.skipped.update(skipped)
        for why in first:
            log.info(
                "%s: %d samples are %s and are skipped (further ones are counted, not logged)",
                resource.id,
                skipped[why],
                why,
            )


def measurements(
    text: str,
    resource: Resource,
    *,
    is_openmetrics: bool = False,
    skipped: Counter[str] | None = None,
    look: Callable[[], None] = lambda: None,
) -> Iterator[Measurement]:
    """Iterate over what an exposition says.

    Samples of histograms' buckets, sums and counts, of summaries' sums and counts, and counters
    are cumulative, all others are gauges. Time stamps in the text are not looked at.

    Args:
        text: in Prometheus's text format, or in OpenMetrics.
        resource: of what; its labels go into the metadata. Where a sample has one of the same
            name, the sample's is called ``exported_NAME``, as Prometheus does.
        is_openmetrics: the format is OpenMetrics.
        skipped: counts samples that are left out, by why.
        look: is called now and then; what it raises ends the reading.

    Raises:
        BadExposition: the text is not in the format.

    Example:
        >>> text = '''
        ... # TYPE http_seconds summary
        ... http_seconds{quantile="0.5"} 0.25
        ... http_seconds_count 17
        ... '''
        >>> web1 = Resource("prometheus+http://web1/metrics", "exposition")
        >>> for found in measurements(text, web1):
        ...     print(found.meter.name, found.meter.type, found.meter.unit, found.volume)
        ...     print(found.resource_id)
        prometheus.http_seconds gauge s 0.25
        prometheus+http://web1/metrics#{quantile="0.5"}
        prometheus.http_seconds_count cumulative  17
        None
    """
    counted: Counter[str] = Counter() if skipped is None else skipped
    with _named(resource, Form.OPENMETRICS if is_openmetrics else Form.TEXT):
        metrics = metrics_of(text, look)
        samples = samples_of(text, is_openmetrics=is_openmetrics, look=look)
        yield from _measured(metrics, samples, resource, counted)


@contextlib.contextmanager
def _named(resource: Resource, form: Form) -> Iterator[None]:
    """Name the target in the error that its answer cannot be read."""
    try:
        yield
    except BadExposition as error:
        raise BadExposition(f"{resource.id}: the answer is not in {form.value}: {error}") from None
    except UnicodeDecodeError:
        raise BadExposition(f"{resource.id}: the answer is not UTF-8") from None


def _measured(
    metrics: Metrics, samples: Iterable[Sample], resource: Resource, counted: Counter[str]
) -> Iterator[Measurement]:
    target_labels: Mapping[str, str] = resource.attributes.get("labels", {})
    told: set[tuple[str, str | None]] = set()
    meters: dict[str, Meter] = {}
    for sample in samples:
        name, labels, volume = sample.name, sample.labels, finite(sample.value)
        if volume is None:
            counted["not finite"] += 1
            continue
        id_ = f"{resource.id}#{shown(labels)}" if labels else None
        if (name, id_) in told:
            counted["repeated"] += 1
            continue
        told.add((name, id_))
        meter = meters.get(name)
        if meter is None:
            meter = meters[name] = _meter(metrics.of(name), name)
        if target_labels:
            labels = with_target(labels, target_labels)
        yield Measurement(meter, volume, id_, MappingProxyType(labels))


def _meter(metric: Metric, name: str) -> Meter:
    suffix = name.removeprefix(metric.name)
    is_growing = suffix in _CUMULATIVE.get(metric.type, ())
    if suffix in _COUNTS:
        unit = ""
    elif suffix == "_created":
        unit = "s"
    else:
        word = metric.unit or metric.name.removesuffix("_total").rpartition("_")[2]
        unit = _UNITS.get(word, metric.unit)
    return Meter(PREFIX + name, MeterType.CUMULATIVE if is_growing else MeterType.GAUGE, unit)
