"""Agents whose host's wall clock steps: polls go on by the new time, and the status names it."""

import time

import pytest

from hashring import clock
from tests.telemetry.runner.conftest import group  # noqa: F401 - a fixture

HOUR = 3600.0


@pytest.mark.parametrize("step", [-HOUR, HOUR])
def test_polls_go_on_by_the_new_time_and_the_step_is_named(
    group,  # noqa: F811
    monkeypatch,
    until,
    caplog,
    step,
):
    offset = [0.0]
    monkeypatch.setattr(clock, "wall", lambda: time.time() + offset[0])
    # A lease that a busy machine may cost: nothing here depends on it, and the shorter it is, the
    # more exactly is a step known.
    found = group(cycles=None, ttl=2.0).start()
    until(lambda: found.runner.tally.window, "a window is polled")

    offset[0] = step

    def polls_by_the_new_time():
        window = found.runner.tally.window
        return window is not None and abs(window * 0.2 - clock.wall()) < HOUR / 2

    until(polls_by_the_new_time, "a window of the new time is polled")
    until(lambda: found.runner.clock_steps == 1, "the step is counted")
    assert found.runner.clock_step == pytest.approx(step, abs=1.0)
    assert "the wall clock has stepped " + ("back" if step < 0 else "forth") in caplog.text
