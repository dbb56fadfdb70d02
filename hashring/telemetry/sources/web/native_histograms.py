"""Native histograms of Prometheus as cumulative buckets, each with its upper bound.

A native histogram has no list of bounds. They are the powers of ``2 ** 2 ** -schema``, and which
buckets there are is said by spans, each a gap and a number of buckets in a row. Beside them there
are a bucket around zero, and buckets of negative observations. Here they become what a histogram
with bounds of its own says: how many observations are at most so large. It knows no target.
"""

from __future__ import annotations

import decimal
import functools
import math
import sys
from collections.abc import Iterator, Sequence

from hashring.telemetry.errors import BadExposition
from hashring.telemetry.sources.web.protobuf_fields import (
    BYTES,
    EIGHT,
    VARINT,
    Field,
    double,
    doubles,
    fields,
    signed,
    varints,
)

__all__ = ["bound", "buckets"]

_SCHEMAS = range(-4, 9)
"""Those that there are. (A histogram of schema -53 has bounds of its own, which the exposition's
message has no field for: they stand in it as usual buckets.)"""

_MOST_BUCKETS = 4096
"""Of one sign: the usual limit of who exposes them is 160. More would cost memory and time."""

_LARGEST_VARINT = 10
"""Bytes."""

_TOO_MANY = f"a native histogram has more than {_MOST_BUCKETS} buckets of one sign"

_BITS = 32
"""Of a bucket's number, as protobuf has it."""

_BELOW_ALL = -2000
"""A power of two that is 0 to a float, whose range ``ldexp`` still takes."""

_EXACT = decimal.Context(prec=40)

# Fields of the message Histogram.
_COUNT_FLOAT, _SCHEMA, _THRESHOLD, _ZEROS, _ZEROS_FLOAT = 4, 5, 6, 7, 8
_NEGATIVE, _POSITIVE = (9, 10, 11), (12, 13, 14)  # spans, deltas, counts
_OFFSET, _LENGTH = 1, 2  # of a span


class _Side:
    """The buckets of the observations on one side of zero, while they are read."""

    def __init__(self) -> None:
        self.spans: list[tuple[int, int]] = []
        self.deltas: list[int] = []
        self.counts: list[float] = []

    def take(self, number: int, data: bytes, field: Field) -> None:
        """Take a field: the number is 0 of a span, 1 of deltas, 2 of counts.

        Raises:
            BadExposition: there are too many.
        """
        if field.type == BYTES and field.value > _MOST_BUCKETS * _LARGEST_VARINT:
            raise BadExposition(_TOO_MANY)
        if number == 0 and field.type == BYTES:
            self.spans.append(_span(data, field))
        elif number == 1 and field.type in (BYTES, VARINT):
            self.deltas += map(signed, varints(data, field))
        elif number == 2 and field.type in (BYTES, EIGHT):
            self.counts += doubles(data, field)
        if max(len(self.spans), len(self.deltas), len(self.counts)) > _MOST_BUCKETS:
            raise BadExposition(_TOO_MANY)

    def found(self, is_float: bool) -> list[tuple[int, float | int]]:
        """Return the buckets: by number, how many observations each has.

        Raises:
            BadExposition: spans and buckets differ in number, or a bucket has less than none.
        """
        counts = self.counts if is_float else list(_summed(self.deltas))
        if any(count < 0 for count in counts):
            raise BadExposition("a bucket of a native histogram has less than no observations")
        numbers = _numbers(self.spans, len(counts))
        return list(zip(numbers, counts, strict=True))


def _span(data: bytes, span: Field) -> tuple[int, int]:
    offset = length = 0
    for field in fields(data, span.start, span.start + span.value):
        if field.type == VARINT and field.number == _OFFSET:
            offset = signed(field.value & 2**_BITS - 1)
        elif field.type == VARINT and field.number == _LENGTH:
            length = field.value & 2**_BITS - 1
    return offset, length


def _summed(deltas: Sequence[int]) -> Iterator[int]:
    found = 0
    for delta in deltas:
        found += delta
        yield found


