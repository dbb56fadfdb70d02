"""The agents' samples: kept once each, and what they come to in granules of time."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy import exc

from hashring.alarms.database.engine import Database, microseconds
from hashring.alarms.database.tables import SAMPLE
from hashring.alarms.errors import BadSamples
from hashring.url import shown

__all__ = ["Samples", "Volume", "volumes_of"]

_TOGETHER = 500
"""Samples of one statement."""

_LONGEST = 255

_AGGREGATES: Mapping[str, Callable[[Sequence[float]], float]] = {
    "avg": lambda volumes: math.fsum(volumes) / len(volumes),
    "min": min,
    "max": max,
    "sum": math.fsum,
    "count": lambda volumes: float(len(volumes)),
}


class Volume(NamedTuple):
    """What is kept of a sample: one volume a meter, resource and window."""

    meter: str
    resource_id: str
    length: int
    window_start: int
    volume: float


def volumes_of(value: Any) -> list[Volume]:
    """Return what a request's JSON has: a list of samples, as the agents' JSON lines, or one.

    Raises:
        BadSamples: something is wrong; the message says in which one.
    """
    found = value if isinstance(value, list) else [value]
    return [_volume(one, number) for number, one in enumerate(found, 1)]


def _volume(value: Any, number: int) -> Volume:
    def wrong(field: str, wanted: str) -> BadSamples:
        given = shown(value.get(field)) if isinstance(value, dict) else shown(value)
        return BadSamples(f"sample {number}: {field} must be {wanted}, not {given}")

    if not isinstance(value, dict):
        raise BadSamples(f"sample {number} must be a mapping, not {shown(value)}")
    for field in ("meter", "resource_id"):
        text = value.get(field)
        if not isinstance(text, str) or not 0 < len(text) <= _LONGEST or "\x00" in text:
            raise wrong(field, f"a text of 1 to {_LONGEST} characters")
    if not _is_number(value.get("volume")):
        raise wrong("volume", "a finite number")
    window: Any = value.get("window")
    interval: Any = value.get("interval")
    if not _is_number(interval) or not 0.001 <= interval <= 366 * 86_400:
        raise wrong("interval", "a number of seconds")
    if isinstance(window, bool) or not isinstance(window, int) or not 0 <= window < 2**53:
        raise wrong("window", "the number of a window")
    start = microseconds(window * interval)
    if start >= 2**62:
        raise wrong("window", "the number of a window that begins in our time")
    return Volume(
        *(value["meter"], value["resource_id"], microseconds(interval), start),
        float(value["volume"]),
    )


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(float(value))
    except OverflowError:
        return False


class Samples:
    """The samples in the database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def keep(self, volumes: Iterable[Volume]) -> None:
        """Keep volumes; what is there already, a repeat, changes nothing."""
        rows = [volume._asdict() for volume in {volume[:4]: volume for volume in volumes}.values()]
        for start in range(0, len(rows), _TOGETHER):
            chunk = rows[start : start + _TOGETHER]
            try:
                with self._database.writing() as connection:
                    connection.execute(SAMPLE.insert(), chunk)
            except exc.IntegrityError:
                self._keep_each(chunk)

    def _keep_each(self, rows: Iterable[Mapping[str, Any]]) -> None:
        # Some of them are there: a batch is sent again where its answer was lost.
        for row in rows:
            try:
                with self._database.writing() as connection:
                    connection.execute(SAMPLE.insert(), row)
            except exc.IntegrityError:
                continue

    def points(
        self,
        meter: str,
        resource: str,
        aggregation: str,
        granularity: float,
        start: float,
        end: float,
    ) -> list[float]:
        """Return the aggregate of each granule that has samples, oldest first.

        Args:
            meter: its name.
            resource: an id, or a pattern with ``*`` and ``?``.
            aggregation: avg, min, max, sum or count.
            granularity: seconds.
            start: of the first granule, in wall-clock seconds.
            end: of the last one.
        """
        length = microseconds(granularity)
        wanted = sa.select(SAMPLE.c.resource_id, SAMPLE.c.window_start, SAMPLE.c.volume).where(
            SAMPLE.c.meter == meter,
            SAMPLE.c.window_start >= microseconds(start),
            SAMPLE.c.window_start < microseconds(end),
        )
        is_pattern = any(sign in resource for sign in "*?[")
        if not is_pattern:
            wanted = wanted.where(SAMPLE.c.resource_id == resource)
        granules: dict[int, list[float]] = {}
        with self._database.reading() as connection:
            for row in connection.execute(wanted):
                if not is_pattern or fnmatch.fnmatchcase(row.resource_id, resource):
                    granules.setdefault(row.window_start // length, []).append(row.volume)
        aggregate = _AGGREGATES[aggregation]
        return [float(aggregate(volumes)) for _, volumes in sorted(granules.items())]
