"""What comes before a join: who may take part, and how often it is tried. It calls no store."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from typing import TypeVar

from hashring import clock
from hashring.backoff import jittered
from hashring.driver import Reading
from hashring.errors import BadRecord, MemberExists, StoreUnavailable
from hashring.partition.waiting import retry_pause
from hashring.protocol.founding import Parameters, judge
from hashring.protocol.handoff import Handoff, mismatch
from hashring.protocol.record import Member

__all__ = ["refuse_mismatch", "tried"]

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
    failures = 0
    while True:
        try:
            return attempt()
        except (StoreUnavailable, MemberExists) as error:
            left = deadline - clock.boottime()
            if left <= 0:
                raise
            failures += 1
            if failures == 1:
                log.warning("%s: waits up to %.1f s to join: %s", name, wait, error)
            if rest(min(left, jittered(retry_pause(failures, ttl)))):
                raise


def refuse_mismatch(handoff: Handoff, reading: Reading, own: bytes) -> None:
    """Refuse to join a group whose parameters are others.

    Args:
        handoff: of the member that would join.
        reading: the group.
        own: the record that it would join with.

    Raises:
        GroupMismatch: the group uses another ring, ttl or handoff.
    """
    members = {handoff.member: Member.from_json(handoff.member, own)}
    for other, record in reading.records.items():
        with contextlib.suppress(BadRecord):
            members.setdefault(other, Member.from_json(other, record))
    parameters = Parameters(handoff.spec, handoff.ttl, handoff.mode)
    verdict = judge((one for one in members.values() if one.request is None), parameters)
    first = verdict.first
    if first is not None and (verdict.is_founded or first.applied is not None):
        raise mismatch(first.id, verdict.differences[first.id])
