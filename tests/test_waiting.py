"""How long a member waits: a table of cases, and what holds for all of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashring.partition.waiting import AT_ONCE, WaitPlan, heartbeat_retry, plan_wait, retry_pause

# local, most, ttl, members, changing -> gather, listen
PLANS = {
    "a cycle here must end": (True, None, 10.0, 3, True, WaitPlan(0.02, 0.0)),
    "and the size of the group does not matter": (True, None, 10.0, 500, True, WaitPlan(0.02, 0.0)),
    "the hand-off wants to go on": (False, 0.0, 10.0, 3, False, AT_ONCE),
    "it wanted to a while ago": (False, -1.0, 10.0, 500, False, AT_ONCE),
    "settled": (False, None, 10.0, 3, False, WaitPlan(0.0, 0.5)),
    "settled, a short lease": (False, None, 4.0, 3, False, WaitPlan(0.0, 0.2)),
    "settled, a very short lease": (False, None, 0.2, 3, False, WaitPlan(0.0, 0.05)),
    "settled, a long lease": (False, None, 600.0, 3, False, WaitPlan(0.0, 0.5)),
    "settled, no later than asked": (False, 0.3, 10.0, 3, False, WaitPlan(0.0, 0.3)),
    "slots change hands": (False, None, 10.0, 3, True, WaitPlan(0.0, 0.02)),
    "the last group that is not large": (False, None, 10.0, 16, True, WaitPlan(0.0, 0.02)),
    "the first that is": (False, None, 10.0, 17, True, WaitPlan(0.017, 0.02)),
    "a large group settles": (False, None, 10.0, 100, True, WaitPlan(0.1, 0.1)),
    "a large group is settled": (False, None, 10.0, 200, False, WaitPlan(0.2, 0.8)),
    "a huge one gathers a part of the ttl": (False, None, 10.0, 5000, True, WaitPlan(1.0, 2.5)),
}


@pytest.mark.parametrize(
    ("local", "most", "ttl", "members", "changing", "plan"), PLANS.values(), ids=PLANS.keys()
)
def test_the_wait_for_a_change(local, most, ttl, members, changing, plan):
    found = plan_wait(local=local, most=most, ttl=ttl, members=members, changing=changing)

    assert (found.gather, found.listen) == pytest.approx((plan.gather, plan.listen))


@pytest.mark.parametrize(
    ("members", "changing", "gathers"),
    [
        (200, False, [0.2, 0.4, 0.8, 0.8]),  # settled: no hurry to read what others acked
        (200, True, [0.2, 0.2, 0.2, 0.2]),  # it waits for those acks
        (16, True, [0.0, 0.0, 0.0, 0.0]),  # whoever is about to gain hears of it as it comes
        (16, False, [0.016, 0.032, 0.064, 0.064]),  # and the settled ones leave it the processor
        (4, False, [0.0, 0.0, 0.0, 0.0]),  # a small group reads each as it comes
        (5000, False, [1.0, 1.0, 1.0, 1.0]),  # never more than a part of the ttl
    ],
)
def test_a_settled_member_reads_acks_ever_more_rarely(members, changing, gathers):
    plans = [
        plan_wait(local=False, most=None, ttl=10.0, members=members, changing=changing, acks=acks)
        for acks in (0, 1, 2, 1000)
    ]

    assert [plan.gather for plan in plans] == pytest.approx(gathers)


@pytest.mark.parametrize(
    ("members", "took", "gather"),
    [
        (200, 0.01, 0.2),  # nothing is scarce
        (200, 0.3, 0.6),  # the processor or the store is: each reads more rarely
        (200, 5.0, 1.0),  # never more than a part of the ttl
        (16, 5.0, 0.0),  # a small group does not make itself slow
    ],
)
def test_a_large_group_leaves_a_busy_machine_time(members, took, gather):
    plan = plan_wait(local=False, most=None, ttl=10.0, members=members, changing=True, took=took)

    assert plan.gather == pytest.approx(gather)


@given(
    st.booleans(),
    st.none() | st.floats(-10, 1000),
    st.floats(0.01, 1e6),
    st.integers(0, 10_000),
    st.booleans(),
)
def test_a_wait_leaves_time_before_the_lease_ends_and_is_never_longer_than_asked(
    local, most, ttl, members, changing
):
    plan = plan_wait(local=local, most=most, ttl=ttl, members=members, changing=changing)

    assert plan.gather >= 0
    assert plan.listen >= 0
    if not local:
        assert plan.gather + plan.listen <= 0.36 * ttl
        assert most is None or plan.listen <= max(0.0, most)


@pytest.mark.parametrize(
    ("failures", "ttl", "pause"),
    [
        *((1, 10.0, 0.1), (2, 10.0, 0.2), (4, 10.0, 0.8), (5, 10.0, 1.0), (10**6, 10.0, 1.0)),
        *((1, 0.1, 0.1 / 3), (9, 0.1, 0.1 / 3)),
    ],
)
def test_the_pause_after_failures_doubles_up_to_a_part_of_the_lease(failures, ttl, pause):
    assert retry_pause(failures, ttl) == pytest.approx(pause)


@pytest.mark.parametrize(
    ("pause", "ttl", "again"), [(10.0, 30.0, 1.0), (1.0, 3.0, 0.3), (0.02, 600.0, 0.02)]
)
def test_a_heartbeat_that_failed_is_tried_again_well_before_the_fence(pause, ttl, again):
    assert heartbeat_retry(pause, ttl) == pytest.approx(again)
