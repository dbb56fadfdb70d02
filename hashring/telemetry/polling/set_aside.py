"""SetAside: resources that are not polled for a while, because a poll of them stopped an agent.

A poll that holds the interpreter (a plug-in in C, a regular expression that backtracks) or takes
all memory costs its agent the lease, and then each heir of the resource in turn. So what a witness
says of such a poll (`witness`) is kept here, told to others in ``meta``, and the resource is left
out: the first time for the shortest pause, then for twice as long each time.

This module holds the rule, and the only place where another member's word on it is read: typed and
bounded. It knows no store, thread or clock.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

__all__ = ["Case", "SetAside", "from_meta", "to_meta"]

log = logging.getLogger(__name__)

_KEY = "set_aside"
"""The key in ``meta``."""

_MOST = 32
"""Cases that one member tells; more are left out, and ignored in what others tell."""

_MOST_BYTES = 32 * 1024
"""Bytes of JSON that they may take: half of what ``meta`` may hold."""

_MOST_KEPT = 256
"""Resources that an agent sets aside at once, whatever it is told."""

_MOST_KNOWN = 4096
"""Cases that are remembered, so that none counts twice. An agent that forgot one could be told of
it again by another that still sets the resource aside."""

_LONGEST_TEXT = 2048
_MOST_DOUBLINGS = 6
_LONGEST = 24 * 3600.0


class Case(NamedTuple):
    """One poll that stopped its agent.

    Attributes:
        id: the resource's.
        case: tells this case from every other.
        times: how often in a row the resource has done so, as far as the teller knows.
        seconds: how long the teller leaves it out from now on; 0: the reader decides.
    """

    id: str
    case: str
    times: int = 1
    seconds: float = 0.0


def to_meta(cases: Iterable[Case]) -> dict[str, Any]:
    """Return the part of ``meta`` that tells of cases: empty where there are none.

    Example:
        >>> to_meta([Case("web1", "a-1")])
        {'set_aside': [['web1', 'a-1', 1, 0.0]]}
    """
    told: list[list[Any]] = []
    size = 0
    for case in cases:
        size += len(json.dumps(case))
        if len(told) == _MOST or size > _MOST_BYTES:
            break
        told.append([case.id, case.case, case.times, round(case.seconds, 1)])
    return {_KEY: told} if told else {}


def from_meta(meta: Mapping[str, Any]) -> list[Case]:
    """Return the cases that a member tells. What is malformed or too much is ignored.

    Example:
        >>> from_meta({"set_aside": [["web1", "a-1", 1, 0.0], ["web2"], 7]})
        [Case(id='web1', case='a-1', times=1, seconds=0.0)]
    """
    found = meta.get(_KEY)
    if not isinstance(found, list):
        return []
    return [case for entry in found[:_MOST] if (case := _case(entry)) is not None]


def _case(entry: object) -> Case | None:
    if not isinstance(entry, list) or len(entry) != 4:
        return None
    id_, name, times, seconds = entry
    texts = isinstance(id_, str) and isinstance(name, str)
    numbers = type(times) is int and type(seconds) in (int, float)
    if not (texts and numbers and len(id_) <= _LONGEST_TEXT and len(name) <= _LONGEST_TEXT):
        return None
    # A comparison in this form is false for NaN too.
    if not (1 <= times <= 1_000_000 and 0 <= seconds <= _LONGEST):
        return None
    return Case(id_, name, times, float(seconds))


class _Aside(NamedTuple):
    case: str
    times: int
    since: float
    until: float


class SetAside:
    """Which resources are not polled now. For several threads.

    Args:
        shortest: seconds for which a resource is set aside the first time.

    Example:
        >>> aside = SetAside(60.0)
        >>> aside.take([Case("web1", "a-1")], now=100.0)
        True
        >>> aside.is_due("web1", 159.0), aside.is_due("web1", 160.0), aside.is_due("web2", 100.0)
        (False, True, True)
    """

    def __init__(self, shortest: float) -> None:
        self.shortest = shortest
        self._lock = threading.Lock()
        self._aside: dict[str, _Aside] = {}
        self._known: dict[str, None] = {}  # cases, the oldest first

    def take(self, cases: Iterable[Case], now: float) -> bool:
        """Set aside what cases tell of; a case counts once, whoever tells it.

        Args:
            cases: from this member's witness or another's, or from another agent.
            now: seconds on any clock that never steps.

        Returns:
            Whether there was a new one.
        """
        found: list[tuple[Case, float]] = []
        with self._lock:
            self._forget(now)
            for case in cases:
                if case.case in self._known:
                    continue
                self._known[case.case] = None
                while len(self._known) > _MOST_KNOWN:
                    del self._known[next(iter(self._known))]
                before = self._aside.get(case.id)
                if before is None and len(self._aside) >= _MOST_KEPT:
                    continue
                if before is not None and now < before.until:
                    # A poll of the same time: of another pollster, or of an heir that knew not.
                    continue
                times = max(case.times, 1 if before is None else before.times + 1)
                seconds = case.seconds or self.shortest * 2 ** min(times - 1, _MOST_DOUBLINGS)
                self._aside[case.id] = _Aside(case.case, times, now, now + seconds)
                found.append((case, seconds))
        for case, seconds in found:
            log.error(
                "%s is set aside for %.0f s: a poll of it stopped a whole agent (case %s); "
                "mend the resource, or the plug-in that polls it",
                case.id,
                seconds,
                case.case,
            )
        return bool(found)

    def is_due(self, id_: str, now: float) -> bool:
        """Whether a resource may be polled."""
        found = self._aside.get(id_) if self._aside else None
        return found is None or now >= found.until

    def worked(self, id_: str, began: float) -> bool:
        """Take note of a poll that succeeded, and began then; return whether that ends a case.

        One that began before the resource was set aside says nothing: it is the poll in question.
        """
        if not self._aside:
            return False
        with self._lock:
            found = self._aside.get(id_)
            if found is None or began < found.until:
                return False
            del self._aside[id_]
        log.info("%s is polled as before", id_)
        return True

    def cases(self, now: float) -> list[Case]:
        """Return what is set aside now, to be told to others."""
        with self._lock:
            return [
                Case(id_, found.case, found.times, found.until - now)
                for id_, found in self._aside.items()
                if found.until > now
            ]

    def times(self, now: float) -> dict[str, int]:
        """Return how often each resource that is set aside now has stopped an agent."""
        return {case.id: case.times for case in self.cases(now)}

    def _forget(self, now: float) -> None:
        """Forget what has been due for as long again as it was set aside, and stopped nobody."""
        for id_, found in list(self._aside.items()):
            if now >= found.until + max(found.until - found.since, self.shortest):
                del self._aside[id_]
