"""etcd for the tests: one server, or three that form a cluster."""

from __future__ import annotations

import base64
import contextlib
import json
import shutil
import urllib.request
from collections.abc import Sequence
from typing import Any, Self

from tests.servers.certificates import Certificates
from tests.servers.process import LOOPBACK, Server, free_port, program, wait_until

_ROOT = {"name": "root", "password": "s3cr3t-of-root"}


class EtcdServer(Server):
    """An ``etcd``, with its gRPC gateway, which is what tooz and our driver speak.

    Args:
        name: within its cluster.
        certificates: for TLS.
    """

    def __init__(self, name: str = "one", *, certificates: Certificates | None = None) -> None:
        super().__init__()
        self.name = name
        self.peer = f"http://{LOOPBACK}:{free_port()}"
        self.cluster: Sequence[EtcdServer] = (self,)
        self._certificates = certificates

    def command(self) -> list[str]:
        mine = f"{self._scheme}://{self.address}"
        command = [
            # It collects garbage less often, on one processor: 12 s of that in place of 17.
            *("env", "GOGC=400", "GOMAXPROCS=1"),
            program("etcd", "etcd-server"),
            f"--name={self.name}",
            f"--data-dir={self.folder / 'data'}",
            f"--listen-client-urls={mine}",
            f"--advertise-client-urls={mine}",
            f"--listen-peer-urls={self.peer}",
            f"--initial-advertise-peer-urls={self.peer}",
            "--initial-cluster=" + ",".join(f"{each.name}={each.peer}" for each in self.cluster),
        ]
        if self._certificates is not None:
            command += [
                f"--cert-file={self._certificates.server}",
                f"--key-file={self._certificates.server_key}",
            ]
        return command

    @property
    def _scheme(self) -> str:
        return "http" if self._certificates is None else "https"

    @property
    def url(self) -> str:
        return f"tooz+etcd3+http://{self.address}"

    def ready(self) -> bool:
        with contextlib.suppress(OSError, ValueError):
            return json.loads(self._open("/health"))["health"] == "true"
        return False

    def _open(
        self, path: str, body: bytes | None = None, token: str = "", *, timeout: float = 5
    ) -> bytes:
        request = urllib.request.Request(f"{self._scheme}://{self.address}{path}", body)
        if token:
            request.add_header("Authorization", token)
        context = self._certificates and self._certificates.client_context()
        with urllib.request.urlopen(request, timeout=timeout, context=context) as answer:
            return bytes(answer.read())

    def call(
        self, path: str, body: dict[str, Any], token: str = "", *, timeout: float = 60
    ) -> dict[str, Any]:
        """Ask the gateway for something."""
        content = json.dumps(body).encode()
        return dict(json.loads(self._open(f"/v3{path}", content, token, timeout=timeout)))

    def ask_for_passwords(self, user: str, password: str, prefix: str) -> None:
        """Enable authentication, with a user that has all rights below a prefix alone."""
        self.call("/auth/user/add", _ROOT)
        self.call("/auth/user/grant", {"user": "root", "role": "root"})
        self.call("/auth/role/add", {"name": user})
        key = {"key": _base64(prefix), "range_end": _base64(prefix[:-1] + chr(ord(prefix[-1]) + 1))}
        permission = {"name": user, "perm": {"permType": "READWRITE", **key}}
        self.call("/auth/role/grant", permission)
        self.call("/auth/user/add", {"name": user, "password": password})
        self.call("/auth/user/grant", {"user": user, "role": user})
        self.call("/auth/enable", {})

    def keep_copy(self) -> None:
        """Copy the data, as they are now."""
        self.pause()
        try:
            shutil.rmtree(self.folder / "copy", ignore_errors=True)
            shutil.copytree(self.folder / "data", self.folder / "copy")
        finally:
            self.resume()

    def go_back_in_time(self, *, to_nothing: bool = False) -> None:
        """Put the copy in the place of the data, or no data at all, and serve again."""
        if not to_nothing and not (self.folder / "copy").exists():
            self.keep_copy()
        self.kill()
        shutil.rmtree(self.folder / "data")
        if not to_nothing:
            (self.folder / "copy").rename(self.folder / "data")
        self.start()


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


class EtcdCluster:
    """Three servers, of which any two are a majority."""

    def __init__(self) -> None:
        self.servers = [EtcdServer(name) for name in ("one", "two", "three")]
        for server in self.servers:
            server.cluster = self.servers

    @property
    def url(self) -> str:
        return "etcd://" + ",".join(server.address for server in self.servers)

    @property
    def leader(self) -> EtcdServer:
        """The server that leads, by what a majority says."""
        found: list[EtcdServer] = []

        def known() -> bool:
            for server in self.servers:
                with contextlib.suppress(OSError, KeyError, ValueError):
                    told = server.call("/maintenance/status", {}, timeout=5)
                    if told.get("leader") == told["header"]["member_id"] != "0":
                        found.append(server)
            return bool(found)

        wait_until(known, what="a leader")
        return found[-1]

    def __enter__(self) -> Self:
        try:
            for server in self.servers:
                server.launch()
            for server in self.servers:
                server.wait_ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for server in self.servers:
            server.resume()
            server.__exit__(None, None, None)
