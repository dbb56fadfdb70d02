"""Leases are counted by the Redis server's clock, which may step."""

from __future__ import annotations

import time

import pytest

from hashring.errors import LeaseLost
from hashring.testing.suite.suite import record
from tests.drivers.opening import Opened
from tests.drivers.patience import renew_or_rejoin, until_it_works
from tests.servers.process import wait_until
from tests.servers.redis import RedisServer, SteppingRedisServer


class TestTime:
    def test_a_server_clock_that_steps_forward_ends_leases_but_makes_the_memory_young(
        self, opened: Opened
    ) -> None:
        with SteppingRedisServer() as server:
            a, b = opened(server.url), opened(server.url)
            a.join("g", "a", record("1"))
            wait_until(lambda: b.read("g").memory_age > 0.3)
            server.step_clock(3600)
            stepped = time.monotonic()
            reading = b.read("g")
            assert reading.memory_age <= time.monotonic() - stepped
            # For someone who never saw the old time it is young as well.
            newcomer = opened(server.url)
            assert newcomer.read("g").memory_age <= time.monotonic() - stepped
            renew_or_rejoin(a, "a", {})
            assert newcomer.read("g").records.keys() == {"a"}

    def test_a_step_is_noticed_by_whoever_calls_next_a_heartbeat_included(
        self, opened: Opened
    ) -> None:
        with SteppingRedisServer() as server:
            a = opened(server.url)
            a.join("g", "a", record("1"))
            wait_until(lambda: a.read("g").memory_age > 0.3)
            server.step_clock(3600)
            stepped = time.monotonic()
            with pytest.raises(LeaseLost):
                a.heartbeat()
            newcomer = opened(server.url)
            assert newcomer.read("g").memory_age <= time.monotonic() - stepped

    def test_a_newcomer_that_calls_first_after_a_step_doubts_the_memory(
        self, opened: Opened
    ) -> None:
        with SteppingRedisServer() as server:
            a = opened(server.url)
            a.join("g", "a", record("1"))
            wait_until(lambda: a.read("g").memory_age > 0.3)
            newcomer = opened(server.url)
            server.step_clock(3600)
            stepped = time.monotonic()
            reading = newcomer.read("g")
            assert reading.records == {}
            assert reading.memory_age <= time.monotonic() - stepped

    def test_a_newcomer_that_removes_one_dead_member_of_several_doubts_nothing(
        self, opened: Opened
    ) -> None:
        with RedisServer() as server, server.client() as client:
            dead = until_it_works(lambda: opened(server.url, ttl=0.6))
            until_it_works(lambda: dead.join("g", "dead", record("1")))
            opened(server.url, ttl=60.0).join("g", "alive", record("1"))

            def ran_out() -> bool:
                seconds, microseconds = client.time()
                return client.zscore("hashring:{g}:leases", "dead") < seconds * 1e6 + microseconds

            wait_until(ran_out, what="the end of the lease")
            reading = opened(server.url).read("g")
            assert reading.records.keys() == {"alive"}
            assert reading.memory_age >= 0.5

    def test_a_server_clock_that_steps_back_keeps_no_dead_member_alive(
        self, opened: Opened
    ) -> None:
        with SteppingRedisServer() as server:
            server.step_clock(3600)
            a, b = (until_it_works(lambda: opened(server.url, ttl=1.0)) for _ in range(2))
            until_it_works(lambda: a.join("g", "a", record("1")))
            until_it_works(lambda: b.join("g", "b", record("1")))
            server.step_clock(0)

            def a_is_gone() -> bool:
                until_it_works(lambda: renew_or_rejoin(b, "b", {}))
                return "a" not in until_it_works(lambda: b.read("g")).records

            wait_until(a_is_gone, what="the end of a lease from before the step")

    def test_without_a_step_the_memory_only_grows(self, opened: Opened) -> None:
        with RedisServer() as server:
            a = until_it_works(lambda: opened(server.url, ttl=0.5))
            ages = [until_it_works(lambda: a.read("g")).memory_age for _ in range(500)]
            assert ages == sorted(ages)
