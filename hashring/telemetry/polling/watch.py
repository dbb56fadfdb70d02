"""Watch: when to look next for calls that are past their deadline.

An agent that polls every minute has nothing in hand most of the time: then nobody looks. This
module knows moments alone.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable

from hashring import clock

__all__ = ["Watch"]

_LOOK, _LONGEST = 0.05, 1.0
"""Seconds between two looks: as long as no deadline passes, but no longer than the second."""


class Watch:
    """When to look next. One thread waits; whoever has a new deadline says so.

    Example:
        >>> watch = Watch()
        >>> watch.look_by(clock.boottime() + 0.01)
        >>> watch.wait()
        True
        >>> watch.end()
        >>> watch.wait()
        False
    """

    def __init__(self) -> None:
        self._changed = threading.Event()
        self._ended = threading.Event()
        self._next = math.inf  # on CLOCK_BOOTTIME: the next look

    def look_by(self, deadline: float) -> None:
        """See to it that a look comes soon after this moment. Not for two threads at once."""
        if deadline < self._next:
            self._next = -math.inf  # once is enough
            self._changed.set()

    def wait(self) -> bool:
        """Wait for the moment of the next look; return whether there is one, or this has ended."""
        pause = None if self._next == math.inf else max(0.0, self._next - clock.boottime())
        if self._changed.wait(pause):
            self._changed.clear()
            self._ended.wait(_LOOK)
        return not self._ended.is_set()

    def looked(self, deadlines: Iterable[float]) -> None:
        """Note that somebody has looked, and what is left; as :meth:`look_by`, not two at once."""
        now = clock.boottime()
        first = min(deadlines, default=None)
        self._next = math.inf if first is None else now + min(max(first - now, _LOOK), _LONGEST)

    def end(self) -> None:
        """Let nobody wait any more."""
        self._ended.set()
        self._changed.set()
