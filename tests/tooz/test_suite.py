"""tooz's own tests pass on our backend, but those that docs/tooz.md names."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from tooz import coordination

from tests.servers.memcached import MemcachedServer
from tests.servers.process import wait_until
from tests.servers.redis import RedisServer
from tests.servers.zookeeper import ZooKeeperServer
from tests.tooz.suite import FAILS, SHORT, SKIPPED, play

pytestmark = pytest.mark.slow


def check(url: str, folder: Path, *more: str, least: int = 88) -> None:
    failed, skipped, passed = play(url, folder, *more)
    assert failed == FAILS
    assert skipped <= SKIPPED
    assert passed >= least


@pytest.mark.parametrize(
    ("more", "least"), [(["-k", SHORT], 30), pytest.param([], 88, marks=pytest.mark.long)]
)
def test_tooz_own_tests_pass_on_sqlite(more: list[str], least: int, tmp_path: Path) -> None:
    check(f"hashring+sqlite:///{tmp_path}/tooz.db", tmp_path, *more, least=least)


@contextlib.contextmanager
def somebody_who_stays(url: str) -> Iterator[None]:
    """Whose presence keeps the age of a store's memory that forgets, as a fleet's does."""
    coordinator = coordination.get_coordinator(url, b"somebody who stays")
    coordinator.start()
    try:
        lock = coordinator.get_lock(b"warm")
        wait_until(lambda: lock.acquire(blocking=False), what="the store remembers for a ttl")
        lock.release()
        yield
    finally:
        coordinator.stop()


@pytest.mark.long
@pytest.mark.timeout(1000)
@pytest.mark.parametrize("server", [RedisServer, MemcachedServer, ZooKeeperServer])
def test_tooz_own_tests_pass_on_servers(server, tmp_path: Path) -> None:
    with server() as store:
        url = f"hashring+{store.url}?ttl=3&settle=15"
        with somebody_who_stays(url):
            check(url, tmp_path)
