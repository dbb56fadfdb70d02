"""Names and labels of Prometheus's series, of what was measured of what. Knows no message."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from hashring.telemetry.model.batch import Series
from hashring.telemetry.model.sample import Meter

__all__ = ["ALL", "SeriesLabels", "series_name"]

ALL = ("*",)
"""In place of keys: all of them."""

_PREFIX = "prometheus."
"""Of the meters that were read from Prometheus's own formats: there they had no such prefix."""


@functools.lru_cache(maxsize=4096)
def series_name(meter: Meter) -> str:
    """Return a meter's name as Prometheus allows it.

    Example:
        >>> from hashring.telemetry.model.sample import MeterType
        >>> series_name(Meter("prometheus.node_load1", MeterType.GAUGE, ""))
        'node_load1'
        >>> series_name(Meter("disk.device.read.bytes", MeterType.CUMULATIVE, "B"))
        'disk_device_read_bytes'
    """
    name = re.sub(r"[^a-zA-Z0-9_:]", "_", meter.name.removeprefix(_PREFIX))
    return name if re.match(r"[a-zA-Z_:]", name) else f"_{name}"


@functools.lru_cache(maxsize=4096)
def _label_name(key: str) -> str:
    # Names that begin with two underscores are Prometheus' own.
    name = re.sub(r"[^a-zA-Z0-9_]", "_", key)
    if name.startswith("__"):
        name = name.lstrip("_")
    return name if re.match(r"[a-zA-Z_]", name) else f"_{name}"


class SeriesLabels:
    """Says what labels a row's series has.

    Args:
        keys: of the metadata, that become labels; :data:`ALL` of them.

    Example:
        >>> from hashring.telemetry.model.sample import MeterType
        >>> load = Meter("load", MeterType.GAUGE, "")
        >>> series = Series("web1", (load,), [0], [None], ['{"room":"k-2","rack":7}'])
        >>> SeriesLabels(ALL).of(series, 0)
        [('__name__', 'load'), ('rack', '7'), ('resource_id', 'web1'), ('room', 'k-2')]
    """

    def __init__(self, keys: tuple[str, ...]) -> None:
        self._keys = keys

    def of(self, series: Series, row: int) -> list[tuple[str, str]]:
        """Return a row's labels, sorted by name: a receiver may refuse what is not."""
        metadata, project_id, user_id = series.about(row)
        id_ = series.resource_ids[row]
        found = {_label_name(key): value for key, value in self._chosen(metadata)}
        found["resource_id"] = series.resource_id if id_ is None else id_
        for name, value in (("project_id", project_id), ("user_id", user_id)):
            if value:
                found[name] = value
        found["__name__"] = series_name(series.meters[series.meter_of[row]])
        return [(name, found[name]) for name in sorted(found) if found[name]]

    def _chosen(self, metadata: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        for key, value in metadata.items():
            if value is not None and (self._keys == ALL or key in self._keys):
                yield key, value if isinstance(value, str) else json.dumps(value, default=dict)
