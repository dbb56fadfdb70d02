"""What Memcached can do to a group: forget all or one key, stand still, refuse."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator

import pymemcache
import pytest

from hashring.driver import Driver, load
from hashring.errors import BadURL, LeaseLost, MemberExists, StoreUnavailable, StoreUnusable
from hashring.testing.proxy import FaultProxy
from hashring.testing.suite import record
from tests.servers.certificates import Certificates
from tests.servers.memcached import MemcachedServer
from tests.servers.process import LOOPBACK, SilentServer, wait_until
from tests.servers.redis import RedisServer

TTL = 6.0
Opened = Callable[..., Driver]


@pytest.fixture
def opened() -> Iterator[Opened]:
    """A function that opens a driver on a URL; all are closed in the end."""
    made: list[Driver] = []

    def make(url: str, ttl: float = TTL) -> Driver:
        made.append(load(url, ttl=ttl))
        made[-1].open()
        return made[-1]

    yield make
    for driver in made:
        driver.close()


@pytest.fixture
def server() -> Iterator[MemcachedServer]:
    with MemcachedServer() as running:
        yield running


def until_it_works(act: Callable[[], object], within: float = 30.0) -> None:
    """Repeat until the store serves again."""

    def works() -> bool:
        try:
            act()
        except StoreUnavailable:
            return False
        return True

    wait_until(works, within=within, what="an answer of the store")


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
        b.wait("g", 20)
        reading = b.read("g")
        passed = time.monotonic() - flushed
        assert passed < 15
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
        b.wait("g", 20)
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
        b.wait("g", 30)
        assert time.monotonic() - began < 15
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
        short = opened(server.url, ttl=1.0)
        short.join("g", "dies", record("1"))
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


class TestLeases:
    def test_who_has_not_watched_takes_a_dead_members_id_by_the_servers_time(
        self, server: MemcachedServer, opened: Opened
    ) -> None:
        began = time.monotonic()
        opened(server.url, ttl=1.0).join("g", "a", record("1"))

        def taken() -> bool:
            # A new driver each time: it never sees the lease for longer than a moment.
            heir = load(server.url, ttl=1.0)
            heir.open()
            try:
                heir.join("g", "a", record("2"))
            except MemberExists:
                return False
            finally:
                heir.close()
            return True

        wait_until(taken, what="the end of the lease")
        assert time.monotonic() - began >= 1.0

    def test_a_heartbeat_confirmed_after_a_pause_of_the_server_keeps_its_promise(
        self, server: MemcachedServer, opened: Opened
    ) -> None:
        ttl = 3.0
        a, b = opened(f"{server.url}?timeout=2", ttl), opened(server.url, ttl)
        a.join("g", "a", record("1"))
        a.heartbeat()
        for pause in (2.5, 7.0):
            server.pause()
            resume = threading.Timer(pause, server.resume)
            resume.start()
            resume.join()
            while True:
                called = time.monotonic()
                try:
                    a.heartbeat()
                    break
                except LeaseLost:  # somebody looked first, and the pause was longer than the lease
                    a.join("g", "a", record("1"))
                except StoreUnavailable:
                    pass

            def gone() -> bool:
                newcomer = load(server.url, ttl=ttl)
                newcomer.open()
                try:
                    seen = [b.read("g").records, newcomer.read("g").records]
                finally:
                    newcomer.close()
                return not all("a" in records for records in seen)

            wait_until(gone, what="the end of the lease")
            assert time.monotonic() - called >= ttl
            a.join("g", "a", record("1"))

    def test_a_heartbeat_never_revives_whom_someone_has_seen_dead(
        self, server: MemcachedServer, opened: Opened
    ) -> None:
        a, b = opened(server.url, ttl=0.5), opened(server.url, ttl=0.5)
        revived = 0
        for turn in range(8):
            a.join("g", "a", record(f"{turn}"))
            while "a" in b.read("g").records:
                pass
            with pytest.raises(LeaseLost):
                a.heartbeat()
            revived += "a" in b.read("g").records
        assert revived == 0


class TestOrder:
    def test_a_write_that_was_cut_off_never_lands_after_a_later_one(
        self, server: MemcachedServer, opened: Opened
    ) -> None:
        with FaultProxy(LOOPBACK, server.port) as proxy:
            host, port = proxy.address
            a = opened(f"memcached://{host}:{port}?timeout=1&retries=0", ttl=60.0)
            b = opened(server.url, ttl=60.0)
            a.join("g", "a", record("1", applied="first"))

            def swaps() -> int:
                stats = server.stats()
                return sum(int(stats[f"cas_{end}"]) for end in ("hits", "badval", "misses"))

            before = swaps()
            # The question for the present value passes in time, the swap does not.
            proxy.delay(up=0.6)
            with pytest.raises(StoreUnavailable):
                a.publish("g", "a", record("1", applied="late"))
            proxy.delay(up=0.0)
            until_it_works(lambda: a.publish("g", "a", record("1", applied="newest")))
            wait_until(lambda: swaps() >= before + 2, what="the arrival of the late write")
            assert b.read("g").records["a"] == record("1", applied="newest")

    def test_of_writes_queued_in_a_frozen_server_none_lands_after_a_confirmed_one(
        self, server: MemcachedServer, opened: Opened
    ) -> None:
        a = opened(f"{server.url}?timeout=0.3&retries=0", ttl=60.0)
        b = opened(server.url, ttl=60.0)
        a.join("g", "a", record("1"))
        for turn in range(5):
            server.pause()
            for step in range(3):
                with pytest.raises(StoreUnavailable):
                    a.publish("g", "a", record("1", turn=turn, step=step))
            server.resume()
            until_it_works(lambda turn=turn: a.publish("g", "a", record("1", turn=turn)))
            wait_until(lambda: server.stats()["curr_connections"] <= 5)
            assert b.read("g").records["a"] == record("1", turn=turn)


class TestAccess:
    def test_the_lease_must_be_longer_than_the_heartbeat_interval(self) -> None:
        with pytest.raises(BadURL, match=r"ttl\) of 3 s must be longer than .* of 3 s"):
            load("memcached://localhost?heartbeat=3", ttl=3.0)
        load("memcached://localhost?heartbeat=2.9", ttl=3.0)

    @pytest.mark.parametrize(
        ("url", "complaint"),
        [
            ("memcached://a,b", "one server"),
            ("memcached://app@a", "both a user and a password"),
            ("memcached://:pw@a", "both a user and a password"),
            ("memcached://a/path", "memcached://host:port"),
            ("memcached:///socket?tls=true", "memcached://host:port"),
            ("memcached://a?ca=/x", "tls=true"),
            ("memcached://a?poll=0", "positive"),
        ],
    )
    def test_a_url_that_makes_no_sense_is_refused(self, url: str, complaint: str) -> None:
        with pytest.raises(BadURL, match=complaint):
            load(url, ttl=TTL)

    def test_the_right_login_opens(self, opened: Opened) -> None:
        with MemcachedServer(login=("app", "s3cret")) as server:
            a = opened(f"memcached://app:s3cret@{server.address}")
            a.join("g", "a", record("1"))
            a.heartbeat()
            assert a.read("g").records.keys() == {"a"}

    @pytest.mark.parametrize("login", ["app:wr0ng@", "nobody:wr0ng@", ""])
    def test_a_refused_login_says_so_and_shows_no_secret(self, login: str) -> None:
        with MemcachedServer(login=("app", "s3cret")) as server:
            driver = load(f"memcached://{login}{server.address}", ttl=TTL)
            with pytest.raises(StoreUnusable, match="user") as caught:
                driver.open()
        assert "wr0ng" not in str(caught.value)

    def test_a_login_is_not_sent_to_a_server_that_would_store_it(
        self, server: MemcachedServer, opened: Opened
    ) -> None:
        a = opened(f"memcached://app:s3cret@{server.address}")
        a.join("g", "a", record("1"))
        client = server.client()
        assert client.get("login") is None
        client.close()

    def test_a_server_without_compare_and_swap_is_refused(self) -> None:
        with (
            MemcachedServer("-C") as server,
            pytest.raises(StoreUnusable, match="without -C"),
        ):
            load(server.url, ttl=TTL).open()

    def test_localhost_by_name_and_a_unix_socket_serve(self, opened: Opened) -> None:
        with MemcachedServer() as server:
            opened(f"memcached://localhost:{server.port}").join("g", "a", record("1"))
            assert opened(server.url).read("g").records.keys() == {"a"}
        with MemcachedServer(unix=True) as server:
            a = opened(f"memcached://{server.socket}")
            a.join("g", "a", record("1"))
            assert a.read("g").records.keys() == {"a"}

    def test_tls_checks_certificates_of_both_sides(self, opened: Opened) -> None:
        with Certificates() as known, MemcachedServer(certificates=known) as server:
            a = opened(f"{server.url}?tls=true&{known.query}")
            a.join("g", "a", record("1"))
            a.wait("g", 0.1)
            assert a.read("g").records.keys() == {"a"}
            for query in ("tls=true", "tls=false", f"tls=true&ca={known.ca}"):
                with pytest.raises(StoreUnavailable):
                    load(f"{server.url}?{query}&timeout=1", ttl=TTL).open()

    def test_a_name_that_does_not_match_is_an_error_unless_it_is_not_checked(
        self, opened: Opened
    ) -> None:
        with (
            Certificates("another.example") as other,
            MemcachedServer(certificates=other) as server,
        ):
            url = f"{server.url}?tls=true&{other.query}"
            with pytest.raises(StoreUnavailable, match=r"(?i)certificate"):
                load(url, ttl=TTL).open()
            opened(f"{url}&verify=false").join("g", "a", record("1"))

    def test_a_file_that_is_missing_is_named(self) -> None:
        with pytest.raises(StoreUnusable, match="/no/such/file"):
            load("memcached://localhost?tls=true&ca=/no/such/file", ttl=TTL).open()

    def test_a_server_that_never_answers_is_an_error_within_its_timeout(self) -> None:
        before = set(threading.enumerate())
        with SilentServer() as silent:
            for query in ("tls=false", "tls=true"):
                url = f"memcached://app:s3cret@{LOOPBACK}:{silent.port}?{query}"
                driver = load(f"{url}&timeout=0.4&connect_timeout=0.4", ttl=TTL)
                began = time.monotonic()
                with pytest.raises(StoreUnavailable) as caught:
                    driver.open()
                assert time.monotonic() - began < 10
                assert "s3cret" not in str(caught.value)
        assert set(threading.enumerate()) == before

    def test_another_kind_of_server_is_an_error(self) -> None:
        with RedisServer() as other, pytest.raises(StoreUnavailable):
            load(f"memcached://{other.address}?timeout=1", ttl=TTL).open()

    def test_a_full_server_that_may_not_evict_is_an_error(self, opened: Opened) -> None:
        with MemcachedServer("-M", memory=2) as server:
            a = opened(server.url, ttl=60.0)
            a.join("g", "a", record("1"))
            client = server.client()
            with pytest.raises(pymemcache.MemcacheServerError, match="out of memory"):
                client.set_many({f"other:{number}": "x" * 100_000 for number in range(100)})
            client.close()
            with pytest.raises(StoreUnavailable, match="memory"):
                a.join("g", "b", record("1", filler="x" * 100_000))

    def test_close_ends_a_wait(self, server: MemcachedServer, opened: Opened) -> None:
        a = opened(server.url, ttl=60.0)
        a.read("g")
        waiting = threading.Thread(target=a.wait, args=("g", 60.0))
        waiting.start()
        a.close()
        waiting.join(15)
        assert not waiting.is_alive()
