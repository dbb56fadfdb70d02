"""A former place of :mod:`hashring.telemetry.model.bounded_yaml`."""

from hashring.telemetry.model.bounded_yaml import MAX_BYTES, TooMuch, check

__all__ = ["MAX_BYTES", "TooMuch", "check"]
