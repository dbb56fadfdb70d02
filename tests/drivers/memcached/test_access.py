"""Which Memcached URLs, logins, limits and timeouts serve, and what refuses says what to do."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from typing import Any

import pymemcache
import pytest

from hashring.driver import load
from hashring.errors import BadURL, StoreUnavailable, StoreUnusable
from hashring.testing.proxy import FaultProxy
from hashring.testing.suite.suite import record
from tests.drivers.memcached.conftest import TTL
from tests.drivers.opening import Opened
from tests.drivers.patience import until_it_works
from tests.servers.certificates import Certificates
from tests.servers.memcached import MemcachedServer
from tests.servers.process import LOOPBACK, SilentServer, wait_until
from tests.servers.redis import RedisServer


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
            a = opened(f"memcached://{host}:{port}?timeout=15", 60.0)
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
            a = opened("memcached://many.invalid?timeout=10&connect_timeout=10&retries=0", 60.0)
            a.join("g", "a", record("1"))

    def test_a_server_that_trickles_its_answer_is_an_error_within_the_timeout(
        self, server: MemcachedServer, opened: Opened
    ) -> None:
        with FaultProxy(LOOPBACK, server.port) as proxy:
            host, port = proxy.address
            driver = until_it_works(lambda: opened(f"memcached://{host}:{port}?timeout=1"))
            until_it_works(lambda: driver.join("g", "a", record("1", meta="x" * 20_000)))
            proxy.throttle(400)
            began = time.monotonic()
            with pytest.raises(StoreUnavailable):
                driver.read("g")  # to the end, it would take 50 s
            assert time.monotonic() - began < 45

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
            driver = load(f"memcached://{login}{server.address}?timeout=6", ttl=TTL)
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
            load(f"{server.url}?timeout=6", ttl=TTL).open()

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
                load(f"{url}&timeout=6", ttl=TTL).open()
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
                assert time.monotonic() - began < 45
                assert "s3cret" not in str(caught.value)
        wait_until(lambda: not set(threading.enumerate()) - before, what="the end of its threads")

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
        waiting.join(60)
        assert not waiting.is_alive()

    def test_the_bytes_that_are_counted_are_those_that_the_server_counts(
        self, server: MemcachedServer, opened: Opened
    ) -> None:
        a = until_it_works(lambda: opened(server.url))
        a.join("g", "a", record("1"))
        assert a.traffic is not None

        def counted() -> tuple[int, int]:
            found = server.stats()
            return int(str(found["bytes_read"])), int(str(found["bytes_written"]))

        first = counted()
        before, ours = counted(), (a.traffic.sent, a.traffic.received)
        for number in range(50):
            # So much that one look more or less is nothing: the server counts an answer a moment
            # after it was sent, and a look that another of its threads answers may come before.
            a.publish("g", "a", record("1", number=number, text="x" * 20_000))
        sent, received = a.traffic.sent - ours[0], a.traffic.received - ours[1]
        after = counted()

        # Each look at the server's own count is counted, too.
        assert sent == pytest.approx(after[0] - before[0] - (before[0] - first[0]), rel=0.01)
        assert received == pytest.approx(after[1] - before[1] - (before[1] - first[1]), rel=0.01)
