"""The conformance suite on PostgreSQL."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import ClassVar

import pytest

from hashring.testing import DriverSuite
from tests.servers.postgresql import PostgreSQLServer


@pytest.fixture(scope="module")
def server() -> Iterator[PostgreSQLServer]:
    with PostgreSQLServer() as running:
        yield running


class TestPostgreSQL(DriverSuite):
    crowd: ClassVar[int] = 40  # each join is a transaction, and the machine is shared

    @pytest.fixture
    def url(self, server: PostgreSQLServer) -> str:
        self.server = server
        return f"{server.url}?table=suite_{uuid.uuid4().hex[:12]}"

    def stop_server(self) -> None:
        self.server.kill()

    def start_server(self) -> None:
        self.server.start()

    def pause_server(self) -> None:
        self.server.pause()

    def resume_server(self) -> None:
        self.server.resume()
