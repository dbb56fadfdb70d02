"""Expositions in protobuf, and what a series' key says: plain-Python twin of ``_messages``.

An answer is one message ``io.prometheus.client.MetricFamily`` after the other, each behind its
length. Both twins offer :class:`Scanner`, :func:`described`, :func:`described_all` and
:func:`count_samples`, and one test suite runs over both. This module knows no target.

A series is known by a key, as a line's text is in ``exposition_lines``: what kind of sample it is
(a byte), the metric's name behind its length (4 bytes), of a bucket or quantile the bound (8), and
the labels as they were sent. So a series that was seen before is recognised by a comparison.
"""

from __future__ import annotations

import decimal
import functools
import json
import math
import struct
from collections.abc import Iterator, Mapping, Sequence

from hashring.telemetry.errors import BadExposition
from hashring.telemetry.sources.web import native_histograms
from hashring.telemetry.sources.web.exposition_text import Metrics
from hashring.telemetry.sources.web.labels import shown
from hashring.telemetry.sources.web.protobuf_fields import (
    BYTES,
    EIGHT,
    VARINT,
    Field,
    double,
    fields,
    length,
)

__all__ = ["Scanner", "count_samples", "described", "described_all", "metrics_of", "number_text"]

MAX_LABELS = 64 * 1024
"""Bytes of a series' labels, at most: as many as of a line."""

MAX_BOUNDS = 16_384
"""Buckets or quantiles of one series, at most: they are read in one go."""

COUNTER, GAUGE, SUMMARY, UNTYPED, HISTOGRAM, GAUGE_HISTOGRAM = range(6)
_TYPES = ("counter", "gauge", "summary", "untyped", "histogram", "gaugehistogram")

_BODIES = {COUNTER: 3, GAUGE: 2, SUMMARY: 4, UNTYPED: 5, HISTOGRAM: 7, GAUGE_HISTOGRAM: 7}
"""By a metric's type: the field of a message ``Metric`` that its value stands in."""

ITSELF, QUANTILE, BUCKET, SUM, COUNT = range(1, 6)
_SUFFIXES = {ITSELF: "", QUANTILE: "", BUCKET: "_bucket", SUM: "_sum", COUNT: "_count"}
_BOUNDS = {QUANTILE: "quantile", BUCKET: "le"}
"""The kinds of samples: what they add to the metric's name, and by what label their bound goes."""

_NAME, _TYPE, _METRIC, _UNIT = 1, 3, 4, 5  # fields of MetricFamily
_LABEL = 1  # of Metric
_VALUE = 1  # of Counter, Gauge and Untyped
_NATIVE = frozenset((6, 7, 8, 9, 10, 11, 12, 13, 14))  # of Histogram: what native ones have
_IN_BUCKETS = frozenset((10, 11, 13, 14))  # of Histogram: how many observations buckets have
_FEW_DIGITS = 6
"""Go writes numbers with more of them before the point with an exponent."""

_SIZE = struct.Struct("<I")
_BOUND = struct.Struct("<d")


class Scanner:
    """Reads an exposition piece by piece, beside what the last one had.

    Args:
        body: the whole.
        known: the series of the last answer, in its order: keys that are the same need not be
            read again.

    Attributes:
        keys: by sample, its series' key.
        volumes: by sample; ``None`` where it is not finite.
        said: by metric that has series, its type (a byte), its name behind its length (4), and its
            unit.
        is_same: no series has been met so far that is another than the known one of its place.
    """

    def __init__(self, body: bytes, known: list[bytes]) -> None:
        self.keys: list[bytes] = []
        self.volumes: list[float | int | None] = []
        self.said: list[bytes] = []
        self.is_same = True
        self._body = body
        self._known = known
        self._at = 0
        self._steps = self._read()

    def read(self, size: int) -> bool:
        """Read on for so many bytes, to the end of a series; return whether there may be more.

        Raises:
            BadExposition: it is not in the format.
        """
        until = self._at + size
        for at in self._steps:
            if at >= until:
                self._at = at
                return True
        return False

    def _read(self) -> Iterator[int]:
        """Read metric by metric; after each series tell how far it is."""
        body, at = self._body, 0
        while at < len(body):
            many, start = length(body, at, len(body))
            at = start + many
            name, type_ = self._begin(start, at)
            for field in fields(body, start, at):
                if (field.number, field.type) == (_METRIC, BYTES):
                    self._series(field, name, type_)
                    yield field.start + field.value
            yield at

    def _begin(self, start: int, end: int) -> tuple[bytes, int]:
        """Return a metric's name, behind its length, and type; they may stand behind its series."""
        body, name, unit, type_ = self._body, b"", b"", COUNTER
        has_series = False
        for field in fields(body, start, end):
            if (field.number, field.type) == (_NAME, BYTES):
                name = _bytes(body, field)
            elif (field.number, field.type) == (_UNIT, BYTES):
                unit = _bytes(body, field)
            elif (field.number, field.type) == (_TYPE, VARINT):
                type_ = field.value
            elif (field.number, field.type) == (_METRIC, BYTES):
                has_series = True
        if type_ >= len(_TYPES):
            raise BadExposition(f"{type_} is not a type of a metric")
        if not name and has_series:
            raise BadExposition("a metric has no name")
        name = _SIZE.pack(len(name)) + name
        if has_series:  # of others there may be millions
            self.said.append(bytes((type_,)) + name + unit)
        return name, type_

    def _series(self, series: Field, name: bytes, type_: int) -> None:
        data, at = self._body, series.start
        labels: list[bytes] = []
        parts: list[bytes] = []
        for field in fields(data, at, at + series.value):
            end = field.start if field.type == VARINT else field.start + field.value
            if (field.number, field.type) == (_LABEL, BYTES):
                labels.append(data[at:end])
            elif (field.number, field.type) == (_BODIES[type_], BYTES):
                parts.append(_bytes(data, field))
            at = end
        label = b"".join(labels)
        if len(label) > MAX_LABELS:
            raise BadExposition(f"a series' labels have more than {MAX_LABELS} bytes")
        if not parts:
            raise BadExposition(f"a metric of the type {_TYPES[type_]} has no value of it")
        # One behind the other they are one message: a later field replaces an earlier one.
        for kind, bound, volume in _samples(type_, b"".join(parts)):
            self._add(bytes((kind,)) + name + bound + label, volume)

    def _add(self, key: bytes, volume: float | int) -> None:
        place = len(self.keys)
        if self.is_same and not (place < len(self._known) and self._known[place] == key):
            self.is_same = False
        self.keys.append(key)
        self.volumes.append(volume if math.isfinite(volume) else None)


