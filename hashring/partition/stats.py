"""`Stats`: what a member has done and missed. `Tally` counts its hand-overs and fenced seconds."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

__all__ = ["Stats", "Tally"]


@dataclasses.dataclass(frozen=True, slots=True)
class Stats:
    """What a member has done since it joined.

    Attributes:
        windows_on_time: windows that a loop has begun, with what this member held then.
        windows_late: pieces of windows that it worked later: slots that were handed over after
            the window had begun.
        windows_missed: windows that it skipped because it was late itself.
        windows_given_up: windows that nobody worked for some slots that were handed over to it:
            when they had been, the window had begun longer ago than it may be worked late, which
            is a ttl or the interval, whichever is longer.
        hand_overs: changes of the group that it has gone along with, the first view not counted.
        fenced_seconds: how long it held nothing because no heartbeat was confirmed.
        windows_away: windows that nobody worked, of slots that this member has gained since: their
            member was away, with ``resume``, for longer than they may be worked late. Of this
            member's loops.
        away_seconds: the longest time for which such slots were nobody's.
        members_lost: other members that vanished without a drain: their lease ended, or they left
            at once.
    """

    windows_on_time: int
    windows_late: int
    windows_missed: int
    hand_overs: int
    fenced_seconds: float
    windows_away: int = 0
    away_seconds: float = 0.0
    members_lost: int = 0
    windows_given_up: int = 0


class Tally:
    """Counts what the hand-off goes through. Not for several threads at once.

    Args:
        settled_within: is told of each change how many seconds it took to settle.

    Example:
        >>> tally = Tally()
        >>> tally.look(now=0.0, fence=9.0, view="a")
        >>> tally.look(now=12.0, fence=21.0, view="b")
        >>> tally.hand_overs, tally.fenced_seconds(now=13.0), tally.fenced_seconds(now=22.0)
        (1, 3.0, 4.0)
    """

    def __init__(self, settled_within: Callable[[float], object] = lambda seconds: None) -> None:
        self._settled_within = settled_within
        self._target: str | None = None  # the view that is not settled yet
        self._settled: str | None = None  # the one that was settled last
        self._turned_at = 0.0
        self._fence = math.inf  # the latest one; none before the first heartbeat
        self._fenced = 0.0
        self._view: str | None = None
        self._ended = False
        self.hand_overs = 0

    def look(
        self,
        *,
        now: float,
        fence: float,
        view: str | None,
        target: str | None = None,
        is_settled: bool = False,
    ) -> None:
        """Take note of the fence and the acked view.

        Args:
            now: local time in seconds.
            fence: the local time from which on nothing is held; ``-inf`` where the lease is lost.
            view: the id of the view in this member's record, if any.
            target: the id of the view of the latest reading, if any.
            is_settled: everything that it gives this member is held.
        """
        self._look_at_settling(now, target, is_settled)
        if not self._ended and fence != self._fence and fence > -math.inf:
            self._fenced += max(0.0, now - self._fence)
            self._fence = fence
        if view is not None and view != self._view:
            self.hand_overs += self._view is not None
            self._view = view

    def _look_at_settling(self, now: float, target: str | None, is_settled: bool) -> None:
        if target is None or self._ended:
            return
        if target not in (self._target, self._settled):
            # One change on top of another: it has not settled since the first of them.
            self._turned_at = now if self._target is None else self._turned_at
            self._target = target
        if is_settled and self._target is not None:
            self._settled_within(now - self._turned_at)
            self._target, self._settled = None, target

    def end(self, now: float) -> None:
        """The member leaves: from here on nothing is counted."""
        self._fenced = self.fenced_seconds(now)
        self._ended = True

    def fenced_seconds(self, now: float) -> float:
        """Return for how many seconds, until ``now``, the fence had passed."""
        return self._fenced + (0.0 if self._ended else max(0.0, now - self._fence))
