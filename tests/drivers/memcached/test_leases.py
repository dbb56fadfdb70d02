"""Leases on Memcached, which readers judge, and writes that come late."""

from __future__ import annotations

import threading
import time

import pytest

from hashring.driver import load
from hashring.errors import LeaseLost, MemberExists, StoreUnavailable
from hashring.testing.proxy import FaultProxy
from hashring.testing.suite.suite import record
from tests.drivers.evicting import evict_who_does_not_hear
from tests.drivers.opening import Opened
from tests.drivers.patience import until_it_works
from tests.servers.memcached import MemcachedServer
from tests.servers.process import LOOPBACK, wait_until


class TestLeases:
    def test_by_force_a_member_that_does_not_hear_is_ended_and_nobody_gains_before_its_fence(
        self, server: MemcachedServer
    ) -> None:
        assert evict_who_does_not_hear(f"{server.url}?timeout=3") == []

    def test_neither_a_lease_that_ran_out_nor_one_that_was_forgotten_can_be_seized(
        self, server: MemcachedServer, opened: Opened
    ) -> None:
        short = until_it_works(lambda: opened(server.url, ttl=1.0))
        seizes = opened(server.url)
        until_it_works(lambda: short.join("g", "short", record("1")))
        wait_until(lambda: not until_it_works(lambda: seizes.read("g")).records)
        with pytest.raises(LeaseLost):
            seizes.seize("g", "short", record("2"))
        seizes.join("g", "a", record("1"))
        server.flush()
        with pytest.raises(LeaseLost):
            seizes.seize("g", "a", record("2"))

    def test_who_has_not_watched_takes_a_dead_members_id_by_the_servers_time(
        self, server: MemcachedServer, opened: Opened
    ) -> None:
        began = time.monotonic()
        first = until_it_works(lambda: opened(server.url, ttl=1.0))
        until_it_works(lambda: first.join("g", "a", record("1")))

        def taken() -> bool:
            # A new driver each time: it never sees the lease for longer than a moment.
            heir = load(f"{server.url}?timeout=3", ttl=1.0)
            try:
                heir.open()
                heir.join("g", "a", record("2"))
            except (MemberExists, StoreUnavailable):
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
        a = until_it_works(lambda: opened(f"{server.url}?timeout=2", ttl))
        b = until_it_works(lambda: opened(server.url, ttl))
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
                until_it_works(newcomer.open)
                try:
                    seen = [
                        until_it_works(lambda one=one: one.read("g")).records
                        for one in (b, newcomer)
                    ]
                finally:
                    newcomer.close()
                return not all("a" in records for records in seen)

            wait_until(gone, what="the end of the lease")
            assert time.monotonic() - called >= ttl
            until_it_works(lambda: a.join("g", "a", record("1")))

    def test_a_heartbeat_never_revives_whom_someone_has_seen_dead(
        self, server: MemcachedServer, opened: Opened
    ) -> None:
        a, b = (until_it_works(lambda: opened(server.url, ttl=0.5)) for _ in range(2))
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
        short = until_it_works(lambda: opened(server.url, ttl=1.0))
        b = opened(f"{server.url}?timeout=30", ttl=60.0)
        for number in range(crowd):
            until_it_works(lambda n=number: short.join("g", f"m{n}", record("1")))
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
            a = until_it_works(
                lambda: opened(f"memcached://{host}:{port}?timeout=1&retries=0", ttl=60.0)
            )
            b = opened(server.url, ttl=60.0)
            until_it_works(lambda: a.join("g", "a", record("1", applied="first")))

            def swaps() -> int:
                stats = server.stats()
                return sum(int(stats[f"cas_{end}"]) for end in ("hits", "badval", "misses"))

            def late_write_arrives() -> bool:
                before = swaps()
                # What is asked first passes in time, the swap does not.
                proxy.delay(up=0.4)
                with pytest.raises(StoreUnavailable):
                    a.publish("g", "a", record("1", applied="late"))
                proxy.delay(up=0.0)
                until_it_works(lambda: a.publish("g", "a", record("1", applied="newest")))
                # On a busy machine the time is over before a swap is sent: then none is to come.
                end = time.monotonic() + 5
                wait_until(lambda: swaps() >= before + 2 or time.monotonic() > end)
                assert b.read("g").records["a"] == record("1", applied="newest")
                return swaps() >= before + 2

            wait_until(late_write_arrives, what="the arrival of a late write")

    def test_of_writes_queued_in_a_frozen_server_none_lands_after_a_confirmed_one(
        self, server: MemcachedServer, opened: Opened
    ) -> None:
        a = until_it_works(lambda: opened(f"{server.url}?timeout=0.6&retries=0", ttl=60.0))
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


def test_a_server_that_came_back_is_not_taken_for_one_that_lags(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Waiting for a tick would take up to a second of the lease, in each of the calls that heal it.
    with MemcachedServer() as server:
        driver = load(server.url, ttl=30.0)
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