def _bytes(data: bytes, field: Field) -> bytes:
    return data[field.start : field.start + field.value]


def _samples(type_: int, data: bytes) -> Iterator[tuple[int, bytes, float | int]]:
    """Iterate over a value's samples: the kind of each, its bound, and its volume."""
    if type_ == SUMMARY:
        yield from _of_summary(data)
    elif type_ in (HISTOGRAM, GAUGE_HISTOGRAM):
        yield from _of_histogram(data)
    else:
        volume = 0.0
        for field in fields(data, 0, len(data)):
            if (field.number, field.type) == (_VALUE, EIGHT):
                volume = double(data, field.start)
        yield ITSELF, b"", volume


def _check_bounds(number: int) -> None:
    if number > MAX_BOUNDS:
        raise BadExposition(f"a series has more than {MAX_BOUNDS} buckets or quantiles")


def _of_summary(data: bytes) -> Iterator[tuple[int, bytes, float | int]]:
    count, total, bounds = 0, 0.0, 0
    for field in fields(data, 0, len(data)):
        if (field.number, field.type) == (1, VARINT):
            count = field.value
        elif (field.number, field.type) == (2, EIGHT):
            total = double(data, field.start)
        elif (field.number, field.type) == (3, BYTES):
            bounds += 1
            _check_bounds(bounds)
            quantile = volume = 0.0
            for one in fields(data, field.start, field.start + field.value):
                if (one.number, one.type) == (1, EIGHT):
                    quantile = double(data, one.start)
                elif (one.number, one.type) == (2, EIGHT):
                    volume = double(data, one.start)
            yield QUANTILE, _BOUND.pack(quantile), volume
    yield SUM, b"", total
    yield COUNT, b"", count


def _of_histogram(data: bytes) -> Iterator[tuple[int, bytes, float | int]]:
    count, count_float, total, is_native = 0, 0.0, 0.0, False
    found: list[tuple[float, float | int]] = []
    for field in fields(data, 0, len(data)):
        if (field.number, field.type) == (1, VARINT):
            count = field.value
        elif (field.number, field.type) == (2, EIGHT):
            total = double(data, field.start)
        elif (field.number, field.type) == (3, BYTES):
            found.append(_bucket(data, field))
            _check_bounds(len(found))
        elif (field.number, field.type) == (4, EIGHT):
            count_float = double(data, field.start)
        elif field.number in _NATIVE:
            is_native = True
    all_ = count_float if count_float > 0 else count
    if is_native and not found:
        found = native_histograms.buckets(data)
    for bound, volume in found:
        yield BUCKET, _BOUND.pack(bound), volume
    if all(bound != math.inf for bound, _ in found):
        yield BUCKET, _BOUND.pack(math.inf), all_
    yield SUM, b"", total
    yield COUNT, b"", all_


def _bucket(data: bytes, bucket: Field) -> tuple[float, float | int]:
    count, count_float, bound = 0, 0.0, 0.0
    for field in fields(data, bucket.start, bucket.start + bucket.value):
        if (field.number, field.type) == (1, VARINT):
            count = field.value
        elif (field.number, field.type) == (2, EIGHT):
            bound = double(data, field.start)
        elif (field.number, field.type) == (4, EIGHT):
            count_float = double(data, field.start)
    return bound, count_float if count_float > 0 else count


