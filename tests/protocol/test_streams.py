"""Several loops of one member: what each may leave to the next owner, who is told one moment."""

from hashring.protocol.custody import Gain
from hashring.protocol.streams import given_up_windows, leave_begun, pending_windows
from hashring.ring.ring import SlotSet
from hashring.testing.simulation import run
from tests.test_windows import FULL, HIGH, LOW, NOTHING, stream, work

LATE = SlotSet.of([0], 8)


def leaves(found, streams, wall, *, usable=FULL, losing=NOTHING):
    return leave_begun(found, streams, wall, lambda start: usable, losing)


def test_what_another_loop_has_gone_past_is_not_left_by_a_slower_one():
    slow, quick = stream(interval=10.0), stream(interval=1.0)
    work(slow, 100.0)
    work(quick, 111.0)

    assert not leaves(slow, [slow, quick], 111.5)
    assert slow.due(111.5, lambda start: FULL).slots == FULL
    assert leaves(slow, [slow], 111.5)
    slow.closed = True
    assert given_up_windows([slow, quick], 111.5, HIGH) == []


def test_a_loop_that_ends_leaves_nothing_that_another_open_loop_would_go_past():
    slow, quick = stream(interval=2.5), stream(interval=1.0)
    for each in (slow, quick):
        work(each, 99.0)
        each.open(99.0)

    assert not leaves(quick, [slow, quick], 100.1)  # the slow one will work from 100 on

    slow.closed = True
    assert leaves(quick, [slow, quick], 100.1)


def test_each_window_counts_by_itself_where_a_loop_ends_that_was_handed_several():
    slow, quick = stream(interval=25.0), stream(interval=10.0, catch_up=50.0)
    for each in (slow, quick):
        work(each, 105.0)
        each.gain([Gain(HIGH, 110.0, is_claimed=True)], 126.0)
    work(slow, 126.0)  # what the slow one has done of HIGH begins at 125
    slow.closed = True
    for each in (slow, quick):
        each.gain([Gain(LATE, 100.0, is_claimed=True)], 126.0)

    assert not leaves(quick, [slow, quick], 126.0)

    assert work(quick, 126.0) == [(11, HIGH, True), (12, FULL - LATE, False)]
    assert leaves(quick, [slow, quick], 126.0)
    quick.closed = True
    assert (100.0, LATE) in given_up_windows([slow, quick], 126.0, FULL)


def test_what_is_left_is_handed_on_before_the_loop_ends_and_none_waits_for_it():
    found = stream(catch_up=50.0)
    work(found, 100.0)
    found.gain([Gain(HIGH, 110.0, is_claimed=True)], 124.0)

    assert not leaves(found, [found], 124.0, losing=LOW)

    assert given_up_windows([found], 124.0, HIGH) == [(110.0, HIGH)]
    assert pending_windows([found], 124.0, HIGH) == []
    assert pending_windows([found], 124.0, LOW) == [(120.0, LOW)]
    assert found.next_start() == 120.0


def test_a_loop_that_goes_on_after_all_works_what_it_had_left():
    found = stream(catch_up=50.0)
    work(found, 100.0)
    found.gain([Gain(HIGH, 110.0, is_claimed=True)], 124.0)
    assert leaves(found, [found], 124.0)

    found.open(125.0)

    assert work(found, 125.0) == [(11, HIGH, True), (12, FULL, False)]


def test_a_slot_that_is_lost_and_gained_again_is_not_left_any_more():
    found = stream(catch_up=50.0)
    work(found, 100.0)
    assert leaves(found, [found], 111.0)
    found.change_interval(5.0, 111.0)
    assert found.begun(111.0, FULL, left=True) == [(110.0, FULL)]

    found.gain([Gain(HIGH, 110.0, is_claimed=True)], 111.0)

    assert found.begun(111.0, FULL, left=True) == [(110.0, LOW)]
    assert found.begun(111.0, FULL) == [(110.0, HIGH)]


def test_a_run_in_which_a_loop_ends_with_windows_of_several_owners_misses_none():
    assert run(1200010, "two-loops").missed == 0
