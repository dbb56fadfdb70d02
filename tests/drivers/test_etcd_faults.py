"""What an etcd does to a group, and what the driver makes of it."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator

import pytest

from hashring.clock import boottime
from hashring.driver import Driver, load
from hashring.errors import LeaseLost, MemberExists, StoreUnavailable, StoreUnusable
from hashring.testing.proxy import FaultProxy
from hashring.testing.suite.suite import record
from tests.drivers.patience import until_it_works
from tests.servers.certificates import Certificates
from tests.servers.etcd import EtcdCluster, EtcdServer
from tests.servers.process import LOOPBACK, wait_until

Opened = Callable[..., Driver]


@pytest.fixture(scope="module")
def server() -> Iterator[EtcdServer]:
    """A server that no test stops or sets back."""
    with EtcdServer() as running:
        yield running


@pytest.fixture
def opened() -> Iterator[Opened]:
    """A function that returns an open driver; all are closed in the end.

    A busy machine may need more for a call than a driver's own default.
    """
    with contextlib.ExitStack() as stack:

        def make(url: str, *, ttl: float = 30.0) -> Driver:
            if "timeout=" not in url:
                url += f"{'&' if '?' in url else '?'}timeout=9"
            driver = load(url, ttl=ttl)
            stack.callback(driver.close)
            until_it_works(driver.open)
            return driver

        yield make


def grown_old(driver: Driver, seconds: float = 0.3) -> None:
    wait_until(lambda: driver.read("g").memory_age > seconds, what="a memory that has grown")


class TestMemory:
    def test_an_older_copy_of_the_data_is_a_store_that_forgot(self, opened: Opened) -> None:
        with EtcdServer() as server:
            url = f"etcd://{server.address}"
            a = opened(url)
            a.join("g", "a", record("1", turn=1))
            server.keep_copy()
            until_it_works(lambda: a.publish("g", "a", record("1", turn=2)))
            until_it_works(lambda: a.join("g", "b", record("1")))
            grown_old(a)
            began = boottime()
            server.go_back_in_time()
            # Whoever comes first is told, also where he never saw the store before.
            newcomer = opened(url)
            reading = until_it_works(lambda: newcomer.read("g"))
            assert reading.records["a"] == record("1", turn=1)
            assert reading.memory_age <= boottime() - began
            with pytest.raises(LeaseLost, match="'b'"):
                until_it_works(a.heartbeat)
            # A heartbeat counts only once the record that was confirmed is there again.
            assert newcomer.read("g").records == {"a": record("1", turn=2)}
            assert a.read("g").memory_age <= boottime() - began

    def test_a_store_that_was_made_anew_is_a_store_that_forgot(self, opened: Opened) -> None:
        with EtcdServer() as server:
            url = f"etcd://{server.address}"
            a = opened(url)
            a.join("g", "a", record("1"))
            grown_old(a)
            began = boottime()
            server.go_back_in_time(to_nothing=True)
            assert until_it_works(lambda: a.read("g")).memory_age <= boottime() - began
            with pytest.raises(LeaseLost):
                until_it_works(a.heartbeat)
            a.join("g", "a", record("1"))
            grown_old(a)

    def test_what_one_driver_knows_of_the_past_a_newcomer_is_told(
        self, opened: Opened, server: EtcdServer
    ) -> None:
        url = f"etcd://{server.address}/known"
        first = opened(url, ttl=1.0)
        wait_until(lambda: until_it_works(lambda: first.read("g")).memory_age >= 1.0)
        until_it_works(lambda: first.read("g"))  # whoever knows by now writes it down
        later = opened(url, ttl=1.0)
        assert until_it_works(lambda: later.read("g")).memory_age >= 1.0


class TestCluster:
    def test_without_a_leader_every_call_ends_in_time_and_with_one_again_all_goes_on(
        self, opened: Opened
    ) -> None:
        with EtcdCluster() as cluster:
            a = opened(f"{cluster.url}?timeout=2")
            a.join("g", "a", record("1"))
            grown_old(a)
            leader = cluster.leader
            stopped = [leader, next(each for each in cluster.servers if each is not leader)]
            began = boottime()
            for server in stopped:
                server.kill()
            for act in (lambda: a.read("g"), a.heartbeat):
                called = time.monotonic()
                with pytest.raises(StoreUnavailable):
                    act()
                assert time.monotonic() - called < 30  # of which 28 are a busy machine's
            for server in stopped:
                server.launch()
            for server in stopped:
                server.wait_ready()
            # The lease was never shortened by the election; the memory begins anew.
            until_it_works(a.heartbeat)
            reading = until_it_works(lambda: a.read("g"))
            assert reading.records == {"a": record("1")}
            assert reading.memory_age <= boottime() - began


class TestConnection:
    def test_a_user_with_rights_to_its_own_keys_alone_is_a_member(self, opened: Opened) -> None:
        with EtcdServer() as server:
            server.ask_for_passwords("agent", "s3cret-of-agent", "/agents/")
            url = f"etcd://agent:s3cret-of-agent@{server.address}/agents"
            a = opened(url)
            a.join("g", "a", record("1"))
            a.heartbeat()
            a.publish("g", "a", record("1", turn=1))
            b = opened(url)
            with pytest.raises(MemberExists):
                b.join("g", "a", record("2"))
            assert b.read("g").records == {"a": record("1", turn=1)}
            for wrong, told in (
                (url.replace("s3cret", "wr0ng"), "user or password"),
                (url.replace("/agents", "/others"), "permission denied"),
                (f"etcd://{server.address}/agents", "user or password"),
            ):
                with pytest.raises(StoreUnusable, match=told) as refused:
                    opened(wrong)
                assert "s3cret-of" not in str(refused.value)
                assert "wr0ng" not in str(refused.value)
            # The server forgets who has logged in; nobody notices.
            server.kill()
            server.start()
            until_it_works(a.heartbeat)
            a.leave("g", "a")
            assert b.read("g").records == {}

    def test_tls_checks_the_servers_name_and_authority(self, opened: Opened) -> None:
        with (
            Certificates() as ours,
            Certificates() as others,
            EtcdServer(certificates=ours) as server,
        ):
            a = opened(f"etcds://{server.address}?ca={ours.ca}")
            a.join("g", "a", record("1"))
            a.heartbeat()
            a.read("g")
            a.wait("g", 0.1)
            stranger = load(f"etcds://{server.address}?ca={others.ca}", ttl=30.0)
            with pytest.raises(StoreUnavailable, match="certificate verify failed"):
                stranger.open()

    def test_a_watch_that_fell_silent_is_found_by_asking(
        self, opened: Opened, server: EtcdServer
    ) -> None:
        with FaultProxy(LOOPBACK, server.port) as proxy:
            host, port = proxy.address
            a = opened(f"etcd://{host}:{port}/silent?poll=0.2&timeout=3")
            b = opened(f"etcd://{server.address}/silent")
            a.read("g")
            a.wait("g", 0.01)  # the watch is there
            proxy.half_open()
            b.join("g", "b", record("1"))
            proxy.restore()
            began = boottime()
            until_it_works(lambda: a.wait("g", 60))
            assert boottime() - began < 60
            assert until_it_works(lambda: a.read("g")).records.keys() == {"b"}

    def test_a_fork_does_not_speak_on_its_parents_connections(
        self, opened: Opened, server: EtcdServer
    ) -> None:
        a = opened(f"etcd://{server.address}/forked")
        a.join("g", "a", record("1"))
        child = os.fork()
        if not child:
            code = 1
            try:
                a.heartbeat()
            except StoreUnusable:
                a.close()
                a.open()  # connections, and an identity, of its own
                with contextlib.suppress(MemberExists):
                    a.join("g", "a", record("1"))
                    os._exit(2)
                a.join("g", "b", record("1"))
                code = 0
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
        a.heartbeat()
        assert a.read("g").records.keys() == {"a", "b"}
