"""The state machine: what the values of windows make of an alarm."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashring.alarms.machine import Judgement, decided, insufficient, judged, over_windows
from hashring.alarms.model import Comparison, State, TimeConstraint, rule_of
from hashring.alarms.schedule import is_in_time

OK, ALARM, UNKNOWN = State.OK, State.ALARM, State.UNKNOWN
LEAF = rule_of("prometheus", {"query": "up", "comparison_operator": "gt", "threshold": 1})
AWAY = Judgement(None, away="no answer")


def after(current, *values, repeat=False):
    found = judged(values, Comparison.GT, 1.0) if values else insufficient((), 0)
    change = decided(current, LEAF, [found], repeat=repeat).change
    return None if change is None else change.state


@pytest.mark.parametrize("current", State)
def test_all_values_outside_are_an_alarm_and_none_is_ok(current):
    assert after(current, 2.0, 3.0) == (None if current is ALARM else ALARM)
    assert after(current, 0.0, 1.0) == (None if current is OK else OK)
    assert after(current) == (None if current is UNKNOWN else UNKNOWN)


@pytest.mark.parametrize("current", [OK, ALARM])
def test_values_that_do_not_agree_change_nothing_but_an_unknown_state(current):
    assert after(current, 2.0, 0.0) is None
    assert after(UNKNOWN, 2.0, 0.0) is OK
    assert after(UNKNOWN, 0.0, 2.0) is ALARM


def test_repeated_actions_come_in_every_window():
    assert after(ALARM, 2.0, repeat=True) is ALARM
    assert after(OK, 2.0, 0.0, repeat=True) is OK
    assert after(UNKNOWN, repeat=True) is UNKNOWN
    assert after(UNKNOWN) is None


def test_the_reason_is_the_one_that_receivers_of_aodh_know():
    change = decided(OK, LEAF, [judged((0.5, 7.0), Comparison.GE, 0.5)], repeat=False).change
    assert change.reason == (
        "Transition to alarm due to 2 samples outside threshold, most recent: 7.0"
    )
    assert change.data == {
        "type": "threshold",
        "disposition": "outside",
        "count": 2,
        "most_recent": 7.0,
    }


@given(st.lists(st.sampled_from([0.0, 5.0, None]), max_size=30), st.integers(1, 5))
def test_an_answer_must_hold_for_so_many_windows_in_a_row(values, periods):
    past, state = "", UNKNOWN
    for number, value in enumerate(values):
        found = insufficient((), 0) if value is None else judged([value], Comparison.GT, 1.0)
        past, found = over_windows(past, found, periods)
        change = decided(state, LEAF, [found], repeat=False).change
        state = state if change is None else change.state
        last = values[max(0, number + 1 - periods) : number + 1]
        if value is None:
            assert state is UNKNOWN
        elif len(last) == periods and set(last) == {5.0}:
            assert state is ALARM
        elif len(last) == periods and set(last) == {0.0}:
            assert state is OK


def test_a_source_that_is_away_says_nothing_and_loses_no_count():
    outside = judged([5.0], Comparison.GT, 1.0)
    past, _ = over_windows("", outside, 2)
    past, found = over_windows(past, AWAY, 2)
    assert decided(OK, LEAF, [found], repeat=True) == (None, "no answer")
    assert over_windows(past, outside, 2)[1].state is ALARM


LEAVES = [{"type": "prometheus", "query": q, "threshold": 1} for q in "abc"]
EITHER = rule_of("composite", {"or": [LEAVES[0], {"and": LEAVES[1:]}]})


def combined(current, *states):
    found = [
        one if isinstance(one, Judgement) else Judgement(one, None, (1.0,), one is ALARM)
        for one in states
    ]
    verdict = decided(current, EITHER, found, repeat=False)
    return verdict.away or (verdict.change and verdict.change.state)


def test_rules_are_combined_and_what_is_not_known_counts_only_where_it_decides():
    assert combined(OK, OK, ALARM, ALARM) is ALARM
    assert combined(ALARM, OK, ALARM, OK) is OK
    assert combined(OK, ALARM, UNKNOWN, UNKNOWN) is ALARM
    assert combined(OK, OK, ALARM, UNKNOWN) is UNKNOWN


def test_a_part_that_cannot_be_asked_leaves_the_state_unless_the_others_decide():
    assert combined(OK, ALARM, AWAY, AWAY) is ALARM
    assert combined(ALARM, OK, OK, AWAY) is OK
    assert combined(OK, OK, ALARM, AWAY) == "no answer"


def test_an_alarm_is_evaluated_in_its_time_in_its_zone_alone():
    office = TimeConstraint(
        name="office", start="0 8 * * *", duration=3600, timezone="Europe/Berlin"
    )
    eight = 1_700_031_600.0  # 2023-11-15 08:00 in Berlin
    assert [is_in_time([office], eight + s) for s in (-1, 0, 1, 3600, 3601)] == [
        *(False, True, True, True, False)
    ]
    assert is_in_time([], eight - 1)


def test_a_time_that_begins_in_a_later_year_is_still_to_come():
    later = TimeConstraint(name="later", start="0 8 1 1 * 0 2090", duration=3600)
    assert not is_in_time([later], 1_700_031_600.0)
    assert is_in_time([later], 3_786_912_000.0 + 8 * 3600)  # 2090-01-01
