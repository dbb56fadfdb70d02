"""The tooz bridge passes the conformance suite on tooz's file, etcd and ZooKeeper backends."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from hashring.testing import DriverSuite
from tests.drivers.essential import ESSENTIAL
from tests.drivers.one_server import OneServerSuite
from tests.servers.etcd import EtcdServer
from tests.servers.zookeeper import ZooKeeperServer

# Each membership has coordinators of tooz of its own, and every heartbeat writes each of them: the
# test's cost grows with the square of this.
CROWD = 20


class TestFile(DriverSuite):
    """tooz's files, in a folder."""

    ttl: ClassVar[float] = 1.5
    # tooz takes an entry of the future for a dead one, and its page says so: members on files live
    # by the wall clock.
    test_no_wall_clock_of_a_client_enters_a_lease = None
    lateness: ClassVar[float] = 1.5
    crowd: ClassVar[int] = CROWD

    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"tooz+file://{tmp_path}?poll=0.05"


@pytest.fixture(scope="module")
def etcd() -> Iterator[EtcdServer]:
    with EtcdServer() as server:
        yield server


class TestEtcd(OneServerSuite):
    """etcd, through its HTTP gateway."""

    short_form: ClassVar[frozenset[str]] = ESSENTIAL
    ttl: ClassVar[float] = 2.0
    # The readers judge, each by when it last saw a change; and a busy machine looks late.
    lateness: ClassVar[float] = 1.5
    crowd: ClassVar[int] = CROWD

    @pytest.fixture
    def url(self, etcd: EtcdServer) -> str:
        self.server = etcd
        return f"tooz+etcd3+http://{etcd.address}?poll=0.05&timeout=10"


@pytest.fixture(scope="module")
def zookeeper() -> Iterator[ZooKeeperServer]:
    with ZooKeeperServer() as server:
        yield server


@pytest.mark.long
class TestZooKeeper(OneServerSuite):
    """ZooKeeper through tooz, for those who must; our own driver does more."""

    ttl: ClassVar[float] = 2.0
    long_ttl: ClassVar[float] = 20.0
    lateness: ClassVar[float] = 1.5
    crowd: ClassVar[int] = CROWD

    @pytest.fixture
    def url(self, zookeeper: ZooKeeperServer) -> str:
        self.server = zookeeper
        return f"tooz+zookeeper://{zookeeper.address}?poll=0.05&timeout=4"
