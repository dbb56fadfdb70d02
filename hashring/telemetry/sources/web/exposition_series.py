"""Expositions as columns: each series is read once, and is recognised by its bytes from then on.

Both the text formats and protobuf are read so; a target that changes its form is read anew.

What a target exposes changes little from one answer to the next. So the series of each target's
last answer are remembered, and as long as they are the same, in the same order, an answer costs but
a comparison of bytes and a number a line: the columns of the last poll are those of this one. The
memory that this takes is bounded; a target that is forgotten is read anew.
"""

from __future__ import annotations

import dataclasses
import json
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hashring.telemetry.errors import BadExposition
from hashring.telemetry.model.batch import Measured, Series
from hashring.telemetry.model.resource import Resource
from hashring.telemetry.model.sample import Meter
from hashring.telemetry.sources.web import exposition_lines as _plain
from hashring.telemetry.sources.web import exposition_messages as _plain_messages
from hashring.telemetry.sources.web.exposition_text import Metric, Metrics, metrics_of, samples_of
from hashring.telemetry.sources.web.labels import finite, shown, with_target

try:
    from hashring.telemetry.sources.web import _exposition as _native
except ImportError:  # no C compiler where this was installed
    _native = None  # type: ignore[assignment]
try:
    from hashring.telemetry.sources.web import _messages as _native_messages
except ImportError:  # likewise
    _native_messages = None  # type: ignore[assignment]

__all__ = ["ExpositionReader", "count_samples"]

_lines: Any = _plain if _native is None else _native
_messages: Any = _plain_messages if _native_messages is None else _native_messages

_PIECE = 64 * 1024
"""Bytes that are read between two looks at time and memory: less than 1 ms without a pause."""

_REMEMBERED = 300_000
"""Series of all targets that are remembered, some 400 bytes each."""

_NO_EOF = "'# EOF' is missing at the end: was it cut off?"


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class _Known:
    """What a target exposed last.

    Attributes:
        keys: by sample, its series' text, or in protobuf its key.
        said: the comments of types and units, or in protobuf what stands for them.
        target_labels: the target's own, when it was read.
        names: by the series' meter, the samples' name.
        series: by sample, what was measured of what.
        repeats: some series stands there twice.
        selected: the rows that were told last, where it was not all of them, and their columns.
    """

    keys: list[bytes]
    said: list[bytes]
    target_labels: Mapping[str, str]
    names: list[str]
    series: Series
    repeats: bool
    selected: list[tuple[list[int], Series]] = dataclasses.field(default_factory=list)


