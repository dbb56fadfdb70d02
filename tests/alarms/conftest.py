"""What the alarms' tests share: a database with one alarm in it, and a sink."""

from __future__ import annotations

import pytest

from hashring.alarms.database import migrations
from hashring.alarms.database.engine import Database, default_url
from tests.servers.http import HTTPServer
from tests.servers.mariadb import MariaDBServer
from tests.servers.postgresql import PostgreSQLServer


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


@pytest.fixture(scope="module")
def postgresql():
    with PostgreSQLServer() as server:
        yield server


@pytest.fixture(scope="module")
def mariadb():
    with MariaDBServer() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql", pytest.param("mariadb", marks=pytest.mark.long)])
def empty(request, tmp_path):
    """The URL of a database without tables: on SQLite, on PostgreSQL, and on MariaDB."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/empty.db"
    server = request.getfixturevalue(request.param)
    if request.param == "mariadb":
        server.empty()
    else:
        server.run("DROP SCHEMA public CASCADE")
        server.run("CREATE SCHEMA public")
    return server.url
