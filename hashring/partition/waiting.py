"""How long a member's threads wait: for the group to change, and before they try again.

Pure: no clock, no thread. `worker.py` waits; `hashring.backoff` adds the random part of a pause.
"""

from __future__ import annotations

import dataclasses

from hashring.backoff import grown

__all__ = ["AT_ONCE", "WaitPlan", "heartbeat_retry", "plan_wait", "retry_pause"]

_LOCAL_POLL = 0.02
"""Seconds between two looks at what must change in this process (a cycle that ends). Shorter: a
hand-over ends sooner after the cycle, and costs more processor time meanwhile."""

_SMALL_GROUP, _LARGE_GROUP = 4, 16
"""Above this many members, re-read at intervals, not after every ack: a settled member, and one
that is about to gain. The settled ones of a small group leave the processor to those that gain."""

_GATHER = 0.001
"""There, wait this many seconds per member before re-reading, so that each of n members
reads a few times, not n times."""

_GATHER_TTL = 0.1
"""The longest such wait, as a part of the ttl."""

_BUSY = 2.0
"""There, wait so many times as long as the last reading took: where all members have too
little processor time, or the store has, they leave it two thirds of the time."""

_ACKS_MOST = 4
"""While a settled member hears of nothing but acks, it waits for up to so many
times that before it re-reads. More: fewer readings of a change; a further change within the next
second is noticed later."""

_IDLE, _IDLE_TTL, _IDLE_MEMBER = (0.1, 0.5), 0.05, 0.004
"""A settled member looks for expired ones after this part of the ttl, but no sooner and no later
than these seconds; and no sooner than this many seconds per member, so that the readings of a
group do not grow with the square of its size."""

_IDLE_MOST_TTL = 0.25
"""The longest wait of a settled member, as a part of the ttl: an expired one is noticed by then."""

_CHANGING, _CHANGING_MEMBER = 0.02, 0.001
"""While slots change hands: look again after so many seconds, or so many per member if more."""

_FIRST_RETRY, _LAST_RETRY, _RETRY_TTL = 0.05, 1.0, 1 / 3
"""Seconds before the second try after a failed one, doubling up to the last; never more than this
part of the ttl, so that a store that is back is used before the fence."""

_BEAT_RETRY_TTL = 0.1
"""The longest wait before a heartbeat that failed is tried again, as a part of the ttl: several
tries fit between a lost heartbeat and the fence."""


@dataclasses.dataclass(frozen=True, slots=True)
class WaitPlan:
    """What to wait for, one after the other.

    Attributes:
        gather: seconds to wait for something to change in this process, the store unasked.
        listen: the most seconds to wait after that for the store to tell of a change.
    """

    gather: float
    listen: float


AT_ONCE = WaitPlan(0.0, 0.0)


def plan_wait(
    *,
    local: bool,
    most: float | None,
    ttl: float,
    members: int,
    changing: bool,
    acks: int = 0,
    took: float = 0.0,
) -> WaitPlan:
    """Return how long to wait before the group is read again.

    Args:
        local: what must change is in this process, not in the store.
        most: the longest wait in seconds that makes sense; ``None``: no such limit.
        ttl: the lease in seconds.
        members: how many live members the group has.
        changing: this member is about to gain or give up slots.
        acks: how many readings in a row brought nothing but acks under the same view.
        took: seconds that the last reading took, and what followed from it.

    Example:
        >>> plan_wait(local=False, most=None, ttl=10.0, members=3, changing=False)
        WaitPlan(gather=0.0, listen=0.5)
    """
    if local:
        return WaitPlan(_LOCAL_POLL, 0.0)
    if most is not None and most <= 0:
        return AT_ONCE
    gather = 0.0
    if members > (_LARGE_GROUP if changing else _SMALL_GROUP):
        patience = 1 if changing else min(2 ** min(acks, 10), _ACKS_MOST)
        gather = min(ttl * _GATHER_TTL, max(_GATHER * members * patience, _BUSY * took))
    least, longest = _IDLE
    idle = max(least, min(longest, ttl * _IDLE_TTL), _IDLE_MEMBER * members)
    listen = min(ttl * _IDLE_MOST_TTL, idle)
    if changing:
        listen = min(listen, max(_CHANGING, _CHANGING_MEMBER * members))
    return WaitPlan(gather, listen if most is None else min(listen, most))


def retry_pause(failures: int, ttl: float) -> float:
    """Return the longest pause in seconds after so many failures in a row.

    Example:
        >>> [retry_pause(failures, 10.0) for failures in (1, 2, 3, 20)]
        [0.1, 0.2, 0.4, 1.0]
    """
    return grown(_FIRST_RETRY, min(ttl * _RETRY_TTL, _LAST_RETRY), failures + 1)


def heartbeat_retry(pause: float, ttl: float) -> float:
    """Return the longest pause in seconds before a heartbeat that failed is tried again.

    Args:
        pause: the pause after one that did not.
        ttl: the lease in seconds.

    Example:
        >>> heartbeat_retry(3.3, 10.0), heartbeat_retry(0.2, 10.0), heartbeat_retry(1.0, 5.0)
        (1.0, 0.2, 0.5)
    """
    return min(_LAST_RETRY, ttl * _BEAT_RETRY_TTL, pause)