class ExpositionReader:
    r"""Reads expositions, and remembers their series. For several threads.

    Args:
        meter_of: makes a meter of a metric and the name of a sample of it.

    Example:
        >>> from hashring.telemetry.model.sample import MeterType
        >>> reader = ExpositionReader(lambda metric, name: Meter(name, MeterType.GAUGE, ""))
        >>> web1 = Resource("prometheus+http://web1/metrics", "exposition")
        >>> found = reader.read(b'up{job="a"} 1\nload 0.5\n', web1)
        >>> [(one.meter.name, one.resource_id, one.volume) for one in found]
        [('up', 'prometheus+http://web1/metrics#{job="a"}', 1), ('load', None, 0.5)]
    """

    def __init__(self, meter_of: Callable[[Metric, str], Meter]) -> None:
        self._meter_of = meter_of
        self._lock = threading.Lock()
        self._known: OrderedDict[str, _Known] = OrderedDict()  # the last one used is the last
        self._size = 0

    def read(
        self,
        body: bytes,
        resource: Resource,
        *,
        is_openmetrics: bool = False,
        skipped: Counter[str] | None = None,
        look: Callable[[int], None] = lambda rows: None,
    ) -> Measured:
        """Return what an exposition says.

        Args:
            body: in Prometheus's text format, or in OpenMetrics; in UTF-8.
            resource: of what.
            is_openmetrics: the format is OpenMetrics: it must end as that does.
            skipped: counts samples that are left out, by why.
            look: is called now and then with the number of samples that were read since; what it
                raises ends the reading.

        Raises:
            BadExposition: the text is not in the format.
            UnicodeDecodeError: it is not UTF-8.
        """
        text = None if body.isascii() else body.decode()
        labels = resource.attributes.get("labels", {})
        known = self._last(resource.id, labels)
        scanner = _lines.Scanner(body, [] if known is None else known.keys)
        _scan(scanner, look)
        if scanner.is_odd:
            return self._read_oddly(
                body.decode() if text is None else text, resource, is_openmetrics, skipped, look
            )
        if is_openmetrics:
            if scanner.follows_end:
                raise BadExposition("a line follows '# EOF'")
            if not scanner.is_over:
                raise BadExposition(_NO_EOF)
        odd = _resolved(scanner, look)
        if known is None or not (
            scanner.is_same
            and len(scanner.keys) == len(known.keys)
            and scanner.said == known.said
            and all(known.keys[row] == scanner.keys[row] for row, _ in scanner.odd)
        ):
            metrics = metrics_of(b"\n".join(scanner.said).decode())
            columns = _Columns(resource.id, labels, _lines)
            known = self._learn(scanner, odd, metrics, columns, known)
        return _told(known, scanner.volumes, skipped)

    def read_messages(
        self,
        body: bytes,
        resource: Resource,
        *,
        skipped: Counter[str] | None = None,
        look: Callable[[int], None] = lambda rows: None,
    ) -> Measured:
        """Return what an exposition in protobuf says: see :meth:`read`.

        Args:
            body: messages ``io.prometheus.client.MetricFamily``, each behind its length.
            resource: of what.
            skipped: counts samples that are left out, by why.
            look: as of :meth:`read`.

        Raises:
            BadExposition: it is not in the format.
            UnicodeDecodeError: a text in it is not UTF-8.
        """
        labels = resource.attributes.get("labels", {})
        known = self._last(resource.id, labels)
        scanner = _messages.Scanner(body, [] if known is None else known.keys)
        _scan(scanner, look)
        if known is None or not (
            scanner.is_same and len(scanner.keys) == len(known.keys) and scanner.said == known.said
        ):
            metrics = _plain_messages.metrics_of(scanner.said)
            columns = _Columns(resource.id, labels, _messages)
            known = self._learn(scanner, {}, metrics, columns, known)
        return _told(known, scanner.volumes, skipped)

    def _last(self, id_: str, labels: Mapping[str, str]) -> _Known | None:
        with self._lock:
            found = self._known.get(id_)
            if found is None or found.target_labels != labels:
                return None
            self._known.move_to_end(id_)
            return found

    def _remember(self, id_: str, known: _Known) -> None:
        with self._lock:
            before = self._known.pop(id_, None)
            self._size += len(known.keys) - (0 if before is None else len(before.keys))
            self._known[id_] = known
            while self._size > _REMEMBERED and len(self._known) > 1:
                _, forgotten = self._known.popitem(last=False)
                self._size -= len(forgotten.keys)

    def _learn(
        self,
        scanner: Any,
        odd: Mapping[bytes, tuple[str, Mapping[str, str]]],
        metrics: Metrics,
        columns: _Columns,
        before: _Known | None,
    ) -> _Known:
        """Read the series that are new, and remember all."""
        old = {} if before is None else {key: row for row, key in enumerate(before.keys)}
        if not odd and old.keys().isdisjoint(scanner.keys):
            columns.add_keys(scanner.keys)
        else:
            new: list[bytes] = []  # that stand together: many at once are cheaper
            for key in scanner.keys:
                row = old.get(key)
                if row is None and key not in odd:
                    new.append(key)
                    continue
                if new:
                    columns.add_keys(new)
                    new = []
                if row is not None and before is not None:
                    columns.copy(before, row)
                else:
                    columns.add_labels(*odd[key])
            columns.add_keys(new)
        series = columns.series(metrics, self._meter_of)
        # Two that differ may have one hash, which costs but a closer look at each poll.
        pairs = zip(series.meter_of, series.resource_ids, strict=True)
        repeats = len(set(map(hash, pairs))) < len(scanner.keys)
        target_labels = dict(columns.target_labels)
        known = _Known(scanner.keys, scanner.said, target_labels, columns.names, series, repeats)
        self._remember(series.resource_id, known)
        return known

    def _read_oddly(
        self,
        text: str,
        resource: Resource,
        is_openmetrics: bool,
        skipped: Counter[str] | None,
        look: Callable[[int], None],
    ) -> Measured:
        """Read an answer whose lines are not told apart here, from the first to the last."""
        metrics = metrics_of(text, lambda: look(0))
        columns = _Columns(resource.id, resource.attributes.get("labels", {}), _lines)
        volumes: list[float | int | None] = []
        for sample in samples_of(text, is_openmetrics=is_openmetrics, look=lambda: look(0)):
            columns.add_labels(sample.name, sample.labels)
            volumes.append(finite(sample.value))
        series = columns.series(metrics, self._meter_of)
        return _told(_Known([], [], {}, columns.names, series, repeats=True), volumes, skipped)


def count_samples(body: bytes) -> int:
    """Return how many samples an answer in protobuf has, at most."""
    found: int = _messages.count_samples(body)
    return found


def _scan(scanner: Any, look: Callable[[int], None]) -> None:
    """Read an answer piece by piece, and let somebody look after each."""
    done = 0
    while scanner.read(_PIECE):
        look(len(scanner.keys) - done)
        done = len(scanner.keys)
    look(len(scanner.keys) - done)


