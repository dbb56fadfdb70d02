"""An agent that reads its configuration again: what stays, what ends, what is polled meanwhile."""

import dataclasses
import threading

import pytest

from hashring import clock
from tests.telemetry.plant import TTL

pytestmark = pytest.mark.usefixtures("unhurried")


def running(name):
    return [thread for thread in threading.enumerate() if thread.name == name]


def test_a_reload_keeps_the_leases_of_groups_that_stay(plant, until):
    found = plant({"discovery": ["x", "y"], "meters": ["tank.level"]})
    until(lambda: len(found.since()) == 2, "both groups are polled")
    partition, token = found.partition("x"), found.shelf.taken()[0].token
    names = {sample.token[1] for sample in found.shelf.taken() if ":x" in sample.resource_id}

    found.write({"discovery": ["x", "z"]})
    found.agent.reload()

    until(lambda: ("tank.heat", "z", 0.2) in found.since(), "the new group is polled")
    until(lambda: ("tank.heat", "x", 0.2) in found.since(), "the kept one polls what is new")
    until(lambda: set(found.agent.status().groups) == {"discovery:x", "discovery:z"}, "y is left")
    until(lambda: not running("group-discovery:y"), "and has been left")
    window = max(sample.window for sample in found.shelf.taken())
    until(lambda: len(found.since(window)) == 4, "all of the new plan is polled")
    assert found.partition("x") is partition
    later = {sample.token[1] for sample in found.shelf.taken() if ":x" in sample.resource_id}
    assert later == names
    assert token
    assert not {one for one in found.since(window) if one[1] == "y"}
    assert set(found.shelf.polls().values()) == {1}


def test_a_reload_adds_and_ends_intervals(plant, until):
    found = plant({"discovery": ["x"], "meters": ["tank.level"]})
    until(lambda: found.since(), "it polls")

    found.write(
        {"discovery": ["x"], "meters": ["tank.level"]},
        {"discovery": ["x"], "meters": ["tank.heat"], "interval": 0.5},
    )
    found.agent.reload()
    until(lambda: ("tank.heat", "x", 0.5) in found.since(), "the new interval is polled")
    found.write({"discovery": ["x"], "meters": ["tank.heat"], "interval": 0.5})
    found.agent.reload()
    until(lambda: not running("poll-discovery:x-0.2"), "the old one ends")
    count = len(found.shelf.taken())
    until(lambda: len(found.shelf.taken()) > count + 1, "the other goes on")

    assert {sample.interval for sample in found.shelf.taken()[count:]} == {0.5}


def test_a_configuration_that_is_broken_changes_nothing(plant, until, caplog):
    found = plant({"discovery": ["x"]})
    until(lambda: found.since(), "it polls")
    partition = found.partition("x")

    found.path.write_text("sources: [")
    found.agent.reload()

    until(lambda: "so nothing changes" in caplog.text, "it is said")
    window = max(sample.window for sample in found.shelf.taken())
    until(lambda: found.since(window), "it polls on")
    assert found.partition("x") is partition
    assert str(found.path) in caplog.text
    until(lambda: found.agent.status().state == "settled", "it is settled")


def test_what_a_reload_replaces_is_closed_when_nothing_uses_it_any_more(plant, until):
    found = plant({"discovery": ["x"]}, poll_timeout=0.2)
    until(lambda: found.since(), "it polls")
    [before] = found.made

    found.agent.reload()
    until(lambda: all(one.closed for one in before), "the old pollsters are closed")
    found.end()

    assert [one.closed for pair in found.made for one in pair] == [1, 1, 1, 1]


def test_a_group_that_comes_back_before_it_was_left_is_joined_after_that(plant, until):
    found = plant({"discovery": ["x", "y"]})
    until(lambda: {"x", "y"} <= {id_ for _, id_, _ in found.since()}, "both are polled")

    for names in (["x"], ["x", "y"], ["x"], ["x", "y"]):
        found.write({"discovery": names})
        found.agent.reload()
        until(lambda: not found.agent._reloading.is_set(), "the reload has begun")
    window = max(sample.window for sample in found.shelf.taken())

    until(lambda: ("tank.level", "y", 0.2) in found.since(window + 1), "y is polled again")
    assert found.thread.is_alive()
    assert set(found.shelf.polls().values()) == {1}


def test_resources_that_a_reload_moves_to_another_group_are_polled_once_a_window(plant, until):
    tanks = {"resources": ["tank://one", "tank://two"], "interval": 2.0}
    found = plant(tanks)
    until(lambda: len({one.resource_id for one in found.shelf.taken()}) == 2, "both are polled")

    # A list of static resources is named by its content, so this one is another group.
    found.write(tanks | {"resources": ["tank://one", "tank://two", "tank://three"]})
    found.agent.reload()

    until(lambda: "tank://three" in {one.resource_id for one in found.shelf.taken()}, "all are")
    assert set(found.shelf.polls().values()) == {1}


def test_an_error_that_no_plug_in_should_raise_changes_nothing_at_a_reload(plant, until, caplog):
    found = plant({"discovery": ["x"]})
    until(lambda: found.since(), "it polls")

    found.broken = RuntimeError("a plug-in is broken")
    found.agent.reload()

    until(lambda: "so nothing changes" in caplog.text, "it is said")
    window = max(sample.window for sample in found.shelf.taken())
    until(lambda: found.since(window), "it polls on")


def test_what_a_cycle_in_hand_uses_is_closed_only_after_it(plant, until):
    found = plant({"discovery": ["x"], "meters": ["tank.level"]}, threads=1, poll_timeout=0.2)
    until(lambda: found.since(), "it polls")
    [(levels, _)] = found.made
    go, slow = threading.Event(), threading.Event()
    runner = found.agent._runners["discovery:x"]

    def wait():
        slow.set()
        go.wait(300)

    # A cycle that outlasts its window by far, as one of many slow resources does.
    looks = runner.catalogue.look
    runner.catalogue.look = lambda *given: (wait(), looks(*given))[1]
    assert slow.wait(60)
    found.write({"discovery": ["x"], "meters": ["tank.level"], "name": "renamed"})
    found.agent.reload()
    until(lambda: found.agent._old, "there is something to close")
    due = found.agent._old[0][0]
    until(lambda: clock.boottime() > due + 0.2, "its time is over")
    found.agent._wake.set()
    turn = found.agent._turn
    until(lambda: found.agent._turn > turn, "the agent has looked")

    assert not levels.closed
    window = max(sample.window for sample in found.shelf.taken())
    go.set()
    until(lambda: levels.closed, "it is closed")
    until(lambda: found.since(window + 1), "it polls on")


def test_a_reload_says_which_publishers_stay(plant, until):
    found = plant({"discovery": ["x"]})
    until(lambda: found.since(), "it polls")

    found.settings = dataclasses.replace(found.settings, output="file:///dev/null")
    found.agent.reload()

    until(lambda: hasattr(found.shelf, "kept"), "the outlet is told")
    assert found.shelf.kept == {"file:///dev/null"}


def test_a_setting_that_takes_a_restart_is_named_and_left_as_it_is(plant, until, caplog):
    found = plant({"discovery": ["x"]})
    until(lambda: found.since(), "it polls")

    found.settings = dataclasses.replace(found.settings, ttl=TTL + 1)
    found.agent.reload()

    until(lambda: "ttl: a change takes a restart" in caplog.text, "it is said")
    assert found.agent.settings.ttl == TTL
