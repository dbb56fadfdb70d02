"""Names that are in :mod:`hashring.telemetry.plugin` now, kept importable."""

from hashring.telemetry.plugin import Pollster

__all__ = ["Pollster"]
