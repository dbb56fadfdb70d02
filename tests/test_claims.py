"""Claims that are too many for a record: a window may be repeated, none may be lost."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashring.protocol.claims import Claim, merged, oldest_pair
from hashring.protocol.handoff import Handoff
from hashring.protocol.record import Member
from hashring.ring.ring import HashRing, SlotSet

THROUGHS = st.lists(st.one_of(st.just(-math.inf), st.floats(0, 1e9)), min_size=1, max_size=40)


@given(THROUGHS, st.integers(2, 8))
def test_merging_claims_repeats_windows_and_never_loses_a_promise(throughs, most):
    claims = [Claim(through, SlotSet.of([slot], 64)) for slot, through in enumerate(throughs)]

    few = merged(claims, most)

    assert len(few) <= most
    for claim in claims:
        (found,) = (one for one in few if claim.slots <= one.slots)
        assert found.through <= claim.through
        assert (found.through == -math.inf) == (claim.through == -math.inf)


def test_a_gain_that_says_which_windows_are_left_is_merged_with_its_like_alone():
    assert oldest_pair([(5.0, False), (6.0, True), (7.0, True)]) == (1, 2)
    assert oldest_pair([(5.0, False), (6.0, True), (7.0, False)]) == (0, 2)


@pytest.mark.parametrize("most", [0, 1, 65])
def test_a_bound_that_would_lose_promises_is_refused(most):
    with pytest.raises(ValueError, match="max_claims"):
        Handoff("a", incarnations=iter("1"), spec=HashRing({}).spec, ttl=1.0, max_claims=most)


def test_claims_that_do_not_fit_into_a_record_are_merged_and_the_hand_over_goes_on():
    spec = HashRing(slots=1 << 16).spec
    handoff = Handoff("a", incarnations=iter("12"), spec=spec, ttl=1.0, meta={"m": "x" * 60_000})
    slots = list(range(1 << 16))
    random.Random(1).shuffle(slots)  # as a ring scatters them
    handoff._custody.claims = [
        Claim(float(place), SlotSet.of(slots[place::31], 1 << 16)) for place in range(31)
    ]

    record = Member.from_json("a", handoff.start().record)

    assert 1 <= len(record.claims) < 31
    assert sum(len(claim.slots) for claim in record.claims) == 1 << 16
