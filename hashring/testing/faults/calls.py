"""Calls on a driver that last too long, and times without a processor: seen in a worker.

A call that outlasts what the lease leaves keeps a member from renewing it, however the store
behaves later; a call without a time limit hangs for as long as the store is silent. What was
missed while a member had no processor need be no fault of its driver.
:class:`CallWatch` is the worker's part, :func:`outlasting` the judge's. This module knows no store.
"""

from __future__ import annotations

import dataclasses
import functools
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from hashring import clock

if TYPE_CHECKING:
    from hashring.driver import Driver
    from hashring.testing.faults.log import Log

__all__ = ["Call", "CallWatch", "longest_call", "outlasting"]

_FENCE, _PAUSE = 0.9, 1 / 3
"""Parts of a lease: its fence, and the time between two heartbeats."""

_LOOK = 0.05
"""Seconds between two looks at the calls under way."""

_MOST = 1.5 * _LOOK
"""The most seconds that one look adds to a call: a process that was paused, or got no processor, is
not to blame for the rest."""

_STILL = 0.5
"""A process that has not looked for longer, in seconds, stood still: it was stopped, or got no
processor."""

_READS: Final = ("read", "read_since", "wait")
_METHODS: Final = ("open", "close", "join", "publish", "heartbeat", *_READS, "leave")


def longest_call(ttl: float) -> float:
    """Return for how many seconds a call may last on a lease of ``ttl`` seconds.

    A heartbeat begins a third of the ttl after the last confirmed one began, and the fence comes at
    0.9 of it: a heartbeat that lasts for longer than the time between costs the lease by itself.

    >>> round(longest_call(3.0), 9)
    1.7
    """
    return (_FENCE - _PAUSE) * ttl


@dataclasses.dataclass(frozen=True, slots=True)
class Call:
    """A call that a worker logged because it lasted too long.

    Attributes:
        member: whose.
        name: the driver's method.
        begin: when it began, in seconds on the host's clock.
        seconds: for how long it was seen to last, at least.
    """

    member: str
    name: str
    begin: float
    seconds: float

    @classmethod
    def of(cls, member: str, line: Mapping[str, Any]) -> Call:
        """Return the call that a line of a log tells of."""
        return cls(member, line["name"], line["t"], line["seconds"])


def outlasting(calls: Iterable[Call], ttl: float) -> list[Call]:
    """Return the calls that lasted for longer than the lease leaves, each once, by their begin."""
    limit = longest_call(ttl)
    worst: dict[tuple[str, str, float], Call] = {}
    for call in calls:
        key = (call.member, call.name, call.begin)
        if call.seconds > max(limit, worst[key].seconds if key in worst else 0.0):
            worst[key] = call
    return sorted(worst.values(), key=lambda call: call.begin)


@dataclasses.dataclass(eq=False, slots=True)
class _UnderWay:
    name: str
    begin: float
    until: float  # when it was looked at last
    seconds: float = 0.0
    told: bool = False


class CallWatch(threading.Thread):
    """Logs each call of a driver that lasts for too long: while it lasts, and when it is over.

    Time in which this process did not run is not counted; where it was long, that is logged.

    Args:
        log: the worker's.
        ttl: the lease in seconds.
    """

    def __init__(self, log: Log, ttl: float) -> None:
        super().__init__(name="calls", daemon=True)
        self._log = log
        self._limit = longest_call(ttl)
        self._under_way: set[_UnderWay] = set()
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._looked = clock.boottime()

    def watch(self, driver: Driver) -> None:
        """Watch every call that is made on this driver from now on."""
        for name in _METHODS:
            setattr(driver, name, self._watched(name, getattr(driver, name)))

    def _watched(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def watched(*arguments: Any, **options: Any) -> Any:
            now = clock.boottime()
            call = _UnderWay(name, now, now)
            with self._lock:
                self._under_way.add(call)
            try:
                return method(*arguments, **options)
            finally:
                with self._lock:
                    self._under_way.discard(call)
                    if call.told:
                        self._tell(call)

        return watched

    def run(self) -> None:
        """Look until :meth:`stop`."""
        self._looked = clock.boottime()
        while not self._done.wait(_LOOK):
            self.look()

    def look(self) -> None:
        """Add to each call under way the time since the last look; log those that last too long."""
        now = clock.boottime()
        if now - self._looked > _STILL:
            self._log.write("still", t=self._looked, until=now)
        passed = min(now - self._looked, _MOST)
        self._looked = now
        with self._lock:
            for call in self._under_way:
                call.seconds += min(passed, now - call.begin)
                call.until = now
                if not call.told and call.seconds > self._limit:
                    call.told = True
                    self._tell(call)

    def _tell(self, call: _UnderWay) -> None:
        self._log.write(
            "call", t=call.begin, until=call.until, name=call.name, seconds=call.seconds
        )

    def stop(self) -> None:
        """End the thread."""
        self._done.set()
        self.join()
