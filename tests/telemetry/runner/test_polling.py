"""What is discovered is polled once a window."""

import json

import pytest

from tests.telemetry.plant import FEW, HEAT, Heats, Levels

pytestmark = pytest.mark.usefixtures("unhurried")


def test_what_is_discovered_is_polled_once_a_window(group):
    found = group(Levels, Heats, cycles=3).start().end()

    polls = found.shelf.polls()
    windows = {window for _, _, window in polls}
    assert len(windows) == 3
    assert set(polls) == {
        (meter, tank.id, window)
        for meter in ("tank.level", "tank.heat")
        for tank in FEW
        for window in windows
    }
    assert set(polls.values()) == {1}
    assert found.runner.tally.polls == 3 * 2 * len(FEW)
    assert found.runner.tally.resources == len(FEW)
    assert found.runner.tally.window == max(windows)


def test_a_sample_says_who_took_it_by_what_right_and_which_source_asked(group):
    found = group().start().end()

    [window] = {sample.window for sample in found.shelf.taken()}
    [(view_id, incarnation, token_window)] = {sample.token for sample in found.shelf.taken()}
    assert view_id
    assert incarnation
    assert token_window == window
    [sample] = {(sample.member, sample.interval, sample.source) for sample in found.shelf.taken()}
    assert sample == ("a", 0.2, "all")
    assert found.shelf.targets == {("stdout://",)}


def test_a_pollster_that_two_sources_want_polls_once_for_both(group, tmp_path):
    polling = tmp_path / "polling.yaml"
    wants = [("levels", ["tank.level"]), ("both", ["tank.*"])]
    polling.write_text(
        json.dumps({"sources": [{"name": n, "interval": 0.2, "meters": m} for n, m in wants]})
    )

    class Both(Levels):
        meters = (*Levels.meters, HEAT)

    found = group(Both, polling_file=polling).start().end()

    assert sorted(found.levels.polled) == sorted(tank.id for tank in FEW)
    assert {(one.meter.name, one.source) for one in found.shelf.taken()} == {
        ("tank.level", "levels"),
        ("tank.heat", "both"),
    }


def test_meters_that_no_source_asks_for_are_not_put(group, tmp_path):
    polling = tmp_path / "polling.yaml"
    polling.write_text('{"sources": [{"name": "s", "interval": 0.2, "meters": ["!tank.heat"]}]}')

    class Both(Levels):
        meters = (*Levels.meters, HEAT)

    found = group(Both, polling_file=polling).start().end()

    assert {sample.meter.name for sample in found.shelf.taken()} == {"tank.level"}
