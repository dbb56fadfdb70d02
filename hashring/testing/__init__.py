"""What a driver's author runs, and what judges the protocol: each name loads its room when asked.

Importing this package imports nothing else; ``DriverSuite`` needs pytest, the rest does not.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hashring.testing.proxy import FaultProxy as FaultProxy
    from hashring.testing.suite import DriverSuite as DriverSuite

_WHERE = {
    "DriverSuite": "suite",
    "FaultProxy": "proxy",
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
        pytest.register_assert_rewrite(module)
    return getattr(importlib.import_module(module), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_WHERE})
