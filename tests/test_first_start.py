"""The first start of a group: what it waits for is said, and several share the first window."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator

import pytest

import hashring
from hashring.partition.partition import Partition
from hashring.partition.readings import Readings
from hashring.partition.waiting import plan_wait
from tests.servers.memcached import MemcachedServer
from tests.servers.process import wait_until
from tests.servers.redis import RedisServer

KEYS = [f"resource-{number}" for number in range(200)]
INTERVAL, TTL = 60.0, 30.0
"""Seconds: a tenth of the one, and a fifth of the other, are more than two joins take."""
FRESH = 6.0
"""Seconds of a lease, and for which a fresh store makes its first group wait."""


@pytest.fixture
def join() -> Iterator[Callable[..., Partition]]:
    url = f"memory://{uuid.uuid4().hex}"
    with contextlib.ExitStack() as stack:

        def joined(member: str) -> Partition:
            partition = hashring.join(url, "group", member, ttl=TTL)
            stack.callback(partition.leave)
            return partition

        yield joined


@pytest.mark.parametrize("server", [RedisServer, MemcachedServer])
def test_a_fresh_store_says_why_its_first_group_waits(
    server: type[RedisServer | MemcachedServer], caplog: pytest.LogCaptureFixture
) -> None:
    with (
        server() as store,
        caplog.at_level(logging.WARNING, "hashring"),
        hashring.join(store.url, "group", "a", ttl=FRESH) as partition,
    ):
        wait_until(lambda: "standing still" in partition.reason, what="a reason while it waits")
        assert partition.wait_settled(60)
        wait_until(lambda: not partition.reason, what="no reason once it has settled")
    said = [text for text in caplog.messages if "stands still" in text]
    assert len(said) == 1, caplog.messages
    assert store.url in said[0]
    assert "one ttl, once" in said[0]


def test_while_only_time_helps_the_store_is_looked_at_as_seldom_as_by_a_settled_member(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ttl, looks = 3.0, []
    read = Readings.read
    monkeypatch.setattr(Readings, "read", lambda self: looks.append(self) or read(self))
    with (
        RedisServer() as store,
        hashring.join(store.url, "group", "a", ttl=ttl) as partition,
    ):
        wait_until(lambda: "standing still" in partition.reason, what="a reason while it waits")
        del looks[:]
        began = time.monotonic()
        wait_until(lambda: "standing still" not in partition.reason, what="the end of it")
        seconds = max(ttl, time.monotonic() - began)
        listen = plan_wait(local=False, most=None, ttl=ttl, members=1, changing=False).listen
        most = seconds / listen
        assert 1 <= len(looks) <= 2 * most  # 120 and more if it looked as for a change


def test_who_only_watches_a_fresh_store_does_not_say_that_it_waits(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with (
        RedisServer() as store,
        caplog.at_level(logging.WARNING, "hashring"),
        hashring.join(store.url, "group", "watcher", weight=0.0, ttl=FRESH) as partition,
    ):
        wait_until(lambda: "standing still" in partition.reason, what="its reason")
    assert not [text for text in caplog.messages if "stands still" in text]


def be_early_in_a_window(monkeypatch: pytest.MonkeyPatch, interval: float) -> None:
    """Shift the wall clock: these tests are not about who comes at a window's end."""
    wall = hashring.clock.wall
    now = wall()
    shift = 0.2 * interval - now % interval
    monkeypatch.setattr(hashring.clock, "wall", lambda: wall() + shift)


def test_a_member_that_joins_a_moment_after_the_first_shares_its_first_window(
    join: Callable[..., Partition], monkeypatch: pytest.MonkeyPatch
) -> None:
    shares: dict[str, list[tuple[int, list[str]]]] = {"a": [], "b": []}
    both = threading.Event()

    def work(partition: Partition) -> None:
        for cycle in partition.cycles(INTERVAL):
            shares[partition.member].append((cycle.window, list(cycle.owned(KEYS))))
            if all(shares.values()):
                both.set()
            both.wait(60)  # a slow cycle: whoever is late waits for what it has
            return

    be_early_in_a_window(monkeypatch, INTERVAL)
    threads = []
    for name in ("a", "b"):
        partition = join(name)
        threads.append(threading.Thread(target=work, args=(partition,)))
        threads[-1].start()
        if name == "a":
            assert partition.wait_settled(60)
    for thread in threads:
        thread.join(60)
    ((first, of_a),) = shares["a"]
    ((second, of_b),) = shares["b"]
    assert first == second
    assert of_a, "nothing for the first"
    assert of_b, "the second waited for the first one's cycle"
    assert sorted(of_a + of_b) == sorted(KEYS)


def test_a_lone_member_works_the_window_in_which_it_joins(
    join: Callable[..., Partition], monkeypatch: pytest.MonkeyPatch
) -> None:
    be_early_in_a_window(monkeypatch, 20.0)
    partition = join("a")
    joined = hashring.clock.wall()
    for cycle in partition.cycles(20.0):
        # It waits for a tenth of a window at most, and for no window that begins.
        assert cycle.window == joined // 20.0
        assert list(cycle.owned(KEYS)) == KEYS
        break
    assert partition.drain(60)
