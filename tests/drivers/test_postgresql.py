"""The conformance suite on PostgreSQL."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import ClassVar

import pytest

from tests.drivers.one_server import OneServerSuite
from tests.servers.postgresql import PostgreSQLServer


@pytest.fixture(scope="module")
def server() -> Iterator[PostgreSQLServer]:
    with PostgreSQLServer() as running:
        yield running


class TestPostgreSQL(OneServerSuite):
    crowd: ClassVar[int] = 40  # each join is a transaction, and the machine is shared

    @pytest.fixture
    def url(self, server: PostgreSQLServer) -> str:
        self.server = server
        return f"{server.url}?table=suite_{uuid.uuid4().hex[:12]}"
