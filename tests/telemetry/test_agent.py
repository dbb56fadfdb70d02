"""One agent and several, as real processes on a real store."""

import signal
import socket
import subprocess
import sys
from collections import Counter

import pytest

import hashring
from hashring import clock
from hashring.telemetry.agent import Agent
from hashring.telemetry.audit import Event, audit
from hashring.telemetry.config import AgentConfig
from hashring.telemetry.discovery import Discovery
from hashring.telemetry.pipeline import Pipeline
from hashring.telemetry.pollsters import Pollster
from hashring.telemetry.publishers import OutputFailed, Publisher
from hashring.telemetry.resource import Resource
from hashring.telemetry.sample import Measurement, Meter, MeterType

LEVEL = Meter("tank.level", MeterType.GAUGE, "l")
TANKS = [Resource("plant", "tank", str(number)) for number in range(600)]


class Tanks(Discovery):
    def discover(self):
        return TANKS


class Levels(Pollster):
    kinds = frozenset({"tank"})
    meters = (LEVEL,)

    def poll(self, resource):
        return [Measurement(LEVEL, 1)]


class Shelf(Publisher):
    """Keeps samples, and fails while it is told to."""

    def __init__(self, target=""):
        self.samples = []
        self.full = False
        self.closed = False

    def publish(self, samples):
        if self.full:
            raise OutputFailed("the shelf is full")
        self.samples.extend(samples)

    def close(self):
        self.closed = True


def agent(shelf, **changes):
    config = AgentConfig(
        **{"backend_url": "memory://test-agent", "group": "g", "member": "a", "interval": 0.2}
        | {"ttl": 2.0, "cycles": 1}
        | changes
    )
    return Agent(config, pipeline=Pipeline([Tanks()], [Levels()]), publisher=shelf)


def polls(samples):
    return Counter((sample["resource_id"], sample["window"]) for sample in samples)


def test_an_agent_alone_polls_everything_once_a_window_then_leaves():
    shelf = Shelf()
    alone = agent(shelf, cycles=3)

    alone.run()

    counts = Counter((sample.resource_id, sample.window) for sample in shelf.samples)
    windows = {window for _, window in counts}
    assert len(windows) == 3
    assert set(counts) == {(tank.id, window) for tank in TANKS for window in windows}
    assert set(counts.values()) == {1}
    assert alone.status().state == "left"
    assert alone.status().polls == 1800
    assert shelf.closed


def test_a_sample_says_who_took_it_and_by_what_right():
    shelf = Shelf()

    agent(shelf).run()

    [window] = {sample.window for sample in shelf.samples}
    assert {sample.member for sample in shelf.samples} == {"a"}
    [(view_id, incarnation, token_window)] = {sample.token for sample in shelf.samples}
    assert view_id
    assert incarnation
    assert token_window == window
    assert {sample.interval for sample in shelf.samples} == {0.2}


def test_an_agent_that_is_told_to_stop_before_it_runs_joins_nobody():
    shelf = Shelf()
    early = agent(shelf, cycles=None)

    early.stop()
    early.run()

    assert shelf.samples == []
    assert shelf.closed


def test_samples_that_could_not_be_written_are_counted_and_logged_once(caplog):
    shelf = Shelf()
    shelf.full = True
    unlucky = agent(shelf, cycles=2)

    unlucky.run()

    assert [record.getMessage() for record in caplog.records if "shelf" in record.getMessage()] == [
        "the shelf is full (further ones are counted, not logged)"
    ]
    assert unlucky.status().failures == 2 * len(TANKS)
    assert unlucky.status().polls == 0


def test_samples_taken_when_the_fence_passed_are_not_published(monkeypatch, caplog):
    shelf = Shelf()
    boottime = clock.boottime
    asleep = 0.0
    monkeypatch.setattr(clock, "boottime", lambda: boottime() + asleep)

    class Sleepy(Levels):
        """The machine is suspended for a minute while its three hundredth resource is polled."""

        polled = 0

        def poll(self, resource):
            nonlocal asleep
            self.polled += 1
            if self.polled == 300:
                asleep = 60.0
            return super().poll(resource)

    config = AgentConfig(
        backend_url="memory://fence", group="g", member="a", interval=0.5, ttl=2.0, cycles=1
    )
    Agent(config, pipeline=Pipeline([Tanks()], [Sleepy()]), publisher=shelf).run()

    # The first batch of 256 went out before; what was polled since did not.
    assert len(shelf.samples) == 256
    assert "44 samples are dropped" in caplog.text


