"""What the driver's author runs: ``pytest suite_postgresql.py`` with the server's address given."""

import os
from typing import ClassVar

import pytest

from hashring.testing import DriverSuite
from tests.servers.postgresql import PostgreSQLServer


def by_the_author(url):
    return url.replace("postgresql://", "authors-postgresql://")


class TestPostgreSQL(DriverSuite):
    ttl = float(os.environ.get("TTL", "2"))
    patience = float(os.environ.get("PATIENCE", "30"))
    crowd = 40
    servers: ClassVar = []

    @pytest.fixture
    def url(self):
        # One that runs already, unless it is to be stopped: then a server of this process's own.
        if "POSTGRESQL_URL" in os.environ:
            return by_the_author(os.environ["POSTGRESQL_URL"])
        if not self.servers:
            server = PostgreSQLServer()
            self.servers.append(server)
            server.start()
        return by_the_author(self.servers[0].url)

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def _end(cls):
        yield
        while cls.servers:
            cls.servers.pop().__exit__(None, None, None)

    def stop_server(self):
        self.servers[0].kill()

    def start_server(self):
        self.servers[0].start()

    def pause_server(self):
        self.servers[0].pause()

    def resume_server(self):
        self.servers[0].resume()
