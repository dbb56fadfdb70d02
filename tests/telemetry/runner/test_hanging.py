"""Calls that hang cost themselves."""

import threading

import pytest

from hashring.telemetry.model.resource import on_host
from tests.telemetry.plant import FEW, Heats, Levels, Tanks
from tests.telemetry.runner.groups import SOUTH, windows

pytestmark = pytest.mark.usefixtures("unhurried")


@pytest.fixture
def hang():
    """What a call does that hangs until the test ends."""
    go = threading.Event()
    yield go.wait
    go.set()


def test_a_poll_that_hangs_costs_its_own_sample_and_the_others_are_polled_in_time(
    group, hang, until
):
    # Times that a busy machine keeps to: it gives a poll some of its processor within a second.
    found = group(Levels, Heats, cycles=None, interval=3.0, poll_timeout=1.5)
    found.levels.moods[SOUTH] = hang
    found.start()

    until(lambda: len(windows(found, "tank.heat")) >= 3, "three windows are polled")
    found.runner.stop()
    found.end()

    polls = found.shelf.polls()
    for window, _ in windows(found, "tank.heat"):
        for tank in FEW:
            assert polls["tank.heat", tank.id, window] == 1
            assert polls["tank.level", tank.id, window] == (tank.id != SOUTH)
    assert found.levels.polled.count(SOUTH) == 1  # it has not come back
    assert found.shared.hanging == 1
    assert found.failures["pollster Levels", "TimedOut"] == 1


def test_a_pollster_that_hangs_for_everything_keeps_no_other_waiting(group, hang, until):
    class Many(Tanks):
        def __init__(self, given):
            super().__init__(given, tuple(on_host("plant", "tank", str(n)) for n in range(40)))

    found = group(
        Levels,
        Heats,
        cycles=None,
        threads=4,
        poll_timeout=600.0,
        discoveries={"tanks": Many},
        interval=1000.0,
    )
    every = {one.id for one in found.discoveries["tanks"].found}
    found.levels.moods |= dict.fromkeys(every, hang)

    found.start()

    until(lambda: found.ids() == every, "the other pollster has polled all")
    assert found.shared.hanging == 0  # not one of those that hang had to be given up for it
    assert len(found.levels.polled) < 10  # what hangs is bounded


def test_what_a_poll_returns_after_it_was_given_up_is_not_put(group, until):
    go = threading.Event()
    found = group(cycles=None, poll_timeout=1.5)
    found.levels.moods[SOUTH] = go.wait
    found.start()
    until(lambda: found.shared.hanging == 1, "the poll is given up")

    assert SOUTH not in found.ids()
    windows = {sample.window for sample in found.shelf.taken()}
    del found.levels.moods[SOUTH]
    go.set()
    until(lambda: SOUTH in found.ids(), "it is polled again")

    # The one that hung began in one of these windows: nothing of it has come out.
    assert not {s.window for s in found.shelf.taken() if s.resource_id == SOUTH} & windows
    assert set(found.shelf.polls().values()) == {1}


def test_a_discovery_that_hangs_costs_its_news_alone(group, hang, until):
    found = group(cycles=None, poll_timeout=1.0)
    found.start()
    until(lambda: found.shelf.taken(), "the tanks are polled")

    class Stuck:
        def __iter__(self):
            hang()
            return iter(())

    found.discoveries["tanks"].found = Stuck()
    until(lambda: found.failures["discovery tanks", "TimedOut"], "the discovery is given up")
    last = found.runner.tally.window

    until(
        lambda: (
            {s.resource_id for s in found.shelf.taken() if s.window > last}
            == {tank.id for tank in FEW}
        ),
        "the tanks are polled on",
    )


def test_a_discovery_that_hangs_leaves_time_to_poll_in_the_window(group, hang, until, monkeypatch):
    monkeypatch.undo()  # here the window's length is what counts
    found = group(cycles=None, interval=5.0, poll_timeout=30.0)
    found.start()
    until(lambda: found.shelf.taken(), "the tanks are polled")

    class Stuck:
        def __iter__(self):
            hang()
            return iter(())

    found.discoveries["tanks"].found = Stuck()
    until(lambda: found.failures["discovery tanks", "TimedOut"], "the discovery is given up")
    window = found.runner.tally.window
    until(lambda: [s for s in found.shelf.taken() if s.window > window], "the next has begun")

    polled = [sample for sample in found.shelf.taken() if sample.window == window]
    assert {sample.resource_id for sample in polled} == {tank.id for tank in FEW}
    assert all(sample.timestamp < (window + 1) * 5.0 for sample in polled)


def test_a_reading_that_hangs_keeps_no_other_pollster_waiting(group, hang, until):
    class Stuck(Levels):
        def observe(self):
            hang()

    found = group(Stuck, Heats, cycles=None, interval=1000.0, poll_timeout=1000.0)
    found.start()

    until(lambda: found.ids() == {tank.id for tank in FEW}, "the other pollster polls")
    assert found.shared.hanging == 0  # the reading is still waited for
    assert not windows(found, "tank.level")


def test_polls_in_hand_get_no_more_time_than_ending_may_take(group, hang, until):
    class Many(Tanks):
        def __init__(self, given):
            super().__init__(given, tuple(on_host("plant", "tank", str(n)) for n in range(40)))

    found = group(
        cycles=None,
        threads=4,
        interval=1000.0,
        poll_timeout=1000.0,
        drain_timeout=0.3,
        discoveries={"tanks": Many},
    )
    found.levels.moods |= {one.id: hang for one in found.discoveries["tanks"].found}
    found.start()
    until(lambda: found.levels.polled, "polls hang")

    found.runner.stop()

    assert found.runner.wait(60)
    assert found.runner.error is None


def test_what_has_not_begun_when_an_agent_must_end_is_left_out_and_counted(group, until):
    found = group(cycles=None, threads=1, interval=1000.0, drain_timeout=0.1)
    slow = threading.Event()
    found.levels.moods |= {tank.id: lambda: slow.wait(60) for tank in FEW}
    found.start()
    until(lambda: found.levels.polled, "the first is polled")

    found.runner.stop()
    found.end()
    slow.set()

    # What waited for room was not begun, or found that the one thread there is hangs.
    counts = found.failures
    assert counts["ending in time", "TimedOut"] + counts["pollster Levels", "Hangs"] >= 1
    assert len(found.levels.polled) < len(FEW)


def test_readings_and_discoveries_get_no_more_time_than_ending_may_take(group, hang, until):
    class Stuck(Tanks):
        def discover(self, parameter=""):
            hang()

    class Blind(Levels):
        def observe(self):
            hang()

    ends = {"interval": 1000.0, "poll_timeout": 1000.0, "drain_timeout": 0.3}
    stuck = group(cycles=None, discoveries={"tanks": Stuck}, **ends).start()
    blind = group(Blind, cycles=None, **ends).start()
    for found in (stuck, blind):
        until(lambda found=found: found.runner.tally.window is not None, "its window begins")

    stuck.runner.stop()
    blind.runner.stop()

    assert stuck.runner.wait(60)
    assert blind.runner.wait(60)


def test_a_group_can_be_left_while_something_hangs(group, hang, until):
    found = group(cycles=None, poll_timeout=0.1)
    found.levels.moods[SOUTH] = hang
    found.start()
    until(lambda: found.shared.hanging == 1, "the poll is given up")

    found.runner.stop()

    assert found.runner.wait(60)
    assert found.runner.state == "left"
