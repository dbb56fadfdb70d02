"""Known mistakes, one a class: the simulator and the exhaustive search must find each of them."""

import copy
import dataclasses
import math
from unittest import mock

from hashring.protocol import events
from hashring.protocol.claims import MAX_CLAIMS, Claim, merged
from hashring.protocol.custody import Custody
from hashring.protocol.grips import Grips
from hashring.protocol.handoff import Handoff, Publish
from hashring.protocol.runner import Runner
from hashring.protocol.streams import leave_begun
from hashring.protocol.windows import Stream
from hashring.testing.simulation.store import SimulatedStore


class TrustsEvidenceFromBeforeItsAck(Handoff):
    """The reading that led to the ack also serves as the gate."""

    def _is_fresh(self, token):
        return True

    def published(self, number=None):
        super().published(number)
        is_open = self.applied is not None and self._settled != self.applied
        if is_open and not self._custody.gaining:
            self._gain(0.0, 1000.0)
            super().published(number)


class TrustsANullSeenBeforeItsAck(Handoff):
    """Who once showed null is taken to hold nothing."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.nulls = set()

    def observe(self, *arguments, **options):
        super().observe(*arguments, **options)
        self.nulls |= {m.incarnation for m in self.members.values() if m.applied is None}

    def _may_hold(self, member, wanted):
        if member.incarnation in self.nulls:
            return wanted - wanted
        return super()._may_hold(member, wanted)


class LetsMarksGoWithTheView(Handoff):
    """A new view's ack takes the place of a mark that nobody may have seen."""

    def _record(self, applied):
        def nobody(roster, slots):
            return slots - slots

        with mock.patch.object(events.gate, "claimed_by_others", nobody):
            return super()._record(applied)


class AcksBeforeItDrops(Handoff):
    """Rule 1 upside down: publishes the view while a cycle still pins what it takes away."""

    def decide(self, **options):
        losses, self._custody._losses = self._custody._losses, []
        action = super().decide(**options)
        self._custody._losses = losses
        return action


class NeverFences(Handoff):
    """Rule 3 left out: a heartbeat that is late does not matter."""

    def heartbeat_confirmed(self, token, started):
        super().heartbeat_confirmed(token, started + 1000.0)


class DoesNotStandStill(Handoff):
    """Rule 4 left out: what the store forgot never was."""

    def observe(self, reading, token, **options):
        super().observe(reading._replace(memory_age=float("inf")), token, **options)


class KeepsWhatItHeldWhenItsRecordIsGone(Handoff):
    """Rule 4 too far: every lost record is taken for a store that forgot."""

    def _come_back(self, now):
        self._reading = self._reading._replace(memory_age=0.0)
        return super()._come_back(min(now, self.deadline - 1))

    def _back_in_store(self, now):
        super()._back_in_store(min(now, self.deadline - 1))


class RejoinsWithoutLookingAtTheClock(Handoff):
    """Rule 4 without its end: the fence may pass while the join is under way."""

    def _back_in_store(self, now):
        self._lease.resumes = False
        super()._back_in_store(now)


class ClaimsNothing(Custody):
    def keep_claims(self, claims):
        return


class ForgetsWhatItLost(Handoff):
    """Rule 5 left out: no claims, so every gain looks like a crash."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self._custody = ClaimsNothing(self._nothing)


class TakesAnUnknownViewForHarmless(Handoff):
    """Rule 2 too far: a view that this member cannot tell the table of gives nobody anything."""

    def _may_hold(self, member, wanted):
        if member.applied is not None and self._roster.view_named(member.applied) is None:
            return wanted - wanted
        return super()._may_hold(member, wanted)


class ReadsTheTableForTheWrongMember(Handoff):
    """Rule 2 misread: what another's view gives to *us* is taken for what it gives to the other."""

    def _may_hold(self, member, wanted):
        held = super()._may_hold(member, wanted)
        view = self._roster.view_named(member.applied) if held else None
        return held if view is None else held & view.slots(self.member)


class BelievesClaimsThatWereDropped(Handoff):
    """Rule 2 without "no claim": a claim under an older view may have been dropped in memory."""

    def _may_hold(self, member, wanted):
        return super()._may_hold(dataclasses.replace(member, claims=()), wanted)