def count_samples(body: bytes) -> int:
    """Return how many samples an answer has, at most; of what is not in the format, any number."""
    found = 0
    try:
        at = 0
        while at < len(body):
            many, start = length(body, at, len(body))
            at = start + many
            for family in fields(body, start, at):
                if (family.number, family.type) != (_METRIC, BYTES):
                    continue
                found += 1
                for field in fields(body, family.start, family.start + family.value):
                    if field.number in (4, 7) and field.type == BYTES:
                        found += 3 + _count_parts(body, field)
    except BadExposition:
        pass  # whoever reads it will say what is wrong
    return found


def _count_parts(body: bytes, message: Field) -> int:
    """Return how many buckets or quantiles there are, at most: one takes a byte or a field."""
    found = 0
    for field in fields(body, message.start, message.start + message.value):
        if field.number == 3:
            found += 1
        elif field.number in _IN_BUCKETS:
            found += field.value if field.type == BYTES else 1
    return found


def metrics_of(said: Sequence[bytes]) -> Metrics:
    r"""Return what is said of metrics. Where two things are said of one, the last one counts.

    Args:
        said: a scanner's.

    Raises:
        UnicodeDecodeError: a name is not UTF-8.

    Example:
        >>> metrics_of([b"\x01\x04\0\0\0loadpercent"]).of("load")
        Metric(name='load', type='gauge', unit='percent')
    """
    types: dict[str, str] = {}
    units: dict[str, str] = {}
    for one in said:
        end = 5 + _SIZE.unpack_from(one, 1)[0]
        name, unit = one[5:end].decode(), one[end:].decode()
        types[name] = _TYPES[one[0]]
        if unit:
            units[name] = unit
    return Metrics(types, units)


@functools.lru_cache(maxsize=65536)
def number_text(number: float) -> str:
    """Return a bound as Go writes it, and so the text format of all that is written in Go.

    Example:
        >>> [number_text(number) for number in (0.005, 1.0, 2.5, 100000.0, 1e6, 1.5e-7, math.inf)]
        ['0.005', '1', '2.5', '100000', '1e+06', '1.5e-07', '+Inf']
    """
    if not math.isfinite(number):
        return "NaN" if math.isnan(number) else "+Inf" if number > 0 else "-Inf"
    if not number:
        return "0"
    shortest = decimal.Decimal(repr(number)).normalize()
    if -5 < shortest.adjusted() < _FEW_DIGITS:
        return f"{shortest:f}"
    _, digits, _ = shortest.as_tuple()
    return f"{shortest.scaleb(-shortest.adjusted()):.{len(digits) - 1}f}e{shortest.adjusted():+03d}"


def _labels(data: bytes) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for field in fields(data, 0, len(data)):
        name = value = b""
        for part in fields(data, field.start, field.start + field.value):
            if (part.number, part.type) == (1, BYTES):
                name = _bytes(data, part)
            elif (part.number, part.type) == (2, BYTES):
                value = _bytes(data, part)
        label = name.decode()
        if not label or label == "__name__" or label in found:
            raise BadExposition(f"a series has the label {label[:100]!r}, or has it twice")
        found[label] = value.decode()
    return found


def described(key: bytes, resource_id: str) -> tuple[str, str | None, str | None]:
    r"""Return what a series' key says: its name, its resource's id, and its labels as JSON.

    Args:
        key: one of a scanner's keys.
        resource_id: the target's: what the id begins with.

    Raises:
        BadExposition: a label has no name, a reserved one, or the name of another.
        UnicodeDecodeError: a text is not UTF-8.

    Example:
        >>> described(b"\x01\x02\0\0\0up\n\x06\n\1a\x12\1x", "web1")
        ('up', 'web1#{a="x"}', '{"a":"x"}')
    """
    kind, end = key[0], 5 + _SIZE.unpack_from(key, 1)[0]
    name = key[5:end].decode() + _SUFFIXES[kind]
    if kind not in _BOUNDS:
        labels = _labels(key[end:])
    else:
        own, label = _labels(key[end + 8 :]), _BOUNDS[kind]
        if label in own:
            raise BadExposition(f"a series has the label {label!r}, which is that of its bounds")
        labels = {**own, label: number_text(_BOUND.unpack_from(key, end)[0])}
    if not labels:
        return name, None, None
    return name, f"{resource_id}#{shown(labels)}", json.dumps(labels, separators=(",", ":"))


def described_all(
    keys: list[bytes], resource_id: str
) -> tuple[list[str], list[str | None], list[str | None]]:
    r"""Return what many series' keys say, as columns: see :func:`described`.

    >>> described_all([b"\x01\x02\0\0\0up"], "web1")
    (['up'], [None], [None])
    """
    found = [described(key, resource_id) for key in keys]
    return [one[0] for one in found], [one[1] for one in found], [one[2] for one in found]