class _Columns:
    """The columns of an answer while they grow.

    Args:
        resource_id: the target's.
        target_labels: the target's own.
        twin: the module that says what a key means.
    """

    def __init__(self, resource_id: str, target_labels: Mapping[str, str], twin: Any) -> None:
        self._id = resource_id
        self._twin = twin
        self.target_labels = target_labels
        self._names: dict[str, int] = {}
        self._name_of: list[int] = []
        self._ids: list[str | None] = []
        self._metadata: list[str | None] = []
        self._alone = _object(target_labels) if target_labels else None
        self._label_names = [f"{json.dumps(name)}:" for name in target_labels]  # as in an object

    def _add(self, name: str, id_: str | None, metadata: str | None) -> None:
        self._name_of.append(self._names.setdefault(name, len(self._names)))
        self._ids.append(id_)
        self._metadata.append(metadata)

    def add_keys(self, keys: Sequence[bytes]) -> None:
        """Add what series' keys say."""
        names, ids, metadata = self._twin.described_all(keys, self._id)
        for name in dict.fromkeys(names):
            self._names.setdefault(name, len(self._names))
        self._name_of += map(self._names.__getitem__, names)
        self._ids += ids
        self._metadata += map(self._with_target, metadata) if self.target_labels else metadata

    def _with_target(self, metadata: str | None) -> str | None:
        """Return a series' labels as JSON, with the target's."""
        if metadata is None or self._alone is None:
            return self._alone
        if any(name in metadata for name in self._label_names):  # probably one that both have
            return _object(with_target(json.loads(metadata), self.target_labels))
        return f"{metadata[:-1]},{self._alone[1:]}"

    def add_labels(self, name: str, labels: Mapping[str, str]) -> None:
        """Add what prometheus-client's parser says."""
        all_ = with_target(labels, self.target_labels) if self.target_labels else labels
        self._add(
            name, f"{self._id}#{shown(labels)}" if labels else None, _object(all_) if all_ else None
        )

    def copy(self, known: _Known, row: int) -> None:
        """Add what is known."""
        series = known.series
        self._add(known.names[series.meter_of[row]], series.resource_ids[row], series.metadata[row])

    @property
    def names(self) -> list[str]:
        """The samples' names, in the order of the meters."""
        return list(self._names)

    def series(self, metrics: Metrics, meter_of: Callable[[Metric, str], Meter]) -> Series:
        """Return the columns."""
        return Series(
            self._id,
            [meter_of(metrics.of(name), name) for name in self._names],
            self._name_of,
            self._ids,
            self._metadata,
        )


def _object(labels: Mapping[str, str]) -> str:
    return json.dumps(dict(labels), separators=(",", ":"))


def _resolved(
    scanner: Any, look: Callable[[int], None]
) -> dict[bytes, tuple[str, Mapping[str, str]]]:
    """Let prometheus-client's parser read the odd lines; return what it makes of each series."""
    found: dict[bytes, tuple[str, Mapping[str, str]]] = {}
    for number, (row, line) in enumerate(scanner.odd):
        if not number % 256:
            look(0)
        (sample,) = samples_of(line.decode())
        volume = finite(sample.value)
        # No line of the strict grammar holds this byte at its beginning.
        key = b"\0" + json.dumps([sample.name, sample.labels]).encode()
        scanner.keys[row] = key
        scanner.volumes[row] = volume
        found[key] = sample.name, sample.labels
    return found


def _told(
    known: _Known, volumes: list[float | int | None], skipped: Counter[str] | None
) -> Measured:
    """Return what is told: a volume that is not finite is not, nor a series a second time."""
    if not known.repeats and None not in volumes:
        return Measured(known.series, volumes)  # type: ignore[arg-type]
    series = known.series
    counted: Counter[str] = Counter() if skipped is None else skipped
    seen: set[tuple[int, str | None]] = set()
    rows: list[int] = []
    for row, volume in enumerate(volumes):
        if volume is None:
            counted["not finite"] += 1
            continue
        if known.repeats:
            pair = series.meter_of[row], series.resource_ids[row]
            if pair in seen:
                counted["repeated"] += 1
                continue
            seen.add(pair)
        rows.append(row)
    return Measured(_selected(known, rows), [volumes[row] for row in rows])  # type: ignore[misc]


def _selected(known: _Known, rows: Sequence[int]) -> Series:
    """Return some rows' columns: those of the last time, where it was the same rows."""
    for before, series in known.selected:
        if before == rows:
            return series
    series = known.series.rows(rows)
    known.selected[:] = [(list(rows), series)]
    return series
