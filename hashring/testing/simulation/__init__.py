"""The hand-over under a seeded scheduler, and the search of every state a small group can reach."""

from __future__ import annotations

from hashring.testing.simulation.simulation import (
    PROFILES,
    Profile,
    Result,
    SimulatedStore,
    Violation,
    run,
    run_many,
)

__all__ = ["PROFILES", "Profile", "Result", "SimulatedStore", "Violation", "run", "run_many"]
