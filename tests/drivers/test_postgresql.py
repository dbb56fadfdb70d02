"""The conformance suite on PostgreSQL."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import ClassVar

import pytest

from hashring.driver import load
from hashring.errors import StoreUnusable
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


def test_who_looks_on_makes_no_table(server: PostgreSQLServer) -> None:
    onlooker = load(f"{server.url}?table=nobody_made_it", ttl=10.0)
    with pytest.raises(StoreUnusable, match="there is no table"):
        onlooker.open_to_look()
    onlooker.close()

    member = load(f"{server.url}?table=nobody_made_it", ttl=10.0)
    member.open()
    onlooker.open_to_look()
    assert onlooker.groups() == []
    onlooker.close()
    member.close()
