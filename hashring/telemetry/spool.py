"""Names that are in :mod:`hashring.telemetry.delivery` now, kept importable."""

from hashring.telemetry.delivery import Spool

__all__ = ["Spool"]
