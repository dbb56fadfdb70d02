"""Series, Measured, Batch: many samples as columns, from the poll to the sink.

One object a sample costs more than all that is done with it. So what a poll finds is kept as
columns: what was measured of what (:class:`Series`), which is the same object from one poll to the
next where it is the same; the volumes (:class:`Measured`); and, once it is known for which window
they are, what all of them share (:class:`Batch`). Whoever wants single samples iterates.
"""

from __future__ import annotations

import array
import dataclasses
import functools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, overload

from hashring.errors import BadArgument
from hashring.telemetry.model import lines as _plain
from hashring.telemetry.model.sample import (
    NAMESPACE,
    NOTHING,
    Measurement,
    Meter,
    Sample,
    time_text,
)

try:
    from hashring.telemetry.model import _lines as _native
except ImportError:  # no C compiler where this was installed
    _native = None  # type: ignore[assignment]

__all__ = ["Batch", "Measured", "Series", "batches_of"]

_lines = _plain if _native is None else _native

_SELECTIONS = 8
"""Selections of meters that a series remembers: one for each set of publishers that share it."""

_to_json = json.JSONEncoder(separators=(",", ":")).encode
_text = json.encoder.encode_basestring_ascii


class Series:
    """What was measured, of what: the columns of a poll that often stay until the next one.

    Immutable, so that it may be shared by polls, publishers and threads.

    Args:
        resource_id: the polled resource's, for the rows that have none of their own.
        meters: what was measured; each once.
        meter_of: by row, the number of its meter.
        resource_ids: by row; ``None``: the polled resource itself.
        metadata: by row, an object in JSON (ASCII, no blanks between its parts); ``None``: nothing.
        project_ids: by row, a text in JSON; ``None``: it has none. An empty column: no row has one.
        user_ids: likewise.

    Example:
        >>> from hashring.telemetry.model.sample import MeterType
        >>> load = Meter("load", MeterType.GAUGE, "")
        >>> series = Series("web1", (load,), [0, 0], [None, "web1:a"], [None, '{"a":1}'])
        >>> len(series), [one.resource_id for one in series.measurements([1, 2])]
        (2, [None, 'web1:a'])
    """

    __slots__ = (
        "__weakref__",
        "_selections",
        "metadata",
        "meter_of",
        "meters",
        "packed",
        "project_ids",
        "resource_id",
        "resource_ids",
        "user_ids",
        "whole",
    )

    def __init__(
        self,
        resource_id: str,
        meters: Sequence[Meter],
        meter_of: Iterable[int],
        resource_ids: Sequence[str | None],
        metadata: Sequence[str | None],
        project_ids: Sequence[str | None] = (),
        user_ids: Sequence[str | None] = (),
    ) -> None:
        self.resource_id: Final = resource_id
        self.meters: Final = tuple(meters)
        self.meter_of: Final = array.array("I", meter_of)
        self.resource_ids: Final = list(resource_ids)
        self.metadata: Final = list(metadata)
        self.project_ids: Final = list(project_ids)
        self.user_ids: Final = list(user_ids)
        # As the spool keeps it, once it has, and the CRC-32 of that.
        self.packed: tuple[bytes, int] | None = None
        # The series that these rows were cut out of, in one piece, and where they begin in it: what
        # was made of its rows need not be made again.
        self.whole: tuple[Series, int] | None = None
        self._selections: dict[tuple[int, ...], tuple[list[int], Series]] = {}

    def __len__(self) -> int:
        return len(self.meter_of)

    def rows(self, which: Sequence[int] | slice) -> Series:
        """Return some of the rows."""

        def of(column: list[str | None]) -> list[str | None]:
            if isinstance(which, slice):
                return column[which]
            return [column[row] for row in which] if column else []

        meter_of: Iterable[int] = (
            self.meter_of[which]
            if isinstance(which, slice)
            else [self.meter_of[row] for row in which]
        )
        found = Series(
            self.resource_id,
            self.meters,
            meter_of,
            of(self.resource_ids),
            of(self.metadata),
            of(self.project_ids),
            of(self.user_ids),
        )
        if isinstance(which, slice) and which.step in (None, 1):
            series, start = self.whole or (self, 0)
            found.whole = series, start + which.indices(len(self))[0]
        return found

    def of_meters(self, meters: tuple[int, ...]) -> tuple[list[int], Series]:
        """Return the rows of some meters, by the meters' numbers: which, and what they are."""
        found = self._selections.get(meters)
        if found is None:
            wanted = frozenset(meters)
            which = [row for row, meter in enumerate(self.meter_of) if meter in wanted]
            if len(self._selections) >= _SELECTIONS:
                self._selections.clear()
            found = self._selections[meters] = which, self.rows(which)
        return found

    def about(self, row: int) -> tuple[Mapping[str, Any], str | None, str | None]:
        """Return a row's metadata, project and user."""
        metadata = self.metadata[row]
        return (
            NOTHING if metadata is None else json.loads(metadata),
            _loaded(self.project_ids, row),
            _loaded(self.user_ids, row),
        )

    def measurements(self, volumes: Sequence[float | int]) -> Iterator[Measurement]:
        """Iterate over the rows as measurements, each with its volume."""
        for row, (meter, id_, volume) in enumerate(
            zip(self.meter_of, self.resource_ids, volumes, strict=True)
        ):
            yield Measurement(self.meters[meter], volume, id_, *self.about(row))


