"""RabbitMQ for the tests: one node, which knows its queues again after a restart."""

from __future__ import annotations

import os
import shlex
import socket
from pathlib import Path

from tests.servers.process import LOOPBACK, Server, free_port, program

_SCRIPT = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
_HEADER = b"AMQP\x00\x00\x09\x01"


class RabbitMQServer(Server):
    """A ``rabbitmq-server`` with an ``epmd`` of its own beside it; both end together."""

    def __init__(self) -> None:
        super().__init__()
        self._names_port, self._nodes_port = free_port(), free_port()

    @property
    def url(self) -> str:
        """The URL of oslo.messaging; the user is known on this host alone."""
        return f"rabbit://guest:guest@{self.address}/"

    def command(self) -> list[str]:
        program("rabbitmq-server", "rabbitmq-server")
        # Erlang would start the daemon that knows the names of nodes by itself, and leave it.
        names = [program("epmd", "erlang-base"), "-port", str(self._names_port)]
        names += ["-address", LOOPBACK]
        both = f"{shlex.join(names)} & exec {shlex.quote(str(_SCRIPT))}"
        return ["env", *self._variables(), "sh", "-c", both]

    def _variables(self) -> list[str]:
        found = {
            "HOME": self.folder,  # a secret of the node's own lies there
            "ERL_EPMD_PORT": self._names_port,
            "ERL_EPMD_ADDRESS": LOOPBACK,
            "RABBITMQ_NODENAME": f"tests-{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": LOOPBACK,
            "RABBITMQ_NODE_PORT": self.port,
            "RABBITMQ_DIST_PORT": self._nodes_port,
            "RABBITMQ_MNESIA_BASE": self.folder / "data",
            "RABBITMQ_LOG_BASE": self.folder,
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_CONFIG_FILE": self.folder / "rabbitmq",
            "RABBITMQ_CONF_ENV_FILE": self.folder / "rabbitmq-env.conf",
            "RABBITMQ_ENABLED_PLUGINS_FILE": self.folder / "enabled_plugins",
            "RABBITMQ_PID_FILE": self.folder / "pid",
            # One scheduler does: the tests want no throughput.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
                "+S 1:1 -kernel inet_dist_use_interface {127,0,0,1}"
            ),
            "LANG": os.environ.get("LANG", "C.UTF-8"),
        }
        return [f"{name}={value}" for name, value in found.items()]

    def start(self, *, within: float = 120.0) -> None:
        super().start(within=within)  # Erlang is slow to start, and there are two processes of it

    def stop(self, *, within: float = 60.0) -> None:
        super().stop(within=within)  # what it was told to keep is on the disk afterwards

    def ready(self) -> bool:
        try:
            with socket.create_connection((LOOPBACK, self.port), timeout=5) as client:
                client.sendall(_HEADER)
                return client.recv(1) == b"\x01"  # a method's frame: it offers to begin
        except OSError:
            return False
