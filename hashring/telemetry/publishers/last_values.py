"""The last value of each meter and resource, kept as they come: in columns.

A poll that measures what the last one did replaces a list of numbers, and nothing else: the labels
of its series are written out once. Only where another series brings the same meter and resource
(small polls make theirs anew each time, a resource has moved) is each row looked at. This module
knows samples and Prometheus's text formats, but no server.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
import threading
from collections.abc import Collection, Sequence

from hashring import clock
from hashring.telemetry.model.batch import Batch, Series
from hashring.telemetry.model.sample import Meter, MeterType

__all__ = ["LABELS", "LastValues", "Unshown", "family_name", "label_name"]

LABELS = ("resource_id", "project_id", "user_id")
"""The labels that every series has."""

_STALE_INTERVALS = 2.5
"""A series outlives one missed sample, and the lateness of the next, but no more."""

_PURGE_PAUSE = 1.0
"""Seconds between two searches for stale series to make room: each looks at all of them."""

_TYPES = {
    # By a meter's type: in the text format, and in OpenMetrics. Of a delta Prometheus has none.
    MeterType.GAUGE: ("gauge", "gauge"),
    MeterType.CUMULATIVE: ("counter", "counter"),
    MeterType.DELTA: ("untyped", "unknown"),
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


@dataclasses.dataclass(frozen=True, slots=True)
class Unshown:
    """A row that cannot be shown, and why.

    Attributes:
        row: its number in the batch.
        cause: a few words, the same each time.
        detail: what there is to say besides.
    """

    row: int
    cause: str
    detail: str


@dataclasses.dataclass(slots=True, eq=False)
class _Block:
    """What a series, or a part of one, has brought last.

    Attributes:
        series: its columns.
        meters: by meter, without its unit: that is but told.
        heads: by row, what stands before its value.
        shows: by row, whether it is shown: not where another block has brought it since.
        count: how many rows are shown.
        order: the start of its window, and its time stamp: later ones are newer.
        expires: on the clock of :func:`hashring.clock.boottime`.
        volumes: by row. Replaced as a whole, never changed.
    """

    series: Series
    meters: list[Meter]
    heads: list[bytes]
    shows: bytearray
    count: int = 0
    order: tuple[float, float] = (-math.inf, -math.inf)
    expires: float = -math.inf
    volumes: Sequence[float | int] = ()


class LastValues:
    """The last values, as they are now: written by the publisher, read by whoever scrapes.

    Args:
        stale: seconds without a sample after which a series is not shown; ``None``: 2.5 of its
            sample's intervals.
        labels: keys of the metadata that are shown as labels.
        most: series that are shown at once.

    Example:
        >>> from hashring.telemetry.model.batch import Measured
        >>> from hashring.telemetry.model.sample import Measurement
        >>> load = Measured.of([Measurement(Meter("load", MeterType.GAUGE, ""), 1.5)], "web1")
        >>> values = LastValues(None, (), 100)
        >>> now = clock.wall()
        >>> token = ("v", "i", 1)
        >>> values.add(Batch(load.series, load.volumes, now, 1, 60.0, "a", token, ("web",)))
        []
        >>> print(values.rendered().decode(), end="")
        # HELP load load
        # TYPE load gauge
        load{resource_id="web1",project_id="",user_id=""} 1.5
    """

    def __init__(self, stale: float | None, labels: Sequence[str], most: int) -> None:
        self._stale = stale
        self._keys = labels
        self._most = most
        self._lock = threading.Lock()
        self._blocks: dict[tuple[Series, int, int], _Block] = {}
        self._shown: dict[tuple[Meter, str], tuple[_Block, int]] = {}  # by meter and resource
        self._names: dict[str, Meter] = {}
        self._units: dict[Meter, str] = {}
        self._purged = -math.inf

    def add(self, batch: Batch) -> list[Unshown]:
        """Take a batch; return what of it cannot be shown. What is too old is just not shown."""
        now = clock.boottime()
        order = (batch.window * batch.interval, batch.timestamp)
        # A sample that has waited elsewhere is as old as it is. Its time stamp is of the wall
        # clock; from here on only a clock counts that never steps.
        age = max(0.0, clock.wall() - batch.timestamp)
        stale = self._stale if self._stale is not None else _STALE_INTERVALS * batch.interval
        whole, start = batch.series.whole or (batch.series, 0)
        key = whole, start, len(batch)
        with self._lock:
            block = self._blocks.get(key)
            if block is None:
                block = self._block_of(batch.series)
            elif order < block.order:
                return []
            refused: list[Unshown] = []
            if block.count < len(batch):
                refused = self._take_over(block, order, now, is_stale=age >= stale)
            if block.count:
                self._blocks[key] = block
                block.order, block.expires = order, now + stale - age
                block.volumes = batch.volumes
        return refused

    def _block_of(self, series: Series) -> _Block:
        names = [_sample_name(meter).encode() for meter in series.meters]
        labels = [label_name(key) for key in self._keys]
        heads = []
        for row, (meter, id_) in enumerate(zip(series.meter_of, series.resource_ids, strict=True)):
            metadata, project_id, user_id = series.about(row)
            values = [series.resource_id if id_ is None else id_, project_id, user_id]
            values += [metadata.get(key) for key in self._keys]
            shown = ",".join(
                f'{name}="{_label_text(value)}"'
                for name, value in zip((*LABELS, *labels), values, strict=True)
            )
            heads.append(b"%b{%b} " % (names[meter], shown.encode()))
        meters = [meter._replace(unit="") for meter in series.meters]
        return _Block(series, meters, heads, bytearray(len(series)))

    def _take_over(
        self, block: _Block, order: tuple[float, float], now: float, *, is_stale: bool
    ) -> list[Unshown]:
        """Let a block show those of its rows that nobody has newer values of."""
        refused = []
        series = block.series
        for row, (number, id_) in enumerate(zip(series.meter_of, series.resource_ids, strict=True)):
            if block.shows[row]:
                continue
            meter = block.meters[number]
            key = meter, series.resource_id if id_ is None else id_
            before = self._shown.get(key)
            if before is None:
                if is_stale:
                    continue
                if why := self._make_room(meter, now):
                    refused.append(Unshown(row, *why))
                    continue
                self._units.setdefault(meter, series.meters[number].unit)
            else:
                other, other_row = before
                if other is not block and order < other.order:
                    continue
                self._hide(other, other_row)
            self._shown[key] = block, row
            block.shows[row] = 1
            block.count += 1
        return refused

    def _hide(self, block: _Block, row: int) -> None:
        block.shows[row] = 0
        block.count -= 1
        if not block.count:
            whole, start = block.series.whole or (block.series, 0)
            self._blocks.pop((whole, start, len(block.series)), None)

    def _make_room(self, meter: Meter, now: float) -> tuple[str, str] | None:
        """Return why there is no room for one more series of a meter: a cause, and details."""
        if len(self._shown) >= self._most:
            self._purge(now)
        if len(self._shown) >= self._most:
            return "there are too many series", f"max_series is {self._most}"
        if holder := self._claim(meter):
            detail = f"the {holder.type} meter {holder.name!r} is shown under it"
            return "another meter has its name", detail
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

    def _purge(self, now: float) -> None:
        if now - self._purged < _PURGE_PAUSE:
            return
        self._purged = now
        if all(block.expires > now for block in self._blocks.values()):
            return
        self._blocks = {key: one for key, one in self._blocks.items() if one.expires > now}
        self._shown = {key: one for key, one in self._shown.items() if one[0].expires > now}
        kept = {meter for meter, _ in self._shown}
        self._names = {name: meter for name, meter in self._names.items() if meter in kept}
        self._units = {meter: unit for meter, unit in self._units.items() if meter in kept}

    # ---- whoever scrapes -------------------------------------------------------------------

    def rendered(
        self, *, is_openmetrics: bool = False, names: Collection[str] | None = None
    ) -> bytes:
        """Return the series that are not stale, in Prometheus's text format or in OpenMetrics.

        Args:
            is_openmetrics: in OpenMetrics.
            names: of the samples that are wanted; ``None``: all.
        """
        now = clock.boottime()
        with self._lock:
            self._purge(now)
            units = dict(self._units)
            # Whatever of a block changes, another object takes its place; but for this.
            blocks = [
                (block, bytes(block.shows), block.volumes)
                for block in self._blocks.values()
                if block.expires > now
            ]
        families: dict[Meter, list[bytes]] = {}
        for block, shows, volumes in blocks:
            _add_lines(families, block, shows, volumes)
        parts = []
        for meter, lines in families.items():
            if lines and (names is None or _sample_name(meter) in names):
                parts += [_about(meter, units.get(meter, ""), is_openmetrics), *lines]
        if is_openmetrics:
            parts.append(b"# EOF\n")
        return b"".join(parts)


def _add_lines(
    families: dict[Meter, list[bytes]], block: _Block, shows: bytes, volumes: Sequence[float | int]
) -> None:
    lists = [families.setdefault(meter, []) for meter in block.meters]
    is_whole = all(shows)
    for row, (number, head, volume) in enumerate(
        zip(block.series.meter_of, block.heads, volumes, strict=True)
    ):
        if is_whole or shows[row]:
            lists[number] += (head, _number(volume), b"\n")


def _number(volume: float) -> bytes:
    """Return a number as Go writes it, or reads it."""
    if type(volume) is not float:
        try:
            volume = float(volume)
        except OverflowError:  # a whole number that no double is near
            volume = math.inf if volume > 0 else -math.inf
    text = repr(volume)
    if text[-1] in "fn":  # inf, nan
        text = {"inf": "+Inf", "-inf": "-Inf"}.get(text, "NaN")
    return text.encode()


def _sample_name(meter: Meter) -> str:
    name = family_name(meter)
    return f"{name}_total" if meter.type is MeterType.CUMULATIVE else name


def _about(meter: Meter, unit: str, is_openmetrics: bool) -> bytes:
    """Return the comments before a family's samples."""
    about = _text(f"{meter.name} in {unit}" if unit else meter.name)
    about = about.replace("\\", r"\\").replace("\n", r"\n")
    if is_openmetrics:
        about = about.replace('"', r"\"")
    name = family_name(meter) if is_openmetrics else _sample_name(meter)
    kind = _TYPES[meter.type][is_openmetrics]
    return f"# HELP {name} {about}\n# TYPE {name} {kind}\n".encode()


def _label_text(value: object) -> str:
    if value is None:
        return ""
    text = value if isinstance(value, str) else _shown(value)
    if "\\" in text or '"' in text or "\n" in text:
        text = text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
    return _text(text)


def _shown(value: object) -> str:
    return json.dumps(value) if isinstance(value, bool) else str(value)


def _text(text: str) -> str:
    """Return a text; what is not valid Unicode in it, as in a file's name, as ``?``."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
