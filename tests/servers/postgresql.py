"""PostgreSQL for the tests: a server, a standby that follows it, and a PgBouncer before it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Self

import pg8000.native
from filelock import FileLock

from tests.servers.certificates import Certificates
from tests.servers.process import LOOPBACK, Server, program, wait_until

PASSWORD = "s3cr3t-of-the-tests"

_DAY = 86400
"""Seconds for which a new database is copied: systems clear away what lies in /tmp for longer."""


def _programs() -> Path:
    """Return the folder of the server's programs, which Debian keeps out of the PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        with contextlib.suppress(AssertionError):  # it brings programs, none of them in the PATH
            program("postgres", "postgresql")
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    assert found, "the package postgresql brought no initdb"
    return found[-1].parent


def _as_its_user() -> list[str]:
    # PostgreSQL refuses to run as root; the package brought it a user.
    if os.getuid():
        return []
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]


def _copy_a_new_database(to: Path) -> None:
    # To make one takes over a second of processor time, to copy one a fifth. All have one system
    # identifier then: no test may put one server in the place of another and expect to be told.
    kept = Path(tempfile.gettempdir()) / f"hashring-tests-{os.getuid()}-{_programs().parent.name}"
    with FileLock(f"{kept}.lock"):
        if not kept.exists() or kept.stat().st_mtime < time.time() - _DAY:
            shutil.rmtree(kept, ignore_errors=True)
            _make_a_database(kept)
        subprocess.run(["cp", "--archive", kept / "data", to], check=True, timeout=120)


