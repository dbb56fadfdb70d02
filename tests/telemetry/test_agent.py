"""One agent and several, as real processes on a real store."""

import dataclasses
import json
import logging
import os
import signal
import socket
import sqlite3
import subprocess
import threading
from collections import Counter

import pytest

import hashring
from hashring import clock
from hashring.errors import MemberExists, StoreUnavailable
from hashring.telemetry.agent.agent import Agent, make_outlet
from hashring.telemetry.cli.audit import Event, audit
from hashring.telemetry.delivery.delivery import Delivery
from hashring.telemetry.delivery.direct import Direct
from hashring.telemetry.errors import OutputClosed, OutputFailed, OverlapRefused
from hashring.telemetry.polling.done import DoneWindows
from tests.begun import Begun
from tests.telemetry.plant import (
    FEW,
    TANKS,
    TTL,
    Levels,
    LocalTanks,
    Shelf,
    ShelfPublisher,
    Tanks,
    plan,
    settings,
    stores,
)

pytestmark = pytest.mark.usefixtures("unhurried")


class All(Tanks):
    """Finds all tanks of the plant."""

    def __init__(self, given):
        super().__init__(given, TANKS)


def agent(outlet, *pollsters, **changes):
    given = settings(**{"backend_url": next(stores)} | changes)
    made = plan(given, *(pollsters or (Levels(given),)), tanks=All(given))
    return Agent(given, plan=made, outlet=outlet)


def polls(samples):
    return Counter((sample["resource_id"], sample["window"]) for sample in samples)


def test_an_agent_alone_polls_everything_once_a_window_then_leaves():
    shelf = Shelf()
    alone = agent(shelf, cycles=3, interval=0.5)

    alone.run()

    counts = Counter((sample.resource_id, sample.window) for sample in shelf.samples)
    windows = {window for _, window in counts}
    assert len(windows) == 3
    assert set(counts) == {(tank.id, window) for tank in TANKS for window in windows}
    assert set(counts.values()) == {1}
    status = alone.status()
    assert status.state == status.groups["g"].state == "left"
    assert status.polls == status.samples == 1800
    assert status.resources == len(TANKS)
    assert status.slots == 0
    assert shelf.is_closed


def test_an_agent_that_is_told_to_stop_before_it_runs_joins_nobody():
    shelf = Shelf()
    early = agent(shelf, cycles=None)

    early.stop()
    early.run()

    assert shelf.samples == []
    assert shelf.is_closed
    assert early.status().state == "left"


def test_samples_that_could_not_be_written_are_counted_and_logged_once(caplog):
    made = []

    def make(url):
        made.append(ShelfPublisher(url, settings()))
        made[-1].error = OutputFailed("the shelf is full")
        return made[-1]

    outlet = Direct(make, ("stdout://",))

    agent(outlet, cycles=2, interval=0.5).run()

    assert len([one for one in caplog.records if "the shelf is full" in one.getMessage()]) == 1
    assert outlet.counts["stdout://"].dropped == 2 * len(TANKS)
    assert outlet.counts["stdout://"].sent == 0
    assert made[0].is_closed


def test_an_agent_whose_publishers_have_all_closed_ends_by_itself():
    def make(url):
        made = ShelfPublisher(url, settings())
        made.error = OutputClosed("the reader has gone")
        return made

    agent(Direct(make, ("stdout://",)), cycles=None).run()


def test_samples_taken_when_the_fence_passed_are_not_published(monkeypatch, caplog):
    shelf = Shelf()
    boottime = clock.boottime
    asleep = 0.0
    monkeypatch.setattr(clock, "boottime", lambda: boottime() + asleep)
    lock = threading.Lock()

    class Sleepy(Levels):
        """The machine is suspended for a minute while its three hundredth resource is polled."""

        def poll(self, resource):
            nonlocal asleep
            with lock:
                if len(self.polled) == 300:
                    asleep = 60.0
                yield from super().poll(resource)

    # One poll at once, and each published by itself: so it is known which went out before.
    given = settings(backend_url=next(stores), interval=1.0, threads=1, poll_timeout=100.0)
    sleepy = Sleepy(given)
    Agent(given, plan=plan(given, sleepy, tanks=All(given)), outlet=shelf).run()

    assert shelf.taken()[299].resource_id == sleepy.polled[299]
    after = [one for one in shelf.taken()[300:] if one.resource_id in sleepy.polled[:302]]
    assert not [one for one in after if one.token == shelf.taken()[0].token]
    assert "the lease ran out within window" in caplog.text


