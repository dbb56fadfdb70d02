"""The gate of rule 2: what another member may still hold, what it has taken, what it leaves to us.

Pure questions about one record at a time, and the roster that it stands in. Nothing here changes
anything.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from hashring.protocol.claims import Claim
from hashring.protocol.custody import Gain
from hashring.protocol.record import Member
from hashring.protocol.roster import Roster
from hashring.protocol.view import View
from hashring.ring.ring import SlotSet

__all__ = ["claimed_by_others", "gains", "marked_by", "may_hold"]


def may_hold(
    roster: Roster, member: Member, wanted: SlotSet, applied: View, *, eager: bool
) -> SlotSet:
    """Return those of the slots that a member may hold, by its record, or whose custody a claim in
    it leaves in doubt.

    Args:
        roster: the reading that the record is from.
        member: another one's record.
        wanted: slots that the asker would gain.
        applied: the view under which he would.
        eager: nobody of our parameters is waited for.
    """
    nothing = wanted - wanted
    if member.applied is None:
        return nothing
    if member.id in roster.strangers:
        # Its view is of another ring. All that is known is that without weight it owns nothing,
        # but for what it has not dropped since it had some.
        return wanted if member.weight or member.holds else nothing
    if member.applied == applied.id or eager:
        return nothing
    view = roster.view_named(member.applied)
    if view is None or not member.speaks_claims:
        return wanted
    held = view.slots(member.id) & wanted
    for claim in member.all_claims:
        held = held | (claim.slots & wanted)
    return held


def marked_by(roster: Roster, member: Member, applied: View | None) -> SlotSet | None:
    """Return the slots that a record marks as taken over; ``None``: none.

    Args:
        roster: the reading that the record is from.
        member: another one's record.
        applied: the view that the asker has acked.
    """
    if member.took is not None:
        return member.took
    if not member.speaks_claims:
        same = applied is not None and member.applied == applied.id
        return applied.slots(member.id) if same and applied else None
    if member.settled is None or member.settled != member.applied:
        return None
    view = roster.view_named(member.settled)
    return None if view is None else view.slots(member.id)


def claimed_by_others(roster: Roster, slots: SlotSet) -> SlotSet:
    """Return those of the slots that other members claim: they await a mark on them."""
    found = slots - slots
    for member in roster.others():
        for claim in member.all_claims:
            found = found | (slots & claim.slots)
    return found


def gains(roster: Roster, ours: Iterable[Claim], slots: SlotSet, wall: float) -> Iterator[Gain]:
    """Return slots as gains, each with its latest claim among the live records and our own.

    Args:
        roster: the reading that lets them be gained.
        ours: our own claims.
        slots: what is gained.
        wall: wall-clock time in seconds: of the gain, and for what nobody claims.
    """
    others = roster.others()
    claims = [*ours, *(claim for member in others for claim in member.all_claims)]
    for claim in sorted(claims, key=lambda claim: claim.through, reverse=True):
        part = slots & claim.slots
        if part:
            told = claim.through > -math.inf
            yield Gain(part, claim.through if told else wall, is_claimed=told, at=wall)
            slots = slots - part
    # A member of another make may publish `through` alone: its slots by the table without us.
    plain = [member for member in others if not member.speaks_claims and member.through is not None]
    if plain and slots:
        before = roster.view_without_us()
        for member in plain:
            part = slots & before.slots(member.id)
            if part and member.through is not None:
                yield Gain(part, member.through, is_claimed=True, at=wall)
                slots = slots - part
    if slots:
        yield Gain(slots, wall, is_claimed=False, at=wall)
