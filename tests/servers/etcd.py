"""etcd for the tests: one server."""

from __future__ import annotations

import contextlib
import json
import urllib.request

from tests.servers.process import LOOPBACK, Server, free_port, program


class EtcdServer(Server):
    """An ``etcd``, with its gRPC gateway, which is what tooz speaks."""

    def __init__(self) -> None:
        super().__init__()
        self._peer = f"http://{LOOPBACK}:{free_port()}"

    def command(self) -> list[str]:
        return [
            program("etcd", "etcd-server"),
            "--name=one",
            f"--data-dir={self.folder / 'data'}",
            f"--listen-client-urls=http://{self.address}",
            f"--advertise-client-urls=http://{self.address}",
            f"--listen-peer-urls={self._peer}",
            f"--initial-advertise-peer-urls={self._peer}",
            f"--initial-cluster=one={self._peer}",
        ]

    @property
    def url(self) -> str:
        return f"tooz+etcd3+http://{self.address}"

    def ready(self) -> bool:
        with (
            contextlib.suppress(OSError, ValueError),
            urllib.request.urlopen(f"http://{self.address}/health", timeout=1) as answer,
        ):
            return json.load(answer)["health"] == "true"
        return False
