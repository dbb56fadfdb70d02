"""What a Memcached server forgets, all or one key, makes the group's memory young."""

from __future__ import annotations

import itertools
import json
import threading
import time

import pytest

from hashring.driver import Driver
from hashring.errors import LeaseLost
from hashring.testing.proxy import FaultProxy
from hashring.testing.suite.suite import record
from tests.drivers.opening import Opened
from tests.drivers.patience import until_it_works
from tests.servers.memcached import MemcachedServer
from tests.servers.process import LOOPBACK, wait_until

pytestmark = pytest.mark.slow


def joined(server: MemcachedServer, opened: Opened, ttl: float = 60.0) -> tuple[Driver, Driver]:
    """Return two drivers, the first of which has joined as ``a`` in a group that has an age."""
    a, b = opened(server.url, ttl), opened(server.url, ttl)
    a.join("g", "a", record("1"))
    wait_until(lambda: b.read("g").memory_age > 0)
    return a, b


class TestForgetting:
    def test_after_a_restart_the_memory_is_young(
        self, server: MemcachedServer, opened: Opened
    ) -> None:
        a, b = joined(server, opened)
        server.kill()
        killed = time.monotonic()
        server.start()
        reading = b.read("g")
        assert reading.records == {}
        assert reading.memory_age <= time.monotonic() - killed
        with pytest.raises(LeaseLost):
            a.heartbeat()
        a.join("g", "a", record("1"))
        newcomer = opened(server.url)
        reading = newcomer.read("g")
        assert reading.records.keys() == {"a"}
        assert reading.memory_age <= time.monotonic() - killed
        wait_until(lambda: newcomer.read("g").memory_age > 1)

    def test_a_flush_makes_the_memory_young_and_wakes_those_who_wait(
        self, server: MemcachedServer, opened: Opened
    ) -> None:
        _, b = joined(server, opened)
        server.flush()
        flushed = time.monotonic()
        b.wait("g", 120)
        reading = b.read("g")
        passed = time.monotonic() - flushed
        assert passed < 90
        assert reading.records == {}
        assert reading.memory_age <= passed

    @pytest.mark.parametrize("key", ["hashring:g", "hashring:g:member:a"])
    def test_one_key_that_is_gone_counts_as_forgetting(
        self, server: MemcachedServer, opened: Opened, key: str
    ) -> None:
        a, b = joined(server, opened)
        client = server.client()
        assert client.delete(key)
        client.close()
        deleted = time.monotonic()
        b.wait("g", 120)
        reading = b.read("g")
        assert reading.records == {}
        assert reading.memory_age <= time.monotonic() - deleted
        a.join("g", "a", record("1"))
        assert b.read("g").records.keys() == {"a"}

    def test_a_member_that_rejoins_before_anyone_looked_does_not_hide_it(
        self, server: MemcachedServer, opened: Opened
    ) -> None:
        a, b = joined(server, opened)
        client = server.client()
        assert client.delete("hashring:g:member:a")
        client.close()
        deleted = time.monotonic()
        with pytest.raises(LeaseLost):
            a.heartbeat()
        a.join("g", "a", record("1"))
        reading = b.read("g")
        assert reading.records.keys() == {"a"}
        assert reading.memory_age <= time.monotonic() - deleted

    def test_a_lost_version_only_wakes_those_who_wait(
        self, server: MemcachedServer, opened: Opened
    ) -> None:
        _, b = joined(server, opened)
        client = server.client()
        assert client.delete("hashring:g:version")
        client.close()
        began = time.monotonic()
        b.wait("g", 120)
        assert time.monotonic() - began < 90
        reading = b.read("g")
        assert reading.records.keys() == {"a"}
        assert reading.memory_age > 0

    def test_an_eviction_makes_the_memory_young(self, opened: Opened) -> None:
        with MemcachedServer(memory=2) as server:
            a, b = joined(server, opened)
            client = server.client()
            rounds = itertools.count()

            def evicted() -> bool:
                # Of every size, since memcached evicts among items of about the same; and many
                # before each look, since it spares what was looked at.
                for number in itertools.islice(rounds, 10):
                    for size in range(20, 400, 4):
                        keys = (f"other:{number}:{size}:{index}" for index in range(200))
                        client.set_many(dict.fromkeys(keys, "x" * size), noreply=True)
                return client.get("hashring:g:member:a") is None

            wait_until(evicted, within=60, what="the eviction of the member's key")
            client.close()
            began = time.monotonic()
            reading = b.read("g")
            assert reading.records == {}
            assert reading.memory_age <= time.monotonic() - began
            a.join("g", "a", record("1"))
            assert b.read("g").records.keys() == {"a"}

    def test_leaving_and_dying_are_not_taken_for_forgetting(
        self, server: MemcachedServer, opened: Opened
    ) -> None:
        a, b = joined(server, opened)
        short = until_it_works(lambda: opened(server.url, ttl=1.0))
        until_it_works(lambda: short.join("g", "dies", record("1")))
        a.leave("g", "a")
        wait_until(lambda: b.read("g").records == {})
        client = server.client()
        since = client.get("hashring:g")
        client.close()
        before = b.read("g").memory_age
        wait_until(lambda: b.read("g").memory_age > before)
        client = server.client()
        assert client.get("hashring:g") == since
        client.close()

    @pytest.mark.parametrize("loss", ["the list", "the list, and a reader made another"])
    def test_a_member_whose_group_lost_its_list_is_told_so_by_its_heartbeat(
        self, server: MemcachedServer, opened: Opened, loss: str
    ) -> None:
        a, b = joined(server, opened)
        a.heartbeat()
        client = server.client()
        assert client.delete("hashring:g")
        client.close()
        if loss != "the list":
            assert b.read("g").records == {}
        for _ in range(2):
            with pytest.raises(LeaseLost, match="'a'"):
                a.heartbeat()
        a.join("g", "a", record("1"))
        a.heartbeat()
        assert b.read("g").records.keys() == {"a"}

    def test_the_memory_is_never_younger_than_the_list_it_was_read_from(
        self, server: MemcachedServer, opened: Opened
    ) -> None:
        joined(server, opened)
        client = server.client()
        since = json.loads(client.get("hashring:g"))[0]
        client.close()
        with FaultProxy(LOOPBACK, server.port) as proxy:
            host, port = proxy.address
            far = opened(f"memcached://{host}:{port}?timeout=30", 60.0)
            far.read("g")

            def gets() -> int:
                return int(str(server.stats()["get_hits"]))

            before, ages = gets(), []
            proxy.delay(up=1.5)
            reading = threading.Thread(target=lambda: ages.append(far.read("g").memory_age))
            reading.start()
            wait_until(lambda: gets() > before, what="the question for the list")
            uptime = int(str(server.stats()["uptime"]))
            reading.join(60)
            assert 0 <= ages[0] <= uptime - since

    def test_a_join_that_was_cut_off_does_not_hide_that_its_key_was_forgotten(
        self, server: MemcachedServer, opened: Opened
    ) -> None:
        _, b = joined(server, opened)
        wait_until(lambda: b.read("g").memory_age > 2)
        with FaultProxy(LOOPBACK, server.port) as proxy:
            host, port = proxy.address
            a = opened(f"memcached://{host}:{port}?timeout=20", 60.0)
            a.join("g", "b", record("1"))
            client = server.client()
            assert client.delete("hashring:g:member:b")
            client.close()
            deleted = time.monotonic()

            def writes() -> int:
                return int(str(server.stats()["cmd_set"]))

            before = writes()
            proxy.delay(up=0.5)
            joining = threading.Thread(target=a.join, args=("g", "b", record("1")))
            joining.start()
            wait_until(lambda: writes() > before, what="the arrival of the new key")
            proxy.cut()
            proxy.delay(up=0.0)
            joining.join(60)
            reading = b.read("g")
            assert reading.records.keys() == {"a", "b"}
            assert reading.memory_age <= time.monotonic() - deleted
