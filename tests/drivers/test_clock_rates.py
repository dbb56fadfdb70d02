"""Stores and members whose clocks run fast or slow, within what docs/protocol.md allows."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hashring.clock import boottime
from hashring.driver import load
from hashring.testing.suite.suite import record
from tests.drivers.patience import until_it_works
from tests.servers.clocks import at_rate, running_at
from tests.servers.memcached import MemcachedServer
from tests.servers.process import wait_until
from tests.servers.redis import RedisServer
from tests.servers.zookeeper import ZooKeeperServer

TTL = 3.0
RATES = [0.91, 1.06, 1.09]
KEYS = [f"key {number}" for number in range(200)]

MEMBER = """
import sys, hashring
url, member, ttl = sys.argv[1:]
keys = [f"key {number}" for number in range(200)]
with hashring.join(url, "g", member, ttl=float(ttl)) as partition:
    for line in sys.stdin:  # each line asks what is held now
        print(len(partition.owned(keys)), flush=True)
"""

Started = Callable[..., "Member"]


class Member:
    """A member in a process of its own, that tells how many of the keys it holds."""

    def __init__(self, url: str, name: str, environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", MEMBER, url, name, str(TTL)],
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def holds(self) -> int:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(file=self.process.stdin, flush=True)
        return int(self.process.stdout.readline())

    def kill(self) -> None:
        """``kill -9``, unless it has ended."""
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def started() -> Iterator[Started]:
    """A function that starts a member; all are killed in the end."""
    with contextlib.ExitStack() as stack:

        def start(url: str, name: str, environment: dict[str, str] | None = None) -> Member:
            member = Member(url, name, environment or {})
            stack.callback(member.kill)
            return member

        yield start


def share(members: list[Member], *, of: str) -> None:
    """Wait until the members hold all keys among them, each some, and never one twice."""

    def whole() -> bool:
        held = [member.holds() for member in members]
        return sum(held) == len(KEYS) and all(held)

    wait_until(whole, within=90.0, what=f"the division of the keys at {of}")


@pytest.mark.parametrize("kind", [RedisServer, MemcachedServer, ZooKeeperServer])
def test_the_survivor_of_a_crash_takes_over_whatever_the_rate_of_the_stores_clock(
    kind: Any, started: Started
) -> None:
    with contextlib.ExitStack() as stack:
        groups = []
        for rate in RATES if kind is RedisServer else (0.91, 1.09):
            server = stack.enter_context(running_at(rate, kind))
            pair = [started(server.url, name) for name in ("survivor", "victim")]
            groups.append((rate, pair))
        for rate, pair in groups:
            share(pair, of=f"{rate} times the true rate")
        for _, (_, victim) in groups:
            victim.kill()
        for rate, (survivor, _) in groups:
            share([survivor], of=f"{rate} times the true rate")


def test_a_member_whose_own_clock_is_slow_or_fast_takes_over_like_any_other(
    started: Started,
) -> None:
    with RedisServer() as server:
        groups = []
        for rate in (0.92, 1.09):
            url = f"{server.url}?namespace=at-{rate}"
            survivor = started(url, "survivor", at_rate(rate, of="boot"))
            groups.append((rate, [survivor, started(url, "victim")]))
        for rate, pair in groups:
            share(pair, of=f"a member's {rate} times the true rate")
        for _, (_, victim) in groups:
            victim.kill()
        for rate, (survivor, _) in groups:
            share([survivor], of=f"a member's {rate} times the true rate")


@pytest.mark.parametrize("kind", [RedisServer, MemcachedServer, ZooKeeperServer])
def test_a_store_whose_clock_is_nine_per_cent_fast_ends_no_lease_before_its_fence(
    kind: Any,
) -> None:
    with running_at(1.09, kind) as server, contextlib.ExitStack() as stack:
        holder, other = (load(server.url, ttl=TTL) for _ in range(2))
        for driver in (holder, other):
            stack.callback(driver.close)
            driver.open()
        until_it_works(lambda: holder.join("g", "a", record("1")))
        for _ in range(3):  # a store that counts in ticks or whole seconds is met at several
            began = boottime()
            until_it_works(holder.heartbeat)
            wait_until(lambda began=began: boottime() - began > 0.4 * TTL)
        began = boottime()
        holder.heartbeat()
        holder.close()
        wait_until(lambda: not until_it_works(lambda: other.read("g")).records)
        assert boottime() - began >= 0.9 * TTL


@pytest.mark.parametrize("rate", [0.91, 1.09])
def test_a_servers_clock_does_run_at_the_rate(rate: float) -> None:
    # The tests above would pass as well if the preloaded library did nothing.
    with running_at(rate, RedisServer) as server, server.client() as client:

        def look() -> tuple[float, float, float]:
            before = time.monotonic()
            seconds, microseconds = client.time()
            return before, seconds + microseconds / 1e6, time.monotonic()

        first = look()

        def measured() -> tuple[float, float]:
            last = look()
            gone = last[1] - first[1]
            return gone / (last[2] - first[0]), gone / max(1e-9, last[0] - first[2])

        wait_until(lambda: measured()[1] - measured()[0] < 0.01)
        least, most = measured()
        assert least - 0.01 < rate < most + 0.01
