"""What a failure costs, and what is said of it."""

import logging

import pytest

from hashring.telemetry.delivery.direct import Direct
from hashring.telemetry.errors import Gone, OutputClosed, OutputFailed, SpoolFull
from hashring.telemetry.model.resource import on_host
from hashring.telemetry.polling.turns import TurnBackoff
from tests.telemetry.plant import FEW, HEAT, Heats, Levels, ShelfPublisher, Tanks, settings
from tests.telemetry.runner.groups import NORTH, SOUTH, WEST

pytestmark = pytest.mark.usefixtures("unhurried")


def test_a_discovery_that_fails_costs_its_own_resources_alone(group):
    class Sheds(Tanks):
        def discover(self, parameter=""):
            raise OSError("no route to plant")

    class Sheltered(Heats):
        default_discovery = "sheds"

    found = group(Levels, Sheltered, discoveries={"sheds": Sheds, "tanks": Tanks}).start().end()

    assert found.ids() == {tank.id for tank in FEW}
    assert found.failures["discovery sheds", "OSError"] == 1


def test_while_a_discovery_fails_what_it_found_last_is_polled_on(group, until):
    found = group(cycles=None).start()
    until(lambda: found.shelf.taken(), "the tanks are polled")

    found.discoveries["tanks"].error = OSError("no route")
    until(lambda: found.failures["discovery tanks", "OSError"], "the discovery fails")
    window = found.runner.tally.window

    until(lambda: whole_windows(found, after=window), "all are polled in a further window")


def test_a_resource_that_fails_costs_its_own_sample_alone(group):
    found = group(Levels, Heats)
    found.levels.moods[SOUTH] = ValueError("level -7")

    found.start().end()

    assert {(meter, id_) for meter, id_, _ in found.shelf.polls()} == {
        (meter, tank.id) for meter in ("tank.level", "tank.heat") for tank in FEW
    } - {("tank.level", SOUTH)}


def test_readings_of_an_earlier_cycle_do_not_pass_for_new_ones(group, until):
    found = group(Levels, Heats, cycles=None).start()
    until(lambda: found.shelf.taken(), "the tanks are polled")

    found.levels.blind = True
    until(lambda: found.failures["reading of Levels", "TimeoutError"] >= 2, "it stays blind")
    found.levels.blind = False
    last = found.levels.readings
    until(lambda: found.levels.readings > last + 1, "it sees again")
    found.runner.stop()
    found.end()

    by_window = {}
    for sample in found.shelf.taken():
        if sample.meter.name == "tank.level":
            by_window.setdefault(sample.window, set()).add(sample.volume)
    # Each window's volumes are those of one reading, and no reading serves two windows.
    assert all(len(volumes) == 1 for volumes in by_window.values())
    assert len({volume for [volume] in by_window.values()}) == len(by_window)
    heated = {sample.window for sample in found.shelf.taken() if sample.meter == HEAT}
    assert set(by_window) < heated  # the other pollster's were taken meanwhile


def test_a_cause_is_logged_once_and_counted(group, caplog):
    found = group(cycles=4)
    found.levels.moods |= {NORTH: ValueError("level -7"), SOUTH: ValueError("level -8")}

    found.start().end()

    [record] = found.warnings(caplog)
    assert any(
        f"pollster Levels of {id_} failed: ValueError: level {level}" in record.getMessage()
        for id_, level in ((NORTH, -7), (SOUTH, -8))
    )
    assert found.failures["pollster Levels", "ValueError"] == found.shared.failures.total >= 4


def test_each_cause_is_logged(group, caplog, until):
    found = group(cycles=None)
    found.levels.moods[SOUTH] = ValueError("level -7")
    found.start()
    until(lambda: found.failures["pollster Levels", "ValueError"], "a poll fails")
    found.levels.blind = True
    until(lambda: found.failures["reading of Levels", "TimeoutError"], "a reading fails")
    found.discoveries["tanks"].error = OSError("no route")
    until(lambda: found.failures["discovery tanks", "OSError"], "the discovery fails")

    def causes():
        return [record.getMessage().split(":")[0] for record in found.warnings(caplog)]

    until(lambda: len(causes()) == 3, "the last one is logged: it was counted before")
    assert causes() == [
        "pollster Levels of plant",
        "reading of Levels failed",
        "discovery tanks failed",
    ]


