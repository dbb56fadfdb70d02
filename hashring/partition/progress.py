"""`Progress`: one line in the log for each change that matters, and none while nothing changes.

That a member has joined; that the group has changed, and how; what it has gained and lost by that;
for whom it waits, where that takes long; that it was fenced, and is not any more; that it has left.
This module calls no store and decides nothing. What goes wrong with the store stands in
`reports.py`.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator, Mapping

from hashring import clock
from hashring.protocol.handoff import FENCE, Handoff
from hashring.protocol.record import Member
from hashring.protocol.view import View
from hashring.ring.ring import SlotSet

__all__ = ["Progress"]

log = logging.getLogger("hashring")

_LONG_TTL = 2.0
"""For so many ttl a member waits for others before a line says for whom."""

_MOST_NAMED = 5
"""How many members one line names."""


class Progress:
    """What one member says of what it goes through.

    For two threads: :meth:`look_at_fence` for the one that heartbeats, all else for the other.
    Neither holds the member's lock: a log may be slow.

    Args:
        group: the group's id.
        member: this member's id.
        ttl: the lease in seconds.
    """

    def __init__(self, group: str, member: str, ttl: float) -> None:
        self._about = {"group": group, "member": member}
        self._name, self._ttl = f"{group}: {member}", ttl
        self._view: View | None = None
        self._records: Mapping[str, Member] = {}
        self._lease: int | None = None  # in which the view was seen
        self._weightless: dict[str, str] = {}  # incarnations of those that went because of that
        self._changed_at: float | None = None  # a change that is not settled yet
        self._before: SlotSet | None = None  # what was held before it
        self._held: SlotSet | None = None  # at the latest look
        self._waits_since = math.inf
        self._named: frozenset[str] = frozenset()  # whom it was said to wait for
        self._fenced_at: float | None = None

    def _say(self, level: int, event: str, text: str, *values: object) -> None:
        # The group, the member and the kind of event are fields of their own in a JSON log.
        extra = {**self._about, "event": event}
        log.log(level, "%s: " + text, self._name, *values, extra=extra)

    def joined(self, handoff: Handoff) -> None:
        """Say that this member has joined."""
        self._say(
            logging.INFO, "joined", "has joined as incarnation %s, weight %g, ttl %g s",
            handoff.incarnation, handoff.weight, self._ttl,
        )  # fmt: skip

    def left(self, *, handed_over: bool, was_member: bool) -> None:
        """Say that this member has left."""
        if was_member:
            how = (
                "its slots are others' now" if handed_over else "nobody has confirmed to take over"
            )
            self._say(logging.INFO, "left", "has left: %s", how)

    # ---- after each reading ----------------------------------------------------------------

    def look(self, handoff: Handoff) -> None:
        """Say what the latest reading has changed."""
        now, view = clock.boottime(), handoff.view
        if view is not None and (view != self._view or handoff.lease_number != self._lease):
            self._say_how_it_changed(view, handoff)
            if self._changed_at is None:  # one change on top of another is settled with it
                self._changed_at, self._before = now, self._held
            self._view, self._lease = view, handoff.lease_number
        self._records = handoff.members
        self._held = handoff.held(-math.inf)  # the fence is told of by itself
        if self._changed_at is not None and handoff.is_settled:
            self._say_what_it_has(self._held, now - self._changed_at)
            self._changed_at = self._before = None
        self._say_for_whom_it_waits(handoff.waiting_for, now)

    def _say_how_it_changed(self, view: View, handoff: Handoff) -> None:
        count = len(view.members)
        known = self._view
        if known is None:
            self._say(logging.INFO, "view", "the group has %s", _members(count))
        elif view == known:
            self._say(logging.INFO, "view", "is back in the group, which has %s", _members(count))
        else:
            self._say(
                logging.INFO, "view", "the group has changed: %s; it has %s now",
                _some(self._differences(known, view, handoff)), _members(count),
            )  # fmt: skip

    def _differences(self, before: View, after: View, handoff: Handoff) -> Iterator[str]:
        old = {id: (incarnation, weight) for id, incarnation, weight in before.members}
        new = {id: (incarnation, weight) for id, incarnation, weight in after.members}
        gone = self._weightless.keys() - handoff.members.keys()
        for id in gone:
            del self._weightless[id]
        for id in sorted(new.keys() - old.keys()):
            if self._weightless.pop(id, None) == new[id][0]:
                yield f"{id!r:.100} weighs {new[id][1]:g} now"
            else:
                yield f"{id!r:.100} has come"
        for id in sorted(new.keys() & old.keys()):
            if new[id][0] != old[id][0]:
                yield f"{id!r:.100} has come back"
            elif new[id] != old[id]:
                yield f"{id!r:.100} weighs {new[id][1]:g} now"
        for id in sorted(old.keys() - new.keys()):
            yield f"{id!r:.100} {self._why_gone(id, old[id][0], handoff)}"

    def _why_gone(self, id: str, incarnation: str, handoff: Handoff) -> str:
        record, is_own = handoff.members.get(id), id == handoff.member
        if is_own and handoff.state(-math.inf) in ("draining", "left"):
            return "drains"
        if record is None:
            before = self._records.get(id)
            if before is not None and before.draining:
                return "has left"
            if any(
                place.name == (id, incarnation)
                for one in (*self._records.values(), *handoff.members.values())
                for place in one.parked
            ):
                return "had left, and its place is not kept any more"
            return "is gone without handing over: its lease has ended"
        if record.draining:
            return "drains"
        if not (handoff.weight if is_own else record.weight):
            self._weightless[id] = incarnation
            return "weighs 0 now, so it holds nothing"
        return "is kept out of the group, which is frozen"

    def _say_what_it_has(self, held: SlotSet, seconds: float) -> None:
        before = held - held if self._before is None else self._before
        gained, lost = len(held - before), len(before - held)
        if gained or lost:
            self._say(
                logging.INFO, "settled", "gained %d and lost %d slots in %.2f s: it has %d of %d",
                gained, lost, seconds, len(held), held.slots,
            )  # fmt: skip

    def _say_for_whom_it_waits(self, waiting_for: Mapping[str, SlotSet], now: float) -> None:
        if not waiting_for:
            if self._named:
                waited = now - self._waits_since
                self._say(logging.INFO, "waited", "waits for nobody any more, after %.1f s", waited)
            self._waits_since, self._named = math.inf, frozenset()
            return
        self._waits_since = min(self._waits_since, now)
        if (
            now - self._waits_since >= _LONG_TTL * self._ttl
            and not waiting_for.keys() <= self._named
        ):
            self._named |= waiting_for.keys()
            self._say(
                logging.WARNING, "waits", "has waited for %.1f s: %s",
                now - self._waits_since,
                _some(
                    f"for {id!r:.100}, {len(slots)} slots"
                    for id, slots in sorted(waiting_for.items())
                ),
            )  # fmt: skip

    # ---- before and after each heartbeat -----------------------------------------------------

    def look_at_fence(self, handoff: Handoff, before: float = math.inf) -> None:
        """Say that the fence has passed, or that it has not any more.

        Args:
            handoff: of this member.
            before: the fence before a heartbeat that has just been confirmed.
        """
        now, deadline = clock.boottime(), handoff.deadline
        passed = min(before, deadline)
        if self._fenced_at is None and -math.inf < passed <= now:
            self._fenced_at = passed
            self._say(
                logging.WARNING, "fenced",
                "is fenced: no heartbeat was confirmed for %.1f s, so it holds nothing",
                now - passed + FENCE * self._ttl,
            )  # fmt: skip
        if self._fenced_at is not None and deadline > now:
            self._say(
                logging.WARNING, "recovered",
                "has recovered: a heartbeat is confirmed, %.1f s after the fence; it has %d slots",
                now - self._fenced_at, len(handoff.held(now)),
            )  # fmt: skip
            self._fenced_at = None


def _members(count: int) -> str:
    """Return a number of members in words.

    >>> _members(1), _members(3)
    ('1 member', '3 members')
    """
    return "1 member" if count == 1 else f"{count} members"


def _some(parts: Iterable[str]) -> str:
    """Return the first few of some phrases.

    >>> _some(["'a' has come", "'b' drains"])
    "'a' has come, 'b' drains"
    """
    found = list(parts)
    more = len(found) - _MOST_NAMED
    return ", ".join(found[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
