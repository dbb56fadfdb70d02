"""Reading and waiting on ZooKeeper: what a change costs, and what wakes a reader."""

from __future__ import annotations

import contextlib
import itertools
import statistics
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hashring.errors import (
    StoreUnavailable,
)
from hashring.testing.suite.base import record
from hashring.testing.suite.changes import Follower
from tests.drivers.opening import Opened
from tests.drivers.patience import until_it_works
from tests.drivers.zookeeper.conftest import expire, members, packets
from tests.servers.zookeeper import ZooKeeperServer


def test_a_change_in_a_group_of_200_costs_its_readers_a_few_requests(connect: Opened) -> None:
    with ZooKeeperServer() as server:
        crowd, one, reader = (connect(server.url, ttl=30.0) for _ in range(3))
        for number in range(200):
            crowd.join("group", f"member-{number}", record("1"))
        one.join("group", "one", record("1"))
        follower = Follower(reader, "group")
        assert follower.read().size == 201
        packets(server)
        counts = [packets(server)]

        for number in range(10):
            one.publish("group", "one", record("1", applied=number))
            follower.read()
            assert follower.records["one"] == record("1", applied=number)
            counts.append(packets(server))

        # The publish, a sync and a get of the reader, and mntr itself. More where the machine
        # stood still meanwhile, and made the driver ask after an answer: so, in most rounds.
        costs = [after - before for before, after in itertools.pairwise(counts)]
        assert statistics.median(costs) <= 4


def test_wait_returns_for_a_join_a_publish_a_leave_and_an_expiry(
    server: ZooKeeperServer, place: str, connect: Opened
) -> None:
    driver, observer = connect(place), connect(place)
    assert members(observer) == set()  # not even the group is there

    def change_seen(change: Callable[[], None]) -> bool:
        # Far longer than any lease in this test: a wait that missed the change fails it by time.
        waiting = threading.Thread(target=observer.wait, args=("group", 200.0), daemon=True)
        waiting.start()
        change()
        waiting.join(60.0)
        return not waiting.is_alive()

    assert change_seen(lambda: driver.join("group", "a", record("1")))
    assert members(observer) == {"a"}
    assert change_seen(lambda: driver.publish("group", "a", record("1", x=1)))
    assert observer.read("group").records == {"a": record("1", x=1)}
    assert change_seen(lambda: driver.leave("group", "a"))
    assert members(observer) == set()
    assert change_seen(lambda: driver.join("group", "a", record("1")))
    assert members(observer) == {"a"}
    assert change_seen(lambda: expire(server, driver))
    assert members(observer) == set()


def test_a_change_between_read_and_wait_is_not_missed(place: str, connect: Opened) -> None:
    driver, observer = connect(place), connect(place)
    driver.join("group", "a", record("1"))
    members(observer)
    driver.publish("group", "a", record("1", x=1))

    observer.wait("group", 200.0)  # pytest's own time limit ends a wait that sleeps through

    assert observer.read("group").records == {"a": record("1", x=1)}


def test_a_heartbeat_wakes_nobody(place: str, connect: Opened) -> None:
    driver, observer = connect(place), connect(place)
    driver.join("group", "a", record("1"))
    members(observer)
    waited = threading.Thread(target=observer.wait, args=("group", 200.0), daemon=True)
    waited.start()
    began, beats = time.monotonic(), 0
    while beats < 10 or time.monotonic() < began + 1.0:
        driver.heartbeat()
        beats += 1
        assert waited.is_alive()
    driver.publish("group", "a", record("1", x=1))
    waited.join(60.0)
    assert not waited.is_alive()


def test_a_reader_keeps_its_watches_through_a_long_wait(place: str, connect: Opened) -> None:
    driver, observer = connect(place), until_it_works(lambda: connect(place, ttl=2.0))
    driver.join("group", "a", record("1"))

    def are_kept() -> bool:
        until_it_works(lambda: members(observer))
        session = observer._watching.session.id

        observer.wait("group", 6.5)  # more than three times the watching session's timeout

        assert until_it_works(lambda: members(observer)) == {"a"}
        return bool(observer._watching.session.id == session)

    # A machine that stands still for as long as that timeout ends a session as well.
    assert any(are_kept() for _ in range(3))


def test_a_process_with_a_thousand_open_files_waits_as_any_other(
    place: str, connect: Opened, tmp_path: Path
) -> None:
    with contextlib.ExitStack() as files:
        while files.enter_context((tmp_path / "file").open("w")).fileno() < 1024:
            pass
        driver, observer = connect(place), connect(place)
        driver.join("group", "a", record("1"))
        members(observer)
        observer.wait("group", 0.1)
        driver.publish("group", "a", record("1", x=1))
        observer.wait("group", 200.0)  # as above
        assert observer.read("group").records == {"a": record("1", x=1)}


def test_close_ends_a_wait_in_another_thread(place: str, connect: Opened) -> None:
    driver = connect(place)
    members(driver)
    waiting = threading.Thread(target=driver.wait, args=("group", 200.0), daemon=True)
    waiting.start()

    driver.close()
    driver.close()

    waiting.join(60.0)
    assert not waiting.is_alive()
    with pytest.raises(StoreUnavailable, match="not open"):
        driver.read("group")


def test_a_server_that_restarts_keeps_leases_and_readers_find_it_again(connect: Opened) -> None:
    with ZooKeeperServer() as server:
        driver = connect(f"{server.url}/?retries=0", ttl=20.0)
        driver.join("group", "a", record("1"))
        driver.publish("group", "a", record("1", x=1))
        members(driver)
        server.kill()
        for call in (driver.heartbeat, lambda: driver.read("group")):
            with pytest.raises(StoreUnavailable):
                call()
        driver.wait("group", 0.1)
        server.start()

        driver.heartbeat()

        reading = driver.read("group")
        assert reading.records == {"a": record("1", x=1)}
