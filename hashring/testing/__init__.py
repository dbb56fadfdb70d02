"""What a driver's author runs, and what judges the protocol: each name loads its module when asked.

Importing this package imports nothing else; ``DriverSuite`` needs pytest, the rest does not.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hashring.testing.faults.faults import run_plan as run_plan
    from hashring.testing.faults.history import History as History
    from hashring.testing.faults.plans import Step as Step
    from hashring.testing.faults.plans import fault_plan as fault_plan
    from hashring.testing.faults.plans import random_plan as random_plan
    from hashring.testing.faults.plans import reference_plan as reference_plan
    from hashring.testing.faults.report import figures as figures
    from hashring.testing.faults.report import svg as svg
    from hashring.testing.faults.report import table as table
    from hashring.testing.faults.sqlite_store import SQLiteStore as SQLiteStore
    from hashring.testing.faults.store import Fault as Fault
    from hashring.testing.faults.store import ServerStore as ServerStore
    from hashring.testing.faults.store import Store as Store
    from hashring.testing.faults.verdict import Verdict as Verdict
    from hashring.testing.faults.verdict import check as check
    from hashring.testing.proxy import FaultProxy as FaultProxy
    from hashring.testing.suite.suite import DriverSuite as DriverSuite

_WHERE = {
    "DriverSuite": "suite.suite",
    "Fault": "faults.store",
    "FaultProxy": "proxy",
    "History": "faults.history",
    "SQLiteStore": "faults.sqlite_store",
    "ServerStore": "faults.store",
    "Step": "faults.plans",
    "Store": "faults.store",
    "Verdict": "faults.verdict",
    "check": "faults.verdict",
    "fault_plan": "faults.plans",
    "figures": "faults.report",
    "random_plan": "faults.plans",
    "reference_plan": "faults.plans",
    "run_plan": "faults.faults",
    "svg": "faults.report",
    "table": "faults.report",
}
"""Each public name, and the module that has it."""

__all__ = sorted(_WHERE)


def __getattr__(name: str) -> Any:
    where = _WHERE.get(name)
    if where is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{where}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_WHERE})