def test_that_things_end_is_no_warning_and_no_failure(group, caplog):
    found = group()
    found.levels.moods[WEST] = Gone("torn down")

    with caplog.at_level(logging.INFO, "hashring.telemetry.polling.failures"):
        found.start().end()

    assert not [one for one in found.warnings(caplog) if one.levelno >= logging.WARNING]
    assert found.failures["pollster Levels", "Gone"] == 1
    assert found.shared.failures.total == 0
    assert WEST not in found.ids()


def test_only_the_resources_asked_for_are_polled(group):
    assert group(only=(WEST, "plant:tank:gone")).start().end().ids() == {WEST}


def test_what_no_pollster_can_measure_is_not_polled(group):
    class Doors(Tanks):
        def __init__(self, given):
            super().__init__(given, (*FEW, on_host("plant", "door", "1")))

    found = group(discoveries={"tanks": Doors}).start().end()

    assert found.ids() == {tank.id for tank in FEW}
    assert sorted(found.levels.polled) == sorted(tank.id for tank in FEW)


def test_a_resource_that_keeps_failing_is_left_out_for_growing_times(group):
    found = group(cycles=8)
    found.levels.moods[SOUTH] = ValueError("level -7")

    found.start().end()

    counts = {tank.id: found.levels.polled.count(tank.id) for tank in FEW}
    assert counts[NORTH] == 8
    # In the first window and the 2nd, 4th and 8th: which of these a busy machine skips, is seen.
    backoff, due = TurnBackoff(), 0
    for window in sorted({sample.window for sample in found.shelf.taken()}):
        if backoff.is_due(SOUTH, window):
            due += 1
            backoff.failed(SOUTH, window)
    assert counts[SOUTH] == due < 8
    assert found.failures["pollster Levels", "left out"] == 8 - counts[SOUTH]


def test_what_is_left_out_is_polled_again_once_it_works(group, until):
    found = group(cycles=None)
    found.levels.moods[SOUTH] = ValueError("level -7")
    found.start()
    until(lambda: found.levels.polled.count(SOUTH) >= 2, "it has failed twice")

    del found.levels.moods[SOUTH]
    until(lambda: SOUTH in found.ids(), "it is sampled")
    first = min(s.window for s in found.shelf.taken() if s.resource_id == SOUTH)

    until(lambda: whole_windows(found, after=first), "it is sampled in a further window")
    following = min(s.window for s in found.shelf.taken() if s.window > first)
    assert following in whole_windows(found, after=first), "it is left out in none any more"


# ---- samples that are not taken


def test_samples_that_are_not_taken_are_counted_and_logged_once_and_blame_no_resource(
    group, caplog
):
    found = group(cycles=3)
    found.shelf.error = SpoolFull("the spool is full")

    found.start().end()

    [record] = found.warnings(caplog)
    assert "publishing failed: SpoolFull: the spool is full" in record.getMessage()
    assert found.failures["publishing", "SpoolFull"] == 3 * len(FEW)
    assert found.levels.polled.count(NORTH) == 3
    assert found.runner.tally.polls == 0


def test_a_publisher_that_fails_costs_its_samples_and_says_so_once(caplog, group):
    made = []

    def make(url):
        made.append(ShelfPublisher(url, settings()))
        made[-1].error = OutputFailed("the shelf is full")
        return made[-1]

    outlet = Direct(make, ("stdout://",))
    group(cycles=2, outlet=outlet).start().end()
    outlet.close()

    assert len([one for one in caplog.records if "the shelf is full" in one.getMessage()]) == 1
    assert outlet.counts["stdout://"].dropped == 2 * len(FEW)
    assert made[0].is_closed


def test_when_nobody_takes_samples_any_more_the_agent_is_told(group):
    found = group(cycles=None)
    found.shelf.error = OutputClosed("the reader has gone")

    found.start().end()

    assert "the reader has gone" in found.closed[0]


def whole_windows(found, *, after):
    """The windows after one in which every tank was sampled. A busy machine may skip some."""
    ids = {}
    for sample in found.shelf.taken():
        if sample.window > after:
            ids.setdefault(sample.window, set()).add(sample.resource_id)
    return {window for window, polled in ids.items() if polled == {tank.id for tank in FEW}}