def _loaded(column: Sequence[str | None], row: int) -> str | None:
    text = column[row] if column else None
    if text is None:
        return None
    found: str = json.loads(text)
    return found


@dataclasses.dataclass(frozen=True, slots=True)
class Measured:
    """What a poll has measured, as columns: what a pollster may return in place of measurements.

    Attributes:
        series: what was measured, of what. Where it is the object of the last poll, what was made
            of it then (its bytes in the spool) is not made again.
        volumes: by row, in the unit of the row's meter.
    """

    series: Series
    volumes: Sequence[float | int]

    def __len__(self) -> int:
        return len(self.volumes)

    def __iter__(self) -> Iterator[Measurement]:
        return self.series.measurements(self.volumes)

    @classmethod
    def of(cls, found: Iterable[Measurement], resource_id: str) -> Measured:
        """Return measurements as columns.

        Args:
            found: what a pollster tells one by one.
            resource_id: the polled resource's.

        Raises:
            BadArgument: something cannot be written as JSON.
        """
        rows = found if type(found) is list else list(found)
        if len(rows) == 1:  # as of most polls of one value: it needs no columns that grow
            return cls(_series_of_one(rows[0], resource_id), [rows[0].volume])
        columns = _Columns()
        for one in rows:
            columns.add(one.meter, one.resource_id, one.metadata, one.project_id, one.user_id)
        return cls(columns.series(resource_id), [one.volume for one in rows])


def _series_of_one(one: Measurement, resource_id: str) -> Series:
    metadata, project, user = _written(
        one.meter, one.resource_id, one.metadata, one.project_id, one.user_id
    )
    return Series(
        resource_id,
        (one.meter,),
        (0,),
        (one.resource_id,),
        (metadata,),
        () if project is None else (project,),
        () if user is None else (user,),
    )


def _written(
    meter: Meter,
    resource_id: str | None,
    metadata: Mapping[str, Any],
    project_id: str | None,
    user_id: str | None,
) -> tuple[str | None, str | None, str | None]:
    """Return metadata, project and user as JSON; ``None`` for what is empty.

    Raises:
        BadArgument: something cannot be written so.
    """
    if not metadata and not project_id and not user_id:
        return None, None, None
    try:
        # A read-only view of a dict cannot be written.
        return (
            _to_json(dict(metadata)) if metadata else None,
            _to_json(project_id) if project_id else None,
            _to_json(user_id) if user_id else None,
        )
    except (TypeError, ValueError) as error:
        raise BadArgument(
            f"the sample {meter.name} of {resource_id} cannot be written as JSON: {error}; "
            "see to what its pollster puts into metadata"
        ) from None


class _Columns:
    """Columns while they grow."""

    def __init__(self) -> None:
        self.meters: dict[Any, int] = {}
        self.meter_of: list[int] = []
        self.resource_ids: list[str | None] = []
        self.metadata: list[str | None] = []
        self.projects: list[str | None] = []
        self.users: list[str | None] = []

    def add(
        self,
        meter: Meter,
        resource_id: str | None,
        metadata: Mapping[str, Any],
        project_id: str | None,
        user_id: str | None,
        source: str = "",
    ) -> None:
        """Add a row. One meter under two sources is two."""
        key = (meter, source)
        number = self.meters.get(key)
        if number is None:
            number = self.meters[key] = len(self.meters)
        about, project, user = _written(meter, resource_id, metadata, project_id, user_id)
        self.metadata.append(about)
        self.projects.append(project)
        self.users.append(user)
        self.meter_of.append(number)
        self.resource_ids.append(resource_id)

    def series(self, resource_id: str) -> Series:
        """Return the columns so far."""
        return Series(
            resource_id,
            [meter for meter, _ in self.meters],
            self.meter_of,
            self.resource_ids,
            self.metadata,
            self.projects if any(self.projects) else (),
            self.users if any(self.users) else (),
        )


