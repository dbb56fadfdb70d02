"""Aodh's own API server, of the release that pyproject.toml names."""

from __future__ import annotations

import contextlib
import json
import urllib.request
from pathlib import Path
from typing import Any

from tests.servers import openstack
from tests.servers.process import Server

_SCRIPT = Path(__file__).parent.parent / "alarms" / "aodh_server.py"

HEADERS = {"X-User-Id": "root", "X-Project-Id": "ops", "X-Roles": "admin"}


class AodhAPI(Server):
    """One server. Its tables are made, or brought up to date, by its own dbsync.

    Args:
        database: the URL of its database, without a driver; ``None``: a file of its own.
        configuration: more of its configuration: whole sections.
    """

    def __init__(self, database: str | None = None, *, configuration: str = "") -> None:
        super().__init__()
        self.database = database or f"sqlite:///{self.folder}/aodh.db"
        self.as_made = self.folder / "as-made.db"
        """A copy of the file, where it is one, before anything was written to it."""
        (self.folder / "aodh.conf").write_text(
            f"[DEFAULT]\ntransport_url = fake://\n[database]\nconnection = {self.sqlalchemy_url}\n"
            "[api]\nauth_mode = noauth\n[oslo_messaging_notifications]\ndriver = noop\n"
            f"{configuration}"
        )

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    @property
    def sqlalchemy_url(self) -> str:
        return self.database.replace("mysql://", "mysql+pymysql://")

    def command(self) -> list[str]:
        script = [str(_SCRIPT), "aodh.conf", str(self.port), str(self.as_made)]
        return [str(openstack.python_with_services()), "-W", "ignore", *script]

    def ready(self) -> bool:
        with contextlib.suppress(OSError):
            return bool(self.ask("GET", "/"))
        return False

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Return what it answers an administrator; raise urllib's HTTPError where it refuses."""
        headers = HEADERS | {"Content-Type": "application/json", "Accept": "application/json"}
        content = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, content, headers, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            text = answer.read()
        return json.loads(text) if text else None
