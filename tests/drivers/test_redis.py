"""The Redis driver on real servers: the conformance suite, alone, over TLS, and replicated."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from hashring.testing import DriverSuite
from tests.servers.redis import RedisServer


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer() as running:
        yield running


class TestOneServer(DriverSuite):
    @pytest.fixture
    def url(self, server: RedisServer) -> str:
        self.server = server
        return f"{server.url}?namespace={uuid.uuid4().hex}"

    def stop_server(self) -> None:
        self.server.kill()

    def start_server(self) -> None:
        self.server.start()
