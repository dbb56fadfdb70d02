"""The ZooKeeper driver passes the conformance suite: on one server, and on an ensemble of three."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import pytest

from hashring.testing import DriverSuite
from tests.drivers.one_server import OneServerSuite
from tests.servers.zookeeper import Ensemble, ZooKeeperServer


@pytest.fixture(scope="module")
def server() -> Iterator[ZooKeeperServer]:
    with ZooKeeperServer() as server:
        yield server


@pytest.fixture(scope="module")
def ensemble() -> Iterator[Ensemble]:
    with Ensemble() as ensemble:
        yield ensemble


class TestZooKeeper(OneServerSuite):
    """One server, which the suite stops and starts again."""

    ttl: ClassVar[float] = 1.5
    lateness: ClassVar[float] = 1.0  # the server ends sessions at ticks, when it gets round to it

    @pytest.fixture
    def url(self, server: ZooKeeperServer) -> str:
        self.server = server
        # A busy machine may need more for a call than the third of a short lease.
        return f"{server.url}/suite?timeout=3"


@pytest.mark.long  # what is an ensemble's alone has its short form in test_ensemble.py
class TestEnsemble(DriverSuite):
    """Three servers, of which each driver picks one; the suite stops the leader and a follower."""

    ttl: ClassVar[float] = 2.0
    lateness: ClassVar[float] = 1.0

    @pytest.fixture
    def url(self, ensemble: Ensemble) -> str:
        self._ensemble = ensemble
        self._wait_for_a_leader()
        return (
            f"zookeeper://agent:s3cret@{ensemble.url.removeprefix('zookeeper://')}/suite?timeout=3"
        )

    def stop_server(self) -> None:
        self._stopped = [self._ensemble.leader, self._ensemble.follower]
        for server in self._stopped:
            server.kill()

    def start_server(self) -> None:
        for server in self._stopped:
            server.launch()
        self._wait_for_a_leader()

    def pause_server(self) -> None:
        for server in self._ensemble.servers:
            server.pause()

    def resume_server(self) -> None:
        for server in self._ensemble.servers:
            server.resume()
        self._wait_for_a_leader()

    def _wait_for_a_leader(self) -> None:
        """Wait for the election: before its end servers close every connection."""
        for server in self._ensemble.servers:
            server.wait_ready()
