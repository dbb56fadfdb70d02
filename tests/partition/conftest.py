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


class Hooked(MemoryDriver):
    """The memory store, which calls the test before it answers."""

    def __init__(self, url: DriverURL, *, ttl: float) -> None:
        super().__init__(url, ttl=ttl)
        self.closed = False
        self.at: dict[str, Callable[[], object]] = {}

    def _at(self, name: str) -> None:
        self.at.get(name, lambda: None)()

    def once(self, name: str, error: BaseException) -> threading.Event:
        """Let the next call of this name fail; return what is set then."""
        failed = threading.Event()

        def fail() -> None:
            del self.at[name]
            failed.set()
            raise error

        self.at[name] = fail
        return failed

    def heartbeat(self) -> None:
        self._at("heartbeat")
        super().heartbeat()

    def read_since(self, group: str, cursor: bytes | None):
        self._at("read_since")
        return super().read_since(group, cursor)

    def publish(self, group: str, member: str, record: bytes) -> int:
        self._at("publish")
        return super().publish(group, member, record)

    def leave(self, group: str, member: str) -> None:
        self._at("leave")
        super().leave(group, member)

    def close(self) -> None:
        self.closed = True
        super().close()


@pytest.fixture
def driver(url: str) -> Hooked:
    return Hooked(DriverURL.parse(url), ttl=TTL)


@pytest.fixture
def member(driver: Hooked) -> Iterator[Partition]:
    partition = hashring.join(driver, "group", "a", heartbeat=0.05)
    assert partition.wait_settled(60)
    yield partition
    driver.at.clear()
    partition.leave()
