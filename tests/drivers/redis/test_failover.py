"""Replicas, Sentinels and a cluster: which Redis server may confirm, and what a failover keeps."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from redis.crc import key_slot

from hashring.driver import load
from hashring.errors import HashringError, StoreUnavailable
from hashring.testing.suite.suite import record
from tests.drivers.opening import Opened
from tests.drivers.patience import renew_or_rejoin, until_it_says, until_it_works
from tests.drivers.redis.conftest import TTL
from tests.servers.process import LOOPBACK, wait_until
from tests.servers.redis import Cluster, RedisServer, Replicated

pytestmark = pytest.mark.slow


class TestReplicas:
    def test_a_replica_that_hangs_holds_up_what_must_be_confirmed(self, opened: Opened) -> None:
        with RedisServer() as server, RedisServer(replicaof=f"{LOOPBACK} {server.port}") as replica:
            a = until_it_works(lambda: opened(f"{server.url}?timeout=1", ttl=60.0))
            lax = until_it_works(lambda: opened(f"{server.url}?timeout=1&replicas=0", ttl=60.0))
            with server.client() as client:
                wait_until(lambda: client.info("replication")["slave0"]["state"] == "online")
            until_it_works(lambda: a.join("g", "a", record("1")))
            replica.pause()
            until_it_says("replicas", lambda: a.publish("g", "a", record("1", applied="x")))
            until_it_works(lambda: lax.join("g", "b", record("1")))
            until_it_works(lax.heartbeat)
            replica.resume()
            until_it_works(a.heartbeat)

    def test_a_server_that_has_lost_its_replica_confirms_nothing_unless_told_so(
        self, opened: Opened
    ) -> None:
        with (
            RedisServer() as server,
            RedisServer(replicaof=f"{LOOPBACK} {server.port}") as replica,
            server.client() as client,
            replica.client() as other,
        ):

            def online() -> int:
                listed = client.info("replication").values()
                return sum(isinstance(one, dict) and one["state"] == "online" for one in listed)

            wait_until(lambda: online() == 1)
            a = until_it_works(lambda: opened(f"{server.url}?timeout=1", ttl=60.0))
            until_it_works(lambda: a.join("g", "a", record("1")))
            other.execute_command("REPLICAOF", "NO", "ONE")  # promoted, by hand
            wait_until(lambda: online() == 0)
            # The old primary knows of no promotion. Nor does a driver that was not there.
            late = until_it_works(lambda: opened(f"{server.url}?timeout=1", ttl=60.0))
            for driver in (a, late):
                until_it_says(
                    "replicas=0", lambda driver=driver: driver.join("g", "b", record("1"))
                )
            until_it_says("replicas=0", a.heartbeat)
            told = opened(f"{server.url}?replicas=0", ttl=60.0)
            told.join("g", "d", record("1"))
            told.heartbeat()
            # Nor may the promoted one confirm alone: it has the group, and its history.
            until_it_says(
                "replicas=0",
                lambda: opened(f"{replica.url}?timeout=1", ttl=60.0).join("g", "e", record("1")),
            )
            other.execute_command("REPLICAOF", LOOPBACK, server.port)
            until_it_works(a.heartbeat)

    def test_a_replica_is_never_taken_for_the_primary(self, opened: Opened) -> None:
        with RedisServer() as server, RedisServer(replicaof=f"{LOOPBACK} {server.port}") as replica:
            a = opened(server.url)
            a.join("g", "a", record("1"))
            b = until_it_works(lambda: opened(f"{replica.url}?timeout=1"))
            until_it_says("replica", lambda: b.read("g"))
            until_it_says("replica", lambda: b.join("g", "b", record("1")))


class TestSentinel:
    def test_a_failover_keeps_the_members_and_makes_the_memory_young(self, opened: Opened) -> None:
        with Replicated() as servers:
            a, b = opened(servers.url), opened(servers.url)
            a.join("g", "a", record("1"))
            b.join("g", "b", record("2"))
            wait_until(lambda: until_it_works(lambda: b.read("g")).memory_age > 0.5)
            old = servers.primary
            old.kill()
            killed = time.monotonic()
            until_it_works(lambda: renew_or_rejoin(a, "a", {}), within=60)
            assert servers.primary is not old
            reading = until_it_works(lambda: b.read("g"))
            assert reading.memory_age <= time.monotonic() - killed
            assert "a" in reading.records
            old.start()
            wait_until(servers.settled, within=60, what="the old primary's return as a replica")
            until_it_works(lambda: renew_or_rejoin(a, "a", {}))
            until_it_works(lambda: a.publish("g", "a", record("1", applied="x")))
            reading = until_it_works(lambda: b.read("g"))
            assert reading.records["a"] == record("1", applied="x")

    def test_a_frozen_primary_that_returns_confirms_nothing(self, opened: Opened) -> None:
        with Replicated() as servers:
            quick = f"{servers.url}&timeout=1"
            a, b = (until_it_works(lambda: opened(quick)) for _ in range(2))
            until_it_works(lambda: a.join("g", "a", record("1", applied="first")))
            until_it_works(lambda: b.join("g", "b", record("1")))
            old = servers.primary
            old.pause()
            wait_until(lambda: servers.primary is not old, within=60, what="a failover")
            until_it_works(lambda: b.publish("g", "b", record("1", applied="on the new")))
            old.resume()
            # `a` still has its connection to the old one, which may believe itself the primary.
            called = 0.0

            def renew() -> None:
                nonlocal called
                called = time.monotonic()
                renew_or_rejoin(a, "a", {"applied": "first"})

            until_it_works(renew)
            with servers.primary.client() as client:
                seconds, microseconds = client.time()
                ends = client.zscore("hashring:{g}:leases", "a")
            left = ends / 1e6 - (seconds + microseconds / 1e6)
            assert left >= TTL - (time.monotonic() - called) - 0.5
            until_it_works(lambda: a.publish("g", "a", record("1", applied="second")))
            reading = until_it_works(lambda: b.read("g"))
            assert reading.records["a"] == record("1", applied="second")

    def test_without_a_majority_of_sentinels_nothing_is_confirmed(self, opened: Opened) -> None:
        with Replicated() as servers:
            a = until_it_works(lambda: opened(f"{servers.url}&timeout=2"))
            until_it_works(lambda: a.join("g", "a", record("1")))
            servers.sentinels[0].kill()
            until_it_works(a.heartbeat)
            servers.sentinels[1].kill()
            until_it_says("1 of 3 Sentinels", a.heartbeat)
            until_it_says("1 of 3 Sentinels", lambda: a.publish("g", "a", record("1", applied="x")))
            servers.sentinels[1].start()
            until_it_works(a.heartbeat)

    def test_a_lost_replica_holds_the_group_up_only_until_the_sentinels_see_it(
        self, opened: Opened
    ) -> None:
        with Replicated() as servers:
            a = until_it_works(lambda: opened(f"{servers.url}&timeout=2", ttl=60.0))
            until_it_works(lambda: a.join("g", "a", record("1")))
            servers.servers[1].kill()
            until_it_works(a.heartbeat)
            until_it_works(lambda: a.publish("g", "a", record("1", applied="x")))
            servers.servers[1].start()
            wait_until(servers.settled, within=60)
            until_it_works(a.heartbeat)

    def test_one_sentinel_in_the_url_is_enough_to_find_the_others(self, opened: Opened) -> None:
        with Replicated() as servers:
            first, *others = servers.sentinels
            a = opened(f"redis://{first.address}?sentinel=group", ttl=60.0)
            a.join("g", "a", record("1"))
            first.kill()
            a.heartbeat()
            fallback = "&".join(f"sentinel_fallback={other.address}" for other in others)
            b = opened(f"redis://{first.address}?sentinel=group&{fallback}", ttl=60.0)
            assert b.read("g").records.keys() == {"a"}

    def test_a_primary_that_no_sentinel_knows_is_an_error(self) -> None:
        with Replicated(replicas=0, sentinels=1) as servers:
            url = servers.url.replace("sentinel=group", "sentinel=unheard")
            with pytest.raises(StoreUnavailable, match="unheard"):
                load(f"{url}&timeout=6", ttl=TTL).open()

    def test_the_sentinels_have_logins_of_their_own(self, opened: Opened) -> None:
        with Replicated(replicas=0, sentinels=1) as servers:
            with servers.sentinels[0].client() as client:
                client.execute_command("ACL", "SETUSER", "watch", "on", ">s3cret", "~*", "+@all")
                client.execute_command("ACL", "SETUSER", "default", "off")
            login = "sentinel_username=watch&sentinel_password"
            a = opened(f"{servers.url}&{login}=s3cret")
            a.join("g", "a", record("1"))
            with pytest.raises(HashringError) as caught:
                load(f"{servers.url}&{login}=wr0ng&timeout=1", ttl=TTL).open()
            assert "wr0ng" not in str(caught.value)
            with servers.sentinels[0].client() as client:
                client.execute_command("AUTH", "watch", "s3cret")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster() as running:
        yield running


class TestCluster:
    def test_groups_live_on_several_primaries_and_one_driver_serves_them_all(
        self, cluster: Cluster, opened: Opened
    ) -> None:
        a, b = opened(cluster.url, ttl=60.0), opened(cluster.url, ttl=60.0)
        for number in range(20):
            a.join(f"g{number}", "a", record("1", number=number))
        a.heartbeat()
        for number in range(20):
            assert b.read(f"g{number}").records == {"a": record("1", number=number)}
            a.leave(f"g{number}", "a")

    def test_a_failover_keeps_the_members_and_makes_the_memory_young(
        self, cluster: Cluster, opened: Opened
    ) -> None:
        a, b = (until_it_works(lambda: opened(f"{cluster.url}?timeout=1")) for _ in range(2))
        until_it_works(lambda: a.join("g", "a", record("1")))
        until_it_works(lambda: b.join("g", "b", record("1")))
        wait_until(lambda: until_it_works(lambda: b.read("g")).memory_age > 0.5)
        old = cluster.owner(key_slot(b"hashring:{g}:group"))
        old.pause()
        paused = time.monotonic()
        until_it_works(lambda: renew_or_rejoin(a, "a", {}), within=60)
        # Not all that are left have heard of it at once.
        wait_until(lambda: cluster.owner(key_slot(b"hashring:{g}:group")) is not old)
        reading = until_it_works(lambda: b.read("g"))
        assert reading.memory_age <= time.monotonic() - paused
        old.resume()
        until_it_works(lambda: renew_or_rejoin(a, "a", {}))
        until_it_works(lambda: a.publish("g", "a", record("1", applied="x")))
        reading = until_it_works(lambda: b.read("g"))
        assert reading.records["a"] == record("1", applied="x")
        wait_until(cluster.settled, within=60, what="the return of the old primary")

    def test_a_cluster_behind_a_plain_url_is_pointed_out(
        self, cluster: Cluster, opened: Opened
    ) -> None:
        first = cluster.servers[0]
        a = opened(first.url)
        elsewhere = next(
            name
            for name in map(str, range(100))
            if cluster.owner(key_slot(f"hashring:{{{name}}}:group".encode())) is not first
        )
        with pytest.raises(StoreUnavailable, match=r"redis\+cluster://"):
            a.read(elsewhere)
