"""Tells the operator that a store went back in time: once for each time that it did.

Several things show it, at any time afterwards: a connection that begins anew, and each lease whose
record is older than what was confirmed. Each of them knows when it last saw the store as it had to
be. What was told since then has told of this, too. It knows neither sessions nor leases.
"""

from __future__ import annotations

import logging
import math
import threading

from hashring.driver import Driver

__all__ = ["Rewinds"]

_log = logging.getLogger(__name__)


class Rewinds:
    """What one driver has told of its store's going back. For any thread.

    Args:
        driver: for its URL and its ttl.
    """

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._lock = threading.Lock()
        self._told = -math.inf

    def tell(self, evidence: str, *, sound: float, now: float) -> None:
        """Tell that the store went back, where it was not told since it was last seen sound.

        Args:
            evidence: in words for the operator.
            sound: when what now shows it last saw the store as it had to be, in seconds on the
                boot-time clock: the start of that call.
            now: in seconds on the same clock.
        """
        with self._lock:
            if sound < self._told:
                return
            self._told = now
        _log.error(
            "%s has gone back in time (%s): it was rebuilt, or restored from an older copy; "
            "members join anew, and nobody gains anything for %g s",
            self._driver.url,
            evidence,
            self._driver.ttl,
        )
