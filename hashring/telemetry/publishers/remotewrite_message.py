"""Batches as the messages of Prometheus's remote write, 1.0 and 2.0. Sends nothing.

In 1.0 (``prometheus.WriteRequest``) each series has its labels in full. In 2.0
(``io.prometheus.write.v2.Request``) every text stands once at the beginning, and labels are numbers
of texts; beside them stand the metric's type and unit. What is made of a row's labels is made once,
and serves every poll that measures the same.
"""

from __future__ import annotations

import dataclasses
import struct
import weakref
from collections.abc import Iterator, Sequence
from typing import Protocol

from hashring.telemetry.model.batch import Batch, Series
from hashring.telemetry.model.sample import MeterType
from hashring.telemetry.publishers.series_labels import ALL, SeriesLabels
from hashring.telemetry.publishers.wire import Rows, message, sized, text, varint

__all__ = ["Encoder", "EncoderV1", "EncoderV2", "write_request"]

# Fields and their types, as protobuf writes them: number << 3 | type. In both versions a series has
# its samples in field 2, and a sample its volume and time in 1 and 2.
_SAMPLE, _VOLUME, _TIME = 0x12, 0x09, 0x10
_SERIES_V1, _LABELS_V1, _NAME_V1, _VALUE_V1 = b"\x0a", 1, 1, 2
_SYMBOLS_V2, _SERIES_V2, _REFS_V2, _METADATA_V2 = 4, b"\x2a", 1, 5
_TYPE_V2, _UNIT_V2 = 0x08, 0x20

_TYPES = {MeterType.CUMULATIVE: 1, MeterType.GAUGE: 2, MeterType.DELTA: 0}
"""A metric's type in 2.0; of a delta Prometheus has none."""

_REMEMBERED = 4
"""Times a series' rows: how many are remembered in the parts in which it was sent."""


class Encoder(Protocol):
    """Writes batches as one message."""

    def encoded(self, batches: Sequence[Batch]) -> bytes:
        """Return a request, not compressed: one series a sample."""
        ...


def _parts(series: bytes, rows: Sequence[bytes], batch: Batch) -> Iterator[bytes]:
    """Iterate over the pieces of a batch's series, each what a row has and then a sample."""
    time = varint(max(0, round(batch.timestamp * 1000)))
    end = bytes((_TIME,)) + time
    head = bytes((_SAMPLE, 9 + len(end), _VOLUME))
    pack = struct.Struct(f"<{len(head)}sd{len(end)}s").pack
    size = len(head) + 8 + len(end)
    for row, volume in zip(rows, batch.volumes, strict=True):
        try:
            value = pack(head, volume, end)
        except (OverflowError, struct.error):
            value = pack(head, _as_float(volume), end)
        yield from (series, sized(len(row) + size), row, value)


def _as_float(volume: float) -> float:
    try:
        return float(volume)
    except OverflowError:  # a whole number that no double is near
        return float("inf") if volume > 0 else float("-inf")


class EncoderV1:
    """Writes batches as messages of 1.0, and remembers the labels of the series that are in use.

    Args:
        labels: what labels series have.
    """

    def __init__(self, labels: SeriesLabels) -> None:
        self._labels = labels
        self._rows = Rows(lambda series: [self._row(series, row) for row in range(len(series))])

    def encoded(self, batches: Sequence[Batch]) -> bytes:
        """Return a request: see :class:`Encoder`."""
        parts: list[bytes] = []
        for batch in batches:
            parts += _parts(_SERIES_V1, self._rows.of(batch.series), batch)
        return b"".join(parts)

    def _row(self, series: Series, row: int) -> bytes:
        return b"".join(
            message(_LABELS_V1, text(_NAME_V1, name) + text(_VALUE_V1, value))
            for name, value in self._labels.of(series, row)
        )


_Row = tuple[tuple[str, ...], tuple[int, str]]


