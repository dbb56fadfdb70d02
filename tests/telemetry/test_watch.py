"""When an agent looks for calls that are past their deadline, and that it does not otherwise."""

import gc
import math

import pytest

from hashring import clock
from hashring.telemetry.agent import collector
from hashring.telemetry.polling.watch import Watch


class Pauses:
    """An event that notes for how long it is waited for."""

    def __init__(self):
        self.told = []
        self.given = False

    def wait(self, seconds=None):
        self.told.append(seconds)
        return self.given

    def is_set(self):
        return self.given

    def set(self):
        self.given = True

    def clear(self):
        self.given = False


@pytest.fixture
def now(monkeypatch):
    monkeypatch.setattr(clock, "boottime", lambda: 1000.0)
    return 1000.0


@pytest.fixture
def watch(now):
    found = Watch()
    found._changed = Pauses()
    found._ended = Pauses()
    return found


def test_nobody_looks_while_no_call_is_in_hand(watch):
    watch.looked([])

    assert watch.wait()
    assert watch._changed.told == [None]


@pytest.mark.parametrize(
    ("left", "pause"), [(-5.0, 0.05), (0.01, 0.05), (0.4, 0.4), (60.0, 1.0), (math.inf, 1.0)]
)
def test_the_next_look_comes_at_the_first_deadline_and_within_a_second(watch, now, left, pause):
    watch.looked([now + left, now + 90.0])

    assert watch.wait()
    assert watch._changed.told == [pytest.approx(pause)]


def test_a_call_with_an_earlier_deadline_is_looked_for_in_time(watch, now):
    watch.looked([now + 60.0])

    watch.look_by(now + 0.2)

    assert watch.wait()
    assert watch._changed.told == [0.0]
    assert watch._ended.told == [0.05]  # with whatever else comes by then


def test_a_call_with_a_later_deadline_wakes_nobody(watch, now):
    watch.looked([now + 0.2])

    watch.look_by(now + 60.0)

    assert not watch._changed.is_set()


def test_what_an_agent_was_made_of_is_never_looked_through_again():
    before = gc.get_threshold()
    try:
        gc.set_threshold(700, 10, 10)  # an agent that another test made here has raised it
        collector.spare()

        assert gc.get_freeze_count() > 10_000
        assert gc.get_threshold()[0] > 700
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)
