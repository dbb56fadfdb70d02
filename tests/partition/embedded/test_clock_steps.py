"""A wall clock that is set: it is named, and work goes on."""

import re

import pytest

from hashring import clock
from tests.partition.embedded.members import KEYS, settled, until


@pytest.fixture
def wall(monkeypatch):
    """A wall clock that the test steps."""

    class Wall:
        offset = 0.0

    real = clock.wall
    monkeypatch.setattr(clock, "wall", lambda: real() + Wall.offset)
    return Wall


def test_a_wall_clock_that_steps_back_an_hour_is_named_and_work_goes_on_at_once(join, wall, caplog):
    a = join("a", ttl=5.0)
    settled(a)
    cycles = a.cycles(0.2)
    before = next(cycles)

    wall.offset = -3600.0
    after = next(cycles)

    assert after.window == pytest.approx(before.window - 18_000, abs=100)
    assert len(after.slots) == 65536
    assert next(cycles).window == after.window + 1 + cycles.missed
    assert a.clock_steps == 1
    assert a.clock_step == pytest.approx(-3600.0, abs=1.0)
    assert re.search(r"the wall clock has stepped back by (3599|3600)\.\d s", caplog.text)


def test_a_wall_clock_that_steps_forth_is_named_and_the_windows_between_are_skipped(
    join, wall, caplog
):
    a = join("a", ttl=5.0)
    settled(a)
    cycles = a.cycles(0.2)
    before = next(cycles)

    wall.offset = 3600.0
    after = next(cycles)

    assert after.window == pytest.approx(before.window + 18_000, abs=100)
    assert cycles.missed == after.window - before.window - 1
    assert a.clock_steps == 1
    assert re.search(r"the wall clock has stepped forth by (3599|3600)\.\d s", caplog.text)


def test_a_member_without_loops_names_a_step_of_the_clock_too(join, wall):
    a = join("a", ttl=5.0)
    settled(a)

    wall.offset = -3600.0

    until(lambda: a.clock_steps)


def test_a_small_step_of_the_wall_clock_is_no_event(join, wall):
    a = join("a", ttl=60.0)
    settled(a)
    cycles = a.cycles(0.2)
    window = next(cycles).window

    wall.offset = -0.3

    assert next(cycles).window == window + 1 + cycles.missed
    assert a.clock_steps == 0


def test_keys_that_are_spread_over_a_window_do_not_wait_for_a_clock_that_stepped_back(join, wall):
    a = join("a", ttl=5.0)
    settled(a)
    loop = a.cycles(1.0)
    cycle = next(loop)
    keys = iter(cycle.owned(KEYS, spread=0.5))
    next(keys)

    wall.offset = -3600.0

    assert len(list(keys)) == len(KEYS) - 1  # it ends, and in this window


def test_slots_change_hands_after_the_clocks_of_all_have_stepped_back(join, wall):
    a = join("a", ttl=5.0)
    settled(a)
    loop = a.cycles(0.2)
    next(loop)
    wall.offset = -3600.0
    next(loop)

    b = join("b", ttl=5.0)
    others = b.cycles(0.2)
    until(lambda: next(loop) and b.state == "settled" and a.state == "settled")
    first = until(lambda: next(loop) and (cycle := next(others)).slots and cycle)

    assert first.start == pytest.approx(clock.wall(), abs=60.0)
    assert a.held.isdisjoint(b.held)
