"""Real processes, a real store and injected faults, judged by what the processes wrote down."""

from __future__ import annotations

from hashring.testing.faults.faults import (
    BACK_IN_TIME,
    WORKER,
    Fault,
    Group,
    Server,
    ServerStore,
    SQLiteStore,
    Step,
    Store,
    fault_plan,
    random_plan,
    reference_plan,
    run_plan,
)

__all__ = [
    "BACK_IN_TIME",
    "WORKER",
    "Fault",
    "Group",
    "SQLiteStore",
    "Server",
    "ServerStore",
    "Step",
    "Store",
    "fault_plan",
    "random_plan",
    "reference_plan",
    "run_plan",
]
