"""How far a server's clock is ahead of ours, and whether it gained too much for a lease to hold.

A lease runs on the server's clock, its holder's fence on a clock of the holder's. The fence spares
a tenth of the lease. So within nine tenths of a lease the server's clock may gain a tenth of one on
ours, whatever the cause: a rate that is up to 10% higher, or a step. What gains more may have ended
a lease before its holder's fence.

Nothing is asked of the clock's rate beyond that: only a window of that length is looked at, so a
clock that always runs 9% fast never adds up to a step. This module knows no store.
"""

from __future__ import annotations

import collections
import math

__all__ = ["ServerClock"]

_WINDOW = 0.9  # of a lease: how long the fence waits, and how far back a gain counts
# Of a lease: the gain within one window that counts as a step. A rate of 10% makes 0.09 of it, and
# at 0.1 the fence has nothing left to spare.
_GAIN = 0.095
_PARTS = 32  # a window keeps the least reading of each of so many parts
# By how much a clock may gain in each second of a silence beyond the window: twice what NTP slews
# at most. Who was silent for longer than a lease and finds a clock that runs much faster takes it
# for a step, which costs the group one lease of standing still.
_DRIFT = 1e-3


class ServerClock:
    """What one caller knows of one server's clock.

    Args:
        ttl: the lease in seconds.

    Example:
        >>> clock = ServerClock(10.0)
        >>> [clock.gained(t * 1.09, t, t) for t in range(5)]
        [0.0, 0.0, 0.0, 0.0, 0.0]
        >>> round(clock.gained(5 * 1.09 + 3.0, 5.0, 5.0), 2)
        3.45
    """

    def __init__(self, ttl: float) -> None:
        self._window = _WINDOW * ttl
        self._gain = _GAIN * ttl
        # Pairs of our time, and an upper bound of how far the server's was ahead at that time.
        self._seen: collections.deque[tuple[float, float]] = collections.deque()

    def gained(self, server: float, began: float, ended: float) -> float:
        """Note a reading; return by how many seconds the clock gained, 0.0 if that is allowed.

        What is known of the difference is an interval, as wide as the answer took. The gain is
        the least that these intervals allow, so no slow answer is ever taken for a step.

        Args:
            server: the server's time, in seconds.
            began: our time when we asked.
            ended: our time when the answer was there.
        """
        least, most = server - ended, server - began
        bound = self._bound(began)
        gain = 0.0
        if least > bound:
            gain = least - bound + self._gain
            self._seen.clear()
        self._note(began, most)
        return gain

    def latest(self, now: float) -> float:
        """Return the latest that the server's time may be at ``now``; ``-inf`` if never seen."""
        bound = self._bound(now)
        return now + bound if bound < math.inf else -math.inf

    def _bound(self, now: float) -> float:
        """Return how far ahead the server's clock may be without having gained too much."""
        if not self._seen:
            return math.inf
        young = [ahead for at, ahead in self._seen if at >= now - self._window]
        if young:
            return min(young) + self._gain
        at, ahead = self._seen[-1]
        return ahead + self._gain + _DRIFT * (now - at - self._window)

    def _note(self, at: float, ahead: float) -> None:
        seen = self._seen
        if seen and at - seen[-1][0] < self._window / _PARTS and len(seen) > 1:
            at, ahead = seen[-1][0], min(ahead, seen.pop()[1])
        # What was seen before, and was no lower, is a weaker bound from now on.
        while seen and seen[-1][1] >= ahead:
            seen.pop()
        seen.append((at, ahead))
        # The newest stays, however old: after a silence it is all there is.
        while len(seen) > 1 and seen[0][0] < at - self._window:
            seen.popleft()
