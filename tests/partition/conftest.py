"""What tests of partitions share: a store in memory, and one whose network can be cut."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator

import pytest

import hashring
from hashring.driver import DriverURL
from hashring.drivers.memory import MemoryDriver
from hashring.errors import StoreUnavailable
from hashring.partition.partition import Partition
from tests.servers.process import wait_until

TTL = 30.0  # far longer than any of these tests: what waits for a lease is seen


class CutDriver(MemoryDriver):
    """The memory store behind a network that can be cut."""

    down = False

    def _reach(self) -> None:
        if self.down:
            raise StoreUnavailable("cut by the test")

    def heartbeat(self) -> None:
        self._reach()
        super().heartbeat()

    def read(self, group):
        self._reach()
        return super().read(group)

    def publish(self, group, member, record) -> None:
        self._reach()
        super().publish(group, member, record)


def threads_of_ours() -> list[str]:
    """Return the names of the threads that a partition has begun and not ended."""
    return [one.name for one in threading.enumerate() if one.name.startswith("hashring-")]


def records(url: str) -> set[str]:
    """Return the members that have a record in ``group``, as the store has them."""
    looker = MemoryDriver(DriverURL.parse(url), ttl=TTL)
    looker.open()
    try:
        return set(looker.read("group").records)
    finally:
        looker.close()


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    yield
    wait_until(lambda: not threads_of_ours(), what="the end of all threads")


@pytest.fixture
def url() -> str:
    return f"memory://{uuid.uuid4().hex}"


@pytest.fixture
def cut(url: str) -> Callable[..., CutDriver]:
    def made(ttl: float = 2.5) -> CutDriver:  # a busy machine stands still for a second or two
        return CutDriver(DriverURL.parse(url), ttl=ttl)

    return made


@pytest.fixture
def a(url: str) -> Iterator[Partition]:
    with hashring.join(url, "group", "a", ttl=TTL) as partition:
        assert partition.wait_settled(60)
        yield partition
