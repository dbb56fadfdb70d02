"""One reading, parsed: whose parameters count, the view, and what each record lets its member hold.

It asks the protocol's own modules, so that it says of a record what the members say of it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Self

from hashring.errors import BadRecord
from hashring.protocol.founding import defining
from hashring.protocol.freezing import Freeze, latest
from hashring.protocol.gate import may_hold
from hashring.protocol.reading import Reading
from hashring.protocol.record import Member, slot_count
from hashring.protocol.request import Request
from hashring.protocol.roster import Roster
from hashring.protocol.view import View
from hashring.ring.ring import SlotSet

__all__ = ["Records", "ranges"]

_NOBODY = ""
"""The observer's own id among the members: no member can have it."""


class Records:
    """The records of one group at one reading.

    Args:
        reading: what the store said.
        known: views that were seen before, by id. What is seen now is added.

    Attributes:
        parameters: the group's ring, ttl and mode; ``None`` where no record can be read.
        members: all that could be read, by id.
        problems: why a record could not be read, by id.
        strangers: how those differ that have other parameters, by id.
        view: the current view; ``None`` where no record can be read.
        slots: how many slots the ring has; 0 where nobody can tell.
        memory_age: seconds for which the store has surely forgotten nothing.
        requests: what operators ask at the moment. Those who ask are no members.
    """

    def __init__(self, reading: Reading, known: dict[str, View] | None = None) -> None:
        parsed, problems = _parsed(reading)
        self._take({member.id: member for member in parsed}, problems, reading.memory_age, known)

    @classmethod
    def of(
        cls,
        members: Mapping[str, Member],
        problems: Mapping[str, str],
        memory_age: float,
        known: dict[str, View] | None = None,
    ) -> Self:
        """Return the records that a member has parsed already: nothing is read for them.

        Args:
            members: all that could be read, by id.
            problems: why a record could not be read, by id.
            memory_age: seconds for which the store has surely forgotten nothing.
            known: see above.
        """
        found = cls.__new__(cls)
        found._take(members, problems, memory_age, known)
        return found

    def _take(
        self,
        everybody: Mapping[str, Member],
        problems: Mapping[str, str],
        memory_age: float,
        known: dict[str, View] | None,
    ) -> None:
        self._known = {} if known is None else known
        self.memory_age = memory_age
        asking = [member.request for member in everybody.values() if member.request is not None]
        self.requests: tuple[Request, ...] = tuple(asking)
        members = {id: member for id, member in everybody.items() if member.request is None}
        self.parameters = defining(list(members.values()))
        self.members: Mapping[str, Member] = members
        self.problems: Mapping[str, str] = problems
        self.strangers: Mapping[str, str] = {}
        self.view: View | None = None
        self.slots = 0
        if self.parameters is None:
            return
        self._roster = Roster(_NOBODY, self.parameters)
        self._roster.members, self._roster.problems = members, problems
        self._roster.freeze = latest(
            one.freeze for one in everybody.values() if self.parameters.difference(one) is None
        )
        self._roster.judge()
        self.strangers = self._roster.strangers
        self.view = self._roster.view(draining=False)
        self.slots = slot_count(self.parameters.ring) or 0
        self._known[self.view.id] = self.view
        self._look_for_views()

    @property
    def word(self) -> Freeze | None:
        """The latest word on whether the group is frozen; ``None``: nobody said one."""
        return None if self.parameters is None else self._roster.freeze

    @property
    def kept_out(self) -> list[str]:
        """The ids of those who came to a frozen group, and own nothing until it is thawed."""
        if self.word is None or not self.word.on or self.view is None:
            return []
        owning = self.view.weights
        return sorted(
            id
            for id, member in self.members.items()
            if id not in owning
            and member.weight > 0
            and not member.draining
            and id not in self.strangers
        )

    @property
    def nothing(self) -> SlotSet:
        """The empty set of the ring's slots."""
        return SlotSet.empty(self.slots)

    @property
    def away(self) -> Mapping[str, float]:
        """The weights of those who are away and whose place is kept, by id."""
        weights = {} if self.view is None else self.view.weights
        return {id: weight for id, weight in weights.items() if id not in self.members}

    def due(self, member: str) -> SlotSet:
        """Return what the current view gives a member."""
        return self.nothing if self.view is None else self.view.slots(member)

    def acked(self, member: Member) -> View | None:
        """Return the view that a member has acked; ``None``: no view, or one that is not known."""
        if member.applied is None or member.id in self.strangers:
            return None
        return self._known.get(member.applied)

    def is_current(self, member: Member) -> bool:
        """Whether a member has acked the current view."""
        return self.view is not None and member.applied == self.view.id

    def missing(self, member: Member) -> SlotSet:
        """Return what the current view gives a member that it cannot have taken over.

        One that has acked the view need not say what it has taken where nobody waits for that: all
        is its own that nobody else may hold.
        """
        due = self.due(member.id)
        if not self.is_current(member):
            return due
        if member.settled == member.applied:
            return self.nothing
        rest = due if member.took is None else due - member.took
        if self.problems:
            return rest
        held = self.nothing
        for other in self.members.values():
            if other.id != member.id:
                held = held | self.may_hold(other, rest)
        return held

    def may_hold(self, member: Member, wanted: SlotSet) -> SlotSet:
        """Return those of the slots that a member may hold, where it has not acked the current
        view, or whose custody a claim of its leaves in doubt.
        """
        assert self.view is not None
        assert self.parameters is not None
        eager = self.parameters.handoff == "eager"
        return may_hold(self._roster, member, wanted, self.view, eager=eager)

    def holds(self, member: Member) -> SlotSet | None:
        """Return the slots that a member holds by its record; ``None``: it may be any.

        One that has acked the current view holds all of it that nobody else may hold, or is about
        to.
        """
        if member.applied is None:
            return self.nothing
        if self.is_current(member):
            return self.due(member.id) - self.missing(member)
        view = self.acked(member)
        return None if view is None else view.slots(member.id)

    def _look_for_views(self) -> None:
        """Find the views that the members show, or that they would have seen before the latest
        change: the records at hand without one of them.
        """
        shown = {
            member.applied
            for id, member in self.members.items()
            if member.applied is not None and id not in self.strangers
        }
        missing = shown - self._known.keys()
        if missing:
            for view in self._candidates():
                if view.id in missing:
                    self._known[view.id] = view
                    missing.discard(view.id)
                if not missing:
                    break
        for id in shown & self._known.keys():
            self._roster.remember(self._known[id])

    def _candidates(self) -> Iterator[View]:
        assert self.parameters is not None
        everybody = [member for id, member in self.members.items() if id not in self.strangers]
        acked = [member for member in everybody if member.applied is not None]
        for present in (everybody, acked):
            for absent in (None, *present):
                others = [member for member in present if member is not absent]
                staying = [dataclasses.replace(member, draining=False) for member in others]
                for group in (others, staying):
                    yield View.of(group, self.parameters.ring, self.parameters.ttl)


def _parsed(reading: Reading) -> tuple[list[Member], dict[str, str]]:
    members, problems = [], {}
    for id, record in reading.records.items():
        try:
            members.append(Member.from_json(id, record))
        except BadRecord as error:
            problems[id] = str(error)
    return members, problems


def ranges(slots: SlotSet) -> tuple[tuple[int, int], ...]:
    """Return the first and the last slot of each run of consecutive ones.

    >>> ranges(SlotSet.of([1, 2, 3, 9], 16))
    ((1, 3), (9, 9))
    """
    found: list[tuple[int, int]] = []
    for slot in slots:
        if found and found[-1][1] + 1 == slot:
            found[-1] = (found[-1][0], slot)
        else:
            found.append((slot, slot))
    return tuple(found)
