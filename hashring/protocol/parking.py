"""Parking: the place of a member that is away and has said that it comes back.

No clock: times come in as arguments. A member that leaves with "back within so many seconds" holds
nothing. What it leaves is a :class:`~hashring.protocol.view.Parked` entry: its weight and
incarnation, so that every view goes on with it and its share stays its own; and its claims, so that
whoever has the share next knows from which window on. Its lease ends, so others keep the entry in
their records: the first few of the group, by id. Where one of them leaves, the next one takes it
up.

The rule, by which all that read the same records find the same view: a place counts while some
record has it, and none says that it is over, and its member has no record. It is over for all as
soon as one keeper says so: its time has passed, or its member is back. Each keeper reckons the time
from when it first saw the place, so no two clocks are compared; the earliest one counts.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from hashring.protocol.claims import Claim
from hashring.protocol.record import MAX_PARKED, Member, Parked
from hashring.protocol.roster import Roster
from hashring.ring.ring import SlotSet

__all__ = ["KEEPERS", "Parking"]

KEEPERS = 3
"""How many members keep a place. All of them must crash at once for it to be lost; then the share
is taken over as after a crash."""

_Name = tuple[str, str]


class Parking:
    """The places that one member knows of, and those that it keeps for others.

    Args:
        member: its own id, whose place it never keeps.

    Attributes:
        kept: what its next record says.
    """

    def __init__(self, member: str) -> None:
        self._member = member
        self.kept: tuple[Parked, ...] = ()
        self._most = MAX_PARKED
        self._ends: dict[_Name, float] = {}  # local time at which a place that was seen is over

    @property
    def claims(self) -> Iterable[Claim]:
        """The claims of those whose places are kept here."""
        return [claim for place in self.kept for claim in place.claims]

    def look(self, roster: Roster, now: float, *, drains: bool, is_frozen: bool = False) -> None:
        """Take in a reading.

        Args:
            roster: what it shows.
            now: local time in seconds.
            drains: this member is leaving: it takes up nothing more.
            is_frozen: the group is; else those places are over that are kept until it is not.
        """
        others = roster.others()
        seen: dict[_Name, Parked] = {}
        over: set[_Name] = set()
        for member in others:
            for place in (*_own_place(member), *member.parked):
                seen.setdefault(place.name, place)
                if place.over:
                    over.add(place.name)
        awaited = {
            place.name
            for member in others
            for place in (*_own_place(member), *member.parked)
            if not place.over
        }
        mine = {place.name: place for place in self.kept}
        for name, place in (seen | mine).items():
            self._ends.setdefault(name, now + place.back)
        self._ends = {name: end for name, end in self._ends.items() if name in seen or name in mine}
        takes_up = not drains and self._member in _keepers(roster)
        kept = []
        for name, place in {**seen, **mine}.items():
            has_ended = now >= self._ends[name] or (place.until_thaw and not is_frozen)
            is_over = place.over or name in over or has_ended or _is_back(roster, place)
            if name in mine:
                # One that is over is told for as long as anybody may take it for a place.
                if not is_over or place.claims or name in awaited:
                    kept.append(dataclasses.replace(place, over=is_over))
            elif (
                takes_up
                and place.member != self._member
                # One that is over for us alone is taken up, too: all who kept it may have crashed,
                # and its member, or its share, would wait for ever.
                and (not is_over or (has_ended and name not in over))
            ):
                kept.append(dataclasses.replace(place, over=is_over))
        self.kept = tuple(sorted(kept, key=lambda place: place.name)[: self._most])

    def drop_claims(self, slots: SlotSet) -> None:
        """Drop what is claimed of these slots: they have a new custodian."""
        if not slots or not self.kept:
            return
        self.kept = tuple(
            dataclasses.replace(
                place,
                claims=tuple(
                    Claim(claim.through, claim.slots - slots)
                    for claim in place.claims
                    if not claim.slots <= slots
                ),
            )
            for place in self.kept
        )

    def are_safe(self, roster: Roster, own: _Name | None) -> bool | None:
        """Return whether enough others keep what this member keeps, and its own place.

        Args:
            roster: the latest reading.
            own: this member's id and incarnation, if it wants to come back.

        Returns:
            ``None`` where nobody is there who could.
        """
        names = {place.name for place in self.kept if not place.over}
        if own is not None:
            names.add(own)
        if not names:
            return True
        keepers = [member for member in roster.others() if not member.draining]
        if not keepers:
            return None
        needed = min(KEEPERS, len(_keepers(roster) - {self._member}))
        return needed > 0 and all(
            sum(name in {place.name for place in member.parked} for member in keepers) >= needed
            for name in names
        )

    def keep_fewer(self) -> None:
        """Keep half of the places from here on: a record has no room for more."""
        self._most = len(self.kept) // 2
        self.kept = self.kept[: self._most]

    def forget(self) -> None:
        """Keep nothing: the lease ended, and others have taken up what was kept here."""
        self.kept = ()
        self._ends.clear()


def _own_place(member: Member) -> Sequence[Parked]:
    """Return the place that a member asks to be kept, once it holds nothing."""
    if not member.draining or member.back is None:
        return ()
    place = Parked(
        member.id,
        member.incarnation,
        member.weight,
        member.back,
        claims=member.claims,
        until_thaw=member.until_thaw,
    )
    return (place,)


def _is_back(roster: Roster, place: Parked) -> bool:
    record = roster.members.get(place.member)
    return record is not None and record.incarnation != place.incarnation


def _keepers(roster: Roster) -> set[str]:
    """Return who is to keep places: the first few, by id, that stay and have acked something."""
    staying = sorted(
        member.id
        for member in roster.members.values()
        if member.id not in roster.strangers and not member.draining and member.applied is not None
    )
    return set(staying[:KEEPERS])
