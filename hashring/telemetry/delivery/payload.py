"""A batch as bytes in the spool, and back. Part of the spool's layout.

::

    0x03 | CRC-32 of columns and head | length of the head | head | columns
    0x04 | CRC-32 of columns and head | length of the head | head

In layout 2 the marks were 0x01 and 0x02, and the checksum was that of head and columns, in this
order. Since the columns come first in it, it is carried on from theirs, which is made once.

Head and columns are msgpack: one poll's values, and what was measured of what. The columns are
those of a :class:`~hashring.telemetry.model.batch.Series`: they are written out once for it,
however many polls it serves, and read back once while somebody holds it. Where they are large the
spool keeps them apart from the payload (0x04), once for all polls that have them. So a sample costs
what its number costs.
"""

from __future__ import annotations

import array
import collections
import json
import struct
import sys
import threading
import weakref
import zlib
from typing import Any

import msgpack

from hashring.errors import BadArgument
from hashring.telemetry.model.batch import Batch, Series, batches_of
from hashring.telemetry.model.sample import NOTHING, Meter, MeterType, Sample

__all__ = ["decoded", "encoded"]

_WITH_COLUMNS, _WITHOUT = 0x03, 0x04
_WITH_COLUMNS_2, _WITHOUT_2 = 0x01, 0x02  # of layout 2
_HEAD = struct.Struct("<BII")
_APART = 4096
"""Bytes from which on columns are kept apart: below, a row of their own costs more than they do."""

_BEFORE = b"["  # a payload of layout 1 begins so: one sample's fields, as JSON

_FIELDS_BEFORE = (
    *("meter", "volume", "resource_id", "timestamp", "window", "interval", "member", "token"),
    *("metadata", "project_id", "user_id", "source"),
)

_series: weakref.WeakValueDictionary[bytes, Series] = weakref.WeakValueDictionary()
_lock = threading.Lock()
"""Held where the dictionary changes: a series may be let go of in any thread."""

_RECENT = 512
"""Small series that are held for a while: a poll of one sample is mostly taken out of the spool
right after it was put, and need not be read anew. They take some megabytes at most."""

_recent: collections.deque[Series] = collections.deque(maxlen=_RECENT)


def encoded(batch: Batch) -> tuple[bytes, bytes | None]:
    """Return a batch as bytes, and beside them its columns, where they are to be kept apart.

    Raises:
        BadArgument: it cannot be written.
    """
    head = _packed(
        [
            batch.timestamp,
            batch.window,
            batch.interval,
            batch.member,
            list(batch.token),
            list(batch.sources),
            list(batch.volumes),
        ],
        batch,
    )
    packed = batch.series.packed
    columns, check = _columns(batch) if packed is None else packed
    check = zlib.crc32(head, check)
    if len(columns) >= _APART:
        return _HEAD.pack(_WITHOUT, check, len(head)) + head, columns
    return b"".join((_HEAD.pack(_WITH_COLUMNS, check, len(head)), head, columns)), None


def _columns(batch: Batch) -> tuple[bytes, int]:
    series = batch.series
    meter_of = series.meter_of
    if sys.byteorder == "big":
        meter_of = array.array("I", meter_of)
        meter_of.byteswap()
    found = _packed(
        [
            series.resource_id,
            [[meter.name, str(meter.type), meter.unit] for meter in series.meters],
            meter_of.tobytes(),
            series.resource_ids,
            series.metadata,
            series.project_ids,
            series.user_ids,
        ],
        batch,
    )
    return _noted(series, found, zlib.crc32(found))


def _noted(series: Series, columns: bytes, check: int) -> tuple[bytes, int]:
    packed = columns, check
    with _lock:
        series.packed = packed
        _series[columns] = series
    if len(columns) < _APART:
        _recent.append(series)
    return packed


def _packed(values: list[Any], batch: Batch) -> bytes:
    """Return values as msgpack; as JSON in msgpack, where a number has more than 64 bits."""
    try:
        found: bytes = msgpack.packb(values, unicode_errors="surrogatepass")
    except (OverflowError, TypeError, ValueError):
        try:
            found = msgpack.packb(json.dumps(values))
        except (TypeError, ValueError) as error:
            raise BadArgument(
                f"samples of {batch.series.resource_id} cannot be written as JSON: {error}; "
                "see to what their pollster tells"
            ) from None
    return found


def _unpacked(data: bytes) -> list[Any]:
    found = msgpack.unpackb(data, unicode_errors="surrogatepass", strict_map_key=False)
    if isinstance(found, str):
        found = json.loads(found)
    if not isinstance(found, list):
        raise TypeError(f"no columns but {type(found).__name__}")
    return found


def decoded(payload: bytes, columns: bytes | None = None) -> Batch:
    """Return the batch that these bytes are, and the columns that were kept apart.

    Raises:
        KeyError, TypeError, ValueError: they are not one.
    """
    if payload[:1] == _BEFORE:
        return _decoded_before(payload)
    if len(payload) < _HEAD.size:
        raise ValueError(f"{len(payload)} bytes are no batch")
    mark, check, size = _HEAD.unpack_from(payload)
    end = _HEAD.size + size
    head = payload[_HEAD.size : end]
    if mark in (_WITH_COLUMNS, _WITH_COLUMNS_2):
        columns = payload[end:]
    if columns is None or mark not in (_WITH_COLUMNS, _WITHOUT, _WITH_COLUMNS_2, _WITHOUT_2):
        raise ValueError("it has no columns")
    with _lock:
        series = _series.get(columns)
    if mark in (_WITH_COLUMNS, _WITHOUT):
        # Columns that are known byte for byte need not be read again for their checksum.
        packed = None if series is None else series.packed
        mine = zlib.crc32(columns) if packed is None else packed[1]
        found = zlib.crc32(head, mine)
    else:
        mine = None
        found = zlib.crc32(columns, zlib.crc32(head))
    if found != check:
        raise ValueError("the checksum is wrong")
    timestamp, window, interval, member, token, sources, volumes = _unpacked(head)
    if series is None:
        series = _series_of(columns, zlib.crc32(columns) if mine is None else mine)
    if len(volumes) != len(series):
        raise ValueError(f"{len(volumes)} volumes for {len(series)} rows")
    return Batch(series, volumes, timestamp, window, interval, member, tuple(token), tuple(sources))


def _series_of(columns: bytes, check: int) -> Series:
    resource_id, meters, numbers, *rest = _unpacked(columns)
    meter_of = array.array("I", numbers)
    if sys.byteorder == "big":
        meter_of.byteswap()
    series = Series(
        resource_id,
        [Meter(name, MeterType(kind), unit) for name, kind, unit in meters],
        meter_of,
        *rest,
    )
    _noted(series, columns, check)
    return series


def _decoded_before(payload: bytes) -> Batch:
    """Return the one sample of a payload of layout 1; a field that it has not is the default."""
    found = dict(zip(_FIELDS_BEFORE, json.loads(payload), strict=False))
    name, kind, unit = found["meter"]
    found["meter"] = Meter(name, MeterType(kind), unit)
    found["token"] = tuple(found["token"])
    found.setdefault("metadata", NOTHING)
    (batch,) = batches_of([Sample(**found)])
    return batch
