"""Locks on servers that are killed and come back empty: no two owners, judged by a history."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from hashring.leases.leases import Leases
from tests.leases.torture import History, Holding, play
from tests.servers.memcached import MemcachedServer
from tests.servers.process import Server
from tests.servers.redis import RedisServer

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=[RedisServer, MemcachedServer], ids=["redis", "memcached"])
def server(request) -> Iterator[Server]:
    with request.param() as found:
        yield found


def test_no_two_own_a_lock_while_its_server_is_killed_and_comes_back_empty(server: Server) -> None:
    assert play(server, 0, "lock-0").overlaps() == []


def overlaps(kind: type[Server], seeds: range) -> dict[int, list[str]]:
    """Return what went wrong in runs on a server, by seed."""
    with kind() as server:
        return {seed: play(server, seed, f"lock-{seed}").overlaps() for seed in seeds}


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", [RedisServer, MemcachedServer])
def test_no_two_own_a_lock_in_a_hundred_runs(kind: type[Server]) -> None:
    with ThreadPoolExecutor(4) as pool:  # they wait, most of the time
        found = pool.map(overlaps, [kind] * 4, [range(first, 101, 4) for first in range(1, 5)])
        runs = {seed: wrong for part in found for seed, wrong in part.items()}
    assert len(runs) == 100
    assert {seed: wrong for seed, wrong in runs.items() if wrong} == {}


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
