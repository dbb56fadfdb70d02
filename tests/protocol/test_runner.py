"""The choreography, step by step, as plain function calls."""

import pytest

from hashring.errors import LeaseLost, StoreUnavailable
from hashring.protocol.handoff import Handoff, Join, Publish, Wait
from hashring.protocol.reading import Reading
from hashring.protocol.runner import Read, Runner
from hashring.ring.ring import HashRing

SPEC = HashRing(slots=8).spec
TTL = 10.0


@pytest.fixture
def runner():
    return Runner(Handoff("a", incarnations=iter("123"), spec=SPEC, ttl=TTL))


def learn(runner, record):
    """Let the runner read one record, its own, and return the step that follows."""
    assert isinstance(runner.next(), Read)
    runner.learn(Reading({"a": record}, float("inf")), now=0.0, wall=100.0)
    return runner.next()


def confirm(runner):
    return runner.confirm(now=0.0, wall=100.0)


def settle(runner):
    """Go on until nothing is left to do; return the records that were written, in order."""
    step = runner.next()
    written = [step.record]
    confirm(runner)
    runner.confirm_beat(runner.beat(0.0))
    while not isinstance(step := learn(runner, written[-1]), Wait):
        written.append(step.record)
        confirm(runner)
    return written


def test_a_member_joins_reads_acks_and_marks_and_then_waits(runner):
    written = settle(runner)

    assert len(written) == 3  # the join, the ack, the mark
    assert runner.handoff.is_settled
    assert len(runner.handoff.held(0.0)) == 8


def test_slots_are_held_once_the_mark_is_confirmed_and_not_before(runner):
    join = runner.next()
    confirm(runner)
    runner.confirm_beat(runner.beat(0.0))
    ack = learn(runner, join.record)
    confirm(runner)
    learn(runner, ack.record)  # the mark is on its way

    assert not runner.handoff.held(0.0)
    assert confirm(runner)
    assert len(runner.handoff.held(0.0)) == 8


def test_a_write_that_is_in_hand_is_returned_again_and_not_decided_anew(runner):
    join = runner.next()

    assert isinstance(join, Join)
    assert runner.next() is join
    assert runner.step is join


def test_a_wait_needs_no_confirmation_and_a_reading_follows_it(runner):
    settle(runner)

    assert runner.step is None
    assert isinstance(runner.next(), Read)


def test_each_reading_begins_anew(runner):
    runner.next()
    confirm(runner)

    first, second = runner.next(), runner.next()

    assert second.token > first.token


@pytest.mark.parametrize("error", [StoreUnavailable("away"), LeaseLost("gone")])
def test_after_a_failure_the_group_is_read_and_nothing_is_confirmed(runner, error):
    join = runner.next()
    confirm(runner)
    ack = learn(runner, join.record)
    assert isinstance(ack, Publish)

    runner.fail(error)

    assert runner.handoff.applied is None
    again = learn(runner, join.record)  # the publish did not arrive
    assert again.record == ack.record


def test_what_was_sent_and_may_have_arrived_is_sent_again(runner):
    join = runner.next()
    confirm(runner)
    ack = learn(runner, join.record)

    runner.fail(StoreUnavailable("the answer was lost"))

    assert learn(runner, ack.record) == ack


def test_a_lease_that_a_heartbeat_found_lost_is_not_the_next_one(runner):
    written = settle(runner)
    beat = runner.beat(5.0)
    runner.next()
    runner.learn(Reading({}, float("inf")), now=20.0, wall=120.0)  # expired meanwhile
    runner.next()
    confirm(runner)

    runner.fail_beat(beat, LeaseLost("of the old lease"))
    runner.confirm_beat(beat)

    assert len(written) == 3
    assert runner.handoff.incarnation == "2"
    assert runner.handoff.heartbeat_begins() >= 0  # the new lease lives
    assert runner.handoff.deadline == -float("inf")  # and is proven by none of the old one's


def test_a_heartbeat_counts_from_before_its_call(runner):
    settle(runner)

    runner.confirm_beat(runner.beat(5.0))

    assert runner.handoff.deadline == 5.0 + 0.9 * TTL


def test_answers_out_of_order_are_refused(runner):
    with pytest.raises(RuntimeError, match="call next"):
        runner.learn(Reading({}, float("inf")), now=0.0, wall=0.0)
    runner.next()
    confirm(runner)
    with pytest.raises(RuntimeError, match="call next"):
        confirm(runner)
