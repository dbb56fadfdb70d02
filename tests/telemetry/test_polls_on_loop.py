"""Polls that wait on the agent's event loop: what they cost, and what a hanging one does not."""

import asyncio
import resource
import threading

import pytest

import hashring
from hashring import clock
from hashring.telemetry.agent.agent import Agent
from hashring.telemetry.config.plan import Plugins, make_plan
from hashring.telemetry.errors import OutputClosed, SpoolFull
from hashring.telemetry.polling import descriptors
from hashring.telemetry.polling.runner import Runner
from hashring.telemetry.polling.shared import Shared
from hashring.telemetry.sources.web.http_json import HTTPDefinitions, HTTPPollster
from tests.servers.http import HTTPServer
from tests.telemetry.plant import (
    FEW,
    AsyncLevels,
    Heats,
    Shelf,
    Tanks,
    plan,
    settings,
    stores,
)

NORTH, SOUTH, EAST, WEST = (tank.id for tank in FEW)


class Group:
    """A runner on a store of its own, with what polls the tanks."""

    def __init__(self, given, shelf, *pollsters):
        self.settings = given
        self.shelf = shelf
        self.pollsters = [kind(given) for kind in pollsters]
        self.levels = self.pollsters[0]
        self.closed = []
        self.plan = plan(given, *self.pollsters, tanks=Tanks(given))
        self.shared = Shared(given, self.plan, self.shelf, self.close)
        self.runner = Runner(given, self.plan.groups[0], self.shared, lambda: None)

    def close(self, why):
        self.closed.append(why)
        self.runner.stop()

    def end(self):
        assert self.runner.wait(30)
        assert self.runner.error is None
        return self

    def ids(self):
        return {sample.resource_id for sample in self.shelf.taken()}

    @property
    def failures(self):
        return self.shared.failures.counts


@pytest.fixture
def group():
    """Start groups that end with the test."""
    made = []

    def make(*pollsters, moods=(), shelf=None, error=None, **changes):
        # One long window, which ends once all has been polled: time plays no part.
        long = {"interval": 1000.0, "poll_timeout": 1000.0}
        given = settings(**{"backend_url": next(stores)} | long | changes)
        found = Group(given, shelf or Shelf(), *(pollsters or (AsyncLevels,)))
        found.levels.moods |= dict(moods)
        found.shelf.error = error
        made.append(found)
        found.runner.start()
        return found

    yield make
    for found in made:
        found.runner.stop()
        assert found.runner.wait(30)
        found.shared.close()
        found.shared.end()


async def hang():
    await asyncio.Event().wait()


def test_what_waits_without_a_thread_is_polled_once_a_window_beside_what_blocks(group, until):
    found = group(AsyncLevels, Heats, cycles=None, interval=1.0)
    wanted = {(meter, tank.id) for meter in ("tank.level", "tank.heat") for tank in FEW}

    def windows(one):
        return {window for meter, id_, window in found.shelf.polls() if (meter, id_) == one}

    until(lambda: all(len(windows(one)) >= 2 for one in wanted), "each is polled in two windows")
    found.runner.stop()
    found.end()

    polls = found.shelf.polls()
    assert set(polls.values()) == {1}
    assert found.runner.tally.polls == polls.total()


def test_a_poll_that_hangs_on_the_loop_is_cancelled_and_the_others_are_polled_in_time(group, until):
    found = group(AsyncLevels, Heats, moods={SOUTH: hang}, poll_timeout=3.0).end()

    assert {(meter, id_) for meter, id_, _ in found.shelf.polls()} == {
        (meter, tank.id) for meter in ("tank.level", "tank.heat") for tank in FEW
    } - {("tank.level", SOUTH)}
    assert found.failures["pollster AsyncLevels", "TimedOut"] == 1
    until(lambda: found.levels.cancelled == [SOUTH], "it is told")
    until(lambda: found.shared.hanging == 0, "nothing is left of it")


def test_a_resource_that_fails_on_the_loop_costs_its_own_sample_alone(group):
    found = group(moods={SOUTH: ValueError("level -7")}).end()

    assert found.ids() == {tank.id for tank in FEW} - {SOUTH}
    assert found.failures["pollster AsyncLevels", "ValueError"] == 1


def test_polls_on_the_loop_get_no_more_time_than_ending_may_take(group, until):
    found = group(moods={tank.id: hang for tank in FEW}, cycles=None, drain_timeout=0.3)
    until(lambda: len(found.levels.polled) == len(FEW), "polls hang")

    found.runner.stop()

    assert found.runner.wait(30)
    assert found.runner.error is None


def test_no_more_polls_are_in_flight_than_are_allowed_and_all_are_made(group, until):
    go, running, most = threading.Event(), set(), []

    async def wait():
        running.add(asyncio.current_task())
        most.append(len(running))
        while not go.is_set():
            await asyncio.sleep(0.01)
        running.discard(asyncio.current_task())

    found = group(moods={tank.id: wait for tank in FEW}, max_in_flight=3)
    until(lambda: len(running) == 2, "one pollster's share is in flight")  # three quarters
    go.set()
    found.end()

    assert max(most) == 2
    assert found.ids() == {tank.id for tank in FEW}