class MarksMoreThanItTook(Handoff):
    """Rule 5: the mark of a part reads like the mark of the whole."""

    def _record(self, applied):
        settled, self._settled = self._settled, self._target if self._took else self._settled
        try:
            return super()._record(applied)
        finally:
            self._settled = settled


class TrustsWhatAStrangerHasApplied(Handoff):
    """Rule 6 without its gate: strangers' slots are not waited for."""

    def _may_hold(self, member, wanted):
        return wanted - wanted if member.id in self.strangers else super()._may_hold(member, wanted)


class EndsForAnyStranger(Handoff):
    """Rule 6 as it was: whoever has not settled in this lease ends where it differs."""

    def _expire(self):
        super()._expire()
        self._has_settled = False


class NeverStandsAside(Handoff):
    """Rule 6 without the rule: each takes its own parameters for the group's."""

    def _look_at_strangers(self, young):
        super()._look_at_strangers(young)
        self._stands_aside = ""


class WaitsForTheClock(Stream):
    """However far the clock has stepped back, it waits until that has caught up."""

    def follow(self, wall):
        return False


class GivesUpLateWindowsTooSoon(Stream):
    """It works late only what is young enough for a bound half as long as the stated one."""

    def _oldest(self, wall, present):
        return min(present, self._first_from(wall - self.catch_up / 2))


def merges_whatever_is_oldest(claims, most):
    """As it was once: a claim that promises nothing swallows the next one's promise."""
    kept = merged(claims, MAX_CLAIMS)
    while len(kept) > most:
        first, second, *rest = kept
        kept = [Claim(first.through, first.slots | second.slots), *rest]
    return kept


def leaves_all_with_the_first(stream, streams, wall, usable, losing):
    """As it was once: what begun first decides for all that has begun."""
    due = stream.due(wall, usable)
    if due is None:
        return True
    if not due.slots.isdisjoint(losing):
        return False
    copied = copy.deepcopy(stream)
    others = [other for other in streams if other is not stream]
    return leave_begun(
        copied, [copied, *others], wall, lambda start: usable(start) & due.slots, losing
    )


class TakesALoweredClaimForTheOlderOne(Handoff):
    """Rule 5: a claim that was lowered by merging is dropped for another's that is older."""

    def _see_marks(self):
        custody = self._custody
        lowered, custody.has_lowered = custody.has_lowered, False
        super()._see_marks()
        custody.has_lowered = lowered


class ChangesItsMetaAllTheTime(Handoff):
    """Ours, with something new to say at every third reading, whatever else is under way."""

    readings = 0

    def observe(self, *arguments, **options):
        super().observe(*arguments, **options)
        self.readings += 1
        if self.readings % 3 == 0:
            self.change_meta({"reading": self.readings})


class ForgetsWhatBeganSinceItClosed(Stream):
    """A gain lets it skip to the present window, though nobody iterates it any more."""

    def gain(self, batches, wall):
        closed, self.closed = self.closed, False
        super().gain(batches, wall)
        self.closed = closed


class ConfirmsBeforeTheCallReturns(Runner):
    """The choreography: what was sent is taken for confirmed while the call is under way."""

    def next(self):
        step = super().next()
        if isinstance(step, Publish):
            self.handoff.published()
        return step


class ConfirmsWhatFailed(Runner):
    """The choreography: a call of unknown outcome is taken for one that arrived."""

    def fail(self, error):
        if isinstance(self.step, Publish):
            self.handoff.published()
        super().fail(error)


class WaitsForMoreAfterACrash(Handoff):
    """Gathering too far: what a crashed member held waits for more changes, too."""

    def _waits_for_more(self, view, now):
        with mock.patch.object(events, "is_planned", return_value=True):
            return super()._waits_for_more(view, now)


