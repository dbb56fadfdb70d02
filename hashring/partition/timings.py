"""How long things took: histograms, and a driver whose calls are timed. Nothing decides by them."""

from __future__ import annotations

import bisect
import dataclasses
import functools
import threading
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, cast

from hashring.driver import Driver

__all__ = ["BOUNDS", "CallStats", "Calls", "Histogram", "Timing", "plain", "timed"]

BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Seconds: the upper bounds of a histogram's buckets; one more bucket has what is longer. From a
call to a store of this host up to a cycle of a minute."""

_TIMED = ("open", "join", "publish", "heartbeat", "read", "read_since", "leave")
"""What a store is asked. A ``wait`` is no request: most of it is the pause that was asked for."""


@dataclasses.dataclass(frozen=True, slots=True)
class Timing:
    """How often something happened, and how long it took.

    Attributes:
        count: how often.
        seconds: how long all of them took together.
        buckets: how many took at most as long as each of :data:`BOUNDS`, but longer than the one
            before; the last counts those that took longer than all.
    """

    count: int
    seconds: float
    buckets: tuple[int, ...]


class Histogram:
    """Counts durations. For several threads.

    Example:
        >>> histogram = Histogram()
        >>> histogram.add(0.02)
        >>> histogram.add(90.0)
        >>> found = histogram.timing
        >>> found.count, found.seconds, found.buckets[4], found.buckets[-1]
        (2, 90.02, 1, 1)
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seconds = 0.0
        self._buckets = [0] * (len(BOUNDS) + 1)

    def add(self, seconds: float) -> None:
        """Count one that took so long."""
        with self._lock:
            self._seconds += seconds
            self._buckets[bisect.bisect_left(BOUNDS, seconds)] += 1

    @property
    def timing(self) -> Timing:
        """What was counted so far."""
        with self._lock:
            return Timing(sum(self._buckets), self._seconds, tuple(self._buckets))


@dataclasses.dataclass(frozen=True, slots=True)
class CallStats:
    """The calls of one kind that a member made on its store.

    Attributes:
        timing: how long they took, those that failed among them.
        failed: how many raised an error.
    """

    timing: Timing
    failed: int


class Calls:
    """Counts a member's calls on its store, by the driver's method."""

    def __init__(self) -> None:
        self._times = {name: Histogram() for name in _TIMED}
        self._failed = dict.fromkeys(_TIMED, 0)

    @property
    def stats(self) -> Mapping[str, CallStats]:
        """What was counted so far, by the driver's method."""
        return MappingProxyType(
            {
                name: CallStats(histogram.timing, self._failed[name])
                for name, histogram in self._times.items()
            }
        )

    def watched(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """Return a method of a driver that is counted here under a name."""
        times = self._times[name]

        def run(*arguments: Any, **named: Any) -> Any:
            began = time.monotonic()
            try:
                return call(*arguments, **named)
            except BaseException:
                self._failed[name] += 1
                raise
            finally:
                times.add(time.monotonic() - began)

        return run


def timed(driver: Driver, calls: Calls) -> Driver:
    """Return a driver that does the same, and whose calls are counted.

    Example:
        >>> from hashring.driver import load
        >>> calls = Calls()
        >>> driver = timed(load("memory://doc-timed"), calls)
        >>> driver.open()
        >>> _ = driver.read("group")
        >>> calls.stats["read"].timing.count, calls.stats["read"].failed
        (1, 0)
    """
    return cast(Driver, _Timed(driver, calls))


def plain(driver: Driver) -> Driver:
    """Return the driver whose calls are counted by one of :func:`timed`'s; any other as it is.

    >>> from hashring.driver import load
    >>> inner = load("memory://doc-timed")
    >>> plain(timed(inner, Calls())) is inner, plain(inner) is inner
    (True, True)
    """
    found: Any = driver
    return found._driver if isinstance(found, _Timed) else driver


class _Timed:
    """A driver, but for its timed methods."""

    def __init__(self, driver: Driver, calls: Calls) -> None:
        self._driver = driver
        for name in _TIMED:
            # Looked up at each call, as any method is.
            setattr(self, name, calls.watched(name, functools.partial(self._call, name)))

    def _call(self, name: str, *arguments: Any, **named: Any) -> Any:
        return getattr(self._driver, name)(*arguments, **named)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._driver, name)

    def __repr__(self) -> str:
        return repr(self._driver)
