"""Prometheus's text formats: samples, and what is said of metrics, each by its name.

What is said of a metric (``# TYPE``, ``# UNIT``) holds for every sample of it, wherever in the text
the lines stand: so Prometheus reads them. The parser of prometheus-client lets it hold for the
lines that follow directly, and takes ``x_total`` for no sample of a counter ``x``. Here it is given
the lines of samples alone, and names are looked up afterwards; it is lax enough to read those of
OpenMetrics too. This module knows no target and no meter.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from hashring.errors import HashringError, MissingDependency
from hashring.telemetry.errors import BadExposition

try:
    from prometheus_client import parser as _parser
    from prometheus_client.samples import Sample
except ImportError as error:  # pragma: no cover - the tests of the wheel run without it
    raise MissingDependency("the telemetry agent", "prometheus-client", "telemetry") from error

__all__ = ["MAX_LINE", "BadExposition", "Metric", "Metrics", "metrics_of", "samples_of"]

MAX_LINE = 64 * 1024
"""Characters of a line, at most: the parser copies the rest of a line for each of its labels."""

_PIECE = 64 * 1024
"""Characters that are read between two looks at the clock."""

_EOF = "# EOF"

_SAID = re.compile(
    r"#[ \t]+(?P<what>TYPE|UNIT)[ \t]+"
    r'(?P<name>"(?:[^"\\]|\\.)*"|[^ \t"{}]+)[ \t]+(?P<value>\S+)[ \t]*'
)

_MEMBERS: Mapping[str, frozenset[str]] = {
    "counter": frozenset(("_total", "_created")),
    "gaugehistogram": frozenset(("_bucket", "_gcount", "_gsum", "_count", "_sum")),
    "histogram": frozenset(("_bucket", "_count", "_sum", "_created")),
    "info": frozenset(("_info",)),
    "summary": frozenset(("_count", "_sum", "_created")),
}
"""By a metric's type: what the names of its samples may have beyond the metric's own. (A gauge
histogram's count and sum have other names in protobuf than in OpenMetrics.)"""

_TYPES = frozenset(_MEMBERS) | {"gauge", "stateset", "unknown", "untyped"}

_SUFFIXES = tuple(sorted({suffix for suffixes in _MEMBERS.values() for suffix in suffixes}))

_fd: Callable[[Any], Iterable[Any]] = _parser.text_fd_to_metric_families


class Metric(NamedTuple):
    """What a sample belongs to.

    Attributes:
        name: the metric's, as it was said; of a sample of which nothing was said, its own.
        type: as it was said; ``"unknown"`` where it was not.
        unit: as it was said; empty where it was not.
    """

    name: str
    type: str
    unit: str


class Metrics:
    """What an exposition says of its metrics, by name.

    Args:
        types: of the metrics, by their names.
        units: of the metrics, by their names.

    Example:
        >>> metrics = Metrics({"x": "counter", "wait": "summary", "wait_count": "gauge"}, {})
        >>> metrics.of("x_total")
        Metric(name='x', type='counter', unit='')
        >>> metrics.of("wait_sum").type, metrics.of("wait_count").type, metrics.of("x_sum").type
        ('summary', 'gauge', 'unknown')
    """

    def __init__(self, types: Mapping[str, str], units: Mapping[str, str]) -> None:
        self._types = types
        self._units = units

    def of(self, name: str) -> Metric:
        """Return what a sample of this name belongs to: what bears its very name, if anything."""
        found = name
        if name not in self._types:
            for suffix in _SUFFIXES:
                base = name.removesuffix(suffix)
                if base != name and suffix in _MEMBERS.get(self._types.get(base, ""), ()):
                    found = base
                    break
        return Metric(found, self._types.get(found, "unknown"), self._units.get(found, ""))


def metrics_of(text: str, look: Callable[[], None] = lambda: None) -> Metrics:
    """Return what an exposition says of its metrics. Where it says two things, the last one counts.

    Args:
        text: in Prometheus's text format, or in OpenMetrics.
        look: is called now and then; what it raises ends the reading.

    Raises:
        BadExposition: it names an unknown type.
    """
    types: dict[str, str] = {}
    units: dict[str, str] = {}
    for line in _lines(text, look):
        if not line.startswith("#"):
            continue
        match = _SAID.fullmatch(line)
        if match is None:
            if re.match(r"#[ \t]+TYPE([ \t]|$)", line):
                raise BadExposition(f"{line[:100]!r} does not say the type of a metric")
            continue
        name, value = match["name"], match["value"]
        if name.startswith('"'):
            name = re.sub(r"\\(.)", lambda match: "\n" if match[1] == "n" else match[1], name[1:-1])
        if match["what"] == "UNIT":
            units[name] = value
        elif value not in _TYPES:
            raise BadExposition(f"{value[:100]!r} is not a type of a metric")
        else:
            types[name] = value
    return Metrics(types, units)


def samples_of(
    text: str, *, is_openmetrics: bool = False, look: Callable[[], None] = lambda: None
) -> Iterator[Sample]:
    """Iterate over the samples of an exposition, each by its own name.

    Args:
        text: in Prometheus's text format, or in OpenMetrics. An exemplar is not looked at.
        is_openmetrics: it must end as OpenMetrics does: an answer that was cut off has no end.
        look: is called now and then; what it raises ends the reading.

    Raises:
        BadExposition: the text is not in the format.
    """
    try:
        for family in _fd(_sample_lines(text, is_openmetrics, look)):
            yield from family.samples
    except HashringError:
        raise
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        # The parser raises what it stumbles over, with the line or without.
        said = " ".join(str(error)[:1000].split())[:200] or "an invalid line"
        raise BadExposition(said) from None


def _sample_lines(text: str, is_openmetrics: bool, look: Callable[[], None]) -> Iterator[str]:
    is_over = False
    for line in _lines(text, look):
        if is_over and is_openmetrics:
            raise BadExposition(f"a line follows {_EOF!r}")
        if line.startswith("#"):
            is_over = line == _EOF
        elif line:
            yield line
    if is_openmetrics and not is_over:
        raise BadExposition(f"{_EOF!r} is missing at the end: was it cut off?")


def _lines(text: str, look: Callable[[], None]) -> Iterator[str]:
    """Iterate over the lines, without blanks around them. Only a line feed ends a line."""
    start, looked = 0, 0
    while start < len(text):
        end = text.find("\n", start, start + MAX_LINE + 1)
        if end < 0:
            if len(text) - start > MAX_LINE:
                raise BadExposition(f"a line has more than {MAX_LINE} characters")
            end = len(text)
        yield text[start:end].strip()
        start = end + 1
        if start - looked > _PIECE:
            look()
            looked = start
