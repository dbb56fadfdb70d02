"""Stores and members whose clocks run fast or slow, within what docs/protocol.md allows."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from hashring.clock import boottime
from hashring.driver import load
from hashring.testing.suite.suite import record
from tests.drivers.patience import renew_or_rejoin, until_it_works
from tests.servers.clocks import at_rate, running_at
from tests.servers.memcached import MemcachedServer
from tests.servers.process import wait_until
from tests.servers.redis import RedisServer
from tests.servers.zookeeper import ZooKeeperServer

pytestmark = pytest.mark.slow

TTL = 5.0  # seconds: longer than a busy machine stands still
FAST = (1.02, 1.05, 1.09)
RATES = (0.91, 0.95, 0.98, *FAST)
ENDS = (0.91, 1.09)
KEYS = [f"key {number}" for number in range(200)]

MEMBERS = """
import sys, hashring
from hashring.errors import StoreUnavailable

member, ttl, *urls = sys.argv[1:]
keys = [f"key {number}" for number in range(200)]


def joined(url):
    while True:
        try:
            return hashring.join(url, "g", member, ttl=float(ttl))
        except StoreUnavailable:
            pass


partitions = [joined(url) for url in urls]
for line in sys.stdin:  # each line asks what is held now
    print(*(len(partition.owned(keys)) for partition in partitions), flush=True)
"""

Started = Callable[..., "Members"]


class Members:
    """A process with a member in each of some groups, that tells how many of the keys they hold."""

    def __init__(self, name: str, urls: Sequence[str], environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", MEMBERS, name, str(TTL), *urls],
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def hold(self) -> list[int]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(file=self.process.stdin, flush=True)
        return [int(count) for count in self.process.stdout.readline().split()]

    def kill(self) -> None:
        """``kill -9``, unless it has ended."""
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def started() -> Iterator[Started]:
    """A function that starts members; all are killed in the end."""
    with contextlib.ExitStack() as stack:

        def start(
            name: str, urls: Sequence[str], environment: dict[str, str] | None = None
        ) -> Members:
            members = Members(name, urls, environment or {})
            stack.callback(members.kill)
            return members

        yield start


def share(rates: Sequence[float], *members: Members) -> None:
    """Wait until in each group, one a rate, all keys are held, each once, and by every member."""
    seen: dict[float, list[int]] = {}

    def whole() -> bool:
        held = [each.hold() for each in members]
        seen.update({rate: [each[index] for each in held] for index, rate in enumerate(rates)})
        return all(sum(counts) == len(KEYS) and all(counts) for counts in seen.values())

    try:
        wait_until(whole, within=90.0)
    except AssertionError:
        raise AssertionError(f"keys that each member holds, by the clock's rate: {seen}") from None


@pytest.mark.parametrize(
    ("kind", "rates"),
    [
        (RedisServer, RATES),
        pytest.param(MemcachedServer, RATES, marks=pytest.mark.long),
        # A ZooKeeper takes seconds of processor time to start.
        *(pytest.param(ZooKeeperServer, [rate], marks=pytest.mark.long) for rate in RATES),
    ],
)
def test_the_survivor_of_a_crash_takes_over_whatever_the_rate_of_the_stores_clock(
    kind: Any, rates: Sequence[float], started: Started
) -> None:
    with contextlib.ExitStack() as stack:
        urls = [stack.enter_context(running_at(rate, kind)).url for rate in rates]
        survivors, victims = started("survivor", urls), started("victim", urls)
        share(rates, survivors, victims)
        victims.kill()
        share(rates, survivors)


def test_a_member_whose_own_clock_is_slow_or_fast_takes_over_like_any_other(
    started: Started,
) -> None:
    with RedisServer() as server:
        pairs = []
        for rate in (0.92, 1.09):
            urls = [f"{server.url}?namespace=at-{rate}"]
            survivor = started("survivor", urls, at_rate(rate, of="boot"))
            pairs.append((rate, survivor, started("victim", urls)))
        for rate, survivor, victim in pairs:
            share([rate], survivor, victim)
            victim.kill()
        for rate, survivor, _ in pairs:
            share([rate], survivor)


@pytest.mark.parametrize(
    ("kind", "rate"),
    [
        *((kind, FAST[-1]) for kind in (RedisServer, MemcachedServer)),
        pytest.param(ZooKeeperServer, FAST[-1], marks=pytest.mark.long),
        *(
            pytest.param(kind, rate, marks=pytest.mark.long)
            for kind in (RedisServer, MemcachedServer, ZooKeeperServer)
            for rate in FAST[:-1]
        ),
    ],
)
def test_a_store_whose_clock_is_fast_ends_no_lease_before_its_fence(kind: Any, rate: float) -> None:
    with running_at(rate, kind) as server, contextlib.ExitStack() as stack:
        holder, other = (load(server.url, ttl=TTL) for _ in range(2))
        for driver in (holder, other):
            stack.callback(driver.close)
            driver.open()
        until_it_works(lambda: holder.join("g", "a", record("1")))
        for _ in range(3):  # a store that counts in ticks or whole seconds is met at several
            began = boottime()
            until_it_works(lambda: renew_or_rejoin(holder, "a", {}))
            wait_until(lambda began=began: boottime() - began > 0.4 * TTL)

        def renew() -> float:
            called = boottime()
            renew_or_rejoin(holder, "a", {})  # a busy machine may have stood still for a lease
            return called

        began = until_it_works(renew)
        holder.close()
        wait_until(lambda: not until_it_works(lambda: other.read("g")).records)
        assert boottime() - began >= 0.9 * TTL


@pytest.mark.parametrize("rate", ENDS)
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
