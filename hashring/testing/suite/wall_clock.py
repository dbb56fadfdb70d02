"""A step of this process's wall clock, as its own Python code reads it.

For the conformance suite: whoever keeps a lease by the client's wall clock is found when that clock
is wrong. Nothing is set on the machine, and no other process notices. What native code reads for
itself is not reached.
"""

from __future__ import annotations

import contextlib
import datetime
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["wrong_by"]

_UNTOUCHED = ("_pytest", "pytest", "pluggy", "xdist", "execnet", __name__)
"""Packages that keep the true time: a test runner's own."""


def _clocks(seconds: float) -> dict[Any, Any]:
    """Return, for each function or class that tells wall-clock time, one that is wrong."""
    nanoseconds, delta = int(seconds * 1e9), datetime.timedelta(seconds=seconds)
    real_time, real_time_ns = time.time, time.time_ns
    real_clock, real_clock_ns = time.clock_gettime, time.clock_gettime_ns
    real_datetime, real_date = datetime.datetime, datetime.date

    class Kind(type):
        """What is no wrong clock but a value stays an instance, whichever class is asked."""

        def __instancecheck__(cls, instance: object) -> bool:
            return isinstance(instance, cls.__mro__[1])

        def __subclasscheck__(cls, kind: type) -> bool:
            return issubclass(kind, cls.__mro__[1])

    class WrongDatetime(datetime.datetime, metaclass=Kind):
        def __new__(cls, *parts: Any, **named: Any) -> Any:
            return real_datetime(*parts, **named)

        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> Any:
            return real_datetime.now(tz) + delta

        @classmethod
        def utcnow(cls) -> Any:
            return real_datetime.now(datetime.UTC).replace(tzinfo=None) + delta

        @classmethod
        def today(cls) -> Any:
            return real_datetime.now() + delta

    class WrongDate(datetime.date, metaclass=Kind):
        def __new__(cls, *parts: Any, **named: Any) -> Any:
            return real_date(*parts, **named)

        @classmethod
        def today(cls) -> Any:
            return (real_datetime.now() + delta).date()

    def of_now(convert: Callable[..., Any]) -> Callable[..., Any]:
        def converted(moment: float | None = None) -> Any:
            return convert(real_time() + seconds if moment is None else moment)

        return converted

    return {
        real_time: lambda: real_time() + seconds,
        real_time_ns: lambda: real_time_ns() + nanoseconds,
        real_clock: lambda which: real_clock(which) + seconds * (which == time.CLOCK_REALTIME),
        real_clock_ns: lambda which: (
            real_clock_ns(which) + nanoseconds * (which == time.CLOCK_REALTIME)
        ),
        time.gmtime: of_now(time.gmtime),
        time.localtime: of_now(time.localtime),
        real_datetime: WrongDatetime,
        real_date: WrongDate,
    }


@contextlib.contextmanager
def wrong_by(seconds: float) -> Iterator[None]:
    """Have the wall clock be wrong for the time of a block, wherever Python code reads it.

    Names that a module has imported (``from time import time``) are replaced as well, for as long
    as the block runs. :func:`time.monotonic` and the boot clock tell the truth.

    Args:
        seconds: how far the clock is ahead; negative where it is behind.

    >>> true = time.time()
    >>> with wrong_by(3600.0):
    ...     time.time() - true > 3599, datetime.datetime.now().timestamp() - true > 3599
    (True, True)
    >>> time.time() - true < 3599
    True
    """
    by_id = {id(real): (real, wrong) for real, wrong in _clocks(seconds).items()}
    replaced: list[tuple[dict[str, Any], str, Any]] = []
    try:
        for name, module in list(sys.modules.items()):
            if name.split(".")[0] in _UNTOUCHED or name in _UNTOUCHED:
                continue
            names = getattr(module, "__dict__", None)
            if not isinstance(names, dict):
                continue
            for key, value in list(names.items()):
                if (found := by_id.get(id(value))) is not None and found[0] is value:
                    names[key] = found[1]
                    replaced.append((names, key, value))
        yield
    finally:
        for names, key, value in replaced:
            names[key] = value
