"""How a lease of another is ended: who heartbeats, who may still hold something, and until when.

A member holds nothing once 0.9 ttl have passed since its last heartbeat (its fence). So its lease
is first *seized*, where the store can: from then on its heartbeats are refused, and its record
stands on, so that nobody gains what it may still hold. Only when its fence has surely passed is the
record taken away. No slot is held twice, whatever the member does meanwhile.
"""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Callable

from hashring import clock
from hashring.driver import Driver
from hashring.errors import BadRecord, LeaseLost
from hashring.protocol.founding import Parameters
from hashring.protocol.lease import FENCE
from hashring.protocol.record import Member
from hashring.steer.asking import PAUSE, own_driver

__all__ = ["Pulse", "feel", "gone_within", "seize"]

_DEAD = 0.5
"""Part of the ttl without a heartbeat after which a member counts as dead: each heartbeats three
times in a ttl at least, and tries a failed one again at once."""

_SLACK = 0.05
"""Part of the ttl by which a lease must have grown since the first look to count as renewed."""

_BEAT = 3.0
"""Heartbeats in a ttl."""

_UNKNOWN = "none that is known"
"""What a seized record shows as acked where it could not be read: everybody waits for all of it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Pulse:
    """Whether a member heartbeats.

    Attributes:
        beats: it does, or nobody can tell that it does not.
        age: its last heartbeat was at least so many seconds ago; 0 where the store does not tell.
    """

    beats: bool
    age: float


def feel(
    driver: Driver, group: str, member: str, ttl: float, rest: Callable[[float], None]
) -> Pulse | None:
    """Watch a member until it has heartbeated, or surely has not; ``None``: its record is gone.

    It takes half a ttl at most where the store tells leases, else one. ``rest`` sleeps for so many
    seconds.

    Raises:
        StoreUnavailable: the store did not answer.
    """
    pause = min(PAUSE, ttl / 20)
    left = driver.leases(group).get(member)
    if left is None:
        is_gone = gone_within(driver, group, member, ttl, rest)
        return None if is_gone else Pulse(beats=True, age=0.0)
    ends = clock.boottime() + left
    while True:
        if ttl - left > _DEAD * ttl:
            return Pulse(beats=False, age=ttl - left)
        rest(pause)
        left = driver.leases(group).get(member)
        if left is None:
            return None
        # Against the first look: a member that heartbeats often renews by little each time.
        if clock.boottime() + left > ends + _SLACK * ttl:
            return Pulse(beats=True, age=0.0)


def gone_within(
    driver: Driver, group: str, member: str, seconds: float, rest: Callable[[float], None]
) -> bool:
    """Wait at most so many seconds until a member's record is gone; return whether it is."""
    deadline = clock.boottime() + seconds
    while True:
        began = clock.boottime()
        if member not in driver.read(group).records:
            return True
        left = deadline - clock.boottime()
        if left <= 0:
            return False
        driver.wait(group, min(left, PAUSE))
        rest(max(0.0, min(deadline, began + PAUSE) - clock.boottime()))


def seize(
    driver: Driver,
    group: str,
    member: str,
    record: bytes,
    parameters: Parameters,
    age: float,
    rest: Callable[[float], None],
) -> None:
    """End a member's lease as soon as it surely holds nothing; return when that is done.

    Args:
        driver: of the store; another one of it is opened.
        group: the group's id.
        member: whose lease.
        record: what it says now.
        parameters: the group's.
        age: its last heartbeat was at least so many seconds ago.
        rest: sleeps for so many seconds.

    Raises:
        NotOffered: the store cannot seize leases; nothing has changed.
        StoreUnavailable: the store did not answer; what was seized runs out by itself.
    """
    taken = own_driver(driver, parameters.ttl)
    taken.open()
    try:
        deadline = clock.boottime() + max(0.0, FENCE * parameters.ttl - age)
        taken.seize(group, member, _seized(member, record, parameters))
        deadline = deadline if age else clock.boottime() + FENCE * parameters.ttl
        while (left := deadline - clock.boottime()) > 0:
            rest(min(left, parameters.ttl / _BEAT))
            try:
                taken.heartbeat()
            except LeaseLost:
                return  # it ran out meanwhile, and with it what it stood for
        taken.leave(group, member)
    finally:
        taken.close()


def _seized(member: str, record: bytes, parameters: Parameters) -> bytes:
    """Return the record of a member that leaves and may hold what it held, as somebody else's."""
    incarnation = uuid.uuid4().hex
    try:
        found = Member.from_json(member, record)
    except BadRecord:
        found = Member(
            member,
            incarnation,
            0.0,
            parameters.ring,
            parameters.ttl,
            applied=_UNKNOWN,
            handoff=parameters.handoff,
        )
    return dataclasses.replace(
        found, incarnation=incarnation, draining=True, back=None, answer=None, meta={}
    ).to_json()
