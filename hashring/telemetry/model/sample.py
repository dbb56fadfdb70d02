"""Meter, Measurement, Sample: what was measured, and what a sink must know of it.

A sample's id is derived from meter, resource and window alone: whoever takes it, it is the same,
so that a sink can refuse a second one. This module knows no clock, no file, and of members the
name alone.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, NamedTuple

__all__ = ["Measurement", "Meter", "MeterType", "Sample", "sample_id"]

NAMESPACE = uuid.UUID("7b1f3f52-6a0c-5d0e-9c55-3b8f5a1d2e64")
"""Part of the format: another namespace would give every sample another id."""


NOTHING: Mapping[str, Any] = MappingProxyType({})
"""The metadata of what has none."""


def time_text(timestamp: float) -> str:
    """Return seconds since the epoch as the JSON lines write them.

    >>> time_text(600.25)
    '1970-01-01T00:10:00.250000+00:00'
    """
    return datetime.fromtimestamp(timestamp, UTC).isoformat(timespec="microseconds")


class MeterType(enum.StrEnum):
    """How a meter's volumes relate; the three types that Ceilometer's documentation defines."""

    GAUGE = "gauge"
    CUMULATIVE = "cumulative"
    DELTA = "delta"


class Meter(NamedTuple):
    """What is measured.

    Attributes:
        name: dotted, as Ceilometer names it where Ceilometer has it.
        type: gauge (a value of now), cumulative (grows), delta (change since the last sample).
        unit: of the volume, e.g. ``"B"``, ``"%"``, ``"ns"``.
    """

    name: str
    type: MeterType
    unit: str


class Measurement(NamedTuple):
    """One volume of one meter, not yet bound to a window.

    Attributes:
        meter: what was measured.
        volume: the value, in the meter's unit.
        resource_id: of what, where that is not the polled resource itself but a part of it, e.g.
            one disk of an instance or one entry of a response.
        metadata: what else was seen: JSON types.
        project_id: whose it is, where that is known; user_id likewise.
    """

    meter: Meter
    volume: float | int
    resource_id: str | None = None
    metadata: Mapping[str, Any] = NOTHING
    project_id: str | None = None
    user_id: str | None = None


def sample_id(meter: str, resource_id: str, window: int, interval: float) -> str:
    """Return the id of the sample of a meter and a resource in a window, whoever takes it.

    Args:
        meter: the meter's name.
        resource_id: the resource's id.
        window: the number of the window, ``floor(time / interval)``.
        interval: the window's length in seconds; windows of other lengths have other ids.

    Returns:
        A UUID (version 5) as text.

    Example:
        >>> sample_id("hardware.cpu.util", "web1:host", 28971234, 60.0)
        '750e1fc4-faf0-5fa6-be24-707ff5f98338'
    """
    # Lengths keep the parts apart: no two (meter, resource) pairs run into the same text.
    name = f"{len(meter)}:{meter}{len(resource_id)}:{resource_id}{window}/{float(interval)!r}"
    return str(uuid.uuid5(NAMESPACE, name))


@dataclasses.dataclass(frozen=True, slots=True)
class Sample:
    """One measurement, bound to its resource and window, and signed by who took it.

    Attributes:
        meter: what was measured, with type and unit.
        volume: the value, in the meter's unit.
        resource_id: of what.
        timestamp: when it was measured: wall-clock seconds since the epoch.
        window: the number of the window it was taken for.
        interval: the length of that window in seconds.
        member: who took it.
        token: ``(view id, incarnation, window)`` of the cycle: a sink that has seen a later
            token for the resource can refuse this one.
        metadata: what else was seen of the resource: JSON types.
        project_id: whose the resource is, where that is known; user_id likewise.
        source: the name of the source, in the polling definition, that asked for it.

    Example:
        >>> meter = Meter("hardware.cpu.util", MeterType.GAUGE, "%")
        >>> sample = Sample(meter, 12.5, "web1:host", 600.25, 10, 60.0, "agent-1", ("v", "i", 10))
        >>> sample.to_json().keys() >= {"id", "meter", "type", "unit", "volume", "resource_id"}
        True
        >>> sample.to_json()["timestamp"]
        '1970-01-01T00:10:00.250000+00:00'
    """

    meter: Meter
    volume: float | int
    resource_id: str
    timestamp: float
    window: int
    interval: float
    member: str
    token: tuple[Any, ...]
    metadata: Mapping[str, Any] = dataclasses.field(default_factory=lambda: NOTHING)
    project_id: str | None = None
    user_id: str | None = None
    source: str = ""

    @property
    def id(self) -> str:
        """The sample's id: see :func:`sample_id`."""
        return sample_id(self.meter.name, self.resource_id, self.window, self.interval)

    def to_json(self) -> dict[str, Any]:
        """Return the sample as JSON types; the keys are the format of the JSON lines."""
        found: dict[str, Any] = {
            "id": self.id,
            "meter": self.meter.name,
            "type": str(self.meter.type),
            "unit": self.meter.unit,
            "volume": self.volume,
            "resource_id": self.resource_id,
            "timestamp": time_text(self.timestamp),
            "window": self.window,
            "interval": self.interval,
            "member": self.member,
            "token": list(self.token),
        }
        if self.metadata:
            found["metadata"] = dict(self.metadata)
        for name in ("project_id", "user_id", "source"):
            if getattr(self, name):
                found[name] = getattr(self, name)
        return found

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Sample:
        """Return the sample that :meth:`to_json` gave these JSON types.

        Raises:
            KeyError, TypeError, ValueError: it is not one.

        Example:
            >>> meter = Meter("hardware.cpu.util", MeterType.GAUGE, "%")
            >>> sample = Sample(meter, 1.5, "web1:host", 600.25, 10, 60.0, "a", ("v", "i", 10))
            >>> Sample.from_json(sample.to_json()) == sample
            True
        """
        return cls(
            meter=Meter(found["meter"], MeterType(found["type"]), found["unit"]),
            volume=found["volume"],
            resource_id=found["resource_id"],
            timestamp=datetime.fromisoformat(found["timestamp"]).timestamp(),
            window=found["window"],
            interval=found["interval"],
            member=found["member"],
            token=tuple(found["token"]),
            metadata=found.get("metadata", NOTHING),
            project_id=found.get("project_id"),
            user_id=found.get("user_id"),
            source=found.get("source", ""),
        )

    def to_line(self) -> bytes:
        r"""Return the sample as one line of JSON in UTF-8, with its ``\n``."""
        return json.dumps(self.to_json(), separators=(",", ":")).encode() + b"\n"