@pytest.mark.timeout(120)
def test_two_agents_share_what_there_is_and_hand_over_without_a_gap(agents, until):
    agents.start("a", "--interval", "1", "--ttl", "3")
    agents.start("b", "--interval", "1", "--ttl", "3")
    agents.settle("a", "b")
    until(lambda: agents.windows("a") and agents.windows("b"), "both poll")
    begin = max(agents.windows("a") | agents.windows("b")) + 1
    until(
        lambda: min(max(agents.windows(name)) for name in "ab") >= begin + 1,
        "both have polled two windows together",
    )

    agents.processes["a"].send_signal(signal.SIGTERM)
    assert agents.processes["a"].wait(20) == 0
    left_in = max(agents.windows("a"))
    until(lambda: max(agents.windows("b")) >= left_in + 3, "b has polled on its own")
    agents.processes["b"].send_signal(signal.SIGINT)
    assert agents.processes["b"].wait(20) == 0

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
        interval=1.0,
        events=[Event("together", float(begin))],
        until=float(left_in + 3),
    )
    assert period.windows >= 3
    assert (period.missed, period.repeated) == (0, 0)


def test_agents_of_other_hosts_in_the_group_are_an_error_in_the_log(caplog, monkeypatch):
    url, group = "memory://strangers", "g"
    with hashring.join(url, group, "far", ttl=2.0, meta={"host": "far-away"}) as other:
        assert other.wait_settled(10)

        agent(Shelf(), backend_url=url, cycles=2).run()

    complaints = [record for record in caplog.records if "far-away" in record.getMessage()]
    assert len(complaints) == 1
    assert "a group of its own" in complaints[0].getMessage()


def test_a_member_id_that_is_taken_is_refused_at_once_without_patience(agents):
    agents.start("a", "--interval", "1")
    agents.settle("a")

    second = agents.start("a", "--interval", "1")

    assert second.wait(20) == 1
    assert "hashring: " in agents.said("a")
    assert "'a'" in agents.said("a")


def test_whoever_restarts_a_dead_agent_can_wait_for_its_lease(agents, until):
    first = agents.start("a", "--interval", "1", "--ttl", "2")
    agents.settle("a")
    first.kill()
    first.wait()
    shelf = Shelf()

    config = AgentConfig(
        backend_url=agents.url,
        group="test",
        member="a",
        interval=0.2,
        ttl=2.0,
        cycles=1,
        patience=10.0,
    )
    Agent(config, pipeline=Pipeline([Tanks()], [Levels()]), publisher=shelf).run()

    assert len(shelf.samples) == len(TANKS)


def test_an_agent_whose_reader_has_gone_leaves(agents, until):
    process = agents.start(
        "a", "--interval", "0.2", "--output", "-", stdout=subprocess.PIPE, bufsize=1
    )
    process.stdout.readline()

    process.stdout.close()

    assert process.wait(20) == 0
    assert "closed by its reader" in agents.said("a")
    assert "Traceback" not in agents.said("a")
    assert agents.status("a")["state"] == "left"


def test_several_agents_write_whole_lines_to_one_pipe(agents, tmp_path):
    command = [sys.executable, "-m", "hashring", "agent", "--workers", "3", "--cycles", "2"]
    command += ["--interval", "1", "--ttl", "3", "--backend-url", agents.url]
    done = subprocess.run(command, capture_output=True, timeout=60, check=True)

    path = tmp_path / "piped"
    path.write_bytes(done.stdout)
    samples = agents.samples(path)
    assert len(samples) == done.stdout.count(b"\n")
    assert len({sample["member"] for sample in samples}) == 3
    assert set(polls(s for s in samples if s["meter"] == "hardware.cpu.load.1min").values()) == {1}


def test_a_list_of_resources_is_polled_and_nothing_else(agents, tmp_path):
    host = socket.gethostname()
    wanted = tmp_path / "resources"
    wanted.write_text(f"# two of them\n{host}:host\n\n{host}:interface:lo\n")

    process = agents.start("a", "--interval", "0.2", "--cycles", "1", "--resources", str(wanted))

    assert process.wait(20) == 0
    assert {s["resource_id"] for s in agents.samples()} == {f"{host}:host", f"{host}:interface:lo"}
