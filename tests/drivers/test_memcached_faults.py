"""What Memcached can do to a group: forget all or one key, stand still, refuse."""

from __future__ import annotations

import contextlib
import itertools
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pymemcache
import pytest

from hashring.driver import Driver, load
from hashring.errors import BadURL, LeaseLost, MemberExists, StoreUnavailable, StoreUnusable
from hashring.testing.proxy import FaultProxy
from hashring.testing.suite.suite import record
from tests.drivers.patience import until_it_works
from tests.servers.certificates import Certificates
from tests.servers.memcached import MemcachedServer
from tests.servers.process import LOOPBACK, SilentServer, wait_until
from tests.servers.redis import RedisServer

TTL = 6.0


class BlackHole:
    """An address that swallows packets: its backlog is full, so nobody is ever let in."""

    def __enter__(self) -> BlackHole:
        self._socket = socket.create_server((LOOPBACK, 0), backlog=0)
        self.port = self._socket.getsockname()[1]
        self._inside: list[socket.socket] = []
        with contextlib.suppress(TimeoutError):
            while True:
                self._inside.append(socket.create_connection((LOOPBACK, self.port), 0.2))
        return self

    def __exit__(self, *_: object) -> None:
        for inside in self._inside:
            inside.close()
        self._socket.close()


Opened = Callable[..., Driver]


@pytest.fixture
def opened() -> Iterator[Opened]:
    """A function that opens a driver on a URL; all are closed in the end."""
    made: list[Driver] = []

    def make(url: str, ttl: float = TTL) -> Driver:
        if "timeout=" not in url:
            # A busy machine may need more for a call than the third of a short lease.
            url += f"{'&' if '?' in url else '?'}timeout=3"
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
            reading.join(30)
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
            joining.join(30)
            reading = b.read("g")
            assert reading.records.keys() == {"a", "b"}
            assert reading.memory_age <= time.monotonic() - deleted


class TestLeases:
    def test_who_has_not_watched_takes_a_dead_members_id_by_the_servers_time(
        self, server: MemcachedServer, opened: Opened
    ) -> None:
        began = time.monotonic()
        opened(server.url, ttl=1.0).join("g", "a", record("1"))

        def taken() -> bool:
            # A new driver each time: it never sees the lease for longer than a moment.
            heir = load(f"{server.url}?timeout=3", ttl=1.0)
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
        until_it_works(lambda: a.join("g", "a", record("1")))
        until_it_works(a.heartbeat)
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
                    until_it_works(lambda: a.join("g", "a", record("1")))
                except StoreUnavailable:
                    pass

            def gone() -> bool:
                newcomer = load(f"{server.url}?timeout=3", ttl=ttl)
                newcomer.open()
                try:
                    seen = [b.read("g").records, newcomer.read("g").records]
                finally:
                    newcomer.close()
                return not all("a" in records for records in seen)

            wait_until(gone, what="the end of the lease")
            assert time.monotonic() - called >= ttl
            until_it_works(lambda: a.join("g", "a", record("1")))

    def test_a_heartbeat_never_revives_whom_someone_has_seen_dead(
        self, server: MemcachedServer, opened: Opened
    ) -> None:
        a, b = opened(server.url, ttl=0.5), opened(server.url, ttl=0.5)
        revived = 0
        for turn in range(8):
            until_it_works(lambda n=turn: a.join("g", "a", record(f"{n}")))
            while "a" in until_it_works(lambda: b.read("g")).records:
                pass
            with pytest.raises(LeaseLost):
                until_it_works(a.heartbeat)
            revived += "a" in until_it_works(lambda: b.read("g")).records
        assert revived == 0

    def test_a_reading_after_many_deaths_costs_a_few_readings_and_not_one_for_each(
        self, server: MemcachedServer, opened: Opened
    ) -> None:
        crowd = 30
        short, b = opened(server.url, ttl=1.0), opened(f"{server.url}?timeout=30", ttl=60.0)
        for number in range(crowd):
            short.join("g", f"m{number}", record("1"))
        b.read("g")
        watched = time.monotonic()
        wait_until(lambda: time.monotonic() > watched + 1.5)

        def gets() -> int:
            return int(str(server.stats()["cmd_get"]))

        before = gets()
        assert b.read("g").records == {}
        # One that finds the dead, one that strikes them, and two that look again.
        assert gets() - before <= 4 * (crowd + 4)