@pytest.mark.slow
def test_two_agents_share_what_there_is_and_hand_over_without_a_gap(agents, until):
    # Windows and a lease that a busy machine keeps to.
    agents.start("a", "--interval", "3", "--ttl", "30")
    agents.start("b", "--interval", "3", "--ttl", "30")
    agents.settle("a", "b")
    until(lambda: agents.windows("a") and agents.windows("b"), "both poll")
    begin = max(agents.windows("a") | agents.windows("b")) + 1
    until(
        lambda: min(max(agents.windows(name)) for name in "ab") >= begin + 1,
        "both have polled two windows together",
    )

    agents.processes["a"].send_signal(signal.SIGTERM)
    assert agents.processes["a"].wait(60) == 0
    left_in = max(agents.windows("a"))
    until(lambda: max(agents.windows("b")) >= left_in + 3, "b has polled on its own")
    agents.processes["b"].send_signal(signal.SIGINT)
    assert agents.processes["b"].wait(60) == 0

    samples = agents.samples()
    lasting = {
        sample["resource_id"] for sample in samples if ":process:" not in sample["resource_id"]
    }
    owners = {
        name: {sample["resource_id"] for sample in samples if sample["member"] == name}
        for name in "ab"
    }
    assert owners["a"]
    assert lasting <= owners["b"]
    [period] = audit(
        samples,
        resources=lasting,
        interval=3.0,
        events=[Event("together", 3.0 * begin)],
        until=3.0 * (left_in + 3),
    )
    assert period.windows >= 3
    assert (period.missed, period.repeated) == (0, 0)


def test_agents_of_other_hosts_in_the_group_are_an_error_in_the_log(caplog, monkeypatch):
    url, group = "memory://strangers", "g"
    with hashring.join(url, group, "far", ttl=TTL, meta={"host": "far-away"}) as other:
        assert other.wait_settled(60)

        given = settings(backend_url=url, cycles=2, on_crash="skip")
        local = plan(given, Levels(given), tanks=LocalTanks(given))
        Agent(given, plan=local, outlet=Shelf()).run()

    complaints = [record for record in caplog.records if "far-away" in record.getMessage()]
    assert len(complaints) == 1
    assert "a group of its own" in complaints[0].getMessage()


@pytest.mark.slow
def test_a_member_id_that_is_taken_is_refused_at_once_without_patience(agents):
    agents.start("a", "--interval", "1")
    agents.settle("a")

    second = agents.start("a", "--interval", "1")

    assert second.wait(60) == 1
    assert "hashring: " in agents.said("a")
    assert "'a'" in agents.said("a")


@pytest.mark.slow
def test_whoever_restarts_a_dead_agent_can_wait_for_its_lease(agents):
    first = agents.start("a", "--interval", "1", "--ttl", "2")
    agents.settle("a")
    first.kill()
    first.wait()
    shelf = Shelf()

    patient = {"backend_url": agents.url, "group": "test", "ttl": 2.0, "patience": 60.0}
    agent(shelf, **patient).run()

    assert len(shelf.samples) == len(TANKS)


def test_an_agent_whose_reader_has_gone_leaves(agents, until):
    process = agents.start(
        "a", "--interval", "0.5", "--output", "-", stdout=subprocess.PIPE, bufsize=1
    )
    process.stdout.readline()

    process.stdout.close()

    assert process.wait(60) == 0
    assert "closed by its reader" in agents.said("a")
    assert "Traceback" not in agents.said("a")
    assert agents.status("a")["state"] == "left"


