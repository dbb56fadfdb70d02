"""Members whose wall clocks step while they work: exclusive at every instant, and never silent."""

from __future__ import annotations

from pathlib import Path

import pytest

from hashring import clock
from hashring.testing.faults.faults import Step
from hashring.testing.faults.history import CLOCK_STEPS, Event, History
from hashring.testing.faults.host_clock import HostClock, follow
from hashring.testing.faults.verdict import Verdict
from tests.faults.plans import judged, on

pytestmark = pytest.mark.faults

HOUR = 3600.0


def whole_windows_an_hour(history: History, step: Event) -> int:
    """Return how many windows were whole by the labels of a clock that was an hour off."""
    shift = HOUR / history.interval
    return sum(
        all(counts)
        for window, counts in history.polls.items()
        for real in [history.window_start(round(window + shift))]
        if step.begin < real < step.end
    )


@pytest.mark.parametrize("name", ["sqlite", "redis"])
def test_members_whose_clocks_step_work_on_and_no_slot_is_held_twice(
    tmp_path: Path, name: str
) -> None:
    members = ("m0", "m1", "m2")
    plan = [
        Step("start", members),
        # All hosts, back by an hour, as where a broken time server is believed: four windows.
        Step(CLOCK_STEPS, members, wait=1.5, seconds=6.0, amount=-HOUR),
        Step("rest", wait=1.5),
        # One host, forth, and a newcomer meanwhile.
        Step(CLOCK_STEPS, ("m1",), wait=1.0, seconds=3.0, amount=7.0, abide=False),
        Step("join", ("m3",), wait=0.5),
        Step("rest", wait=5.0),
    ]

    def judge(history: History, verdict: Verdict) -> None:
        steps = [event for event in history.events if event.kind == CLOCK_STEPS]
        assert [event.reach for event in steps] == [HOUR, 7.0]
        assert verdict.overlaps == []
        assert verdict.holds_checked > 500
        assert whole_windows_an_hour(history, steps[0]) >= 2
        # When it is over, all is as before: the last windows were whole.
        assert all(history.polls[verdict.windows[1]])

    judged(on(name, plan), tmp_path, judge)


def test_a_process_reads_its_wall_clock_by_the_offset_in_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = HostClock(tmp_path / "clock")
    monkeypatch.setattr(clock, "wall", clock.wall)
    true = clock.wall
    follow(host.path)

    host.step(-HOUR)

    assert true() - HOUR - 60 < clock.wall() <= true() - HOUR
    host.step(HOUR)
    assert true() - 60 < clock.wall() <= true()
