"""What the drivers share about time limits. Knows no store."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from hashring.driver import Driver

__all__ = ["CALL_SHARE", "longest_call", "tell_limits", "within_the_lease"]

_log = logging.getLogger(__name__)

CALL_SHARE = 1 / 3
"""Of a lease: the longest that one call may take. Members heartbeat each third of the ttl. One that
is confirmed, one that fails and another try must fit in before the fence, at 0.9 of the ttl."""

_SHORTEST = 1.0
"""Seconds that a call may take even where that is more than the share of a short lease, but never
more than half of it: the fence still leaves time for another try."""


_said: set[tuple[str, float]] = set()


def within_the_lease(driver: Driver) -> Mapping[str, Any]:
    """Return a driver's settings with ``timeout`` limited to what a lease leaves for a call.

    Args:
        driver: one whose URL is parsed; its ``settings`` are not changed.

    Example:
        >>> from hashring.driver import load
        >>> within_the_lease(load("memory://", ttl=6.0))["timeout"]
        2.0
    """
    timeout = min(driver.settings["timeout"], longest_call(driver.ttl))
    return MappingProxyType({**driver.settings, "timeout": timeout})


def longest_call(ttl: float) -> float:
    """Return the seconds that one call may take on a lease of ``ttl`` seconds.

    Example:
        >>> longest_call(30.0), longest_call(2.4), longest_call(1.0)
        (10.0, 1.0, 0.5)
    """
    return max(ttl * CALL_SHARE, min(_SHORTEST, ttl / 2))


def tell_limits(driver: Driver) -> None:
    """Log, once in a process for each URL and lease, that the URL's ``timeout`` is too long.

    For a driver's ``open()``: what is only made, to look at its options, has nothing to tell.
    """
    named, limited = driver.url.options.get("timeout"), driver.settings["timeout"]
    if named is None or float(named) <= limited or (str(driver.url), driver.ttl) in _said:
        return
    _said.add((str(driver.url), driver.ttl))
    _log.warning(
        "%s: timeout=%s is limited to %.3g s, as the ttl is %g s: a call that takes longer "
        "costs the lease. Write a smaller timeout, or a longer ttl",
        driver.url,
        named,
        limited,
        driver.ttl,
    )