@pytest.mark.slow
def test_several_agents_write_whole_lines_to_one_pipe(agents, tmp_path):
    command = ["agent", "--workers", "3"]
    # On a busy machine no lease runs out: a group that was empty remembers nothing, and has its
    # window repeated.
    command += ["--interval", "1", "--ttl", "30", "--backend-url", agents.url]
    path, members = tmp_path / "piped", set()
    with (
        path.open("wb") as piped,
        Begun(command, stdout=subprocess.PIPE, start_new_session=True) as process,
    ):
        try:
            for line in process.stdout:
                piped.write(line)
                before = len(members)
                members.add(json.loads(line)["member"])
                if before < len(members) == 3:
                    process.terminate()
            assert process.wait(60) == 0
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)

    samples = agents.samples(path)
    assert len(samples) == path.read_bytes().count(b"\n")
    assert len(members) == 3
    assert set(polls(s for s in samples if s["meter"] == "hardware.cpu.load.1min").values()) == {1}


def test_a_list_of_resources_is_polled_and_nothing_else(agents, tmp_path):
    host = socket.gethostname()
    wanted = tmp_path / "resources"
    wanted.write_text(f"# two of them\n{host}:host\n\n{host}:interface:lo\n")

    process = agents.start("a", "--interval", "2", "--cycles", "1", "--resources", str(wanted))

    assert process.wait(60) == 0
    assert {s["resource_id"] for s in agents.samples()} == {f"{host}:host", f"{host}:interface:lo"}


# ---- what goes wrong around it


@pytest.fixture
def locked(tmp_path):
    """A store that answers nobody, and what brings it back."""
    path = tmp_path / "locked.db"
    lock = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    lock.execute("BEGIN EXCLUSIVE")
    yield f"sqlite://{path}?connect_timeout=0.1", lock.close
    lock.close()


def test_a_store_that_is_away_at_the_start_is_waited_for(locked, until, caplog):
    url, unlock = locked
    given = settings(backend_url=url, retry_backoff=0.05, max_retry_interval=0.1)
    shelf = Shelf()
    waiting = Agent(given, plan=plan(given), outlet=shelf)
    thread = threading.Thread(target=waiting.run)
    thread.start()
    until(lambda: "joining g failed" in caplog.text, "the store is missed")
    assert waiting.status().state == "joining"

    unlock()

    thread.join(60)
    assert not thread.is_alive()
    assert shelf.taken()
    assert caplog.text.count("joining g failed") == 1


@pytest.mark.parametrize("announce", [False, True])
def test_an_agent_that_waits_for_its_store_can_be_stopped(locked, until, caplog, announce):
    given = settings(backend_url=locked[0], retry_backoff=3600.0, max_retry_interval=3600.0)
    waiting = Agent(given, plan=plan(given), outlet=Shelf(), announce=announce)
    thread = threading.Thread(target=waiting.run)
    thread.start()
    until(lambda: "failed" in caplog.text or "tried again" in caplog.text, "it is missed")

    waiting.stop()

    thread.join(60)
    assert not thread.is_alive()
    assert waiting.status().state == "left"


@pytest.mark.parametrize("announce", [False, True])
def test_a_store_that_is_away_is_an_error_where_it_is_not_to_be_waited_for(locked, announce):
    given = settings(backend_url=locked[0], retry_backoff=0.0)

    with pytest.raises(StoreUnavailable):
        Agent(given, plan=plan(given), outlet=Shelf(), announce=announce).run()


def test_an_agent_whose_meters_overlap_with_anothers_is_refused_by_name_on_both_sides(
    plant, until, caplog
):
    found = plant({"discovery": ["x"]}, announce=True, group_prefix="blue")
    until(lambda: found.since(), "the first one polls")
    given = dataclasses.replace(found.settings, member="b", group_prefix="green")
    green = plan(given, Levels(given), x=Tanks(given))
    shelf = Shelf()

    with pytest.raises(OverlapRefused, match=r"tank\.level") as failure:
        Agent(given, plan=green, outlet=shelf, announce=True).run()

    assert "'a'" in str(failure.value)
    # The running one notices in a thread of its own.
    [told] = until(
        lambda: [one for one in caplog.records if "both poll" in one.getMessage()], "it tells"
    )
    assert told.getMessage().startswith("agent 'a'")  # the running one's words
    assert "agent 'b'" in told.getMessage()
    assert shelf.taken() == []
    assert shelf.is_closed
    allowed = dataclasses.replace(given, allow_overlap=True, cycles=1)
    Agent(allowed, plan=green, outlet=shelf, announce=True).run()
    assert shelf.taken()