def test_samples_that_the_loop_has_found_when_the_fence_passed_are_dropped(
    group, monkeypatch, until
):
    boottime, asleep = clock.boottime, [0.0]
    monkeypatch.setattr(clock, "boottime", lambda: boottime() + asleep[0])

    async def sleep():
        asleep[0] = 60.0  # the machine is suspended while it is polled

    found = group(moods={SOUTH: sleep}, only=(SOUTH,), cycles=None)
    until(lambda: found.failures["the lease", "Fenced"] == 1, "its samples are dropped")
    found.runner.stop()
    found.end()

    # It was polled again in the same window, under a lease of its own, or not at all.
    assert len(found.levels.polled) == 1 + len(found.shelf.taken())


def test_what_a_full_spool_refuses_together_it_may_take_in_part(group):
    class Narrow(Shelf):
        """Has room for one sample at once."""

        def put(self, items):
            if sum(len(batch) for batch, _ in items) > 1:
                raise SpoolFull("no room for so many")
            super().put(items)

    found = group(shelf=Narrow()).end()

    assert found.shelf.polls().total() == len(FEW)
    assert found.failures.total() == 0


def test_samples_that_are_not_taken_blame_no_resource_and_are_counted_each(group):
    found = group(error=SpoolFull("the spool is full")).end()

    assert found.failures["publishing", "SpoolFull"] == len(FEW)
    assert found.shared.counts.outcomes["g", "all"]["not_taken"] == len(FEW)
    assert found.runner.tally.polls == 0


def test_when_nobody_takes_samples_any_more_the_agent_is_told(group):
    found = group(cycles=None, error=OutputClosed("the reader has gone")).end()

    assert "the reader has gone" in found.closed[0]


# ---- over HTTP


@pytest.fixture
def server():
    with HTTPServer() as found:
        yield found


@pytest.fixture
def web(server, tmp_path):
    """Make an agent that asks these paths of the server for their loads."""

    def make(*paths, **changes):
        given = settings(
            **{"backend_url": next(stores), "definition_dirs": (tmp_path,), "group": None}
            | {"interval": 1000.0, "poll_timeout": 1000.0}
            | changes
        )
        (tmp_path / "web.yaml").write_text(
            "".join(
                f"- {{name: 'web.{number}', sample_type: gauge, unit: u, value_attribute: load, "
                f"url_path: '{server.url}{path}'}}\n"
                for number, path in enumerate(paths)
            )
        )
        found = Plugins({"http-definitions": HTTPDefinitions(given)}, HTTPPollster.make(given))
        shelf = Shelf()
        return Agent(given, plan=make_plan(given, found), outlet=shelf), shelf

    return make


def test_an_agent_that_has_polled_over_http_leaves_no_thread_and_no_connection(web, server, until):
    before = set(threading.enumerate())
    for path in ("/a", "/b"):
        server.answer(path, {"load": 0.5})
    agent, shelf = web("/a", "/b")

    agent.run()

    assert {(one.meter.name, one.volume) for one in shelf.taken()} == {
        ("web.0", 0.5),
        ("web.1", 0.5),
    }
    until(lambda: server.connections == 0, "the connections are closed")
    until(
        lambda: (
            not [
                thread
                for thread in set(threading.enumerate()) - before
                if not thread.name.startswith("Thread-")  # the server's own
            ]
        ),
        "every thread has ended",
    )


def test_an_endpoint_that_never_answers_delays_no_hand_over_and_costs_no_lease(web, server, until):
    server.answer("/hangs", hang=True)
    server.answer("/good", {"load": 0.5})
    agent, shelf = web("/hangs", "/good", cycles=None, interval=1.0, poll_timeout=60.0, group="g")
    thread = threading.Thread(target=agent.run)
    thread.start()
    until(lambda: server.count("/hangs") and shelf.taken(), "it hangs, and another is polled")

    with hashring.join(agent.settings.backend_url, "g", "b", ttl=2.0) as other:
        until(lambda: other.state == "settled", "another member gets its share")
        until(lambda: agent.status().state == "settled", "the agent has its own")
    agent.stop()

    thread.join(30)
    assert not thread.is_alive()
    assert agent.status().hanging == 0


def test_more_polls_than_there_may_be_files_are_not_in_flight(monkeypatch, caplog):
    monkeypatch.setattr(resource, "getrlimit", lambda which: (1024, 1024))
    set_to = []
    monkeypatch.setattr(resource, "setrlimit", lambda which, limits: set_to.append(limits))

    assert descriptors.room_for(1000) == 256
    assert "256 polls may be in flight instead of 1000" in caplog.text
    descriptors.raise_limit(1000)
    assert not set_to

    monkeypatch.setattr(resource, "getrlimit", lambda which: (1024, 524288))
    descriptors.raise_limit(1000)
    assert set_to == [(2600, 524288)]
