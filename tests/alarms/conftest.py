"""What the alarms' tests share: a database with one alarm in it, and a sink."""

from __future__ import annotations

import pytest

from hashring.alarms.database import migrations
from hashring.alarms.database.engine import Database, default_url
from tests.servers.http import HTTPServer


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """A file of SQLite with all tables, to be copied: to make them takes most of a second."""
    folder = tmp_path_factory.mktemp("alarms")
    database = Database(default_url(folder))
    migrations.migrate(database)
    database.close()
    return (folder / "alarms.db").read_bytes()


@pytest.fixture
def database(tmp_path, made):
    (tmp_path / "alarms.db").write_bytes(made)
    found = Database(default_url(tmp_path))
    yield found
    found.close()


@pytest.fixture
def sink():
    with HTTPServer() as server:
        server.answer("/in", b"")
        yield server
