"""Who there is: the members of the latest reading, and the views that this member can tell.

Records come in as bytes and go out as checked members, or as problems with a name. This module
knows nothing of slots in hand; it decides nothing.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping

from hashring.errors import BadRecord
from hashring.protocol.founding import Parameters, Verdict, judge
from hashring.protocol.freezing import Freeze, latest
from hashring.protocol.reading import Reading
from hashring.protocol.record import Member, Parked
from hashring.protocol.request import Request
from hashring.protocol.view import View

__all__ = ["Roster"]

_MAX_KNOWN = 64
"""Views that a member remembers, to tell what another holds who still shows one of them. One that
it no longer knows costs a wait and no safety."""

_MAX_CACHED = 8192
"""Bytes: the largest record of which the parsed form is kept for the other members of a process."""

_parsed_before = functools.lru_cache(maxsize=512)(Member.from_json)


def _member(id: str, record: bytes) -> Member:
    """Parse a record; members of one process read the same ones, so the small ones are kept."""
    if isinstance(record, bytes) and len(record) <= _MAX_CACHED:
        return _parsed_before(id, record)
    return Member.from_json(id, record)


def _staying_on(group: list[Member]) -> list[Member]:
    """Return a group as it was before any of them began to drain."""
    return [
        dataclasses.replace(member, draining=False) if member.draining else member
        for member in group
    ]


def _spellings(group: list[Member]) -> list[list[Member]]:
    """Return a group as it is, and as it was before some of them began to drain, or after those
    that say that they come back.
    """
    found = [group]
    if any(member.draining for member in group):
        found.append(_staying_on(group))
    if any(member.back is not None for member in group):
        found.append(
            [
                member if member.back is None else dataclasses.replace(member, back=None)
                for member in group
            ]
        )
    return found


class Roster:
    """The members of one group, as one of them last read them.

    Args:
        member: the id of the member that reads.
        parameters: its ring, ttl and mode.

    Attributes:
        parameters: as above.
        members: all that could be read, by id, this member among them.
        problems: why a record could not be read, by id.
        strangers: how those differ that have other parameters, by id.
        requests: what operators ask. Those who ask are no members.
        freeze: the latest word on whether the group is frozen; ``None``: nobody said one.
    """

    def __init__(self, member: str, parameters: Parameters) -> None:
        self._member = member
        self.parameters = parameters
        self._parsed: dict[str, tuple[bytes, Member]] = {}
        self._known: dict[str, View] = {}
        self._candidates: tuple[View, ...] | None = None  # computed from the records at hand
        self._view: tuple[bool, View] | None = None  # the same, if this member drains or not
        self.members: Mapping[str, Member] = {}
        self.problems: Mapping[str, str] = {}
        self.strangers: Mapping[str, str] = {}
        self.requests: tuple[Request, ...] = ()
        self.freeze: Freeze | None = None

    def read(self, reading: Reading) -> None:
        """Take in a reading: parse what is new in it."""
        members: dict[str, Member] = {}
        problems: dict[str, str] = {}
        parsed: dict[str, tuple[bytes, Member]] = {}
        for id, record in reading.records.items():
            known = self._parsed.get(id)
            if known is not None and known[0] == record:
                parsed[id] = known
                members[id] = known[1]
                continue
            try:
                member = _member(id, record)
            except BadRecord as error:
                problems[id] = str(error)
                continue
            parsed[id] = (record, member)
            members[id] = member
        if parsed.keys() != self._parsed.keys():
            self._view = self._candidates = None
        self._parsed = parsed
        self.take(members, problems)

    def take(self, members: Mapping[str, Member], problems: Mapping[str, str]) -> None:
        """Take in records that have been parsed already.

        Args:
            members: all that could be read, by id; those who ask something among them.
            problems: why a record could not be read, by id.
        """
        before = self.freeze
        self.freeze = latest(
            member.freeze
            for member in members.values()
            if member.freeze is not None and self.parameters.difference(member) is None
        )
        asking = [member.request for member in members.values()]
        self.requests = tuple(request for request in asking if request is not None)
        if self.requests:
            members = {id: member for id, member in members.items() if member.request is None}
        if members != self.members or self.freeze != before:
            self._view = self._candidates = None
        self.members = members
        self.problems = problems

    def judge(self) -> Verdict:
        """Find out who differs, and whose parameters define the group."""
        verdict = judge(self.members.values(), self.parameters)
        self.strangers = verdict.differences
        return verdict

    def others(self) -> list[Member]:
        """Return the other members of our parameters: a stranger's slots are none of this ring."""
        return [
            member
            for member in self.members.values()
            if member.id != self._member and member.id not in self.strangers
        ]

    # ---- views -----------------------------------------------------------------------------

    def view(self, *, draining: bool) -> View:
        """Return the view of the latest reading.

        Args:
            draining: this member drains; its own record may not say so yet.
        """
        if self._view is not None and self._view[0] == draining:
            return self._view[1]
        same = [member for member in self.members.values() if member.id not in self.strangers]
        if draining:
            same = [member for member in same if member.id != self._member]
        same = self._staying(same)
        view = self._view_of([*self._without_ended(same), *self._away(same, counting=True)])
        self._view = (draining, view)
        return view

    # ---- a group that is frozen (see `freezing.py`) -------------------------------------------

    def stays(self, member: Member) -> bool:
        """Return whether a member is one of those that the latest freeze keeps in the view.

        One whose record does not know of it yet stays as it did under the freeze before; else
        where it had acked something, or is back at its place.
        """
        word = member.freeze
        if word is not None and (word.on or word == self.freeze):
            return member.stays
        return member.applied is not None or member.id in self._places()[0]

    def is_abandoned(self) -> bool:
        """Return whether the group is frozen, and none of those that it keeps is there any more."""
        if self.freeze is None or not self.freeze.on:
            return False
        there = [one for id, one in self.members.items() if id not in self.strangers]
        return any(one.weight for one in there) and not (
            any(one.weight and self.stays(one) for one in there)
            or any(not place.until_thaw and not place.over for place in self.places())
        )

    def _staying(self, group: list[Member]) -> list[Member]:
        """Return those of a group that may own something."""
        if self.freeze is None or not self.freeze.on or self.is_abandoned():
            return group
        return [member for member in group if self.stays(member)]

    def remember(self, view: View) -> None:
        """Keep a view, to tell what another holds who still shows it."""
        self._known.pop(view.id, None)
        self._known[view.id] = view
        while len(self._known) > _MAX_KNOWN:
            del self._known[next(iter(self._known))]

    def view_named(self, id: str) -> View | None:
        """Return the view with this id: one seen before, or computed from the records at hand."""
        known = self._known.get(id)
        if known is not None:
            return known
        if self._candidates is None:
            self._candidates = self._computed_views()
        for view in self._candidates:
            if view.id == id:
                self.remember(view)
                return view
        return None

    def _computed_views(self) -> tuple[View, ...]:
        """Return what the others may have seen before: the group without us, without those that
        have acked nothing yet, and with those that drain.
        """
        everybody = [member for id, member in self.members.items() if id not in self.strangers]
        acked = [member for member in everybody if member.applied is not None]
        views = []
        for present in (everybody, acked) if len(acked) < len(everybody) else (everybody,):
            for others in (present, [member for member in present if member.id != self._member]):
                for group in _spellings(others):
                    views.append(self._view_of(group))
                    for counting in (True, False):
                        away = self._away(group, counting=counting)
                        if away:
                            views.append(self._view_of([*group, *away]))
        return tuple(views)

    # ---- those that are away, and come back (see `parking.py`) ------------------------------

    def is_over(self, place: tuple[str, str]) -> bool:
        """Return whether some record says that a place, of a member and incarnation, is over."""
        return place in self._places()[1]

    def places(self) -> list[Parked]:
        """Return the places that records keep, those that are over included."""
        return list(self._places()[0].values())

    def _places(self) -> tuple[dict[str, Parked], set[tuple[str, str]]]:
        """Return the places that records keep, by member id, and which of them are over.

        A member that was away twice may have two: the first stays in records, as over, for a while.
        The one that is not over counts. Incarnations have no order: of two that are both not over
        any will do, as long as all members take the same one.
        """
        found = [
            place
            for member in self.members.values()
            if member.id not in self.strangers
            for place in member.parked
        ]
        over = {place.name for place in found if place.over}
        found.sort(key=lambda place: (place.name not in over, place.incarnation))
        return {place.member: place for place in found}, over

    def _away(self, group: list[Member], *, counting: bool) -> list[Member]:
        """Return those that are away as members of a group.

        Args:
            group: who is there: whoever is, needs no place.
            counting: only those whose place is not over.
        """
        kept, over = self._places()
        present = {member.id for member in group}
        if counting:
            present |= self.members.keys()
        return [
            Member(
                place.member,
                place.incarnation,
                place.weight,
                self.parameters.ring,
                self.parameters.ttl,
            )
            for place in kept.values()
            if place.member not in present
            and not (counting and place.name in over)
            and not (counting and place.until_thaw and self.is_abandoned())
        ]

    def _without_ended(self, group: list[Member]) -> list[Member]:
        """Return a group in which nobody is still about to leave whose place is over."""
        _, over = self._places()
        if not over:
            return group
        return [
            dataclasses.replace(member, back=None)
            if (member.id, member.incarnation) in over
            else member
            for member in group
        ]

    def view_without_us(self) -> View:
        """Return the view of the others, those that drain included: the one before we came."""
        return self._view_of(_staying_on(self.others()))

    def _view_of(self, members: list[Member]) -> View:
        return View.of(members, self.parameters.ring, self.parameters.ttl)
