"""One group of an agent: what is polled, what a failure costs, and what a hanging call does not."""

import dataclasses
import itertools
import json
import logging
import threading

import pytest

from hashring.telemetry.delivery.direct import Direct
from hashring.telemetry.errors import Gone, OutputClosed, OutputFailed, SpoolFull
from hashring.telemetry.model.resource import on_host
from hashring.telemetry.polling.runner import Runner
from hashring.telemetry.polling.shared import Shared
from hashring.telemetry.polling.turns import TurnBackoff
from tests.telemetry.plant import (
    FEW,
    HEAT,
    Heats,
    Levels,
    Shelf,
    ShelfPublisher,
    Tanks,
    plan,
    plugins,
    settings,
)

pytestmark = pytest.mark.usefixtures("unhurried")

NORTH, SOUTH, EAST, WEST = (tank.id for tank in FEW)
stores = (f"memory://runner-{number}" for number in itertools.count())


class Group:
    """A runner on a store of its own, with the tanks and whatever polls them."""

    def __init__(self, given, *pollsters, outlet=None, **discoveries):
        self.settings = given
        self.shelf = Shelf() if outlet is None else outlet
        self.pollsters = pollsters or (Levels(given),)
        self.levels = self.pollsters[0]
        self.discoveries = discoveries or {"tanks": Tanks(given)}
        self.plan = plan(given, *self.pollsters, **self.discoveries)
        self.closed = []
        self.shared = Shared(given, self.plan, self.shelf, self.close)
        self.runner = Runner(given, self.plan.groups[0], self.shared, lambda: None)

    def close(self, why):
        self.closed.append(why)
        self.runner.stop()

    def start(self):
        self.runner.start()
        return self

    def end(self):
        """Wait for its end; it has worked its cycles, or was stopped."""
        assert self.runner.wait(60)
        if self.runner.error is not None:
            raise self.runner.error
        return self

    def ids(self):
        return {sample.resource_id for sample in self.shelf.taken()}

    def warnings(self, caplog):
        """What was logged of failures; of the machine's own lateness, others may log something."""
        module = "hashring.telemetry.polling.failures"
        return [record for record in caplog.records if record.name == module]

    @property
    def failures(self):
        return self.shared.failures.counts


@pytest.fixture
def group():
    """Make groups that end with the test, whatever it leaves hanging."""
    made = []

    def make(*pollsters, outlet=None, discoveries=None, **changes):
        given = settings(**{"backend_url": next(stores)} | changes)
        found = Group(
            given,
            *(kind(given) for kind in pollsters),
            outlet=outlet,
            **{name: kind(given) for name, kind in (discoveries or {}).items()},
        )
        made.append(found)
        return found

    yield make
    for found in made:
        found.runner.stop()
        if found.runner._thread.ident is not None:
            assert found.runner.wait(60)
        found.shared.close()


@pytest.fixture
def hang():
    """What a call does that hangs until the test ends."""
    go = threading.Event()
    yield go.wait
    go.set()


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


# ---- what a failure costs


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


# ---- calls that hang


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


# ---- several intervals, and a newer plan


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


def whole_windows(found, *, after):
    """The windows after one in which every tank was sampled. A busy machine may skip some."""
    ids = {}
    for sample in found.shelf.taken():
        if sample.window > after:
            ids.setdefault(sample.window, set()).add(sample.resource_id)
    return {window for window, polled in ids.items() if polled == {tank.id for tank in FEW}}


def windows(found, meter):
    return {(s.window, s.interval) for s in found.shelf.taken() if s.meter.name == meter}


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
