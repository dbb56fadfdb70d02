"""Gnocchi's own API server, its index in a PostgreSQL, its measures in files."""

from __future__ import annotations

import base64
import contextlib
import json
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

from tests.servers import openstack
from tests.servers.postgresql import PostgreSQLServer
from tests.servers.process import Server

_SCRIPT = Path(__file__).parent.parent / "alarms" / "gnocchi_server.py"
_UPGRADE = "import sys; from gnocchi.cli.manage import upgrade; sys.exit(upgrade())"


class GnocchiServer(Server):
    """One server; a user is whoever calls themselves so. Nobody works on measures but who asks.

    Args:
        database: a server that runs; the index is a database in it.
    """

    def __init__(self, database: PostgreSQLServer) -> None:
        super().__init__()
        database.run("DROP DATABASE IF EXISTS gnocchi")
        database.run("CREATE DATABASE gnocchi")
        folder = self.folder
        self._configuration = folder / "gnocchi.conf"
        self._configuration.write_text(
            f"[DEFAULT]\ncoordination_url = file://{folder}/coordination\n"
            f"[indexer]\nurl = {database.url.rpartition('/')[0]}/gnocchi\n"
            "[api]\nauth_mode = basic\n"
            f"[storage]\ndriver = file\nfile_basepath = {folder}/data\n"
            f"[incoming]\ndriver = file\nfile_basepath = {folder}/data\n"
        )
        self._is_made = False

    @property
    def url(self) -> str:
        return f"http://admin:@{self.address}"

    def command(self) -> list[str]:
        python = str(openstack.python_with_services())
        if not self._is_made:
            named = ("--config-file", str(self._configuration))
            made = subprocess.run(
                [python, "-W", "ignore", "-c", _UPGRADE, *named],
                capture_output=True,
                text=True,
                timeout=240,
                check=False,
                cwd=self.folder,
            )
            assert made.returncode == 0, made.stdout + made.stderr
            self._is_made = True
        return [python, "-W", "ignore", str(_SCRIPT), str(self._configuration), str(self.port)]

    def ready(self) -> bool:
        with contextlib.suppress(OSError):
            return bool(self.ask("GET", "/v1/capabilities"))
        return False

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Return what it answers an administrator; raise urllib's HTTPError where it refuses."""
        headers = {
            "Authorization": f"Basic {base64.b64encode(b'admin:').decode()}",
            "Content-Type": "application/json",
        }
        content = None if body is None else json.dumps(body).encode()
        url = f"http://{self.address}{path}"
        request = urllib.request.Request(url, content, headers, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            text = answer.read()
        return json.loads(text) if text else {}
