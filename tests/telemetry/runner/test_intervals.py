"""Several intervals, and a newer plan."""

import dataclasses
import json
import threading

import pytest

from tests.telemetry.plant import FEW, Heats, Levels, Tanks, plan, plugins
from tests.telemetry.runner.groups import SOUTH, windows

pytestmark = pytest.mark.usefixtures("unhurried")


def definition(path, **intervals):
    sources = [
        {"name": meter, "interval": interval, "meters": [f"tank.{meter}"]}
        for meter, interval in intervals.items()
    ]
    path.write_text(json.dumps({"sources": sources}))
    return path


def replan(found):
    """Let the runner poll what its definition says now, as a reload does."""
    made = plugins(found.settings, *found.pollsters, **found.discoveries)
    fresh = plan(found.settings, *made.pollsters, **made.discoveries)
    found.shared.replace(found.settings, fresh)
    found.runner.update(fresh.groups[0])


def test_two_intervals_are_polled_at_once_each_once_a_window(group, tmp_path, until):
    polling = definition(tmp_path / "polling.yaml", level=0.2, heat=0.6)
    found = group(Levels, Heats, polling_file=polling, cycles=None).start()

    until(
        lambda: len(windows(found, "tank.level")) > len(windows(found, "tank.heat")) >= 3,
        "three long windows are polled, and more of the short ones",
    )
    found.runner.stop()
    found.end()

    assert {interval for _, interval in windows(found, "tank.heat")} == {0.6}
    assert {interval for _, interval in windows(found, "tank.level")} == {0.2}
    assert set(found.shelf.polls().values()) == {1}


def test_an_interval_that_is_new_is_polled_and_one_that_is_gone_no_more(group, tmp_path, until):
    path = tmp_path / "polling.yaml"
    found = group(Levels, Heats, polling_file=definition(path, level=0.2), cycles=None).start()
    until(lambda: windows(found, "tank.level"), "levels are polled")
    partition = found.runner.partition
    incarnation = {sample.token[1] for sample in found.shelf.taken()}

    definition(path, level=0.2, heat=0.3)
    replan(found)
    until(lambda: windows(found, "tank.heat"), "heat is polled too")
    definition(path, heat=0.3)
    replan(found)
    threads = lambda: [t.name for t in threading.enumerate() if t.name.endswith("g-0.2")]  # noqa: E731
    until(lambda: not threads(), "the loop of levels has ended")
    last = windows(found, "tank.level")
    heat = windows(found, "tank.heat")
    until(lambda: len(windows(found, "tank.heat")) >= len(heat) + 2, "heat is polled on")

    assert windows(found, "tank.level") == last
    assert found.runner.partition is partition
    assert {sample.token[1] for sample in found.shelf.taken()} == incarnation
    assert set(found.shelf.polls().values()) == {1}


def test_an_interval_that_comes_back_at_once_is_still_polled_once_a_window(group, tmp_path, until):
    path = tmp_path / "polling.yaml"
    found = group(Levels, Heats, polling_file=definition(path, level=1.0, heat=0.3), cycles=None)
    go = threading.Event()
    found.levels.moods[SOUTH] = go.wait
    found.start()
    until(lambda: SOUTH in found.levels.polled, "a cycle is in hand")

    definition(path, heat=0.3)
    replan(found)
    definition(path, level=1.0, heat=0.3)
    replan(found)
    go.set()
    del found.levels.moods[SOUTH]
    until(lambda: windows(found, "tank.level"), "the cycle in hand goes on")
    first = min(windows(found, "tank.level"))[0]
    until(lambda: max(windows(found, "tank.level"))[0] > first + 1, "levels are polled on")

    assert set(found.shelf.polls().values()) == {1}


def test_a_reload_at_the_moment_of_joining_starts_no_loop_twice(group, monkeypatch):
    found = group(cycles=2)
    join = found.runner._join

    def join_and_reload():
        partition = join()
        found.runner.update(found.plan.groups[0])
        return partition

    monkeypatch.setattr(found.runner, "_join", join_and_reload)
    found.start().end()

    assert set(found.shelf.polls().values()) == {1}
    assert found.levels.readings == 2


def test_resources_that_were_found_before_a_reload_are_polled_on_if_discovery_fails_now(
    group, until
):
    found = group(cycles=None).start()
    until(lambda: found.shelf.taken(), "the tanks are polled")

    found.discoveries["tanks"].error = OSError("no route")
    replan(found)
    last = found.runner.tally.window

    until(
        lambda: (
            {s.resource_id for s in found.shelf.taken() if s.window > last}
            == {tank.id for tank in FEW}
        ),
        "the tanks are polled on",
    )


def test_a_discovery_that_returns_the_very_same_object_is_not_hashed_again(group, until):
    class Counted(tuple):
        looks = 0

        def __iter__(self):
            Counted.looks += 1
            return super().__iter__()

    class Same(Tanks):
        def __init__(self, given):
            super().__init__(given, Counted(FEW))

    found = group(cycles=4, discoveries={"tanks": Same}).start().end()

    assert len({window for _, _, window in found.shelf.polls()}) == 4
    assert Counted.looks == 1


def test_settings_are_values_that_a_runner_never_changes(group):
    found = group()
    before = dataclasses.replace(found.settings)

    found.start().end()

    assert found.settings == before
