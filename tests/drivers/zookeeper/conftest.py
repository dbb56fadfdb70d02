"""What the tests of the ZooKeeper driver share: a server, drivers on it, and how to look at it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from kazoo.client import KazooClient

from hashring.driver import Driver
from tests.drivers.opening import Opened, opening
from tests.servers.process import wait_until
from tests.servers.zookeeper import ZooKeeperServer


@pytest.fixture(scope="session")
def server() -> Iterator[ZooKeeperServer]:
    """A server that no test stops, for all of a worker's: it takes seconds to start."""
    with ZooKeeperServer() as server:
        yield server


@pytest.fixture
def connect() -> Iterator[Opened]:
    """A function that opens a driver on a URL; all are closed in the end.

    A lease is longer than a busy machine stands still, unless a test waits for its end.
    """
    with opening(20.0, timeout=6.0) as opened:
        yield opened


@pytest.fixture
def place(server: ZooKeeperServer, request: pytest.FixtureRequest) -> str:
    """A URL with a path that no other test uses."""
    return f"{server.url}/{request.node.name[:60]}"


def members(driver: Driver, group: str = "group") -> set[str]:
    return set(driver.read(group).records)


def expire(server: ZooKeeperServer, driver: Driver) -> None:
    """End the session of a driver's lease as the server would, behind the driver's back."""
    owner = driver._owner
    client = KazooClient(server.address, client_id=(owner.id, owner._password))
    client.start(timeout=60)
    client.stop()
    client.close()


def packets(server: ZooKeeperServer) -> int:
    """How many requests a server has received; asking is one of them."""
    answers: list[str] = []
    wait_until(lambda: answers.append(server.ask("mntr")) or answers[-1], what="an answer")
    answer = dict(line.split("\t", 1) for line in answers[-1].splitlines())
    return int(answer["zk_packets_received"])