class TestOrder:
    def test_a_write_that_was_cut_off_never_lands_after_a_later_one(
        self, server: MemcachedServer, opened: Opened
    ) -> None:
        with FaultProxy(LOOPBACK, server.port) as proxy:
            host, port = proxy.address
            a = opened(f"memcached://{host}:{port}?timeout=1&retries=0", ttl=60.0)
            b = opened(server.url, ttl=60.0)
            until_it_works(lambda: a.join("g", "a", record("1", applied="first")))

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
        until_it_works(lambda: a.join("g", "a", record("1")))
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
    def test_a_ttl_that_memcached_would_take_for_a_date_is_refused(self) -> None:
        load("memcached://localhost", ttl=14 * 86_400)
        with pytest.raises(BadURL, match="30 days"):
            load("memcached://localhost", ttl=15 * 86_400)

    @pytest.mark.parametrize(
        ("ttl", "query", "timeout"), [(3.0, "", 1.0), (60.0, "", 3.0), (3.0, "?timeout=2", 1.0)]
    )
    def test_a_call_may_take_a_third_of_the_lease_whatever_the_url_says(
        self, ttl: float, query: str, timeout: float
    ) -> None:
        assert load(f"memcached://localhost{query}", ttl=ttl).settings["timeout"] == timeout

    def test_a_connection_that_fell_silent_does_not_eat_the_time_of_a_call(
        self, server: MemcachedServer, opened: Opened
    ) -> None:
        with FaultProxy(LOOPBACK, server.port) as proxy:
            host, port = proxy.address
            a = opened(f"memcached://{host}:{port}?timeout=3", 60.0)
            a.join("g", "a", record("1"))
            for _ in range(3):
                # As a firewall does that forgot them: nothing passes, and nobody is told.
                for link in proxy._links:
                    link.pipes = ()
                a.heartbeat()

    def test_a_host_whose_first_addresses_swallow_packets_is_reached_by_its_last(
        self, server: MemcachedServer, opened: Opened, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        resolve = socket.getaddrinfo

        def resolved(host: str, *arguments: Any, **named: Any) -> list[Any]:
            if host != "many.invalid":
                return resolve(host, *arguments, **named)
            ports = [hole.port] * 3 + [server.port]
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (LOOPBACK, p)) for p in ports]

        with BlackHole() as hole:
            monkeypatch.setattr(socket, "getaddrinfo", resolved)
            a = opened("memcached://many.invalid?timeout=3&connect_timeout=3&retries=0")
            a.join("g", "a", record("1"))

    def test_a_server_that_trickles_its_answer_is_an_error_within_the_timeout(
        self, server: MemcachedServer, opened: Opened
    ) -> None:
        with FaultProxy(LOOPBACK, server.port) as proxy:
            host, port = proxy.address
            driver = opened(f"memcached://{host}:{port}?timeout=1")
            until_it_works(lambda: driver.join("g", "a", record("1", meta="x" * 20_000)))
            proxy.throttle(400)
            began = time.monotonic()
            with pytest.raises(StoreUnavailable):
                driver.read("g")  # to the end, it would take 50 s
            assert time.monotonic() - began < 10

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


def test_a_server_that_came_back_is_not_taken_for_one_that_lags(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Waiting for a tick would take up to a second of the lease, in each of the calls that heal it.
    with MemcachedServer() as server:
        driver = load(server.url, ttl=3.0)
        driver.open()
        try:
            driver.join("g", "a", record("1"))
            wait_until(lambda: int(str(server.stats()["uptime"])) >= 5)
            until_it_works(driver.heartbeat)
            server.kill()
            server.start()
            waited: list[int] = []
            ticked = driver._time._ticked
            monkeypatch.setattr(
                driver._time, "_ticked", lambda *given: waited.append(given[1]) or ticked(*given)
            )

            with pytest.raises(LeaseLost):
                until_it_works(driver.heartbeat)

            assert waited == []
        finally:
            driver.close()