def _make_a_database(folder: Path) -> None:
    unfinished = Path(tempfile.mkdtemp(prefix=folder.name))
    unfinished.chmod(0o755)
    data, password = unfinished / "data", unfinished / "password"
    password.write_text(PASSWORD)
    data.mkdir()
    if not os.getuid():
        shutil.chown(data, "postgres")
    made = subprocess.run(
        [
            *_as_its_user(),
            str(_programs() / "initdb"),
            *("--no-sync", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8"),
            *("--username=postgres", f"--pwfile={password}", f"--pgdata={data}"),
        ],
        cwd=unfinished,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert made.returncode == 0, made.stdout + made.stderr
    unfinished.rename(folder)


class PostgreSQLServer(Server):
    """A ``postgres`` that keeps its database through restarts; everybody needs a password.

    Args:
        certificates: for TLS; then nobody gets in without it.
        options: of its configuration.
    """

    def __init__(self, *, certificates: Certificates | None = None, **options: str) -> None:
        super().__init__()
        self._data = self.folder / "data"
        self._copy = self.folder / "copy"
        self.folder.chmod(0o755)
        self._certificates = certificates
        self._options = options

    @property
    def url(self) -> str:
        return f"postgresql://postgres:{PASSWORD}@{self.address}/postgres"

    def command(self) -> list[str]:
        if not self._data.exists():
            self._make()
        options = {
            "listen_addresses": LOOPBACK,
            "port": str(self.port),
            "unix_socket_directories": "",
            "max_connections": "400",
            "shared_buffers": "16MB",
            "fsync": "off",  # of the machine's power nothing is asked here
            "logging_collector": "off",
            **self._options,
        }
        if self._certificates is not None:
            options |= {"ssl": "on", "ssl_cert_file": "server.pem", "ssl_key_file": "server.key"}
        command = [*_as_its_user(), str(_programs() / "postgres"), "-D", str(self._data)]
        return command + [part for item in options.items() for part in ("-c", "=".join(item))]

    def run(self, statement: str, **values: object) -> list[tuple[object, ...]]:
        """Run a statement as the superuser and return its rows."""
        client = pg8000.native.Connection(
            "postgres", LOOPBACK, port=self.port, password=PASSWORD, timeout=30
        )
        try:
            return [tuple(row) for row in client.run(statement, **values) or ()]
        finally:
            client.close()

    def keep_copy(self) -> None:
        """Take a backup, as it is now."""
        shutil.rmtree(self._copy, ignore_errors=True)
        self._take(self, self._copy)

    def go_back_in_time(self) -> None:
        """Put the backup in the place of what there is, and serve again."""
        if not self._copy.exists():
            self.keep_copy()
        self.kill()
        shutil.rmtree(self._data)
        self._copy.rename(self._data)
        self.start()

    def follow(self, primary: PostgreSQLServer) -> None:
        """Become a standby of another server: with its data as they are now, and all that follows.

        What this server had is gone.
        """
        self.kill()
        shutil.rmtree(self._data, ignore_errors=True)
        self._take(primary, self._data, "--write-recovery-conf")
        self.start()

    def promote(self) -> None:
        """Become a primary, whatever the one before does; return when it serves as such."""
        self.run("SELECT pg_promote(true, 60)")

    def _take(self, source: PostgreSQLServer, into: Path, *arguments: str) -> None:
        into.mkdir(mode=0o700)
        if not os.getuid():
            shutil.chown(into, "postgres")
        taken = subprocess.run(
            [
                *(*_as_its_user(), str(_programs() / "pg_basebackup"), f"--pgdata={into}"),
                *(f"--host={LOOPBACK}", f"--port={source.port}", "--username=postgres"),
                *("--checkpoint=fast", "--wal-method=stream", "--no-sync", *arguments),
            ],
            cwd=self.folder,
            env={**os.environ, "PGPASSWORD": PASSWORD},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert taken.returncode == 0, taken.stdout + taken.stderr

    def _make(self) -> None:
        _copy_a_new_database(self._data)
        if self._certificates is not None:
            self._put(self._certificates.server, "server.pem")
            self._put(self._certificates.server_key, "server.key")
            rules = self._data / "pg_hba.conf"
            rules.write_text("hostssl all all 127.0.0.1/32 scram-sha-256\n")

    def _put(self, file: Path, name: str) -> None:
        there = self._data / name
        shutil.copy(file, there)
        there.chmod(0o600)
        if not os.getuid():
            shutil.chown(there, "postgres")

    def ready(self) -> bool:
        with contextlib.suppress(pg8000.native.Error, OSError):
            pg8000.native.Connection(
                "postgres",
                LOOPBACK,
                port=self.port,
                password=PASSWORD,
                timeout=5,
                ssl_context=self._certificates and self._certificates.client_context(),
            ).close()
            return True
        return False

    def stop(self, *, within: float = 60.0) -> None:
        """Stop as an operator does who does not wait for the clients."""
        if self.running:
            self.resume()
            self._signal(signal.SIGINT)
            wait_until(lambda: not self.running, within=within, what="the end of the server")
        super().stop()

    def kill(self) -> None:
        """``kill -9`` to the server and every process that it forked."""
        if self.running:
            forked = self._forked()
            super().kill()
            # Until the last of them has ended, the next server refuses to start.
            for pid in forked:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            wait_until(
                lambda: not any(Path(f"/proc/{pid}").exists() for pid in forked),
                what="the end of the server's processes",
            )
        super().kill()

    def _forked(self) -> list[int]:
        """Return the server's processes but the first; each leads a session of its own."""
        found = []
        for task in Path(f"/proc/{self.pid}/task").iterdir():
            with contextlib.suppress(FileNotFoundError):
                found += [int(pid) for pid in (task / "children").read_text().split()]
        return found

    def _signal(self, number: int) -> None:
        super()._signal(number)
        if number in (signal.SIGSTOP, signal.SIGCONT) and self.running:
            for pid in self._forked():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)


class Pair:
    """A primary and a standby that follows it, which does not wait for each commit to arrive.

    Attributes:
        primary: the server that serves.
        standby: the other one.
    """

    def __init__(self) -> None:
        self.primary, self.standby = PostgreSQLServer(), PostgreSQLServer()
        self._servers = (self.primary, self.standby)

    @property
    def url(self) -> str:
        hosts = ",".join(server.address for server in self._servers)
        return f"postgresql://postgres:{PASSWORD}@{hosts}/postgres"

    def fail_over(self, *, lagging: bool = False) -> None:
        """Kill the primary and promote the standby.

        Args:
            lagging: the standby was stopped already, and lacks what came since.
        """
        self.primary.kill()
        if lagging:
            self.standby.start()
        self.standby.promote()
        self.primary, self.standby = self.standby, self.primary

    def repair(self) -> None:
        """Have the server that failed follow the one that serves."""
        self.standby.follow(self.primary)

    def __enter__(self) -> Self:
        try:
            self.primary.start()
            self.standby.follow(self.primary)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for server in self._servers:
            server.resume()
            server.__exit__(None, None, None)


class PgBouncer(Server):
    """A connection pooler before a server.

    Args:
        server: that it connects to.
        mode: ``transaction`` or ``session``.
    """

    def __init__(self, server: PostgreSQLServer, mode: str) -> None:
        super().__init__()
        self._server, self._mode = server, mode
        self.folder.chmod(0o755)

    @property
    def url(self) -> str:
        return f"postgresql://postgres:{PASSWORD}@{self.address}/postgres"

    def command(self) -> list[str]:
        users = self.folder / "users.txt"
        users.write_text(f'"postgres" "{PASSWORD}"\n')
        config = self.folder / "pgbouncer.ini"
        config.write_text(
            f"[databases]\n* = host={LOOPBACK} port={self._server.port}\n[pgbouncer]\n"
            f"listen_addr = {LOOPBACK}\nlisten_port = {self.port}\nunix_socket_dir =\n"
            f"auth_type = plain\nauth_file = {users}\npool_mode = {self._mode}\n"
        )
        return [*_as_its_user(), program("pgbouncer", "pgbouncer"), str(config)]

    def ready(self) -> bool:
        with contextlib.suppress(pg8000.native.Error, OSError):
            pg8000.native.Connection(
                "postgres", LOOPBACK, port=self.port, password=PASSWORD, timeout=5
            ).close()
            return True
        return False
