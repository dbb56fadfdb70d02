"""A member's waits: in the store, until the group may have changed or something here has; and after
a write, for the others to have the processor.

For how long is decided in `waiting.py`.
"""

from __future__ import annotations

import math

from hashring import clock
from hashring.partition.membership import Membership
from hashring.partition.waiting import plan_wait
from hashring.protocol.handoff import Wait

__all__ = ["listen", "rest"]

_SLICE = 0.05
"""The longest single wait in the store, in seconds, where it cannot be interrupted, or this member
is about to gain or give up slots: so what happens in this process is soon noticed."""

_RETURNED_EARLY = 0.9
"""A wait that took less than this part of its time was ended by a change in the group."""


def listen(member: Membership, action: Wait, *, acks: int, took: float) -> None:
    """Wait until the group may have changed, or something here has.

    Args:
        member: who waits.
        action: the hand-off's word for it.
        acks: how many readings in a row brought nothing but acks under the same view.
        took: seconds that the last reading took, and what followed from it.
    """
    handoff = member.handoff
    settles = not (handoff.is_settled or handoff.stands_aside or action.still)
    # A cycle that ends is nothing to look at where nothing is lost: with a reading after each, who
    # works many short ones would do little else.
    is_awaited = settles or action.local or member.state == "draining"
    wake = member.notes.wake if is_awaited else member.notes.urgent
    plan = plan_wait(
        local=action.local,
        most=action.seconds,
        ttl=member.ttl,
        members=len(handoff.members),
        changing=settles or (member.state == "draining" and not action.still),
        acks=acks,
        took=took,
    )
    if plan.gather:
        wake.wait(plan.gather)
    deadline = clock.boottime() + plan.listen
    longest = math.inf if member.driver.interrupts and not settles else _SLICE
    while True:
        left = deadline - clock.boottime()
        if left <= 0 or wake.is_set() or member.ended.is_set():
            return
        slice_ = min(left, longest)
        began = clock.boottime()
        member.driver.wait(member.group, slice_)
        if clock.boottime() - began < _RETURNED_EARLY * slice_:
            return


def rest(member: Membership, *, took: float) -> None:
    """Wait a moment after a write of a member that neither gains nor loses anything now.

    Nothing that it would read is urgent, and those who gain read what it wrote meanwhile.

    Args:
        member: has just published.
        took: seconds that the last reading took, and what followed from it.
    """
    handoff = member.handoff
    with member.lock:
        view, held = handoff.view, handoff.held(clock.boottime())
        gains = view is None or not view.slots(member.member) <= held
        is_over = not (gains or handoff.losing or member.state == "draining")
    if is_over:
        plan = plan_wait(
            local=False,
            most=None,
            ttl=member.ttl,
            members=len(handoff.members),
            changing=False,
            took=took,
        )
        member.notes.urgent.wait(plan.gather)
