"""A store that is away: a member says so in few lines, and does not wait for what it has lost."""

from __future__ import annotations

import logging
import threading
import time

import pytest

import hashring
from hashring.driver import Changes, load
from hashring.errors import LeaseLost, StoreUnavailable
from tests.servers.memcached import MemcachedServer
from tests.servers.process import wait_until
from tests.servers.redis import RedisServer
from tests.servers.zookeeper import ZooKeeperServer

SERVERS = [RedisServer, MemcachedServer, ZooKeeperServer]
AnyServer = RedisServer | MemcachedServer | ZooKeeperServer
TTL = 4.0
FEW = 6
"""Lines in some seconds without a store: away, what is said at the end, and one or two of a client
library's own."""


@pytest.mark.parametrize("server", SERVERS)
def test_a_member_whose_store_was_killed_says_little_and_ends_at_once_when_it_is_fenced(
    server: type[AnyServer], caplog: pytest.LogCaptureFixture
) -> None:
    with server() as store:
        partition = hashring.join(store.url, "group", "a", ttl=TTL)
        assert partition.wait_settled(60)
        caplog.set_level(logging.INFO)
        caplog.clear()
        store.kill()
        wait_until(lambda: partition.state == "fenced", what="the fence")
        # Each of the two threads has tried again and again by the time of twice the lease.
        wait_until(lambda: hashring.clock.boottime() > partition.deadline + TTL, what="many tries")
        assert partition.reason == "the store is away"

        began = time.monotonic()
        # A drain that waited for the rest to take over would take the whole minute.
        assert not partition.drain(60)
        assert time.monotonic() - began < 30
        assert partition.state == "left"

    assert any("the store is away" in text for text in caplog.messages)
    assert len(caplog.records) <= FEW, caplog.text


@pytest.mark.parametrize("server", SERVERS)
def test_a_drain_before_the_fence_waits_for_no_longer_than_the_lease(
    server: type[AnyServer],
) -> None:
    with server() as store:
        partition = hashring.join(store.url, "group", "a", ttl=TTL)
        assert partition.wait_settled(60)
        store.kill()
        began = time.monotonic()
        assert not partition.drain(60)
        assert time.monotonic() - began < 30


def test_a_fenced_member_tells_a_store_that_is_back_unnoticed_that_it_leaves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A store whose clock stood still while it was down keeps the lease for another ttl.
    driver = load("memory://unnoticed", ttl=0.5)
    told = []
    leave = driver.leave
    with hashring.join(driver, "group", "a") as partition:
        assert partition.wait_settled(60)

        def away(*arguments: object) -> None:
            raise StoreUnavailable("the server is down")

        monkeypatch.setattr(driver, "heartbeat", away)
        monkeypatch.setattr(driver, "read_since", away)
        monkeypatch.setattr(driver, "leave", lambda *names: (told.append(names), leave(*names)))
        wait_until(lambda: partition.state == "fenced", what="the fence")

    assert told == [("group", "a")]


@pytest.mark.parametrize("answer", ["forgotten", "renewed"])
def test_a_heartbeat_that_the_store_answers_ends_the_pause_between_two_readings(
    monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    driver = load(f"memory://answers-{answer}", ttl=1.5)
    beat, read = driver.heartbeat, driver.read_since
    with hashring.join(driver, "group", "a") as partition:
        assert partition.wait_settled(60)
        failed, readings = threading.Event(), []

        def away(*arguments: object) -> None:
            failed.set()
            raise StoreUnavailable("the server is down")

        def back(group: str, cursor: bytes | None) -> Changes | None:
            readings.append(group)
            return read(group, cursor)

        beats = iter([StoreUnavailable("down"), LeaseLost("forgotten")])

        def answered() -> None:
            if (error := next(beats, None)) and (answer == "forgotten" or "down" in str(error)):
                raise error
            beat()

        # What is between two readings that failed would be minutes.
        monkeypatch.setattr("hashring.partition.worker.jittered", lambda pause: 1000 * pause)
        monkeypatch.setattr(driver, "read_since", away)
        assert failed.wait(60)
        monkeypatch.setattr("hashring.partition.worker.jittered", lambda pause: pause)
        monkeypatch.setattr(driver, "read_since", back)
        monkeypatch.setattr(driver, "heartbeat", answered)
        wait_until(lambda: readings, what="a reading soon after the heartbeat")
