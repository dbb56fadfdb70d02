"""What a Redis server forgets or falls back to makes the group's memory young."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

import pytest
import redis

import hashring
from hashring.errors import LeaseLost
from hashring.testing.suite.suite import record
from tests.drivers.opening import Opened
from tests.drivers.patience import are_shared_out, renew_or_rejoin, until_it_works
from tests.drivers.redis.conftest import TTL
from tests.servers.process import wait_until
from tests.servers.redis import RedisServer


class TestForgetting:
    @pytest.fixture(params=[False, True], ids=["without persistence", "with persistence"])
    def server(self, request: pytest.FixtureRequest) -> Iterator[RedisServer]:
        with RedisServer(persist=request.param) as running:
            self.persistent = request.param
            yield running

    def test_after_a_restart_the_memory_is_young_whether_the_records_are_there_or_not(
        self, server: RedisServer, opened: Opened
    ) -> None:
        a, b = opened(server.url), opened(server.url)
        a.join("g", "a", record("1"))
        wait_until(lambda: b.read("g").memory_age > 0.5)
        server.kill()
        killed = time.monotonic()
        server.start()
        reading = b.read("g")
        assert reading.memory_age <= time.monotonic() - killed
        assert ("a" in reading.records) == self.persistent
        if self.persistent:
            a.heartbeat()
        else:
            with pytest.raises(LeaseLost):
                a.heartbeat()
            a.join("g", "a", record("1"))
        assert b.read("g").records.keys() == {"a"}

    def test_the_memory_is_young_for_a_newcomer_too_and_then_grows(
        self, server: RedisServer, opened: Opened
    ) -> None:
        opened(server.url).join("g", "a", record("1"))
        server.kill()
        killed = time.monotonic()
        server.start()
        newcomer = opened(server.url)
        first = newcomer.read("g").memory_age
        assert first <= time.monotonic() - killed
        wait_until(lambda: opened(server.url).read("g").memory_age > first + 0.2)

    def test_a_flush_makes_the_memory_young_and_wakes_those_who_wait(
        self, server: RedisServer, opened: Opened
    ) -> None:
        a, b = opened(server.url), opened(server.url)
        a.join("g", "a", record("1"))
        wait_until(lambda: b.read("g").memory_age > 0.3)
        with server.client() as client:
            client.flushall()
        flushed = time.monotonic()
        b.wait("g", 120)
        reading = b.read("g")
        passed = time.monotonic() - flushed
        assert passed < 90
        assert reading.records == {}
        assert reading.memory_age <= passed

    @pytest.mark.parametrize("part", ["group", "leases", "owners", "records", "changes", "writers"])
    def test_one_key_that_is_gone_counts_as_forgetting_everything(
        self, server: RedisServer, opened: Opened, part: str
    ) -> None:
        a, b = opened(server.url), opened(server.url)
        a.join("g", "a", record("1"))
        wait_until(lambda: b.read("g").memory_age > 0.3)
        with server.client() as client:
            assert client.delete(f"hashring:{{g}}:{part}") == 1
        deleted = time.monotonic()
        reading = b.read("g")
        assert reading.records == {}
        assert reading.memory_age <= time.monotonic() - deleted
        with pytest.raises(LeaseLost):
            a.heartbeat()


def test_an_eviction_makes_the_memory_young(opened: Opened) -> None:
    with RedisServer(maxmemory="4mb", maxmemory_policy="allkeys-random") as server:
        a, b = opened(server.url), opened(server.url)
        a.join("g", "a", record("1"))
        wait_until(lambda: b.read("g").memory_age > 0.3)
        with server.client() as client:
            names = {f"hashring:{{g}}:{part}" for part in ("group", "leases", "records")}
            numbers = iter(range(100_000))

            def evicted() -> bool:
                for _ in range(100):
                    client.set(f"other:{next(numbers)}", "x" * 1000)
                return client.exists(*names) < len(names)

            wait_until(evicted, what="the eviction of one of the group's keys")
            client.config_set("maxmemory", "100mb")
        began = time.monotonic()
        assert b.read("g").memory_age <= time.monotonic() - began
        renew_or_rejoin(a, "a", {})
        assert b.read("g").records.keys() == {"a"}


def test_a_record_that_fell_back_is_written_again_before_the_heartbeat_is_confirmed(
    opened: Opened,
) -> None:
    with RedisServer() as server:
        a, b = opened(server.url), opened(server.url)
        a.join("g", "a", record("1", applied="old"))
        with server.client() as client:
            client.save()  # what the restarted server will know
        a.publish("g", "a", record("1", applied="new"))
        server.kill()
        server.start()
        assert b.read("g").records["a"] == record("1", applied="old")
        assert b.read("g").memory_age < TTL
        a.heartbeat()
        assert b.read("g").records["a"] == record("1", applied="new")


class TestGoingBackInTime:
    """An older copy of the keys is put back under a server that runs on."""

    @staticmethod
    def swapped(server: RedisServer) -> Callable[[], None]:
        with server.client() as client:
            for key in client.keys("*"):
                client.copy(key, key, destination_db=1)

        def put_back() -> None:
            with server.client() as client:
                client.swapdb(0, 1)

        return put_back

    @staticmethod
    def restored(server: RedisServer) -> Callable[[], None]:
        with redis.Redis(unix_socket_path=str(server.socket)) as client:
            copies = {key: client.dump(key) for key in client.keys("*")}

        def put_back() -> None:
            with redis.Redis(unix_socket_path=str(server.socket)) as client:
                for key, copy in copies.items():
                    client.restore(key, 0, copy, replace=True)

        return put_back

    @staticmethod
    def reloaded(server: RedisServer) -> Callable[[], None]:
        with server.client() as client:
            client.save()

        def put_back() -> None:
            with server.client() as client:
                client.execute_command("DEBUG", "RELOAD", "NOSAVE")

        return put_back

    @pytest.fixture(params=["swapped", "restored", "reloaded"])
    def copied(self, request: pytest.FixtureRequest) -> Callable[..., Callable[[], None]]:
        return getattr(self, request.param)

    @pytest.fixture
    def server(self) -> Iterator[RedisServer]:
        with RedisServer(enable_debug_command="yes") as running:
            yield running

    def test_records_that_are_older_than_what_a_member_has_seen_make_the_memory_young(
        self, server, opened, copied, caplog
    ) -> None:
        a, b = opened(server.url), opened(server.url)
        a.join("g", "a", record("1", applied="old"))
        b.join("g", "b", record("1"))
        put_back = copied(server)
        a.publish("g", "a", record("1", applied="new"))
        assert b.read("g").records["a"] == record("1", applied="new")
        wait_until(lambda: b.read("g").memory_age > 1.0)
        put_back()
        went = time.monotonic()
        assert b.read("g").memory_age <= time.monotonic() - went
        a.heartbeat()
        assert b.read("g").records["a"] == record("1", applied="new")
        assert len([text for text in caplog.messages if "went back in time" in text]) == 1

    def test_a_newcomer_that_writes_first_does_not_hide_it(self, server, opened, copied) -> None:
        a, b = opened(server.url), opened(server.url)
        a.join("g", "a", record("1", applied="old"))
        b.join("g", "b", record("1"))
        put_back = copied(server)
        for turn in range(3):
            a.publish("g", "a", record("1", applied=turn))
        b.read("g")
        put_back()
        newcomer = opened(server.url)
        newcomer.join("g", "c", record("1"))
        wait_until(lambda: newcomer.read("g").memory_age > 1.0)
        for turn in range(10):  # as many versions as were lost, and more
            newcomer.publish("g", "c", record("1", applied=turn))
        called = time.monotonic()
        assert b.read("g").memory_age <= time.monotonic() - called
        assert newcomer.read("g").memory_age < TTL

    def test_where_no_record_changed_the_leases_tell(self, server, opened, copied, caplog) -> None:
        a, b = (until_it_works(lambda: opened(server.url, ttl=1.0)) for _ in range(2))
        until_it_works(lambda: a.join("g", "a", record("1")))
        until_it_works(lambda: b.join("g", "b", record("1")))
        put_back = copied(server)

        def all_would_be_gone() -> bool:
            until_it_works(lambda: renew_or_rejoin(a, "a", {}))
            until_it_works(lambda: renew_or_rejoin(b, "b", {}))
            return time.monotonic() - copied_at > 1.5

        copied_at = time.monotonic()
        wait_until(all_would_be_gone)
        put_back()
        went = time.monotonic()
        # Both leases ran out long ago, in the copy: nobody may take that for the end of a member.
        assert until_it_works(lambda: b.read("g")).memory_age <= time.monotonic() - went
        assert [text for text in caplog.messages if "lost a part of the lease of" in text]

    def test_members_go_on_without_a_restart_and_never_share_a_slot(self, server, copied) -> None:
        with contextlib.ExitStack() as stack:
            members = [
                stack.enter_context(hashring.join(server.url, "g", name, ttl=3.0))
                for name in ("a", "b")
            ]
            assert all(member.wait_settled(60) for member in members)
            put_back = copied(server)
            members.append(stack.enter_context(hashring.join(server.url, "g", "c", ttl=3.0)))
            keys = [f"key {number}" for number in range(200)]
            wait_until(lambda: are_shared_out(members, keys))
            put_back()
            back = time.monotonic()
            # Longer than it takes to stand still, for what might go wrong until then.
            wait_until(lambda: (are_shared_out(members, keys), time.monotonic() - back > 6.0)[1])
            wait_until(lambda: are_shared_out(members, keys))


def test_a_group_that_nobody_joins_leaves_nothing_behind_for_ever(opened: Opened) -> None:
    with RedisServer() as server, server.client() as client:
        a = opened(server.url, ttl=60.0)
        a.read("g")
        a.wait("g", 0.01)
        assert len(client.keys("*")) == 6
        assert all(0 < client.ttl(key) <= 86_400 for key in client.keys("*"))
        a.join("g", "a", record("1"))
        assert all(client.ttl(key) == -1 for key in client.keys("*"))
        a.leave("g", "a")
        assert all(0 < client.ttl(key) <= 86_400 for key in client.keys("*"))