class TakesOverFromWhoIsAway(Handoff):
    """Parking left out: whoever has left is gone from the view, whatever it has said."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self._roster._away = lambda *_, **__: []


class ComesBackToWindowsThatItHasWorked(Handoff):
    """Parking: what is kept of a claim is a window short."""

    def _claims(self):
        return [self._short(claim) for claim in super()._claims()]

    def observe(self, *arguments, **options):
        super().observe(*arguments, **options)
        parking = self._parking
        parking.kept = tuple(
            dataclasses.replace(place, claims=tuple(map(self._short, place.claims)))
            if place.name not in {known.name for known in self._confirmed.parked}
            else place
            for place in parking.kept
        )

    @staticmethod
    def _short(claim):
        return claim if claim.through == -math.inf else Claim(claim.through - 1.0, claim.slots)


class KeepsClaimsThatOthersHaveTakenOver(Handoff):
    """Parking: a mark ends a member's own claims, and not those that it keeps for others."""

    def _see_marks(self):
        with mock.patch.object(self._parking, "drop_claims"):
            super()._see_marks()


class SaysThatItIsAwayWhileItWorks(Handoff):
    """Parking: a member asks for its place to be kept before it has dropped what it holds."""

    @property
    def _says_that_it_drains(self):
        return self._draining


class EndsNoPlace(Handoff):
    """Parking: the time of a place never passes."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        look = self._parking.look
        self._parking.look = lambda roster, now, **options: look(roster, 0.0, **options)


class RevivesAGripThatHasEnded(Grips):
    """Grips: one whose time is over may be renewed, though what it pinned was given up."""

    def renew(self, grip, now, seconds):
        grip.released, grip.until = False, max(grip.until, now + seconds)
        return True


class EndsGripsEarly(Grips):
    """Grips: a little before the time is over what it pinned may go."""

    def end_due(self, now):
        for grip in self._live.values():
            if now >= grip.until - 0.2:
                self._handoff.unpin(grip.number)
        return super().end_due(now)


class PinsNoGrip(Grips):
    """Grips: what is gripped is remembered, and the hand-off is not told."""

    def take(self, now, seconds):
        grip = super().take(now, seconds)
        self._handoff.unpin(grip.number)
        return grip


class GripsPastTheFence(Grips):
    """Grips: a grip is valid until its own end, whatever became of the lease."""

    def is_valid(self, grip, now):
        return now < grip.until and not grip.released


class AdmitsWhoHasSeenTheFreeze(Handoff):
    """Freezing: whoever has acked a view stays, though it came later."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self._roster.stays = lambda member: member.applied is not None


class HandsOverInAFrozenGroup(Handoff):
    """Freezing: a drain is a drain."""

    def drain(self, back=0.0):
        stays, self.stays = self.stays, False
        super().drain(back)
        self.stays = stays


class ForgetsTheFreezeWithItsCommand(Handoff):
    """Freezing: it is not copied, so it ends with the record of whoever asked."""

    def _record(self, applied):
        with mock.patch.object(self, "freeze", None):
            return super()._record(applied)


class NeverThaws(Handoff):
    """Freezing: of two words the one that freezes counts, however old."""

    def _look_at_freeze(self, mine, wall, young):
        if self.freeze is not None and self.freeze.on:
            self._roster.freeze = self.freeze
            self._roster._view = None
        super()._look_at_freeze(mine, wall, young)


class DrawsItsEpochWhenItJoins(Handoff):
    """Rule 7: one number for the whole membership, though a slot may go away and come back."""

    def published(self, number=None):
        drawn = self.epoch
        super().published(number)
        if drawn is not None:
            self.epoch = drawn


class CountsItsGainsItself(Handoff):
    """Rule 7: the store's number at first, and from then on one more at each gain."""

    def published(self, number=None):
        gains, drawn = bool(self._custody.gaining), self.epoch
        super().published(number)
        if drawn is not None:
            self.epoch = drawn + gains


class NumbersWritesAnewOnceItForgot(SimulatedStore):
    """Rule 7, in the store: its numbers begin anew, and its time does not count."""

    def publish(self, now, member, record):
        before = self._number
        super().publish(now, member, record)
        self._number = before + 1
        return self._number


class NumbersEachMembersWrites(SimulatedStore):
    """Rule 7, in the store: each member's writes are numbered by themselves, as a version is."""

    def __init__(self, **options):
        super().__init__(**options)
        self._of_member = {}

    def publish(self, now, member, record):
        super().publish(now, member, record)
        self._of_member[member] = self._of_member.get(member, 0) + 1
        return self._of_member[member]


def names_a_view_without_weights(self):
    """A weight that is set: two views of the same members pass for one."""
    members = [(id, incarnation) for id, incarnation, _ in self.members]
    object.__setattr__(self, "id", str(members))
