"""Prometheus's targets as meters: whatever a target exposes, under ``prometheus.``.

A sample ``node_cpu_seconds_total{cpu="0"}`` of a target becomes a measurement of the meter
``prometheus.node_cpu_seconds_total``; its labels become metadata and part of the resource's id. How
the formats are read is the business of ``exposition_text``. This room knows no file and no source.
"""

from __future__ import annotations

import logging
import math
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType

from hashring.telemetry.errors import BadExposition
from hashring.telemetry.model.resource import Resource
from hashring.telemetry.model.sample import Measurement, Meter, MeterType
from hashring.telemetry.model.settings import Settings
from hashring.telemetry.plugin import Pollster
from hashring.telemetry.sources.web import answers
from hashring.telemetry.sources.web.exposition_text import Metric, metrics_of, samples_of
from hashring.telemetry.sources.web.fetch import Fetcher
from hashring.telemetry.sources.web.targets import EXPOSITION, url_of

__all__ = ["BadExposition", "ExpositionPollster", "measurements"]

log = logging.getLogger(__name__)

PREFIX = "prometheus."

_ACCEPT = "text/plain;version=0.0.4, application/openmetrics-text;version=1.0.0;q=0.1, */*;q=0.01"
_OPENMETRICS = "application/openmetrics-text"

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


class ExpositionPollster(Pollster):
    """Asks a target for its metrics, and tells all of them.

    Attributes:
        skipped: samples that are no measurement, by why: ``"not finite"``, ``"repeated"``.
    """

    kinds = frozenset({EXPOSITION})
    prefix = PREFIX

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._fetcher = Fetcher(timeout=settings.poll_timeout, max_bytes=answers.MAX_ANSWER)
        self._lock = threading.Lock()
        self.skipped: Counter[str] = Counter()

    def close(self) -> None:
        """Close the connections."""
        self._fetcher.close()

    def poll(self, resource: Resource) -> list[Measurement]:
        """Ask a target once, and measure what it exposes.

        Raises:
            FetchFailed: no answer, not in time, too large, or a status other than 2xx.
            BadExposition: the answer is in neither format; nothing of it is told.
        """
        deadline = self._fetcher.deadline()
        skipped: Counter[str] = Counter()
        with answers.reading(resource.id, deadline) as reading:
            fetched = self._fetcher.get(
                url_of(resource), deadline=deadline, accept=_ACCEPT, took=reading.took
            )
            try:
                text = fetched.body.decode()
            except UnicodeDecodeError:
                raise BadExposition(f"{resource.id}: the answer is not UTF-8") from None
            with reading.among_few():
                found = reading.kept(
                    measurements(
                        text,
                        resource,
                        is_openmetrics=fetched.content_type.lower().startswith(_OPENMETRICS),
                        skipped=skipped,
                        look=reading.look,
                    )
                )
        self._count(skipped, resource)
        return found

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
    target_labels: Mapping[str, str] = resource.attributes.get("labels", {})
    told: set[tuple[str, str | None]] = set()
    meters: dict[str, Meter] = {}
    try:
        metrics = metrics_of(text, look)
        for sample in samples_of(text, is_openmetrics=is_openmetrics, look=look):
            name, labels, volume = sample.name, sample.labels, _finite(sample.value)
            if volume is None:
                counted["not finite"] += 1
                continue
            id_ = f"{resource.id}#{_shown(labels)}" if labels else None
            if (name, id_) in told:
                counted["repeated"] += 1
                continue
            told.add((name, id_))
            meter = meters.get(name)
            if meter is None:
                meter = meters[name] = _meter(metrics.of(name), name)
            if labels and target_labels:
                labels = {
                    (f"exported_{label}" if label in target_labels else label): value
                    for label, value in labels.items()
                } | dict(target_labels)
            elif target_labels:
                labels = dict(target_labels)
            yield Measurement(meter, volume, id_, MappingProxyType(labels))
    except BadExposition as error:
        raise BadExposition(
            f"{resource.id}: the answer is not in "
            f"{'OpenMetrics' if is_openmetrics else 'the text format'}: {error}"
        ) from None


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


def _finite(volume: float | None) -> float | int | None:
    """Return a volume that any sink can hold; ``None`` for none, or for what is not finite."""
    try:
        if volume is None or not math.isfinite(volume):  # a native histogram has no volume
            return None
    except OverflowError:  # the parser makes an integer of any number of digits
        return None
    return volume if -(2**63) <= volume < 2**64 else float(volume)


def _shown(labels: Mapping[str, str]) -> str:
    r"""Return labels as they stand in an id.

    >>> _shown({"device": "sda", "a": 'say "x"'})
    '{a="say \\"x\\"",device="sda"}'
    """
    pairs = (f'{name}="{_escaped(labels[name])}"' for name in sorted(labels))
    return f"{{{','.join(pairs)}}}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
