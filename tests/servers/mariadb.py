"""MariaDB for the tests: a server with an empty database, and everybody's password."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess

import pymysql

from tests.servers.process import LOOPBACK, Server, program

PASSWORD = "s3cr3t-of-the-tests"


class MariaDBServer(Server):
    """A ``mariadbd`` that keeps its databases through restarts."""

    def __init__(self) -> None:
        super().__init__()
        self._data = self.folder / "data"

    @property
    def url(self) -> str:
        return f"mysql://tester:{PASSWORD}@{self.address}/alarms"

    def command(self) -> list[str]:
        server = program("mariadbd", "mariadb-server")
        if not self._data.exists():
            self._make()
        return [
            *(server, "--no-defaults", f"--datadir={self._data}", f"--user={self._user()}"),
            *(f"--port={self.port}", f"--bind-address={LOOPBACK}", "--skip-name-resolve"),
            *(f"--socket={self.folder / 'socket'}", f"--pid-file={self.folder / 'pid'}"),
            "--innodb-flush-log-at-trx-commit=0",  # of the machine's power nothing is asked here
        ]

    @staticmethod
    def _user() -> str:
        return "root" if not os.getuid() else str(os.getuid())

    def _make(self) -> None:
        made = subprocess.run(
            [
                *(program("mariadb-install-db", "mariadb-server"), "--no-defaults"),
                *(f"--datadir={self._data}", f"--user={self._user()}", "--skip-test-db"),
                "--auth-root-authentication-method=normal",
            ],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert made.returncode == 0, made.stdout + made.stderr

    def run(self, *statements: str) -> None:
        """Run statements as the superuser."""
        connection = pymysql.connect(
            unix_socket=str(self.folder / "socket"), user="root", autocommit=True, read_timeout=30
        )
        with contextlib.closing(connection), connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)

    def empty(self) -> None:
        """Let there be an empty database, and a user of it."""
        self.run(
            "DROP DATABASE IF EXISTS alarms",
            "CREATE DATABASE alarms CHARACTER SET utf8",
            f"CREATE USER IF NOT EXISTS 'tester'@'%' IDENTIFIED BY '{PASSWORD}'",
            "GRANT ALL ON alarms.* TO 'tester'@'%'",
        )

    def ready(self) -> bool:
        with contextlib.suppress(pymysql.Error, OSError):
            # PyMySQL does not close a socket that nobody listens on.
            with socket.socket(socket.AF_UNIX) as probe:
                probe.connect(str(self.folder / "socket"))
            self.run("SELECT 1")
            return True
        return False
