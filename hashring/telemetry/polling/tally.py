"""Tally: what an agent's loops have done, for its status."""

from __future__ import annotations

import threading

from hashring import clock

__all__ = ["Tally"]


class Tally:
    """What the loops have done, for the agent's status. For several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._polled: set[str] = set()
        self.polls = 0
        self.samples = 0
        self.window: int | None = None
        self.lateness: float | None = None  # seconds, of the newest window
        self.last_poll: float | None = None

    @property
    def resources(self) -> int:
        """How many resources have been polled in the newest window."""
        return len(self._polled)

    def begin(self, window: int, late: float = 0.0) -> None:
        """A window begins somewhere; one can come in several cycles.

        Of loops with several intervals, the shortest has the highest numbers, so it counts.

        Args:
            window: its number.
            late: how many seconds after its start.
        """
        with self._lock:
            if self.window is None or window > self.window:
                self.window, self._polled = window, set()
                self.lateness = late

    def restart(self) -> None:
        """The clock has stepped: the next window to begin is the newest, whatever its number."""
        with self._lock:
            self.window, self._polled = None, set()

    def add(self, window: int, id_: str, samples: int) -> None:
        """A resource was polled and its samples were put."""
        with self._lock:
            self.polls += 1
            self.samples += samples
            if window == self.window:
                self._polled.add(id_)
            self.last_poll = clock.wall()
