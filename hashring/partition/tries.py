"""Joining more than once, while the store is away or the lease of the process before still runs."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable
from typing import TypeVar

from hashring import clock
from hashring.backoff import jittered
from hashring.errors import MemberExists, StoreUnavailable
from hashring.partition.waiting import retry_pause

__all__ = ["tried"]

log = logging.getLogger("hashring")

_Made = TypeVar("_Made")


def tried(
    attempt: Callable[[], _Made],
    rest: Callable[[float], object],
    *,
    wait: float,
    ttl: float,
    name: str,
) -> _Made:
    """Return what an attempt to join made; try again what time alone may mend.

    Args:
        attempt: joins once.
        rest: sleeps for so many seconds, and returns true to let the tries end.
        wait: for how many seconds to try again.
        ttl: the lease in seconds.
        name: of the member, for the log.

    Raises:
        StoreUnavailable, MemberExists: what stood in the way at the last try.
    """
    deadline = clock.boottime() + wait
    for failures in itertools.count(1):
        try:
            return attempt()
        except (StoreUnavailable, MemberExists) as error:
            left = deadline - clock.boottime()
            if left <= 0:
                raise
            if failures == 1:
                log.warning("%s: waits up to %.1f s to join: %s", name, wait, error)
            if rest(min(left, jittered(retry_pause(failures, ttl)))):
                raise
    raise AssertionError("unreachable")
