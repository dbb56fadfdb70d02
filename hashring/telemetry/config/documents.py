"""A former place of :mod:`hashring.telemetry.model.documents`."""

from hashring.telemetry.model.documents import NoKeyTwice

__all__ = ["NoKeyTwice"]
