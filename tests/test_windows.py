"""Streams of windows: what is due when, as plain function calls."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashring.protocol.custody import Gain
from hashring.protocol.streams import (
    given_up_windows,
    label_time,
    newest_start,
    pending_windows,
)
from hashring.protocol.windows import Stream, patience
from hashring.ring.ring import SlotSet

FULL, NOTHING = SlotSet.full(8), SlotSet.empty(8)
LOW, HIGH = SlotSet.of(range(4), 8), SlotSet.of(range(4, 8), 8)


def stream(wall=100.0, *, interval=10.0, gains=(), **options):
    made = Stream(
        interval, wall=wall, gains=gains, catch_up=options.pop("catch_up", 10.0), **options
    )
    made.open(wall)
    return made


def work(found, wall, slots=FULL):
    """Start everything that is due; return (window, slots, late) of each."""
    done = []
    while (due := found.due(wall, lambda start: slots)) is not None:
        found.started(due)
        done.append((due.window, due.slots, due.late))
    return done


def test_each_window_is_due_once():
    found = stream()

    assert work(found, 103.0) == [(10, FULL, False)]
    assert work(found, 109.9) == []
    assert work(found, 110.0) == [(11, FULL, False)]


@given(st.integers(-(10**9), 10**9), st.floats(0.001, 1e5))
def test_windows_start_where_their_label_says(window, interval):
    found = stream(interval=interval)

    assert found.window_of(found.start_of(window)) == window


@pytest.mark.parametrize(("interval", "wall"), [(0.1, 4.3), (0.1, 1.7), (0.7, 0.7 * 3)])
def test_the_window_of_a_moment_holds_it_where_a_division_rounds(interval, wall):
    found = stream(interval=interval)

    window = found.window_of(wall)

    assert window != math.floor(wall / interval)
    assert found.start_of(window) <= wall < found.start_of(window + 1)


def test_an_overrun_skips_to_the_present_window_and_counts():
    found = stream()
    work(found, 100.0)

    assert work(found, 145.0) == [(14, FULL, False)]
    assert found.missed == 3


def test_a_clock_that_steps_back_works_no_window_twice():
    found = stream()
    work(found, 125.0)

    assert work(found, 101.0) == []
    assert work(found, 119.0) == []
    assert work(found, 130.0) == [(13, FULL, False)]


def test_a_clock_that_steps_forth_skips():
    found = stream()
    work(found, 100.0)

    assert work(found, 1000.0) == [(100, FULL, False)]
    assert found.missed == 89


def test_slots_gained_in_a_begun_window_come_up_in_it_alone():
    found = stream()
    work(found, 100.0, LOW)

    found.gain([Gain(HIGH, 95.0, is_claimed=True)], 104.0)

    assert work(found, 104.0) == [(10, HIGH, True)]
    assert work(found, 110.0) == [(11, FULL, False)]


def test_slots_whose_previous_owner_worked_this_window_wait_for_the_next():
    found = stream()
    work(found, 100.0, LOW)

    found.gain([Gain(HIGH, 103.0, is_claimed=True)], 104.0)

    assert work(found, 104.0) == []
    assert work(found, 110.0) == [(11, FULL, False)]


def test_slots_whose_previous_owner_was_ahead_are_left_out_until_their_time():
    found = stream()

    found.gain([Gain(HIGH, 110.5, is_claimed=True)], 101.0)

    assert work(found, 101.0) == [(10, LOW, False)]
    assert work(found, 110.0) == [(11, LOW, False)]
    assert work(found, 120.0) == [(12, FULL, False)]


def test_a_hand_over_that_took_longer_than_its_window_is_worked_late():
    found = stream(interval=1.0, catch_up=3.0)
    work(found, 100.0, LOW)
    work(found, 101.0, LOW)
    work(found, 102.0, LOW)

    found.gain([Gain(HIGH, 100.5, is_claimed=True)], 102.5)

    assert work(found, 102.5) == [(101, HIGH, True), (102, HIGH, True)]


def test_a_window_too_long_ago_is_not_worked_late():
    found = stream(interval=1.0, catch_up=3.0)
    for second in range(100, 110):
        work(found, float(second), LOW)

    found.gain([Gain(HIGH, 100.5, is_claimed=True)], 109.5)

    assert [window for window, _, _ in work(found, 109.5)] == [107, 108, 109]


@pytest.mark.parametrize(("on_crash", "windows"), [("repeat", [10, 11]), ("skip", [11])])
def test_after_a_crash_the_present_window_is_repeated_or_skipped(on_crash, windows):
    found = stream(on_crash=on_crash)
    work(found, 100.0, LOW)

    found.gain([Gain(HIGH, 104.0, is_claimed=False)], 104.0)

    worked = work(found, 104.0) + work(found, 110.0)
    assert [window for window, slots, _ in worked if slots >= HIGH] == windows


def test_skip_allows_for_the_crashed_member_s_clock_to_have_been_ahead():
    found = stream(on_crash="skip")
    work(found, 109.5, LOW)

    found.gain([Gain(HIGH, 109.5, is_claimed=False)], 109.5)

    assert work(found, 110.0) == [(11, LOW, False)]
    assert work(found, 120.0) == [(12, FULL, False)]


def test_slots_that_are_lost_before_their_late_window_came_are_not_worked():
    found = stream()
    work(found, 100.0, LOW)
    found.gain([Gain(HIGH, 95.0, is_claimed=True)], 104.0)

    assert work(found, 104.0, LOW) == []


def test_slots_gained_again_come_with_their_new_history():
    found = stream()
    found.gain([Gain(HIGH, 135.0, is_claimed=True)], 101.0)

    found.gain([Gain(HIGH, 95.0, is_claimed=True)], 102.0)

    assert work(found, 102.0) == [(10, FULL, False)]


def test_a_stream_that_begins_late_owes_no_window_that_was_over_before():
    found = stream(wall=104.0, gains=[Gain(FULL, 42.0, is_claimed=False)])

    assert work(found, 104.0) == [(10, FULL, False)]


def test_a_stream_that_begins_in_the_moment_of_its_gain_works_the_present_window_once():
    found = stream(wall=104.0, gains=[Gain(HIGH, 104.0, is_claimed=False, at=104.0)])

    assert work(found, 104.0) == [(10, FULL, False)]


def test_a_stream_that_begins_works_what_was_handed_over_a_moment_ago():
    quick = {"interval": 1.0, "catch_up": 3.0}

    assert work(stream(gains=[Gain(FULL, 98.5, True)], **quick), 100.0) == [
        (99, FULL, True),
        (100, FULL, False),
    ]
    assert work(stream(gains=[Gain(FULL, 42.0, True)], **quick), 100.0) == [(100, FULL, False)]


def test_windows_that_were_handed_over_too_late_are_given_up_and_counted():
    found = stream(wall=200.0, interval=1.0, catch_up=3.0)
    assert work(found, 200.0) == [(200, FULL, False)]

    found.gain([Gain(HIGH, 190.5, is_claimed=True)], 200.5)

    assert [window for window, _, late in work(found, 200.5) if late] == [198, 199, 200]
    assert (found.given_up, found.missed) == (7, 0)  # 191 to 197
    assert work(found, 201.0) == [(201, FULL, False)]
    assert found.given_up == 7


def test_what_passed_while_a_loop_was_closed_is_not_given_up():
    found = stream(wall=200.0, interval=1.0, catch_up=3.0)
    found.gain([Gain(HIGH, 199.5, is_claimed=True)], 200.5)
    found.closed = True

    found.open(300.0)

    assert work(found, 300.0)
    assert found.given_up == 0


def test_a_stream_that_begins_works_what_is_young_of_windows_left_long_ago_and_gained_just_now():
    found = stream(interval=1.0, catch_up=3.0, gains=[Gain(FULL, 42.0, True, at=99.9)])

    assert work(found, 100.0) == [
        (97, FULL, True),
        (98, FULL, True),
        (99, FULL, True),
        (100, FULL, False),
    ]


def test_slots_handed_over_just_before_a_window_ends_are_not_skipped_with_the_base_share():
    found = stream(interval=1.0, catch_up=3.0)

    found.gain([Gain(HIGH, 99.5, is_claimed=True)], 100.99)

    assert work(found, 101.01) == [(100, HIGH, True), (101, FULL, False)]


def test_slots_worked_late_for_longer_than_a_window_lose_no_window_with_the_base_share():
    found = stream(catch_up=30.0)
    work(found, 100.0, LOW)
    found.gain([Gain(HIGH, 100.0, True)], 119.9)
    due = found.due(119.9, lambda start: FULL)
    assert (due.window, due.slots, due.late) == (10, HIGH, True)

    found.started(due)  # and the work outlasts window 11, which the base share has not begun

    assert work(found, 120.1) == [(11, HIGH, True), (12, FULL, False)]
    assert found.missed == 1


def test_a_previous_owner_whose_clock_is_far_ahead_is_not_believed():
    found = stream()

    found.gain([Gain(HIGH, 3700.0, is_claimed=True)], 101.0)

    assert work(found, 101.0) == [(10, LOW, False)]
    assert work(found, 120.0) == [(12, FULL, False)]


def test_a_stream_that_nobody_iterates_owes_nothing():
    found = Stream(10.0, wall=100.0, gains=[])

    assert pending_windows([found], 103.0, HIGH) == []
    assert given_up_windows([found], 103.0, HIGH) == []


def test_a_begun_window_is_owed_until_it_is_started():
    found = stream()

    assert pending_windows([found], 103.0, HIGH) == [(100.0, HIGH)]
    work(found, 103.0)
    assert pending_windows([found], 103.0, HIGH) == []


def test_a_closed_stream_yields_what_it_did_not_start():
    found = stream()
    work(found, 100.0)
    found.closed = True

    assert given_up_windows([found], 105.0, HIGH) == []
    assert given_up_windows([found], 111.0, HIGH) == [(110.0, HIGH)]
    assert pending_windows([found], 111.0, HIGH) == []


def test_a_closed_stream_yields_what_began_before_it_gained_more():
    found = stream()
    work(found, 100.0, LOW)
    found.closed = True

    found.gain([Gain(HIGH, 125.0, is_claimed=True)], 125.0)

    assert given_up_windows([found], 131.0, LOW) == [(110.0, LOW)]
    assert given_up_windows([found], 131.0, HIGH) == [(130.0, HIGH)]
    assert found.missed == 0


def test_an_interval_that_changes_goes_on_from_the_end_of_the_last_window():
    found = stream(interval=60.0, wall=120.0)
    work(found, 121.0)

    found.change_interval(30.0, 130.0)

    assert work(found, 170.0) == []  # until 180, the old window's end
    assert work(found, 180.0) == [(6, FULL, False)]
    assert work(found, 210.0) == [(7, FULL, False)]


def test_an_interval_that_grows_skips_the_begun_window():
    found = stream(interval=10.0, wall=100.0)
    work(found, 100.0)

    found.change_interval(60.0, 105.0)

    assert work(found, 115.0) == []
    assert work(found, 120.0) == [(2, FULL, False)]


def test_the_newest_start_is_over_all_streams():
    assert newest_start([]) == -math.inf
    slow, quick = stream(interval=10.0), stream(interval=1.0)
    work(slow, 100.0)
    work(quick, 103.0)

    assert newest_start([slow, quick]) == 103.0


@pytest.mark.parametrize("interval", [0, -1, math.inf, math.nan])
def test_an_interval_that_is_no_length_is_refused(interval):
    with pytest.raises(ValueError, match="interval"):
        stream(interval=interval)


def test_an_interval_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match="interval"):
        stream(interval="60")


def test_an_unknown_crash_rule_is_refused():
    with pytest.raises(ValueError, match="on_crash"):
        stream(on_crash="hope")


def test_a_clock_that_steps_back_far_goes_on_at_once_and_labels_repeat():
    found = stream()
    work(found, 4000.0)

    assert work(found, 400.0) == [(40, FULL, False)]
    assert work(found, 410.0) == [(41, FULL, False)]
    assert found.missed == 0


@pytest.mark.parametrize(("interval", "ttl"), [(10.0, 0.0), (10.0, 25.0), (10.0, 100.0)])
def test_a_clock_that_steps_back_by_no_more_than_the_bound_is_waited_for(interval, ttl):
    found = stream(interval=interval, ttl=ttl, wall=1000.0)
    work(found, 1000.0)
    bound = patience(interval, ttl)

    assert work(found, 1010.0 - bound) == []
    assert work(found, 1009.0 - bound) != []


def test_small_steps_back_add_up_to_a_large_one():
    found = stream()
    work(found, 1000.0)

    for wall in (995.0, 990.0, 985.0, 980.0):
        assert work(found, wall) == []
    assert work(found, 975.0) == [(97, FULL, False)]


def test_slots_gained_before_the_clock_steps_back_go_along():
    found = stream()
    work(found, 4000.0, LOW)
    found.gain([Gain(HIGH, 4015.0, is_claimed=True)], 4001.0)

    assert work(found, 400.0) == [(40, FULL, False)]


def test_after_a_large_step_back_what_is_handed_over_begins_in_the_new_time():
    slow, quick = stream(interval=60.0, wall=4000.0), stream(interval=1.0, wall=4000.0)
    work(slow, 4000.0)
    work(quick, 4000.0)

    # The slow one waits for its window; a number after it would be a gap in the quick one.
    assert label_time([slow, quick], 3950.0) == pytest.approx(3950.0, abs=1e-6)
    assert work(quick, 3950.0) == [(3950, FULL, False)]
    assert label_time([slow, quick], 3949.5) == math.nextafter(3950.0, math.inf)
    assert newest_start([slow, quick]) == 3950.0


def test_a_closed_stream_goes_along_with_the_clock():
    found = stream()
    work(found, 4000.0)
    found.closed = True

    assert label_time([found], 400.0) == 400.0
    assert newest_start([found]) > -math.inf


def test_a_shorter_interval_that_waits_for_the_end_of_a_long_window_is_no_step_of_the_clock():
    found = stream(interval=3600.0, wall=3600.0)
    work(found, 3600.0)
    found.change_interval(1.0, 3601.0)

    assert work(found, 3602.0) == []
    assert work(found, 7200.0) == [(7200, FULL, False)]
    assert work(found, 5000.0) == [(5000, FULL, False)]
