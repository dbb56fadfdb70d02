"""Locks on servers that are killed and come back empty: no two owners, judged by a history."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hashring.leases.leases import Leases
from tests.leases.torture import History, Holding, play
from tests.servers.memcached import MemcachedServer
from tests.servers.process import Server
from tests.servers.redis import RedisServer


@pytest.fixture(scope="module", params=[RedisServer, MemcachedServer], ids=["redis", "memcached"])
def server(request) -> Iterator[Server]:
    with request.param() as found:
        yield found


@pytest.mark.parametrize(
    "seeds",
    [range(1), pytest.param(range(1, 101), marks=[pytest.mark.long, pytest.mark.timeout(3600)])],
)
def test_no_two_own_a_lock_while_its_server_is_killed_and_comes_back_empty(
    server: Server, seeds: range
) -> None:
    for seed in seeds:
        history = play(server, seed, f"lock-{seed}")
        assert history.overlaps() == [], f"seed {seed}"


def test_the_judge_finds_locks_that_are_given_without_a_look_at_the_stores_memory(
    server: Server, monkeypatch
) -> None:
    monkeypatch.setattr(Leases, "_check_age", lambda *_: None)
    for seed in range(20):
        if play(server, seed, f"planted-{seed}", kills=1).overlaps():
            return
    pytest.fail("two owners at one moment were not found")


def test_the_judge_takes_no_hand_over_for_two_owners() -> None:
    history = History()
    history.holdings = [Holding(0, "x", 1.0, 2.0), Holding(1, "y", 2.0, 3.0)]
    assert history.overlaps() == []
    history.holdings.append(Holding(2, "z", 1.5, 1.6))
    assert len(history.overlaps()) == 1
