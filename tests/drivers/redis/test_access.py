"""Which Redis URLs, logins, limits and timeouts serve, and what refuses says what to do."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time

import pytest

from hashring.driver import load
from hashring.errors import BadURL, StoreUnavailable, StoreUnusable
from hashring.testing.proxy import FaultProxy
from hashring.testing.suite.suite import record
from tests.drivers.opening import Opened
from tests.drivers.patience import until_it_works
from tests.drivers.redis.conftest import TTL
from tests.drivers.redis.relay import Relay
from tests.servers.certificates import Certificates
from tests.servers.memcached import MemcachedServer
from tests.servers.process import LOOPBACK, SilentServer, wait_until
from tests.servers.redis import RedisServer


class TestAccess:
    def test_a_user_with_the_documented_rights_can_do_everything(self, opened: Opened) -> None:
        with RedisServer() as server:
            with server.client() as client:
                client.execute_command(
                    "ACL", "SETUSER", "agent", "on", ">s3cret", "~hashring:*", "&hashring:*",
                    "-@all", "+@connection", "+@scripting", "+@hash", "+@sortedset", "+info",
                    "+time", "+exists", "+del", "+pexpire", "+persist", "+publish", "+subscribe",
                    "+wait",
                )  # fmt: skip
            a = opened(f"redis://agent:s3cret@{server.address}", ttl=60.0)
            a.join("g", "a", record("1"))
            a.heartbeat()
            a.publish("g", "a", record("1", applied="x"))
            assert a.read("g").records == {"a": record("1", applied="x")}
            a.wait("g", 0.1)
            a.leave("g", "a")

    @pytest.mark.parametrize("login", [":wr0ng", "nobody:wr0ng", ""])
    def test_a_refused_login_says_so_and_shows_no_secret(self, login: str) -> None:
        before = set(threading.enumerate())
        with RedisServer(requirepass="right") as server:
            at = f"{login}{'@' if login else ''}{server.address}"
            driver = load(f"redis://{at}?timeout=6", ttl=TTL)
            with pytest.raises(StoreUnusable, match="refused the user or password") as caught:
                driver.open()
        assert "wr0ng" not in str(caught.value)
        wait_until(lambda: not set(threading.enumerate()) - before, what="the end of its threads")

    def test_the_right_password_opens(self, opened: Opened) -> None:
        with RedisServer(requirepass="r/ght @") as server:
            a = opened(f"redis://:r%2Fght%20%40@{server.address}")
            a.join("g", "a", record("1"))
            assert "ght" not in f"{a.url} {a.url!r}"

    def test_a_unix_socket_serves(self, opened: Opened) -> None:
        with RedisServer() as server:
            a = opened(f"redis+unix://{server.socket}?db=3")
            a.join("g", "a", record("1"))
            assert opened(f"{server.url}/3").read("g").records.keys() == {"a"}
            assert opened(server.url).read("g").records == {}

    def test_an_evicting_server_is_used_with_a_warning_that_says_what_to_set(
        self, opened: Opened, caplog: pytest.LogCaptureFixture
    ) -> None:
        with RedisServer(maxmemory="50mb", maxmemory_policy="volatile-lru") as server:
            with caplog.at_level(logging.WARNING):
                opened(server.url)
            assert "set maxmemory-policy noeviction" in caplog.text
        caplog.clear()
        with RedisServer(maxmemory="50mb", maxmemory_policy="noeviction") as server:
            with caplog.at_level(logging.WARNING):
                opened(server.url)
            assert caplog.text == ""

    def test_a_full_server_is_an_error_and_changes_nothing(self, opened: Opened) -> None:
        with RedisServer() as server:
            a = opened(server.url, ttl=60.0)
            a.join("g", "a", record("1"))
            with server.client() as client:
                client.config_set("maxmemory", "1")
            with pytest.raises(StoreUnavailable, match="maxmemory"):
                a.publish("g", "a", record("1", applied="x"))
            with pytest.raises(StoreUnavailable, match="maxmemory"):
                a.heartbeat()
            with server.client() as client:
                client.config_set("maxmemory", "0")
            assert a.read("g").records == {"a": record("1")}
            a.heartbeat()

    def test_a_server_that_never_answers_is_an_error_within_its_timeout(self) -> None:
        before = set(threading.enumerate())
        with SilentServer() as silent:
            for scheme in ("redis", "rediss", "redis+cluster"):
                url = f"{scheme}://app:s3cret@{LOOPBACK}:{silent.port}"
                driver = load(f"{url}?timeout=0.4&connect_timeout=0.4", ttl=TTL)
                began = time.monotonic()
                with pytest.raises(StoreUnavailable) as caught:
                    driver.open()
                assert time.monotonic() - began < 60
                assert "s3cret" not in str(caught.value)
        wait_until(lambda: not set(threading.enumerate()) - before, what="the end of its threads")

    def test_a_server_whose_answer_trickles_in_is_an_error_within_the_timeout(self) -> None:
        over, gave_up = threading.Event(), threading.Event()

        def trickle(listener: socket.socket) -> None:
            while not over.is_set():
                with contextlib.suppress(OSError), listener.accept()[0] as client:
                    client.sendall(b"$1000\r\n")
                    while not over.wait(0.1):
                        client.sendall(b"x")

        with socket.create_server((LOOPBACK, 0)) as listener:
            listener.settimeout(0.1)
            port = listener.getsockname()[1]
            driver = load(f"redis://{LOOPBACK}:{port}?timeout=0.4&connect_timeout=0.4", ttl=TTL)

            def call() -> None:
                with contextlib.suppress(StoreUnavailable):
                    driver.open()
                gave_up.set()

            threads = [threading.Thread(target=trickle, args=(listener,))]
            threads.append(threading.Thread(target=call))
            for thread in threads:
                thread.start()
            in_time = gave_up.wait(60)
            over.set()
            for thread in threads:
                thread.join()
        assert in_time, "a call went on for as long as bytes arrived"

    def test_one_connection_that_fell_silent_costs_a_part_of_the_time_and_no_error(
        self, opened: Opened
    ) -> None:
        with RedisServer() as server, Relay(server) as relay:
            a = opened(f"{relay.url}?timeout=15&retries=0", ttl=60.0)
            a.join("g", "a", record("1"))
            relay.silence()  # the connection in the pool
            a.heartbeat()
            assert a.read("g").records.keys() == {"a"}

    @pytest.mark.parametrize(
        ("url", "ttl", "timeout"),
        [
            ("redis://", 3.0, 1.0),
            ("redis://", 60.0, 3.0),
            ("redis://h?timeout=5", 60.0, 5.0),
            ("redis://h?timeout=60", 3.0, 1.0),
        ],
    )
    def test_whatever_timeout_the_url_names_a_call_ends_well_before_the_fence(
        self, url: str, ttl: float, timeout: float
    ) -> None:
        assert load(url, ttl=ttl).settings["timeout"] == timeout

    def test_a_timeout_longer_than_the_lease_leaves_is_limited_and_that_is_said_once(
        self, opened: Opened, caplog: pytest.LogCaptureFixture
    ) -> None:
        with RedisServer() as server:
            url = f"{server.url}?timeout=60"
            for _ in range(3):
                until_it_works(lambda: opened(url, ttl=1.5))
            told = [text for text in caplog.messages if "timeout=60 is limited to 0.75 s" in text]
            assert len(told) == 1
            # The same on a primary that hangs: a heartbeat has an outcome before the fence.
            driver = until_it_works(lambda: opened(url, ttl=1.5))
            until_it_works(lambda: driver.join("g", "a", record("1")))
            server.pause()
            began = time.monotonic()
            with pytest.raises(StoreUnavailable):
                driver.heartbeat()
            assert time.monotonic() - began < 30.0  # not 60: the URL's word
            server.resume()

    def test_a_heartbeat_for_many_groups_ends_within_one_timeout(self, opened: Opened) -> None:
        with RedisServer() as server, FaultProxy(LOOPBACK, server.port) as proxy:
            host, port = proxy.address
            a = until_it_works(
                lambda: opened(f"redis://{host}:{port}?timeout=1&retries=0", ttl=60.0)
            )
            for number in range(20):
                until_it_works(lambda number=number: a.join(f"g{number}", "a", record("1")))
            proxy.delay(down=0.25)  # each answer alone is in time
            with pytest.raises(StoreUnavailable):
                a.heartbeat()

    def test_a_wait_on_a_server_that_hangs_ends_soon_after_its_timeout(
        self, opened: Opened
    ) -> None:
        with RedisServer() as server:
            a = opened(f"{server.url}?timeout=60&poll=0.1", ttl=60.0)
            a.read("g")
            a.wait("g", 0.05)
            server.pause()
            waited = threading.Event()

            def wait() -> None:
                a.wait("g", 0.5)
                waited.set()

            thread = threading.Thread(target=wait)
            thread.start()
            in_time = waited.wait(60)
            server.resume()
            thread.join()
            assert in_time

    def test_another_kind_of_server_is_an_error_that_shows_no_secret(self) -> None:
        with MemcachedServer() as other:
            driver = load(f"redis://app:s3cret@{other.address}?timeout=1", ttl=TTL)
            with pytest.raises(StoreUnavailable) as caught:
                driver.open()
        assert "s3cret" not in str(caught.value)

    @pytest.mark.parametrize(
        ("url", "complaint"),
        [
            ("redis://a,b", "redis\\+cluster"),
            ("redis+ring://a", "unknown"),
            ("redis://a/zero", "number of a database"),
            ("redis://a/1?db=2", "two databases"),
            ("redis+cluster://a/1", "database 0"),
            ("redis+cluster://a?sentinel=x", "no Sentinels"),
            ("redis://a?sentinel_fallback=b:1", "needs sentinel="),
            ("redis://a?sentinel=x&sentinel_fallback=b", "host:port"),
            ("redis+unix://a/b", "name the socket"),
            ("rediss+unix:///b", "no TLS"),
            ("redis://a?ca=/x", "rediss://"),
            ("redis://a?replicas=some", "auto or a number"),
            ("redis://a?poll=0", "positive"),
            ("redis://a?namespace={x}", "letters"),
        ],
    )
    def test_a_url_that_makes_no_sense_is_refused(self, url: str, complaint: str) -> None:
        with pytest.raises(BadURL, match=complaint):
            load(url, ttl=TTL)


class TestTLS:
    def test_certificates_of_both_sides_are_checked(self, opened: Opened) -> None:
        with Certificates() as known, RedisServer(certificates=known) as server:
            a = opened(f"rediss://{server.address}?{known.query}")
            a.join("g", "a", record("1"))
            a.wait("g", 0.05)
            assert a.read("g").records.keys() == {"a"}
            for query in (f"ca={known.ca}", "verify=true"):
                bare = load(f"rediss://{server.address}?{query}&timeout=2", ttl=TTL)
                with pytest.raises(StoreUnavailable):
                    bare.open()
            tooz = f"ssl_ca_certs={known.ca}&ssl_certfile={known.client}"
            opened(f"redis://{server.address}?ssl=true&{tooz}&ssl_keyfile={known.client_key}")

    def test_a_name_that_does_not_match_is_an_error_unless_it_is_not_checked(
        self, opened: Opened
    ) -> None:
        with Certificates("another.example") as other, RedisServer(certificates=other) as server:
            url = f"rediss://app:s3cret@{server.address}?{other.query}"
            with pytest.raises(StoreUnavailable, match=r"(?i)certificate") as caught:
                load(f"{url}&timeout=6", ttl=TTL).open()
            assert "s3cret" not in str(caught.value)
            opened(f"rediss://{server.address}?{other.query}&verify=false")

    def test_a_file_that_is_missing_is_named(self) -> None:
        with pytest.raises(StoreUnusable, match="/no/such/file"):
            load("rediss://localhost?ca=/no/such/file", ttl=TTL).open()


def test_the_bytes_that_are_counted_are_those_that_the_server_counts(opened: Opened) -> None:
    with RedisServer() as server, server.client() as client:
        a = until_it_works(lambda: opened(server.url))
        a.join("g", "a", record("1"))

        def counted() -> tuple[int, int]:
            found = client.info("stats")
            return found["total_net_input_bytes"], found["total_net_output_bytes"]

        def of_the_client() -> tuple[int, int]:
            """What one more such question costs, by the server's own count."""
            first, second = counted(), counted()
            return second[0] - first[0], second[1] - first[1]

        question, answer = of_the_client()
        assert a.traffic is not None
        ours, theirs = (a.traffic.sent, a.traffic.received), counted()
        for number in range(20):
            a.publish("g", "a", record("1", number=number, text="x" * 1000))
            a.read("g")
        sent, received = a.traffic.sent - ours[0], a.traffic.received - ours[1]
        now = counted()

        assert sent == pytest.approx(now[0] - theirs[0] - question, rel=0.01)
        assert received == pytest.approx(now[1] - theirs[1] - answer, rel=0.01)
