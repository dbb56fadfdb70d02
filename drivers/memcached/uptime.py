"""The server's time: memcached tells its uptime, in whole seconds, and not always the latest."""

from __future__ import annotations

import math
import threading
import time

from hashring.clock import boottime

from .connection import Connection
from .keys import LAG

__all__ = ["DRIFT", "ServerTime"]

DRIFT = 1e-3  # by how much two clocks' rates may differ: twice what NTP slews at most


class ServerTime:
    """What one driver knows of one server's uptime."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # By how much the server's time is ahead of our clock, and when the most was learned.
        self._least, self._most, self._learned = -math.inf, math.inf, 0.0
        self._highest = 0  # the server's uptime in seconds

    def uptime(self, connection: Connection) -> int:
        """Return the server's uptime, and not one from before it was paused.

        The server ticks once a second, and one that was paused for longer answers with its old
        time until its next tick: a lease that counted from there would end early. That it lags
        shows against our own clock; then the next tick is awaited. An uptime that fell is of
        another server: what was learned of the one before would only have each call wait.
        """
        with self._lock:
            before = self._highest
        began = boottime()
        uptime = connection.uptime()
        with self._lock:
            if uptime < before:
                self._least, self._most, self._highest = -math.inf, math.inf, uptime
            self._highest = max(self._highest, uptime)
            if uptime > self._most + boottime():
                self._most = math.inf  # our own clock lost time: look anew
            if uptime >= self._least + began - 2:
                self._least = max(self._least, uptime - boottime())
                return uptime
        return self._ticked(connection, uptime, began)

    def _ticked(self, connection: Connection, first: int, began: float) -> int:
        """Await a tick, and learn from it how far the server's time is ahead of ours."""
        while (uptime := connection.uptime()) == first:
            time.sleep(0.02)
            began = boottime()
        now = boottime()
        with self._lock:
            # Between these two, the server's time passed from before `uptime` into its second.
            self._least, self._most, self._learned = uptime - now, uptime + 1 - began, now
        return uptime

    def stamp(self, connection: Connection) -> int:
        """Return an uptime that is not before the call: the server's time, rounded up."""
        began = boottime()
        uptime = self.uptime(connection)
        if math.isinf(self._most) or began > self._learned + 60:
            if connection.deadline - boottime() < 1.2:
                # There may be no time for a tick. Later than true only makes others wait.
                return uptime + LAG
            self._ticked(connection, uptime, began)
        now = boottime()
        return math.ceil(self._most + now + DRIFT * (now - self._learned))