@dataclasses.dataclass(slots=True)
class _Part:
    """What a series, or a part of one, has in every request.

    Attributes:
        symbols: its texts, each once, as they stand at a request's beginning.
        refs: by row, its labels: numbers of symbols.
        units: by row, the type of its metric, and the number of its unit's symbol.
        numbers: by symbol, which one it was in the request that was made last, and the rows of it.
    """

    symbols: list[bytes]
    refs: list[list[int]]
    units: list[tuple[int, int]]
    numbers: list[int] = dataclasses.field(default_factory=list)
    rows: list[bytes] = dataclasses.field(default_factory=list)

    def numbered(self, numbers: list[int]) -> list[bytes]:
        """Return the rows for a request in which the symbols have these numbers."""
        if numbers != self.numbers:
            written = [varint(number) for number in numbers]
            metadata = {unit: _metadata(unit[0], numbers[unit[1]]) for unit in set(self.units)}
            self.rows = [
                message(_REFS_V2, b"".join([written[ref] for ref in refs])) + metadata[unit]
                for refs, unit in zip(self.refs, self.units, strict=True)
            ]
            self.numbers = numbers
        return self.rows


def _metadata(type_: int, unit: int) -> bytes:
    body = bytes((_TYPE_V2, type_)) if type_ else b""
    if unit:
        body += bytes((_UNIT_V2,)) + varint(unit)
    return message(_METADATA_V2, body)


class EncoderV2:
    """Writes batches as messages of 2.0, and remembers the symbols of the series that are in use.

    Args:
        labels: what labels series have.
    """

    def __init__(self, labels: SeriesLabels) -> None:
        self._labels = labels
        self._rows = Rows(self._described)
        self._known: weakref.WeakKeyDictionary[Series, dict[tuple[int, int], _Part]] = (
            weakref.WeakKeyDictionary()
        )

    def encoded(self, batches: Sequence[Batch]) -> bytes:
        """Return a request: see :class:`Encoder`."""
        symbols = {_symbol(""): 0}
        parts: list[bytes] = []
        for batch in batches:
            part = self._part(batch.series)
            numbers = [symbols.setdefault(one, len(symbols)) for one in part.symbols]
            parts += _parts(_SERIES_V2, part.numbered(numbers), batch)
        return b"".join((*symbols, *parts))

    def _part(self, series: Series) -> _Part:
        whole, start = series.whole or (series, 0)
        known = self._known.setdefault(whole, {})
        found = known.get((start, len(series)))
        if found is None:
            if sum(size for _, size in known) > _REMEMBERED * len(whole):
                known.clear()  # it is cut differently each time
            found = known[start, len(series)] = self._made(series)
        return found

    def _described(self, series: Series) -> list[_Row]:
        """Return the texts of each row's labels, and its metric's type and unit."""
        same: dict[str, str] = {}  # a text stands in memory once
        units = [(_TYPES[meter.type], meter.unit) for meter in series.meters]
        return [
            (
                tuple(
                    same.setdefault(one, one)
                    for label in self._labels.of(series, row)
                    for one in label
                ),
                units[meter],
            )
            for row, meter in enumerate(series.meter_of)
        ]

    def _made(self, series: Series) -> _Part:
        symbols: dict[str, int] = {"": 0}
        refs, units = [], []
        for texts, (type_, unit) in self._rows.of(series):
            refs.append([symbols.setdefault(one, len(symbols)) for one in texts])
            units.append((type_, symbols.setdefault(unit, len(symbols))))
        return _Part([_symbol(one) for one in symbols], refs, units)


def _symbol(value: str) -> bytes:
    return text(_SYMBOLS_V2, value)


def write_request(batches: Sequence[Batch], labels: tuple[str, ...] = ALL) -> bytes:
    """Return batches as one message of 1.0, not compressed."""
    return EncoderV1(SeriesLabels(labels)).encoded(batches)
