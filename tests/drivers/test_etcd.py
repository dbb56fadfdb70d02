"""The conformance suite on etcd: one server, and a cluster of three."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import ClassVar

import pytest

from hashring.testing import DriverSuite
from tests.drivers.one_server import OneServerSuite
from tests.servers.etcd import EtcdCluster, EtcdServer


@pytest.fixture(scope="module")
def server() -> Iterator[EtcdServer]:
    with EtcdServer() as running:
        yield running


@pytest.fixture(scope="module")
def cluster() -> Iterator[EtcdCluster]:
    with EtcdCluster() as running:
        yield running


class TestOneServer(OneServerSuite):
    lateness: ClassVar[float] = 1.5  # the leader looks for ended leases twice a second
    crowd: ClassVar[int] = 40  # each heartbeat is a request for each lease

    @pytest.fixture
    def url(self, server: EtcdServer) -> str:
        self.server = server
        return f"etcd://{server.address}/{uuid.uuid4().hex[:12]}"


@pytest.mark.long
class TestCluster(DriverSuite):
    """Three servers; the suite stops the leader and another one."""

    ttl: ClassVar[float] = 3.0
    lateness: ClassVar[float] = 1.5
    crowd: ClassVar[int] = 40

    @pytest.fixture
    def url(self, cluster: EtcdCluster) -> str:
        self.cluster = cluster
        return f"{cluster.url}/{uuid.uuid4().hex[:12]}"

    def stop_server(self) -> None:
        leader = self.cluster.leader
        self._stopped = [leader, next(one for one in self.cluster.servers if one is not leader)]
        for server in self._stopped:
            server.kill()

    def start_server(self) -> None:
        for server in self._stopped:
            server.launch()
        for server in self._stopped:
            server.wait_ready()

    def pause_server(self) -> None:
        for server in self.cluster.servers:
            server.pause()

    def resume_server(self) -> None:
        for server in self.cluster.servers:
            server.resume()
        for server in self.cluster.servers:
            server.wait_ready()
