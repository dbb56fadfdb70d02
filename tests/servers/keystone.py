"""Keystone of the release that pyproject.toml names: on a file of SQLite, with fernet tokens."""

from __future__ import annotations

import contextlib
import json
import urllib.request
from pathlib import Path
from typing import Any

from tests.servers import openstack
from tests.servers.process import Server

PASSWORD = "s3cr3t-of-the-tests"
_SCRIPT = Path(__file__).parent.parent / "alarms" / "keystone_server.py"
_DEFAULT = {"id": "default"}


class KeystoneServer(Server):
    """One server. Its first start makes the keys, the database and the user ``admin``."""

    def __init__(self) -> None:
        super().__init__()
        self._configuration = self.folder / "keystone.conf"
        self._configuration.write_text(
            f"[database]\nconnection = sqlite:///{self.folder}/keystone.db\n"
            f"[fernet_tokens]\nkey_repository = {self.folder}/keys\n"
            f"[credential]\nkey_repository = {self.folder}/credential-keys\n"
            f"[fernet_receipts]\nkey_repository = {self.folder}/receipt-keys\n"
            "[cache]\nenabled = false\n[identity]\npassword_hash_rounds = 4\n"
        )
        (self.folder / "keys").mkdir()

    @property
    def url(self) -> str:
        return f"http://{self.address}/v3"

    def command(self) -> list[str]:
        python = str(openstack.python_with_services())
        return [
            *(python, "-W", "ignore", str(_SCRIPT), str(self._configuration)),
            *(str(self.port), PASSWORD),
        ]

    def ready(self) -> bool:
        with contextlib.suppress(OSError):
            return bool(self.ask("GET", ""))
        return False

    def start(self, *, within: float = 300.0) -> None:
        super().start(within=within)  # the first time all migrations run

    def ask(self, method: str, path: str, body: Any = None, token: str = "", **headers: str) -> Any:
        """Return what it answers; raise urllib's HTTPError where it refuses."""
        sent = {"Content-Type": "application/json", **headers}
        if token:
            sent["X-Auth-Token"] = token
        content = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, content, sent, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def token(self, user: str, project: str) -> str:
        """Return a token of a user for a project."""
        who = {"name": user, "password": PASSWORD, "domain": _DEFAULT}
        identity = {"methods": ["password"], "password": {"user": who}}
        scope = {"project": {"name": project, "domain": _DEFAULT}}
        content = json.dumps({"auth": {"identity": identity, "scope": scope}}).encode()
        request = urllib.request.Request(
            f"{self.url}/auth/tokens", content, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return str(answer.headers["X-Subject-Token"])

    def let_there_be(self, user: str, project: str, role: str) -> str:
        """Make a project, where it is missing, and a user with a role in it; return its id."""
        token = self.token("admin", "admin")

        def ids(what: str) -> dict[str, str]:
            found = self.ask("GET", f"/{what}", token=token)[what]
            return {one["name"]: one["id"] for one in found}

        if project not in ids("projects"):
            body = {"project": {"name": project, "domain_id": "default"}}
            self.ask("POST", "/projects", body, token)
        project_id = ids("projects")[project]
        body = {"user": {"name": user, "password": PASSWORD, "domain_id": "default"}}
        user_id = self.ask("POST", "/users", body, token)["user"]["id"]
        role_id = ids("roles")[role]
        path = f"/projects/{project_id}/users/{user_id}/roles/{role_id}"
        self.ask("PUT", path, token=token)
        return project_id

    def serve_at(self, kind: str, url: str) -> None:
        """Let the catalog say where a service is."""
        token = self.token("admin", "admin")
        service = self.ask("POST", "/services", {"service": {"type": kind, "name": kind}}, token)
        endpoint = {"interface": "public", "url": url, "region_id": "R"}
        endpoint["service_id"] = service["service"]["id"]
        self.ask("POST", "/endpoints", {"endpoint": endpoint}, token)
