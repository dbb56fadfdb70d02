"""PollCounts: how the polls of each group and source have ended, and how long they took."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from types import MappingProxyType

from hashring.partition.timings import Histogram, Timing

__all__ = ["OUTCOMES", "PollCounts"]

OUTCOMES = (
    "ok",
    "failed",
    "timed_out",
    "gone",
    "fenced",
    "not_taken",
    "left_out",
    "set_aside",
    "hanging",
)
"""How a poll may end: its samples were put; the pollster raised an error; it was given up at its
deadline; its resource has ended; the lease ran out meanwhile, so its samples were dropped; nobody
took its samples. Or it was not begun: it failed several times in a row; it stopped an agent; the
same poll has not come back."""


class PollCounts:
    """How polls have ended, by group and source. For several threads.

    Example:
        >>> counts = PollCounts()
        >>> counts.add("web", "all", "ok")
        >>> counts.took("web", "all", 0.02)
        >>> counts.outcomes["web", "all"]["ok"], counts.times["web", "all"].count
        (1, 1)
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._outcomes: dict[tuple[str, str], dict[str, int]] = {}
        self._times: dict[tuple[str, str], Histogram] = {}

    def add(self, group: str, source: str, outcome: str) -> None:
        """Count a poll that ended so: one of :data:`OUTCOMES`."""
        with self._lock:
            counts = self._outcomes.get((group, source))
            if counts is None:
                counts = self._outcomes[group, source] = dict.fromkeys(OUTCOMES, 0)
            counts[outcome] += 1

    def took(self, group: str, source: str, seconds: float) -> None:
        """Count the time that a pollster took, whether it failed or not."""
        times = self._times.get((group, source))
        if times is None:
            with self._lock:
                times = self._times.setdefault((group, source), Histogram())
        times.add(seconds)

    @property
    def outcomes(self) -> Mapping[tuple[str, str], Mapping[str, int]]:
        """How many polls ended how, by group and source."""
        with self._lock:
            return MappingProxyType({key: dict(counts) for key, counts in self._outcomes.items()})

    @property
    def times(self) -> Mapping[tuple[str, str], Timing]:
        """How long pollsters took, by group and source."""
        with self._lock:
            return MappingProxyType({key: times.timing for key, times in self._times.items()})
