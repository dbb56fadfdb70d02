"""Nginx: Debian's, as what benches poll; it counts what it answers, by who asked."""

from __future__ import annotations

import os
import urllib.request
from collections.abc import Sequence

from tests.servers.process import LOOPBACK, Server, program


class Nginx(Server):
    """A server of one worker (``tests/servers/install.sh nginx-light``).

    Args:
        location: what it does with each request, in its own language.
        content_type: of its answers.
        host: where it listens; ``0.0.0.0``: at every address of the loopback too.
        core: the processor that it is bound to; ``None``: any.
    """

    def __init__(
        self, location: str, content_type: str, *, host: str = LOOPBACK, core: int | None = None
    ) -> None:
        super().__init__()
        self._program = program("nginx", "nginx-light")
        self._bound: Sequence[str] = () if core is None else ("taskset", "-c", str(core))
        (self.folder / "nginx.conf").write_text(
            f"""
            daemon off; worker_processes 1; pid {self.folder}/pid; error_log {self.folder}/error;
            {"user root;" if os.getuid() == 0 else ""}
            worker_rlimit_nofile 20000;
            events {{ worker_connections 16384; }}
            http {{
              log_format who '$http_user_agent $status'; access_log {self.folder}/asked who;
              keepalive_requests 1000000; default_type "{content_type}";
              server {{
                listen {host}:{self.port} backlog=4096;
                location / {{ {location} }}
              }}
            }}
            """
        )

    def command(self) -> list[str]:
        nginx = [self._program, "-p", str(self.folder), "-c", str(self.folder / "nginx.conf")]
        return [*self._bound, *nginx]

    def ready(self) -> bool:
        try:
            urllib.request.urlopen(f"http://{self.address}/0", timeout=1).close()
        except OSError:
            return False
        return True

    def answered(self, who: str = "") -> int:
        """How many requests of whose it has answered with what was asked for."""
        lines = (self.folder / "asked").read_text().splitlines()
        return sum(1 for line in lines if line.startswith(who) and line.endswith(" 200"))
