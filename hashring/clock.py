"""The two clocks: local time for leases and fences, wall time for window labels.

Nothing else in the package reads a clock; ``handoff.py`` and ``windows.py`` are given the time.
"""

from __future__ import annotations

import time

__all__ = ["boottime", "wall"]

if hasattr(time, "CLOCK_BOOTTIME"):

    def boottime() -> float:
        """Return seconds on a clock that never steps and runs on while the machine is suspended."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

else:  # pragma: no cover - macOS and Windows

    def boottime() -> float:
        """Return seconds on a clock that never steps (this platform may stop it in suspend)."""
        return time.monotonic()


def wall() -> float:
    """Return the wall-clock time in seconds since the epoch: for window labels only."""
    return time.time()
