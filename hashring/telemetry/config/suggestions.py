"""A former place of :mod:`hashring.telemetry.model.suggestions`."""

from hashring.telemetry.model.suggestions import closest, meant

__all__ = ["closest", "meant"]
