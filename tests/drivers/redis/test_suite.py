"""The conformance suite on Redis: alone, under Sentinel, and in a cluster."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import ClassVar

import pytest

from hashring.testing import DriverSuite
from tests.drivers.essential import ESSENTIAL
from tests.drivers.one_server import OneServerSuite
from tests.servers.redis import Cluster, RedisServer, Replicated


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer() as running:
        yield running


@pytest.fixture(scope="module")
def replicated() -> Iterator[Replicated]:
    with Replicated() as running:
        yield running


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster() as running:
        yield running


class TestOneServer(OneServerSuite):
    @pytest.fixture
    def url(self, server: RedisServer) -> str:
        self.server = server
        return f"{server.url}?namespace={uuid.uuid4().hex}"


class TestUnderSentinel(DriverSuite):
    short_form: ClassVar[frozenset[str]] = ESSENTIAL

    @pytest.fixture
    def url(self, replicated: Replicated) -> str:
        self.servers = replicated
        return f"{replicated.url}&timeout=3"

    def stop_server(self) -> None:
        for server in (*self.servers.sentinels, *self.servers.servers):
            server.kill()

    def start_server(self) -> None:
        # In the order of a power cut's end: which of the two was the primary, Sentinel knows.
        for server in (*self.servers.servers, *self.servers.sentinels):
            server.start()

    def pause_server(self) -> None:
        # All at once: where the primary alone is frozen, another takes over.
        for server in (*self.servers.sentinels, *self.servers.servers):
            server.pause()

    def resume_server(self) -> None:
        for server in (*self.servers.servers, *self.servers.sentinels):
            server.resume()


class TestInACluster(DriverSuite):
    short_form: ClassVar[frozenset[str]] = ESSENTIAL

    @pytest.fixture
    def url(self, cluster: Cluster) -> str:
        return f"{cluster.url}?timeout=3"
