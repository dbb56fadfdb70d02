"""Calls that last for longer than the lease leaves: the fault plan sees a driver without limits."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from hashring.testing import ServerStore, check, fault_plan, figures, run_plan
from hashring.testing.faults.calls import Call, CallWatch, longest_call, outlasting
from hashring.testing.faults.history import History, Still
from hashring.testing.faults.log import Log
from hashring.testing.faults.store import FROZEN
from tests.authors.installing import correct, install
from tests.authors.mistakes import MISTAKES
from tests.faults.plans import TRIES, judged
from tests.faults.story import Story, both_work
from tests.servers.postgresql import PASSWORD, PostgreSQLServer
from tests.servers.process import wait_until

pytestmark = pytest.mark.faults

LIMITLESS = {mistake.name: mistake for mistake in MISTAKES if "time limit" in mistake.name}


@pytest.fixture
def story(tmp_path: Path) -> Story:
    return Story(tmp_path)


def frozen(folder: Path, monkeypatch: pytest.MonkeyPatch, source: str) -> History:
    """Have members with this driver live through a store that freezes."""
    installed = folder / "installed"
    installed.mkdir(parents=True)
    install(installed, source)
    paths = [str(installed), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    url = f"authors-postgresql://postgres:{PASSWORD}@{{address}}/postgres?timeout=1"
    with ServerStore("postgresql", PostgreSQLServer(), url) as store:
        return run_plan(fault_plan([FROZEN]), store, folder / "logs", keys=100)


def test_a_driver_that_keeps_its_time_limits_lives_through_a_store_that_freezes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(folder: Path) -> History:
        return frozen(folder, monkeypatch, correct())

    judged(run, tmp_path, lambda history, verdict: None)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.long if name.startswith("a heartbeat") else ())
        for name in LIMITLESS
    ],
)
def test_a_driver_without_time_limits_is_caught_where_the_store_freezes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    violations = check(frozen(tmp_path, monkeypatch, LIMITLESS[name].planted(correct()))).violations
    assert any("a call outlasted the lease: heartbeat() of" in text for text in violations)


def test_there_are_drivers_without_time_limits_to_catch() -> None:
    assert len(LIMITLESS) == 2


def test_a_call_that_lasted_longer_than_the_lease_leaves_is_a_violation(story: Story) -> None:
    both_work(story, range(10))
    for member in ("a", "b"):
        story.holds(member, 0.0, 10.0)
    log = story.log("a")
    log.write("call", t=2.0, until=3.75, name="publish", seconds=1.75)  # while it lasted
    log.write("call", t=2.0, until=4.0, name="publish", seconds=2.0)  # and when it was over
    log.write("call", t=5.0, until=6.6, name="read", seconds=1.6)
    (told,) = story.judged(10.0).violations
    assert "a call outlasted the lease: publish() of a lasted 2.0 s at 2.0 s" in told
    assert "a ttl of 3 s leaves 1.7 s" in told


def test_calls_count_once_and_by_their_longest_line() -> None:
    short, long = longest_call(9.0) - 1, longest_call(9.0) + 1
    calls = [Call("a", "read", 2.0, long), Call("a", "read", 2.0, short)]
    others = [Call("b", "read", 2.0, long), Call("a", "read", 1.0, long)]
    assert outlasting([*calls, *others], 9.0) == [others[1], calls[0], others[0]]


class Slow:
    """A driver of which only the time that a call takes matters."""

    def __init__(self) -> None:
        self.entered, self.goes_on = threading.Event(), threading.Event()

    def heartbeat(self) -> None:
        self.entered.set()
        assert self.goes_on.wait(60)

    def __getattr__(self, name: str) -> object:
        return lambda *arguments: (name, *arguments)


def lines_of(path: Path) -> list[str]:
    """The lines about calls."""
    return [line for line in path.read_text().splitlines() if '"e":"call"' in line]


def test_a_call_that_hangs_is_logged_while_it_hangs_and_answers_are_handed_through(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.jsonl"
    driver = Slow()
    with Log(path) as log:
        calls = CallWatch(log, ttl=0.2)
        calls.watch(driver)  # type: ignore[arg-type]
        calls.start()
        assert driver.read("group") == ("read", "group")  # type: ignore[operator]
        hanging = threading.Thread(target=driver.heartbeat, daemon=True)
        hanging.start()
        wait_until(lambda: lines_of(path), what="a line about the call that hangs")
        driver.goes_on.set()
        hanging.join(60)
        calls.stop()
    assert all('"name":"heartbeat"' in line for line in lines_of(path))
    assert len(lines_of(path)) == 2  # when it was too long, and when it was over


def test_time_in_which_the_process_was_paused_is_not_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.jsonl"
    now = [100.0]
    monkeypatch.setattr("hashring.clock.boottime", lambda: now[0])
    driver = Slow()
    with Log(path, clock=lambda: now[0]) as log:
        calls = CallWatch(log, ttl=3.0)
        calls.watch(driver)  # type: ignore[arg-type]
        hanging = threading.Thread(target=driver.heartbeat, daemon=True)
        hanging.start()
        assert driver.entered.wait(60)
        for passed in (0.05, 0.05, 30.0, 0.05):  # it was stopped for half a minute
            now[0] += passed
            calls.look()
        driver.goes_on.set()
        hanging.join(60)
    assert lines_of(path) == []
    (still,) = map(json.loads, path.read_text().splitlines())
    assert (still["e"], still["t"], still["until"]) == ("still", 100.1, 130.1)


def test_a_member_that_got_no_processor_is_told_from_one_that_was_paused(story: Story) -> None:
    both_work(story, range(10))
    for member in ("a", "b"):
        story.holds(member, 0.0, 10.0)
    story.event("pause", "b", begin=2.0, end=5.0)
    story.log("b").write("still", t=1.9, until=5.1)
    paused = story.read(10.0)
    assert paused.starved() is None
    assert "starved" not in figures(paused, check(paused))


def test_a_machine_that_gives_a_member_no_processor_is_named(story: Story) -> None:
    both_work(story, range(10))
    for member in ("a", "b"):
        story.holds(member, 0.0, 10.0)
    story.event("pause", "b", begin=2.0, end=5.0)
    for begin, seconds in ((2.5, 1.5), (7.0, 0.6)):
        story.log("a").write("still", t=begin, until=begin + seconds)
    starved = story.read(10.0)
    assert starved.starved() == Still("a", 2.5, 4.0)
    assert "a got no processor for 1.5 s at 2.5 s" in figures(starved, check(starved))


@pytest.mark.parametrize(("seconds", "runs"), [(0.0, 1), (0.9, TRIES)])
def test_a_plan_is_carried_out_again_where_a_member_got_no_processor_and_not_for_ever(
    tmp_path: Path, seconds: float, runs: int
) -> None:
    carried_out = []

    def run(folder: Path) -> History:
        carried_out.append(folder)
        folder.mkdir()
        story = Story(folder)
        for member in ("a", "b"):
            story.holds(member, 0.0, 10.0)
        both_work(story, range(3))  # and no more
        if seconds:
            story.log("a").write("still", t=5.0, until=5.0 + seconds)
        return story.read(10.0)

    with pytest.raises(AssertionError):
        judged(run, tmp_path, lambda history, verdict: None)
    assert len(carried_out) == runs
