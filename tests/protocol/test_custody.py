"""Custody is set algebra: parts never overlap, and only gains and drops change their union."""

import math

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from hashring.protocol.claims import Claim
from hashring.protocol.custody import Custody, Gain
from hashring.ring.ring import SlotSet
from tests.properties import examples

SLOTS = 8
NOTHING, FULL = SlotSet.empty(SLOTS), SlotSet.full(SLOTS)

some_slots = st.sets(st.integers(0, SLOTS - 1)).map(lambda slots: SlotSet.of(slots, SLOTS))
times = st.integers(0, 20).map(float)
throughs = times | st.just(-math.inf)
begun_windows = st.lists(st.tuples(times, some_slots), max_size=3)


def slots_of(parts):
    found = NOTHING
    for part in parts:
        found = found | part.slots
    return found


class AnyOrderOfCalls(RuleBasedStateMachine):
    """Every order of calls on one custody, beside the union that it must have.

    The gate lets in no slot that is in hand: what the view gives is *missing* until it is gained.
    """

    def __init__(self):
        super().__init__()
        self.custody = Custody(NOTHING, max_claims=3)
        self.union = NOTHING
        self.pinned = {}

    def parts(self):
        custody = self.custody
        gaining, claimed = slots_of(custody.gaining), slots_of(custody.claims)
        return custody.held, custody.losing, gaining, claimed

    # ---- what grows the union ----

    @rule(wanted=some_slots, through=times, is_claimed=st.booleans())
    def the_gate_lets_slots_in(self, wanted, through, is_claimed):
        slots = self.custody.missing(wanted) - self.custody.losing
        if slots:
            self.custody.begin_gaining([Gain(slots, through, is_claimed)])
            self.union = self.union | slots

    @precondition(lambda self: not self.custody.gaining and not self.custody.losing)
    @rule(wanted=some_slots, through=times)
    def slots_are_taken_at_once(self, wanted, through):
        slots = wanted - self.custody.held
        self.custody.gain_at_once([Gain(slots, through, is_claimed=False)] if slots else [])
        self.union = self.custody.held  # in an eager group nobody waits for a claim

    # ---- what shrinks it ----

    @rule(slots=some_slots)
    def another_marks_slots_as_taken(self, slots):
        _, _, gaining, claimed = self.parts()
        self.custody.drop_claims(slots)
        self.union = self.union - ((claimed & slots) - gaining)

    @rule(through=throughs, slots=some_slots)
    def another_claims_slots(self, through, slots):
        _, _, gaining, claimed = self.parts()
        before = self.custody.claims
        self.custody.see_claims([Claim(through, slots)])
        dropped = claimed - slots_of(self.custody.claims)
        older = slots_of(claim for claim in before if claim.through < through)
        assert dropped <= (slots & older)
        assert not (self.custody.has_lowered and dropped)
        self.union = self.union - (dropped - gaining)

    @rule()
    def the_lease_ends(self):
        self.custody.drop_all()
        self.pinned.clear()
        self.union = NOTHING

    # ---- what moves slots from one part to the next ----

    @rule()
    def the_mark_is_confirmed(self):
        held, gaining = self.custody.held, slots_of(self.custody.gaining)
        self.custody.finish_gaining()
        assert self.custody.held == held | gaining
        assert gaining <= slots_of(self.custody.remembered)

    @rule()
    def the_mark_is_in_doubt(self):
        gaining = slots_of(self.custody.gaining)
        assert self.custody.stop_gaining() == gaining
        assert gaining <= slots_of(self.custody.claims)

    @rule(mine=some_slots, wall=times, worked=st.booleans())
    def a_view_takes_slots_away(self, mine, wall, worked):
        self.custody.stop_gaining()
        held, losing = self.custody.held, self.custody.losing
        self.custody.keep_only(mine, wall, worked)
        assert self.custody.held == held & mine
        assert self.custody.losing == losing | (held - mine)

    @rule(given_up=begun_windows)
    def windows_are_given_up(self, given_up):
        before = {start: self.custody.usable(start) for start in range(21)}
        self.custody.give_up_windows(given_up)
        for start, usable in before.items():
            assert self.custody.usable(start) <= usable

    @rule(pending=begun_windows)
    def what_is_lost_is_claimed_when_it_is_worked(self, pending):
        losing = self.custody.losing
        self.custody.finish_losing(pending)
        pinned = NOTHING
        for slots in self.pinned.values():
            pinned = pinned | slots
        assert (losing & pinned) <= self.custody.losing

    @rule(cycle=st.integers(0, 2), data=st.data())
    def a_cycle_begins(self, cycle, data):
        slots = data.draw(some_slots) & self.custody.in_hand
        self.custody.pin(cycle, slots)
        self.pinned[cycle] = slots

    @rule(cycle=st.integers(0, 2))
    def a_cycle_ends(self, cycle):
        self.custody.unpin(cycle)
        self.pinned.pop(cycle, None)

    # ---- what holds at any time ----

    @invariant()
    def the_parts_are_disjoint(self):
        held, losing, gaining, claimed = self.parts()
        assert held.isdisjoint(losing)
        assert held.isdisjoint(gaining)
        assert losing.isdisjoint(gaining)
        assert claimed.isdisjoint(held | losing)

    @invariant()
    def the_union_changes_by_gain_and_drop_alone(self):
        held, losing, gaining, claimed = self.parts()
        assert held | losing | gaining | claimed == self.union

    @invariant()
    def no_slot_is_claimed_twice(self):
        assert sum(len(claim.slots) for claim in self.custody.claims) == len(
            slots_of(self.custody.claims)
        )

    @invariant()
    def claims_and_remembered_gains_are_bounded(self):
        assert len(self.custody.claims) <= 3
        assert len(self.custody.remembered) <= 3

    @invariant()
    def what_is_held_is_remembered_as_gained(self):
        assert self.custody.held <= slots_of(self.custody.remembered)

    @invariant()
    def any_window_may_use_what_is_held_and_no_more_than_is_in_hand(self):
        for start in (-math.inf, 0.0, 10.0, math.inf):
            assert self.custody.held <= self.custody.usable(start) <= self.custody.in_hand


