"""A member's lease on ZooKeeper is a session: what renews it, what ends it, whose it is."""

from __future__ import annotations

import contextlib
import logging
import subprocess
import sys
import time

import pytest

from hashring.driver import Driver
from hashring.errors import (
    LeaseLost,
    MemberExists,
    StoreUnavailable,
    StoreUnusable,
)
from hashring.testing.proxy import FaultProxy
from hashring.testing.suite.base import record
from tests.drivers.evicting import evict_who_does_not_hear
from tests.drivers.opening import Opened
from tests.drivers.patience import until_it_works
from tests.drivers.zookeeper.conftest import expire, members, packets
from tests.servers.process import LOOPBACK, wait_until
from tests.servers.zookeeper import ZooKeeperServer, kazoo


def test_a_member_is_an_ephemeral_node_that_carries_its_record_and_nothing_else(
    server: ZooKeeperServer, connect: Opened
) -> None:
    driver = connect(f"{server.url}/a/b")
    driver.join("group", "a", record("1"))

    with kazoo(server) as client:
        data, stat = client.get("/a/b/group/a")
        assert data == record("1")
        assert stat.ephemeralOwner not in (0, driver._watching.session.id)
        driver.publish("group", "a", record("1", applied="v"))
        assert client.get("/a/b/group/a")[0] == record("1", applied="v")
        driver.leave("group", "a")
        assert client.exists("/a/b/group/a") is None


def test_only_a_heartbeat_renews_a_lease(place: str, connect: Opened) -> None:
    idle, other = until_it_works(lambda: connect(place, ttl=1.0)), connect(place)
    until_it_works(lambda: idle.join("group", "idle", record("1")))
    other.join("group", "other", record("2"))

    def gone() -> bool:
        other.heartbeat()
        idle.wait("group", 0.05)  # reads and waits are signs of life, but not of a heartbeat
        return until_it_works(lambda: members(idle)) == {"other"}

    wait_until(gone, what="the end of a lease that nobody renewed")
    with pytest.raises(LeaseLost, match="'idle'"):
        until_it_works(idle.heartbeat)


def test_a_lease_lives_for_its_ttl_after_each_heartbeat(place: str, connect: Opened) -> None:
    driver, observer = until_it_works(lambda: connect(place, ttl=1.5)), connect(place)
    until_it_works(lambda: driver.join("group", "a", record("1")))
    began = beat = time.monotonic()
    while time.monotonic() < began + 2.0:  # well past the lease that join began
        called = time.monotonic()
        try:
            driver.heartbeat()
        except StoreUnavailable:  # it may have renewed the lease, or not
            continue
        except LeaseLost:
            # Only where this process was held up for longer than a lease: begin again.
            assert time.monotonic() - beat >= 1.5
            until_it_works(lambda: driver.join("group", "a", record("1")))
            began = beat = time.monotonic()
            continue
        beat = called
        assert members(observer) == {"a"} or time.monotonic() - beat >= 1.5

    wait_until(lambda: not members(observer), what="the end of the lease")

    assert time.monotonic() - beat > 1.5


def test_a_driver_without_a_lease_has_nothing_to_renew(place: str, connect: Opened) -> None:
    driver = connect(place)
    driver.heartbeat()
    driver.join("group", "a", record("1"))
    driver.leave("group", "a")
    driver.heartbeat()


def test_a_session_that_the_server_ended_is_a_lost_lease_and_can_be_begun_again(
    server: ZooKeeperServer, place: str, connect: Opened
) -> None:
    driver = connect(place)
    driver.join("group", "a", record("1"))
    expire(server, driver)

    with pytest.raises(LeaseLost):
        driver.publish("group", "a", record("1"))
    for _ in range(2):
        with pytest.raises(LeaseLost):
            driver.heartbeat()
    driver.join("group", "a", record("1"))
    driver.heartbeat()
    assert members(driver) == {"a"}


def test_a_member_whose_lease_ended_cannot_touch_its_successor(
    server: ZooKeeperServer, place: str, connect: Opened
) -> None:
    old, new = connect(place), connect(place)
    old.join("group", "a", record("old"))
    expire(server, old)
    new.join("group", "a", record("new"))  # the node has the version that the old one expects

    with pytest.raises(LeaseLost):
        old.publish("group", "a", record("old", applied="v"))
    old.leave("group", "a")
    with pytest.raises(MemberExists, match="another incarnation"):
        old.join("group", "a", record("old"))

    assert new.read("group").records == {"a": record("new")}
    new.heartbeat()


def test_a_member_that_an_operator_deleted_has_lost_its_lease(
    server: ZooKeeperServer, connect: Opened
) -> None:
    driver = connect(f"{server.url}/deleted")
    driver.join("group", "a", record("1"))
    with kazoo(server) as client:
        client.delete("/deleted/group/a")

    with pytest.raises(LeaseLost):
        driver.heartbeat()
    with pytest.raises(LeaseLost):
        driver.publish("group", "a", record("1"))


def test_one_driver_in_two_groups_leaves_one_and_keeps_the_other(
    place: str, connect: Opened
) -> None:
    driver = connect(place)
    driver.join("one", "a", record("1"))
    driver.join("two", "a", record("1"))

    driver.leave("one", "a")
    driver.leave("one", "a")

    driver.heartbeat()
    assert members(driver, "one") == set()
    assert members(driver, "two") == {"a"}


