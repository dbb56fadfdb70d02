"""Names that are in :mod:`hashring.telemetry.plugin` now, kept importable."""

from hashring.telemetry.plugin import Measurement, Meter, MeterType, Sample

__all__ = ["Measurement", "Meter", "MeterType", "Sample"]
