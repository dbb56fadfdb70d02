"""What a driver's author runs, and what judges the protocol: each name loads its module when asked.

Importing this package imports nothing else; ``DriverSuite`` needs pytest, the rest does not.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hashring.testing.faults.faults import Fault as Fault
    from hashring.testing.faults.faults import ServerStore as ServerStore
    from hashring.testing.faults.faults import SQLiteStore as SQLiteStore
    from hashring.testing.faults.faults import Step as Step
    from hashring.testing.faults.faults import Store as Store
    from hashring.testing.faults.faults import fault_plan as fault_plan
    from hashring.testing.faults.faults import random_plan as random_plan
    from hashring.testing.faults.faults import reference_plan as reference_plan
    from hashring.testing.faults.faults import run_plan as run_plan
    from hashring.testing.faults.history import History as History
    from hashring.testing.faults.history import Verdict as Verdict
    from hashring.testing.faults.history import check as check
    from hashring.testing.faults.report import figures as figures
    from hashring.testing.faults.report import svg as svg
    from hashring.testing.faults.report import table as table
    from hashring.testing.proxy import FaultProxy as FaultProxy
    from hashring.testing.suite.suite import DriverSuite as DriverSuite

_WHERE = {
    "DriverSuite": "suite.suite",
    "Fault": "faults.faults",
    "FaultProxy": "proxy",
    "History": "faults.history",
    "SQLiteStore": "faults.faults",
    "ServerStore": "faults.faults",
    "Step": "faults.faults",
    "Store": "faults.faults",
    "Verdict": "faults.history",
    "check": "faults.history",
    "fault_plan": "faults.faults",
    "figures": "faults.report",
    "random_plan": "faults.faults",
    "reference_plan": "faults.faults",
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
    if where.startswith("suite") and f"{__name__}.suite" not in sys.modules:
        import pytest

        # Failures of the suite then show their values, as those of the author's own tests do.
        pytest.register_assert_rewrite(f"{__name__}.suite")
    return getattr(importlib.import_module(f"{__name__}.{where}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_WHERE})
