"""What only an ensemble does: followers that die or lag, a leader killed under load, no quorum."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator

import pytest

from hashring.driver import Driver
from hashring.errors import HashringError, LeaseLost, StoreUnavailable
from hashring.testing.suite.base import record
from tests.drivers.opening import Opened, opening
from tests.drivers.patience import until_it_works
from tests.servers.process import wait_until
from tests.servers.zookeeper import Ensemble

pytestmark = pytest.mark.slow

TTL = 6.0
"""Seconds of a lease: longer than a busy machine stands still."""


@pytest.fixture(scope="module")
def shared() -> Iterator[Ensemble]:
    with Ensemble(tick=400, min_session=800) as ensemble:
        yield ensemble


@pytest.fixture
def ensemble(shared: Ensemble) -> Iterator[Ensemble]:
    """The ensemble, whole before each test whatever the one before has killed."""
    for server in shared.servers:
        server.resume()
        if not server.running:
            server.launch()
    for server in shared.servers:
        server.wait_ready()
    yield shared
    for server in shared.servers:
        server.resume()


@pytest.fixture
def connect() -> Iterator[Opened]:
    # A busy machine may make the ensemble vote anew.
    with opening(ttl=TTL, timeout=20.0) as opened:
        yield opened


def test_a_heartbeat_counts_even_if_the_follower_that_took_it_dies_at_once(
    ensemble: Ensemble, connect: Opened
) -> None:
    follower = ensemble.follower
    driver = connect(f"{follower.url}/follower-dies")
    observer = connect(f"{ensemble.leader.url}/follower-dies")
    joined = time.monotonic()
    driver.join("group", "a", record("1"))
    wait_until(lambda: time.monotonic() > joined + 0.5 * TTL, what="most of the lease's time")

    beat = time.monotonic()
    driver.heartbeat()
    follower.kill()  # and with it all that it had not told the leader

    wait_until(lambda: not observer.read("group").records, what="the end of the lease")
    assert time.monotonic() - beat > TTL


def test_a_reading_through_a_follower_that_lags_is_of_now(
    ensemble: Ensemble, connect: Opened
) -> None:
    follower = ensemble.follower
    writer = connect(f"{ensemble.leader.url}/lag", ttl=30.0)
    reader = connect(f"{follower.url}/lag", ttl=30.0)
    writer.join("group", "a", record("1", turn=-1))
    for turn in range(20):
        assert reader.read("group").records == {"a": record("1", turn=turn - 1)}
        follower.pause()
        for step in range(30):
            writer.publish("group", "a", record("1", turn=turn, step=step))
        writer.publish("group", "a", record("1", turn=turn))
        follower.resume()  # it has the reader's question and the leader's news to read

        assert reader.read("group").records == {"a": record("1", turn=turn)}


def test_a_leader_without_followers_answers_no_reading(ensemble: Ensemble, connect: Opened) -> None:
    # It answers a sync until it notices, and knows nothing of what its successor commits.
    leader = ensemble.leader
    driver = until_it_works(lambda: connect(f"{leader.url}/alone?timeout=1", ttl=30.0))
    until_it_works(lambda: driver.join("group", "a", record("1")))
    until_it_works(lambda: driver.read("group"))
    others = [server for server in ensemble.servers if server is not leader]
    for server in others:
        server.pause()

    with pytest.raises(StoreUnavailable, match="reading group 'group'"):
        driver.read("group")

    for server in others:
        server.resume()
    assert until_it_works(lambda: driver.read("group")).records == {"a": record("1")}


class Worker:
    """A member at work: it beats and publishes until told to stop, and keeps what went wrong."""

    def __init__(self, driver: Driver, member: str) -> None:
        self.driver, self.member = driver, member
        self.turn = 0
        self.away = 0
        self.errors: list[Exception] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work)
        driver.join("group", member, record(member, turn=0))
        self._thread.start()

    def _work(self) -> None:
        seen: dict[str, int] = {}
        while not self._stop.wait(0.02):
            try:
                self.driver.heartbeat()
                self.driver.publish("group", self.member, record(self.member, turn=self.turn + 1))
                self.turn += 1
                records = self.driver.read("group").records
            except StoreUnavailable:
                self.away += 1
                continue
            except HashringError as error:
                self.errors.append(error)
                return
            turns = {member: json.loads(data)["turn"] for member, data in records.items()}
            if turns.get(self.member) != self.turn or any(
                turns.get(member, -1) < turn for member, turn in seen.items()
            ):
                self.errors.append(AssertionError(f"{turns} read after {seen} and {self.turn}"))
                return
            seen = turns

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()


@pytest.fixture
def workers(ensemble: Ensemble, connect: Opened) -> Iterator[list[Worker]]:
    """Five members at work through all servers, with leases that outlast an election."""
    url = f"{ensemble.url}/work?timeout=2"
    workers = [Worker(connect(url, ttl=20.0), f"member-{number}") for number in range(5)]
    try:
        yield workers
    finally:
        for worker in workers:
            worker.stop()
        for worker in workers:
            worker.driver.leave("group", worker.member)


def go_on(workers: list[Worker]) -> None:
    """Wait until every worker has done something new."""
    before = [worker.turn for worker in workers]
    wait_until(
        lambda: all(
            worker.turn > turn + 2 or worker.errors
            for worker, turn in zip(workers, before, strict=True)
        ),
        within=60.0,
        what="work that goes on",
    )
    assert [worker.errors for worker in workers] == [[]] * len(workers)


def test_a_leader_killed_under_load_costs_nobody_a_lease(
    ensemble: Ensemble, workers: list[Worker]
) -> None:
    go_on(workers)
    for _ in range(2):
        leader = ensemble.leader
        leader.kill()
        go_on(workers)
        assert leader not in (ensemble.leader,)
        leader.start()
    go_on(workers)


def test_a_leader_that_freezes_and_wakes_up_as_nobody_costs_nobody_a_lease(
    ensemble: Ensemble, workers: list[Worker]
) -> None:
    go_on(workers)
    leader = ensemble.leader
    leader.pause()
    wait_until(
        lambda: any(s.mode == "leader" for s in ensemble.servers if s is not leader),
        within=60.0,
        what="a new leader",
    )
    go_on(workers)
    leader.resume()
    go_on(workers)


@pytest.mark.long  # as the fault runs of an ensemble do
def test_without_a_quorum_every_call_fails_in_time_and_leases_outlast_it(
    ensemble: Ensemble, connect: Opened
) -> None:
    driver = until_it_works(lambda: connect(f"{ensemble.url}/quorum?timeout=0.5", ttl=TTL))
    until_it_works(lambda: driver.join("group", "a", record("1")))
    until_it_works(lambda: driver.read("group"))
    leader, follower = ensemble.leader, ensemble.follower
    leader.kill()
    follower.kill()

    # Nobody keeps the time of leases now: the one that leads next grants each its whole time.
    began = time.monotonic()
    while time.monotonic() < began + TTL + 0.5:
        for call in (
            driver.heartbeat,
            lambda: driver.publish("group", "a", record("1", x=1)),
            lambda: driver.read("group"),
            lambda: driver.join("group", "b", record("2")),
        ):
            with pytest.raises(StoreUnavailable):
                call()
        driver.wait("group", 0.01)
    for server in (leader, follower):
        server.launch()

    until_it_works(driver.heartbeat)
    assert until_it_works(lambda: driver.read("group")).records.keys() >= {"a"}


@pytest.mark.long
def test_a_dead_members_lease_ends_though_its_follower_lives(
    ensemble: Ensemble, connect: Opened
) -> None:
    driver = connect(f"{ensemble.follower.url}/dead")
    observer = connect(f"{ensemble.leader.url}/dead")
    driver.join("group", "a", record("1"))
    driver.heartbeat()
    driver.read("group")

    wait_until(lambda: not observer.read("group").records, what="the end of the lease")

    with pytest.raises(LeaseLost):
        driver.heartbeat()
