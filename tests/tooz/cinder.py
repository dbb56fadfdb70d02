"""Cinder's own locks, taken by processes of several threads: what they did under which."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.servers import openstack
from tests.tooz.gnocchi import Work
from tests.tooz.service import Services

NATIVE = {"OS_CINDER_DISABLE_EVENTLET_PATCHING": "true"}
"""Cinder 29 replaces its threads by greenlets unless its environment says this."""


class Attachers(Services):
    """Processes that attach four volumes again and again, from three threads each.

    Args:
        folder: an empty one.
        url: `[coordination] backend_url`.
        seconds: for so long.
    """

    def __init__(self, folder: Path, url: str, *, seconds: float) -> None:
        super().__init__(folder, openstack.python_with_services())
        self._record = folder / "record"
        self._record.touch()
        self._arguments = [url, str(seconds)]
        self.install("hashring_cinder")

    def start(self, *, native: bool = True) -> subprocess.Popen[bytes]:
        """Start one more: with real threads, or as Cinder comes, with greenlets."""
        command = self.command("hashring_cinder:hold", "hold", *self._arguments)
        return self.launch(
            command, {"RECORDED_FILE": str(self._record), **(NATIVE if native else {})}
        )

    @property
    def work(self) -> list[Work]:
        """What was done under a lock so far, in order."""
        lines = [line.split() for line in self._record.read_text().splitlines()]
        return sorted(
            Work(float(began), float(ended), int(who), what) for began, ended, who, what in lines
        )
