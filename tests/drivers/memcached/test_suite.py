"""The Memcached driver on real servers: the conformance suite."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.drivers.one_server import OneServerSuite
from tests.servers.memcached import MemcachedServer


@pytest.fixture(scope="module")
def server() -> Iterator[MemcachedServer]:
    with MemcachedServer() as running:
        yield running


class TestOneServer(OneServerSuite):
    lateness = 1.0  # readers judge, and a busy machine looks late

    @pytest.fixture
    def url(self, server: MemcachedServer) -> str:
        self.server = server
        # A busy machine may need more for a call than the third of a short lease.
        return f"{server.url}?timeout=3"