def _numbers(spans: Sequence[tuple[int, int]], count: int) -> list[int]:
    found: list[int] = []
    at = 0
    for number, (offset, length) in enumerate(spans):
        if number and offset < 0:
            raise BadExposition("a native histogram's spans overlap")
        at += offset
        if length > count - len(found):
            break
        found += range(at, at + length)
        at += length
    else:
        if len(found) == count:
            return found
    raise BadExposition("a native histogram's spans are not as many buckets as it has")


def bound(schema: int, number: int) -> float:
    """Return the upper bound of a bucket of positive observations, the nearest number to it.

    Args:
        schema: how fine the buckets are, -4 to 8: a power of two has ``2 ** schema`` of them.
        number: the bucket's. 0 is the one that ends with 1.

    Returns:
        the bound; of the last bucket of finite numbers the largest of these, and of one behind it
        infinity.

    Example:
        >>> [bound(0, number) for number in (-1, 0, 1, 2)], bound(3, 1), bound(-2, 1)
        ([0.5, 1.0, 2.0, 4.0], 1.0905077326652577, 16.0)
        >>> bound(0, 1024), bound(0, 1025)
        (1.7976931348623157e+308, inf)
    """
    if schema <= 0:
        power, part = number << -schema, 0
    else:
        power, part = divmod(number, 1 << schema)
    if power >= sys.float_info.max_exp:
        is_last = power == sys.float_info.max_exp and not part
        return sys.float_info.max if is_last else math.inf
    return math.ldexp(_root(schema, part), max(power, _BELOW_ALL))


@functools.cache
def _root(schema: int, part: int) -> float:
    """Return a bound from 1 on, below 2."""
    # By decimal, so that it is the same number on every machine: it becomes part of an id.
    power = _EXACT.divide(decimal.Decimal(part), decimal.Decimal(2) ** schema)
    return float(_EXACT.power(decimal.Decimal(2), power))


def buckets(data: bytes) -> list[tuple[float, float | int]]:
    """Return a native histogram's buckets: upper bounds, and how many observations are up to there.

    Args:
        data: a message ``io.prometheus.client.Histogram``.

    Returns:
        bounds and counts, in ascending order; without the one of infinity, whose count is that of
        all observations. No bounds where the schema is unknown.

    Raises:
        BadExposition: it is not such a message, or contradicts itself.

    Example:
        Two observations up to 1, three from there to 2, one around zero.

        >>> data = bytes((40, 0, 56, 1, 98, 4, 8, 0, 16, 2, 106, 2, 4, 2))
        >>> buckets(data)
        [(0.0, 1), (1.0, 3), (2.0, 6)]
    """
    sides = _Side(), _Side()
    schema = zeros = 0
    zeros_float = count_float = threshold = 0.0
    for field in fields(data, 0, len(data)):
        number, type_ = field.number, field.type
        if number == _SCHEMA and type_ == VARINT:
            schema = signed(field.value & 2**_BITS - 1)
        elif number == _ZEROS and type_ == VARINT:
            zeros = field.value
        elif number == _THRESHOLD and type_ == EIGHT:
            threshold = double(data, field.start)
        elif number == _ZEROS_FLOAT and type_ == EIGHT:
            zeros_float = double(data, field.start)
        elif number == _COUNT_FLOAT and type_ == EIGHT:
            count_float = double(data, field.start)
        elif number in _NEGATIVE:
            sides[0].take(_NEGATIVE.index(number), data, field)
        elif number in _POSITIVE:
            sides[1].take(_POSITIVE.index(number), data, field)
    if schema not in _SCHEMAS:
        return []
    is_float = count_float > 0
    negative, positive = (side.found(is_float) for side in sides)
    bounds = [
        # One that the zero bucket reaches into ends where that begins.
        (min(-bound(schema, number - 1), -threshold), count)
        for number, count in reversed(negative)
    ]
    bounds.append((threshold, zeros_float if is_float else zeros))
    bounds += [(bound(schema, number), count) for number, count in positive]
    return _cumulative(bounds)


def _cumulative(bounds: Sequence[tuple[float, float | int]]) -> list[tuple[float, float | int]]:
    found: dict[float, float | int] = {}
    total: float | int = 0
    last = -math.inf
    for upper, count in bounds:
        total += count
        # Where rounding makes two bounds one, or a zero bucket reaches into others: the later one.
        last = max(last, upper)
        if last < math.inf:
            found[last] = total
    return list(found.items())
