"""What a driver's author runs, and what judges the protocol: each name loads its room when asked.

Importing this package imports nothing else; ``DriverSuite`` needs pytest, the rest does not.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hashring.testing.faults import Fault as Fault
    from hashring.testing.faults import ServerStore as ServerStore
    from hashring.testing.faults import SQLiteStore as SQLiteStore
    from hashring.testing.faults import Step as Step
    from hashring.testing.faults import Store as Store
    from hashring.testing.faults import fault_plan as fault_plan
    from hashring.testing.faults import random_plan as random_plan
    from hashring.testing.faults import reference_plan as reference_plan
    from hashring.testing.faults import run_plan as run_plan
    from hashring.testing.history import History as History
    from hashring.testing.history import Verdict as Verdict
    from hashring.testing.history import check as check
    from hashring.testing.proxy import FaultProxy as FaultProxy
    from hashring.testing.report import figures as figures
    from hashring.testing.report import svg as svg
    from hashring.testing.report import table as table
    from hashring.testing.suite import DriverSuite as DriverSuite

_WHERE = {
    "DriverSuite": "suite",
    "Fault": "faults",
    "FaultProxy": "proxy",
    "History": "history",
    "SQLiteStore": "faults",
    "ServerStore": "faults",
    "Step": "faults",
    "Store": "faults",
    "Verdict": "history",
    "check": "history",
    "fault_plan": "faults",
    "figures": "report",
    "random_plan": "faults",
    "reference_plan": "faults",
    "run_plan": "faults",
    "svg": "report",
    "table": "report",
}
"""Each public name, and the room that has it."""

__all__ = sorted(_WHERE)


def __getattr__(name: str) -> Any:
    room = _WHERE.get(name)
    if room is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = f"{__name__}.{room}"
    if room == "suite" and module not in sys.modules:
        import pytest

        # Failures of the suite then show their values, as those of the author's own tests do.
        pytest.register_assert_rewrite(module, f"{module}_base", f"{module}_time")
    return getattr(importlib.import_module(module), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_WHERE})