@dataclasses.dataclass(frozen=True, slots=True)
class Batch:
    """One poll's samples, bound to their window, and signed by who took them.

    It is a sequence of :class:`~hashring.telemetry.model.sample.Sample`, each made when it is
    asked for. Whoever can do with columns should: it is many times cheaper.

    Attributes:
        series: what was measured, of what.
        volumes: by row, in the unit of the row's meter.
        timestamp: when: wall-clock seconds since the epoch.
        window: the number of the window.
        interval: the length of that window in seconds.
        member: who took the samples.
        token: ``(view id, incarnation, window)`` of the cycle.
        sources: by meter, the name of the source that asked for it.

    Example:
        >>> from hashring.telemetry.model.sample import MeterType
        >>> load = Meter("load", MeterType.GAUGE, "")
        >>> measured = Measured.of([Measurement(load, 1.5), Measurement(load, 2, "web1:a")], "web1")
        >>> token = ("v", "i", 10)
        >>> batch = Batch(
        ...     measured.series, measured.volumes, 600.25, 10, 60.0, "agent-1", token, ("web",)
        ... )
        >>> [sample.resource_id for sample in batch]
        ['web1', 'web1:a']
        >>> batch.lines() == b"".join(sample.to_line() for sample in batch)
        True
        >>> batch.ids() == [sample.id for sample in batch]
        True
    """

    series: Series
    volumes: Sequence[float | int]
    timestamp: float
    window: int
    interval: float
    member: str
    token: tuple[Any, ...]
    sources: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.volumes)

    def __iter__(self) -> Iterator[Sample]:
        return iter(self.samples())

    @overload
    def __getitem__(self, which: int) -> Sample: ...
    @overload
    def __getitem__(self, which: slice) -> Batch: ...
    def __getitem__(self, which: int | slice) -> Sample | Batch:
        if isinstance(which, slice):
            return dataclasses.replace(
                self, series=self.series.rows(which), volumes=self.volumes[which]
            )
        return self._sample(range(len(self))[which])

    def _sample(self, row: int) -> Sample:
        series = self.series
        meter = series.meter_of[row]
        id_ = series.resource_ids[row]
        metadata, project_id, user_id = series.about(row)
        return Sample(
            meter=series.meters[meter],
            volume=self.volumes[row],
            resource_id=series.resource_id if id_ is None else id_,
            timestamp=self.timestamp,
            window=self.window,
            interval=self.interval,
            member=self.member,
            token=self.token,
            metadata=metadata,
            project_id=project_id,
            user_id=user_id,
            source=self.sources[meter],
        )

    def samples(self) -> list[Sample]:
        """Return the samples, an object each."""
        return [self._sample(row) for row in range(len(self))]

    def ids(self) -> list[str]:
        """Return the samples' ids: see :func:`~hashring.telemetry.model.sample.sample_id`."""
        found: list[str] = _lines.ids(*self._names())
        return found

    def _names(self) -> tuple[bytes, list[str], str, array.array[int], str, list[str | None]]:
        """Return what the names have that ids are made of."""
        series = self.series
        return (
            NAMESPACE.bytes,
            [f"{len(meter.name)}:{meter.name}" for meter in series.meters],
            f"{self.window}/{float(self.interval)!r}",
            series.meter_of,
            series.resource_id,
            series.resource_ids,
        )

    def _signature(self) -> str:
        given = self.window, self.interval, self.member, *self.token
        try:
            return _signed(*given)
        except TypeError:  # a token has a list in it
            return _signed.__wrapped__(*given)

    def lines(self) -> bytes:
        r"""Return the samples as lines of JSON in UTF-8, each with its ``\n``."""
        series = self.series
        found: bytes = _lines.rendered(
            *self._names(),
            [_front(meter) for meter in series.meters],
            self.volumes,
            f',"timestamp":"{time_text(self.timestamp)}",{self._signature()}',
            (series.metadata, series.project_ids, series.user_ids),
            [f',"source":{_text(source)}}}\n' if source else "}\n" for source in self.sources],
        )
        return found


# By the types too: 10 and 10.0, or 1 and True, are equal, and are written otherwise.
@functools.lru_cache(maxsize=16, typed=True)
def _signed(window: int, interval: float, member: str, *token: Any) -> str:
    """Return what all polls of a cycle have in common, as it stands in a line."""
    return (
        f'"window":{_to_json(window)},"interval":{_to_json(interval)},'
        f'"member":{_text(member)},"token":{_to_json(list(token))}'
    )


@functools.lru_cache(maxsize=4096)
def _front(meter: Meter) -> str:
    """Return what stands in a line between id and volume, and behind it up to the resource."""
    return (
        f',"meter":{_text(meter.name)},"type":"{meter.type}","unit":{_text(meter.unit)},"volume":'
    )


def batches_of(samples: Iterable[Sample]) -> list[Batch]:
    """Return samples as batches: one for each run of samples that share time, window and token.

    Raises:
        BadArgument: something cannot be written as JSON.
    """
    found: list[Batch] = []
    run: list[Sample] = []
    head: tuple[Any, ...] | None = None
    for one in samples:
        mine = (one.timestamp, one.window, one.interval, one.member, one.token)
        if mine != head and run:
            found.append(_batch(run))
            run = []
        head = mine
        run.append(one)
    if run:
        found.append(_batch(run))
    return found


def _batch(run: Sequence[Sample]) -> Batch:
    columns = _Columns()
    for one in run:
        columns.add(
            one.meter, one.resource_id, one.metadata, one.project_id, one.user_id, one.source
        )
    first = run[0]
    return Batch(
        columns.series(first.resource_id),
        [one.volume for one in run],
        first.timestamp,
        first.window,
        first.interval,
        first.member,
        first.token,
        tuple(source for _, source in columns.meters),
    )
