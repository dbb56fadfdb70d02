"""`tried`: how long, and how often, a join is tried again. This module knows no store."""

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

T = TypeVar("T")


def tried(
    attempt: Callable[[], T],
    rest: Callable[[float], object],
    *,
    wait: float,
    ttl: float,
    name: str,
) -> T:
    """Join; try again for so many seconds what time alone may mend.

    Args:
        attempt: joins once.
        rest: sleeps for so many seconds; it returns true to let the waiting end.
        wait: seconds.
        ttl: the lease in seconds.
        name: what the log calls the member.

    Raises:
        StoreUnavailable, MemberExists: what stands in the way, once the time is up.
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