def test_after_kill_9_a_member_is_gone_soon_after_its_ttl(place: str, connect: Opened) -> None:
    program = (
        "import sys, json, hashring.driver as d\n"
        "driver = d.load(sys.argv[1], ttl=5.0); driver.open()\n"
        "driver.join('group', 'victim', json.dumps({'incarnation': '1'}).encode())\n"
        "while True:\n    driver.heartbeat(); print('beat', flush=True)\n"
    )
    observer = connect(place)
    with subprocess.Popen([sys.executable, "-c", program, place], stdout=subprocess.PIPE) as victim:
        assert victim.stdout is not None
        for _ in range(20):
            assert victim.stdout.readline() == b"beat\n"
        victim.kill()

    with pytest.raises(MemberExists):
        observer.join("group", "victim", record("2"))
    wait_until(lambda: not members(observer), what="the end of the victim's lease")
    observer.join("group", "victim", record("2"))


# -- outcomes that are unknown


def test_a_write_that_was_given_up_for_lost_never_lands_after_a_later_one(connect: Opened) -> None:
    with ZooKeeperServer() as server:
        driver = until_it_works(lambda: connect(f"{server.url}/?timeout=1", ttl=20.0))
        until_it_works(lambda: driver.join("group", "a", record("1")))
        server.pause()  # what is sent now is read when the server runs on
        for number in range(3):
            with pytest.raises(StoreUnavailable, match="publishing"):
                driver.publish("group", "a", record("1", late=number))
        server.resume()

        until_it_works(lambda: driver.publish("group", "a", record("1", final=True)))

        with kazoo(server) as client:  # whatever is still in the server's hands passes before this
            client.create("/after")
            assert client.get("/hashring/group/a")[0] == record("1", final=True)


def test_a_join_whose_answer_was_lost_is_joined_by_asking_again(connect: Opened) -> None:
    with ZooKeeperServer() as server:
        driver = until_it_works(lambda: connect(f"{server.url}/?timeout=1", ttl=20.0))
        until_it_works(lambda: driver.join("group", "b", record("b")))
        server.pause()
        with pytest.raises(StoreUnavailable):
            driver.join("group", "a", record("1"))
        server.resume()
        wait_until(lambda: "a" in members(connect(server.url)) or joined(driver))

        # A new incarnation of the same process.
        until_it_works(lambda: driver.join("group", "a", record("2")))

        assert until_it_works(lambda: driver.read("group")).records["a"] == record("2")


def joined(driver: Driver) -> bool:
    """Join under the first incarnation, as a caller does who was told nothing."""
    with contextlib.suppress(StoreUnavailable):
        driver.join("group", "a", record("1"))
        driver.leave("group", "a")
        return True
    return False


def test_a_server_that_is_silent_is_sent_more_until_it_answers(
    server: ZooKeeperServer, connect: Opened
) -> None:
    # One of an ensemble can hold an answer back until it hears from a client: ZOOKEEPER-4537.
    with FaultProxy(LOOPBACK, server.port) as proxy:
        driver = connect(f"zookeeper://{LOOPBACK}:{proxy.address[1]}/silent?timeout=30", ttl=60.0)
        driver.join("group", "a", record("1"))
        proxy.delay(down=4.0)
        before = packets(server)

        driver.publish("group", "a", record("1", turn=1))

        assert packets(server) - before >= 4  # mntr itself, the publish, and two pings at least
        # Answers to pings come late, too, and are taken for no others.
        proxy.restore()
        for turn in range(2, 6):
            driver.publish("group", "a", record("1", turn=turn))
            assert driver.read("group").records == {"a": record("1", turn=turn)}
        driver.heartbeat()


# -- the length of sessions


def test_servers_that_grant_only_longer_sessions_are_named_in_a_warning(
    connect: Opened, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        ZooKeeperServer(min_session=3000) as server,
        caplog.at_level(logging.WARNING, "hashring.drivers.zookeeper"),
    ):
        until_it_works(lambda: connect(server.url, ttl=2.8)).heartbeat()
    assert "minSessionTimeout" in caplog.text


def test_servers_that_grant_only_shorter_sessions_are_refused(connect: Opened) -> None:
    with (
        ZooKeeperServer(max_session=2000) as server,
        pytest.raises(StoreUnusable, match="maxSessionTimeout"),
    ):
        connect(server.url, ttl=5.0)


def test_by_force_a_member_that_does_not_hear_is_ended_and_nobody_gains_before_its_fence(
    place: str,
) -> None:
    assert evict_who_does_not_hear(f"{place}?timeout=3") == []


def test_a_write_that_was_not_answered_before_its_lease_was_seized_lands_nowhere(
    place: str, connect: Opened
) -> None:
    """Its next try expects the version before the last one, which the new node must not have."""
    seizes = connect(place)
    for published in range(4):
        a, name = connect(place), f"a{published}"
        a.join("group", name, record("1"))
        for number in range(published + 1):
            a.publish("group", name, record("1", number=number))
        a._leases["group", name].version -= 1  # as where the last answer was lost
        seizes.seize("group", name, record("2"))
        for number in range(published + 3):
            with pytest.raises(LeaseLost):
                a.publish("group", name, record("1"))
            seizes.publish("group", name, record("2", number=number))
            assert seizes.read("group").records[name] == record("2", number=number)


def test_a_seizure_whose_answer_was_lost_is_not_done_twice(place: str, connect: Opened) -> None:
    a, seizes = connect(place), connect(place)
    a.join("group", "a", record("1"))
    seizes.seize("group", "a", record("2"))
    before = seizes._leases["group", "a"].version

    seizes.seize("group", "a", record("2"))

    assert seizes._leases["group", "a"].version == before
    with pytest.raises(LeaseLost):
        a.publish("group", "a", record("1"))
    seizes.heartbeat()
