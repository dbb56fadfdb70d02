"""The Memcached driver on real servers: the conformance suite."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hashring.testing import DriverSuite
from tests.servers.memcached import MemcachedServer


@pytest.fixture(scope="module")
def server() -> Iterator[MemcachedServer]:
    with MemcachedServer() as running:
        yield running


class TestOneServer(DriverSuite):
    @pytest.fixture
    def url(self, server: MemcachedServer) -> str:
        self.server = server
        return server.url

    def stop_server(self) -> None:
        self.server.kill()

    def start_server(self) -> None:
        self.server.start()
