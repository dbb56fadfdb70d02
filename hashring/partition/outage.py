"""What is said of a store that is away: that it is, from time to time that it still is, and when it
is back. Not each call that fails: a member makes hundreds of them a minute.

All members of one process on one store share an `Outage`. This module knows no store.
"""

from __future__ import annotations

import logging
import math
import os
import threading
import weakref
from collections import deque

from hashring import clock

__all__ = ["SUMMARY", "Outage", "of_store"]

log = logging.getLogger("hashring")

SUMMARY = 60.0
"""Seconds between two lines about one outage that goes on."""

_BEGINNINGS = 2
"""The most outages in ``SUMMARY`` seconds whose beginning and end get a line each. Of a store that
comes and goes each second, the others are counted."""


class Outage:
    """Tells the log of failing calls by their state: away, still away, back. For several threads.

    Args:
        name: what the lines begin with: a store's URL, secrets masked.
        what: what is the matter while calls fail.
        over: what the line says when none fails any more.
    """

    def __init__(self, name: str, what: str = "the store is away", over: str = "is back") -> None:
        self._name = name
        self._what = what
        self._over = over
        self._lock = threading.Lock()
        self._failing: set[str] = set()
        self._since = 0.0
        self._failed = 0  # calls since it began
        self._untold = 0  # calls of outages that no line told of
        self._said = -math.inf  # when the last line was written
        self._told = False  # this outage's beginning
        self._beginnings: deque[float] = deque(maxlen=_BEGINNINGS)  # when they were told of

    def is_failing(self, source: str) -> bool:
        """Whether the latest call of this one has failed."""
        return source in self._failing

    def failed(self, source: str, error: BaseException, *, trace: bool = False) -> None:
        """Note that a call has failed.

        Args:
            source: whose call it was, and of which kind.
            error: how; it is shown.
            trace: log where it was raised, too: it is a defect and no outage.
        """
        now = clock.boottime()
        with self._lock:
            begins = not self._failing
            self._failing.add(source)
            if begins:
                self._since, self._failed, self._told = now, 0, False
            self._failed += 1
            if begins and self._may_tell(now):
                self._told = True
                self._said = now
                line = f"{self._what}: {source}: {error}"
            elif now - self._said >= SUMMARY:
                self._told = True
                self._said = now
                line = (
                    f"{self._what}, for {now - self._since:.0f} s now: {self._calls()} failed; "
                    f"the latest: {source}: {error}"
                )
            else:
                return
        log.warning("%s: %s", self._name, line, exc_info=error if trace else None)

    def worked(self, source: str) -> None:
        """Note that a call has worked."""
        if source not in self._failing:  # the usual case, which takes no lock
            return
        now = clock.boottime()
        with self._lock:
            self._failing.discard(source)
            if self._failing:
                return
            if not self._told:
                self._untold += self._failed
                return
            self._said = now
            line = f"{self._over} after {now - self._since:.1f} s: {self._calls()} had failed"
            self._untold = 0
        log.warning("%s: %s", self._name, line)

    def forget(self, *sources: str) -> None:
        """Note that these make no calls any more."""
        with self._lock:
            self._failing.difference_update(sources)

    def _may_tell(self, now: float) -> bool:
        full = len(self._beginnings) == _BEGINNINGS
        if full and now - self._beginnings[0] < SUMMARY:
            return False
        self._beginnings.append(now)
        return True

    def _calls(self) -> str:
        count = self._failed + self._untold
        return "1 call" if count == 1 else f"{count} calls"


_outages: weakref.WeakValueDictionary[str, Outage] = weakref.WeakValueDictionary()
_outages_lock = threading.Lock()


def of_store(name: str) -> Outage:
    """Return what this process knows of a store's outages, the same for all its members there."""
    with _outages_lock:
        found = _outages.get(name)
        if found is None:
            found = _outages[name] = Outage(name)
        return found


def _forget_all() -> None:
    """A forked child has none of the threads that called, and its copies of locks may be held."""
    global _outages, _outages_lock
    _outages, _outages_lock = weakref.WeakValueDictionary(), threading.Lock()


if hasattr(os, "register_at_fork"):  # pragma: no branch - Windows, where nothing forks
    os.register_at_fork(after_in_child=_forget_all)
