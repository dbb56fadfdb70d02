"""What happens to a member: answers of the store, heartbeats, readings, a wish to leave.

Each event changes the :class:`~hashring.protocol.state.State`; none decides what to do next.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from hashring.errors import BadRecord
from hashring.protocol import gate
from hashring.protocol.actions import Join, Publish, Wait
from hashring.protocol.founding import mismatch
from hashring.protocol.frozen import Frozen
from hashring.protocol.gathering import is_planned
from hashring.protocol.reading import Reading, is_young
from hashring.protocol.record import MAX_BACK, Member, check_meta
from hashring.protocol.statement import Statement
from hashring.protocol.view import View

__all__ = ["Events"]


class Events(Frozen):
    """The events. Calls must be serialised by the caller (one lock)."""

    # ---- writes, and their answers ---------------------------------------------------------

    def start(self) -> Join:
        """Return the first action: join with null."""
        return self._join()

    def _join(self) -> Join:
        return Join(self._send(self.applied))

    def _publish(self, applied: View | None) -> Publish:
        return Publish(self._send(applied))

    def _send(self, applied: View | None) -> bytes:
        """Return the record that says so, and keep what it says until an answer comes."""
        record = self._record(applied)
        self._sent = Statement(
            applied,
            self._took,
            self._says_that_it_drains,
            self._founding,
            self.meta,
            self._told_weight,
            self._parking.kept,
            self.answer,
            (self.freeze, self.stays),
        )
        return record

    def joined(self, now: float) -> None:
        """``driver.join`` returned."""
        self._events += 1
        if self.has_left:
            return
        lease = self._lease.number
        self._back_in_store(now)
        self._acked_at = self._events
        if self._lease.number == lease:
            self._confirm()
        # Else the record speaks of slots that are not ours any more: it has to be sent anew.

    def published(self, number: int | None = None) -> None:
        """``driver.publish`` returned: the store has the record of the last :class:`Publish`.

        Args:
            number: what the call returned.
        """
        self._events += 1
        if self.has_left:
            return
        before = self.applied
        self._confirm()
        if self.applied != before:
            self._acked_at = self._events
        if self._settled is not None and self._settled == self.applied:
            self.founded = self._founding
        # The mark is in the store: custody has changed hands, and the slots are ours.
        if self._custody.gaining:
            self.epoch = None if self.mode == "eager" else number
        self._custody.finish_gaining()

    def _confirm(self) -> None:
        if self._sent is not None:
            self._confirmed, self._sent = self._sent, None

    # ---- the lease -------------------------------------------------------------------------

    def heartbeat_begins(self) -> int:
        """Return a token for :meth:`heartbeat_confirmed`."""
        return self._lease.heartbeat_begins()

    def heartbeat_confirmed(self, token: int, started: float) -> None:
        """``driver.heartbeat()``, begun at local time ``started``, returned."""
        self._lease.heartbeat_confirmed(token, started)

    def lease_lost(self, token: int | None = None) -> None:
        """The driver raised ``LeaseLost``; the next :meth:`Handoff.step` finds out why."""
        self._lease.lost(token)

    def _back_in_store(self, now: float) -> None:
        if self._lease.resumes and self._lease.is_fenced(now):
            # The fence passed while the join was under way: the others may have stopped
            # standing still before our record was back. Nothing may be resurrected.
            self._expire()
        self._stop_gaining()
        self._lease.resumes = False
        self._lease.in_store = True

    def _expire(self) -> None:
        """Drop everything: the lease ended, and others may hold what this member held."""
        self._custody.drop_all()
        self._parking.forget()
        self._took = self._nothing
        self._waiting_for = self._waited_for = {}
        self._settled = self._target = None
        self.answer = None  # it was another incarnation that was asked
        self.stays = False  # and another one that stayed: this one is a newcomer
        self.epoch = None
        self._confirmed = Statement(None, self._nothing, False, None, self.meta, self.weight)
        self._founding = self.founded
        self._lease.end()

    # ---- a reading -------------------------------------------------------------------------

    def reading_begins(self) -> int:
        """Return a token for :meth:`observe`: call it before ``driver.read``."""
        self._events += 1
        return self._events

    def observe(
        self, reading: Reading, token: int, *, now: float, wall: float, worked: bool = True
    ) -> None:
        """Take in a reading of the group; from here on no new cycle gets what it takes away.

        Args:
            reading: what the store said.
            token: from :meth:`reading_begins`, called before the reading began.
            now: local time in seconds (a clock that never steps).
            wall: wall-clock time in seconds, for labels only, and not before the start of any
                window that this member has started.
            worked: this member has started a window of some stream.

        Raises:
            GroupMismatch: this member's ring, ttl or mode differs from the group's, and it has
                never settled. It has never held anything then; the caller leaves.
        """
        self._events += 1
        self._reading, self._token = reading, token
        self._must_wait = None
        self._waiting_for = {}
        self._gathers = False
        if self.has_left:
            return
        self._roster.read(reading)
        self.requests = self._roster.requests
        mine = self.members.get(self.member)
        if mine is None or mine.incarnation != self.incarnation:
            self._lease.in_store = False
            return
        if not self._lease.in_store:
            # A join whose outcome was unknown has landed; or the driver called the lease lost
            # before the store did. What counts is that our incarnation's record is there.
            self._back_in_store(now)
        young = is_young(reading, self.ttl)
        if self._draining or young:
            self._stop_gaining()
        self._look_at_strangers(young)
        if young:
            self._must_wait = Wait(
                "the store may have forgotten members: standing still",
                seconds=max(0.01, self.ttl - reading.memory_age),
                still=True,
            )
        self._look_at_freeze(mine, wall, young)
        self._parking.look(self._roster, now, drains=self._draining, is_frozen=self.is_frozen)
        self._see_marks()
        if self._must_wait is None:
            view = self._roster.view(draining=self._draining and self._back is None)
            view = self._nobody if self._stands_aside else view
            self._gathers = self._waits_for_more(view, now)
            if not self._gathers:
                if view != self._target:
                    self._gathering.turned(view.id, now)
                self._turn_to(view, wall, worked)
            if self._back is not None and self._custody.held:
                # The view still has us, and we give up everything all the same.
                self._settled, self._took = None, self._nothing
                self._confirmed = dataclasses.replace(self._confirmed, took=self._nothing)
                self._custody.keep_only(self._nothing, wall, worked)

    def _waits_for_more(self, view: View, now: float) -> bool:
        """Whether more changes are about to come, with which this view had better be seen as one.

        Never where this member is yet to ack, or others wait for it.
        """
        target, members, gathering = self._target, self.members, self._gathering
        if target is None or view == target or self.applied != target or self._sent is not None:
            return False
        if self._custody.gaining or self._draining or self._stands_aside:
            return False
        missing = self._custody.missing(target.slots(self.member))
        return (
            gathering.rest(now) > 0
            and is_planned(target, view, members)
            and not gathering.is_led(target, view, members, missing)
        )

    def _look_at_strangers(self, young: bool) -> None:
        """Find out who defines the group; raise where that is a stranger and we never settled."""
        verdict = self._roster.judge()
        first = verdict.first
        if first is None:
            self._stands_aside = ""
            return
        difference = verdict.differences[first.id]
        if not self._has_settled and (verdict.is_founded or not young):
            raise mismatch(first.id, difference)
        self._stands_aside = (
            f"member {first.id!r:.200} has {difference} and defines the group: standing aside "
            "until it has left"
        )

    def _see_marks(self) -> None:
        """Drop the claims on slots that another's mark names: they have a new custodian.

        A mark is never older than our claim: when we gained the slot, nobody's record gave it to
        anybody else. A mark can be gone before we look, where its author has lost the slot in
        turn; then its own claim, which begins later, is there.
        """
        custody, parking = self._custody, self._parking
        parking.drop_claims(custody.in_hand)
        if not custody.claims and not parking.kept:
            return
        for member in self._roster.others():
            marked = gate.marked_by(self._roster, member, self.applied)
            if marked is not None:
                custody.drop_claims(marked)
                parking.drop_claims(marked)
            custody.see_claims(member.all_claims)

    def _turn_to(self, view: View, wall: float, worked: bool) -> None:
        """Rule 1: begin to lose what a new view takes away."""
        if view == self._target:
            return
        self._target = view
        self._turned_at = wall
        self._roster.remember(view)
        # A view can come back (one member came and went): the mark of its first time is void.
        self._settled = None
        self._took = self._nothing
        self._confirmed = dataclasses.replace(self._confirmed, took=self._nothing)
        self._stop_gaining()
        self._custody.keep_only(view.slots(self.member), wall, worked)

    def _stop_gaining(self) -> None:
        if self._custody.gaining:
            self._took = self._took - self._custody.stop_gaining()
            self._settled = None

    # ---- the user's wishes -----------------------------------------------------------------

    def change_meta(self, meta: Mapping[str, Any]) -> None:
        """Replace what the user publishes: with the next record that goes out, or in one of its
        own once this member has settled.

        Raises:
            BadRecord: it is no JSON object or too large; what stood before stays.
        """
        check_meta(meta)
        self.meta = meta

    def drain(self, back: float = 0.0) -> None:
        """Begin to leave with hand-over; :class:`Leave` is the action when it is done.

        Args:
            back: for so many seconds this member's share is to stay its own, unworked, until it
                joins again under its id. Where it has no share, it drains for good. 0: for good;
                in a frozen group its share stays its own until that is thawed.
        """
        has_share = self.weight and self.applied is not None and (self.stays or not self.is_frozen)
        if has_share and not self._draining:
            if back > 0:
                self._back = back
            elif self.is_frozen:  # nobody gains what it leaves before the group is thawed
                self._back, self._until_thaw = MAX_BACK, True
        self._draining = True

    @property
    def _says_that_it_drains(self) -> bool:
        """Who comes back says so only once it holds nothing: until then nothing changes."""
        return self._draining and (self._back is None or not self._custody.in_hand)

    def left(self) -> None:
        """``driver.leave`` is about to be called: hold nothing from here on."""
        self._expire()
        self._lease.in_store = False
        self.has_left = True

    # ---- the record ------------------------------------------------------------------------

    def _record(self, applied: View | None) -> bytes:
        custody = self._custody
        while True:
            try:
                return self._record_with_claims(applied)
            except BadRecord:
                if self._parking.kept:
                    # Its own claims come first: a place that is lost is taken over as in a crash.
                    self._parking.keep_fewer()
                    continue
                # Too large: with half of the claims it may fit. With none the next owners take
                # this member for one that crashed, which costs less than no hand-over at all.
                known = len(custody.claims)
                if not known:
                    raise
                custody.merge_claims(known // 2)
                if len(custody.claims) == known:
                    custody.claims = []

    def _record_with_claims(self, applied: View | None) -> bytes:
        settled = self._settled if self._settled == applied else None
        took = self._took if applied == self._target else self._nothing
        if settled is None:
            # What is held and others claim stays marked: they may not have seen it yet, and were
            # this member to crash, its heir would believe their claims.
            took = took | gate.claimed_by_others(self._roster, self._custody.held)
        return Member(
            id=self.member,
            incarnation=self.incarnation,
            weight=self._told_weight,
            ring=self.spec,
            ttl=self.ttl,
            applied=None if applied is None else applied.id,
            through=self._custody.through,
            draining=self._says_that_it_drains,
            handoff=self.mode,
            settled=None if settled is None else settled.id,
            took=took if took and settled is None else None,
            claims=tuple(self._custody.claims),
            founded=self._founding,
            since=self._turned_at,
            back=self._back if self._says_that_it_drains else None,
            parked=self._parking.kept,
            holds=not self._told_weight
            and applied is not None
            and bool(applied.slots(self.member)),
            answer=self.answer,
            freeze=self.freeze,
            stays=self.stays,
            until_thaw=self._until_thaw and self._says_that_it_drains,
            meta=self.meta,
        ).to_json()
