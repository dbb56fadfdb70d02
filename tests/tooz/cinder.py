"""Cinder's own locks, taken by processes of several threads: what they did under which."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.servers import openstack
from tests.tooz.gnocchi import Work
from tests.tooz.service import Services, fields_of

NATIVE = {"OS_CINDER_DISABLE_EVENTLET_PATCHING": "true"}
"""Cinder 29 replaces its threads by greenlets unless its environment says this."""


class Attachers(Services):
    """Processes that attach four volumes again and again, from three threads each.

    Args:
        folder: an empty one.
        url: `[coordination] backend_url`.
    """

    def __init__(self, folder: Path, url: str) -> None:
        super().__init__(folder, openstack.python_with_services())
        self._record = folder / "record"
        self._record.touch()
        self._ended = folder / "ended"
        self._arguments = [url, str(self._ended)]
        self.install("hashring_cinder")

    def start(self, *, native: bool = True) -> subprocess.Popen[bytes]:
        """Start one more: with real threads, or as Cinder comes, with greenlets."""
        command = self.command("hashring_cinder:hold", "hold", *self._arguments)
        return self.launch(
            command, {"RECORDED_FILE": str(self._record), **(NATIVE if native else {})}
        )

    def end(self) -> None:
        """Have all of them come to an end by themselves."""
        self._ended.touch()

    @property
    def work(self) -> list[Work]:
        """What was done under a lock so far, in order."""
        return sorted(
            Work(float(began), float(ended), int(who), what)
            for began, ended, who, what in fields_of(self._record)
        )
