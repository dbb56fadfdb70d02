"""Names that are in :mod:`hashring.telemetry.plugin` now, kept importable."""

from hashring.telemetry.plugin import Resource, on_host

__all__ = ["Resource", "on_host"]