AnyOrderOfCalls.TestCase.settings = examples(40, stateful_step_count=25)
test_any_order_of_calls_keeps_the_parts_disjoint_and_the_union = AnyOrderOfCalls.TestCase


class ForgetsWhatItGivesUp(Custody):
    def keep_claims(self, claims):
        return


class HoldsWhatIsLost(Custody):
    def keep_only(self, mine, wall, worked):
        held = self.held
        super().keep_only(mine, wall, worked)
        self.held = held


class GainsForEver(Custody):
    def finish_gaining(self):
        gaining = self.gaining
        super().finish_gaining()
        self.gaining = gaining


@pytest.mark.parametrize("mistake", [ForgetsWhatItGivesUp, HoldsWhatIsLost, GainsForEver])
def test_the_properties_find_a_planted_mistake(mistake):
    class Planted(AnyOrderOfCalls):
        def __init__(self):
            super().__init__()
            self.custody = mistake(NOTHING, max_claims=3)

    with pytest.raises(AssertionError):
        run_state_machine_as_test(
            Planted,
            settings=settings(
                max_examples=500,
                stateful_step_count=25,
                deadline=None,
                database=None,
                phases=[Phase.generate],  # that it is found is enough
                report_multiple_bugs=False,
            ),
        )


def held(slots, through=0.0, *, is_claimed=True):
    custody = Custody(NOTHING)
    custody.begin_gaining([Gain(slots, through, is_claimed)])
    custody.finish_gaining()
    return custody


def test_the_windows_before_the_loss_are_still_usable_and_then_claimed():
    custody = held(FULL)

    custody.keep_only(NOTHING, 10.0, worked=True)

    assert custody.usable(9.0) == FULL
    assert custody.usable(10.0) == NOTHING
    custody.finish_losing([(9.0, FULL)])
    assert custody.losing == FULL
    custody.finish_losing([(10.0, FULL)])  # that window is the next owner's
    assert custody.claims == [Claim(10.0, FULL)]


def test_who_never_worked_passes_on_what_it_was_told_and_promises_no_more():
    told, untold = held(FULL, 7.0), held(FULL, 7.0, is_claimed=False)

    for custody in (told, untold):
        custody.keep_only(NOTHING, 10.0, worked=False)
        custody.finish_losing([])

    assert told.claims == [Claim(7.0, FULL)]
    assert untold.claims == [Claim(-math.inf, FULL)]


def test_a_window_that_is_given_up_is_the_next_owners():
    low = SlotSet.of(range(4), SLOTS)
    custody = held(FULL)
    custody.keep_only(NOTHING, 10.0, worked=True)

    custody.give_up_windows([(5.0, low)])
    custody.finish_losing([])

    assert {claim.through: claim.slots for claim in custody.claims} == {5.0: low, 10.0: FULL - low}
    assert custody.through == 5.0
