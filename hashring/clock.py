"""The two clocks: local time for leases and fences, wall time for window labels.

The second may step; :class:`Steps` notices. Nothing else in the package reads a clock;
``handoff.py`` and ``windows.py`` are given the time.
"""

from __future__ import annotations

import time

__all__ = ["Steps", "boottime", "wall"]

if hasattr(time, "CLOCK_BOOTTIME"):

    def boottime() -> float:
        """Return seconds on a clock that never steps and runs on while the machine is suspended."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

else:  # pragma: no cover - macOS and Windows, where no group can be joined

    def boottime() -> float:
        """Return seconds on a clock that never steps (this platform may stop it in suspend)."""
        return time.monotonic()


def wall() -> float:
    """Return the wall-clock time in seconds since the epoch: for window labels only."""
    return time.time()


_SLEW = 0.001
"""The most by which a clock that is being corrected runs fast or slow: twice what NTP allows."""


class Steps:
    """Notices where the wall clock steps: the boottime clock beside it never does.

    A clock that is corrected slowly does not step. Several small steps count as one.

    Args:
        bound: seconds; a smaller step is none.

    Attributes:
        count: how many there have been.
        latest: by how many seconds the last one was, negative where it was back; or ``None``.

    Example:
        >>> steps = Steps(5.0)
        >>> steps.look(local=100.0, wall=5000.0), steps.look(local=101.0, wall=5001.0)
        (None, None)
        >>> steps.look(local=102.0, wall=1402.0)
        -3600.0
        >>> steps.look(local=103.0, wall=1403.0), steps.count, steps.latest
        (None, 1, -3600.0)
    """

    def __init__(self, bound: float) -> None:
        self._bound = bound
        self._offset: float | None = None
        self._local = 0.0
        self.count = 0
        self.latest: float | None = None

    def look(self, *, local: float, wall: float) -> float | None:
        """Return by how much the wall clock has stepped since the last look; ``None``: not.

        Args:
            local: seconds on :func:`boottime`.
            wall: what :func:`wall` returned at the same moment.
        """
        offset = wall - local
        if self._offset is None:
            self._offset, self._local = offset, local
            return None
        step = offset - self._offset
        if abs(step) > self._bound:
            self._offset, self._local = offset, local
            self.count += 1
            self.latest = step
            return step
        slewed = _SLEW * max(0.0, local - self._local)
        self._offset += max(-slewed, min(slewed, step))
        self._local = local
        return None

    def look_now(self) -> float | None:
        """Read both clocks, and :meth:`look`."""
        before = boottime()
        now = wall()
        after = boottime()
        if after - before > self._bound / 4:
            return None  # This thread got no processor in between: the next look will tell.
        return self.look(local=(before + after) / 2, wall=now)
