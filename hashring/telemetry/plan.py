"""Names that are in :mod:`hashring.telemetry.config.plan` now, kept importable."""

from hashring.telemetry.config.plan import Plugins, make_plan

__all__ = ["Plugins", "make_plan"]
