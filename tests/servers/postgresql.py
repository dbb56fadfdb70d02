"""PostgreSQL for the tests: one server with a database of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pg8000.native

from tests.servers.process import LOOPBACK, Server, program, wait_until

PASSWORD = "s3cr3t-of-the-tests"


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


class PostgreSQLServer(Server):
    """A ``postgres`` that keeps its database through restarts; everybody needs a password."""

    def __init__(self) -> None:
        super().__init__()
        self._data = self.folder / "data"
        self.folder.chmod(0o755)

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
        }
        command = [*_as_its_user(), str(_programs() / "postgres"), "-D", str(self._data)]
        return command + [part for item in options.items() for part in ("-c", "=".join(item))]

    def _make(self) -> None:
        self._data.mkdir()
        password = self.folder / "password"
        password.write_text(PASSWORD)
        if not os.getuid():
            shutil.chown(self._data, "postgres")
        made = subprocess.run(
            [
                *_as_its_user(),
                str(_programs() / "initdb"),
                *("--no-sync", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8"),
                *("--username=postgres", f"--pwfile={password}", f"--pgdata={self._data}"),
            ],
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert made.returncode == 0, made.stdout + made.stderr

    def ready(self) -> bool:
        with contextlib.suppress(pg8000.native.Error, OSError):
            pg8000.native.Connection(
                "postgres", LOOPBACK, port=self.port, password=PASSWORD, timeout=5
            ).close()
            return True
        return False

    def stop(self, *, within: float = 15.0) -> None:
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