def test_a_group_that_fails_ends_the_agent_with_its_error(plant, until):
    found = plant({"discovery": ["x", "y"]})
    until(lambda: found.since(), "it polls")
    twin = Agent(found.settings, plan=found.load()[1], outlet=Shelf())

    with pytest.raises(MemberExists):
        twin.run()

    assert twin.status().state == "left"
    until(lambda: found.agent.status().state == "settled", "the first one has all its groups")


def test_nothing_is_left_behind(until):
    before = set(threading.enumerate())

    agent(Shelf(), cycles=1).run()

    until(lambda: set(threading.enumerate()) <= before, "every thread has ended")


def test_a_poll_that_hangs_delays_no_hand_over_and_costs_no_lease(until):
    shelf = Shelf()
    go = threading.Event()
    given = settings(backend_url=next(stores), cycles=None, poll_timeout=0.2)
    levels = Levels(given)
    found = Tanks(given)
    levels.moods[found.found[0].id] = go.wait
    stuck = Agent(given, plan=plan(given, levels, tanks=found), outlet=shelf)
    thread = threading.Thread(target=stuck.run)
    thread.start()
    until(lambda: stuck.status().hanging == 1, "a poll hangs")
    with hashring.join(given.backend_url, "g", "b", ttl=TTL) as other:
        until(lambda: other.state == "settled", "another member gets its share")
        until(lambda: stuck.status().state == "settled", "the one whose poll hangs has its own")

    stuck.stop()

    thread.join(60)
    assert not thread.is_alive()
    go.set()


def test_samples_go_through_a_spool_where_there_is_a_folder_for_it(tmp_path):
    output = tmp_path / "samples.jsonl"
    spooled = settings(state_dir=tmp_path / "state", output=f"file://{output}")
    outlet = make_outlet(spooled)

    assert isinstance(outlet, Delivery)
    agent(outlet, backend_url=spooled.backend_url, output=spooled.output, interval=0.5).run()

    assert len(output.read_bytes().splitlines()) == len(TANKS)
    assert isinstance(make_outlet(settings()), Direct)


def _settled(found):
    """The status of an agent that has settled; the next one may differ."""
    status = found.status()
    return status if status.state == "settled" else None


def test_all_groups_are_in_the_status_and_the_worst_state_is_the_agents(plant, until, caplog):
    with caplog.at_level(logging.INFO):
        found = plant({"discovery": ["x", "y"]})
        status = until(lambda: _settled(found.agent), "it has settled")

    assert {name: group.state for name, group in status.groups.items()} == {
        "discovery:x": "settled",
        "discovery:y": "settled",
    }
    assert status.members == ("a",)
    assert status.slots == 2 * 65_536


def alone(shelf, **changes):
    """An agent that works one window by itself, of the long ones."""
    given = settings(**{"backend_url": "memory://alone", "interval": 3.0} | changes)
    return Agent(given, plan=plan(given, Levels(given), tanks=Tanks(given)), outlet=shelf)


def test_an_agent_alone_that_is_restarted_within_a_window_does_not_poll_it_again(tmp_path):
    shelf = Shelf()

    for _ in range(2):
        alone(shelf, state_dir=tmp_path).run()

    counts = Counter((sample.resource_id, sample.window) for sample in shelf.samples)
    first, second = sorted({window for _, window in counts})
    assert second > first  # the very next one, unless a busy machine is late
    assert set(counts.values()) == {1}


def test_what_is_noted_of_a_window_yet_to_come_is_not_believed(tmp_path):
    # The clock was a day ahead when it was noted: that must not cost a day of samples.
    shelf = Shelf()
    agent = alone(shelf, state_dir=tmp_path)
    DoneWindows(tmp_path / "windows").note("g", 3.0, int(clock.wall() / 3.0) + 28_800)

    agent.run()

    assert len(shelf.samples) == len(FEW)
