"""Designate's own producers: which partitions each takes for its own, once a second."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import NamedTuple

from hashring import clock
from tests.servers import openstack
from tests.servers.process import wait_until
from tests.tooz.service import Services, fields_of

PARTITIONS = 4096


class Range(NamedTuple):
    """A producer worked on these partitions, both ends included; boottime, in seconds."""

    moment: float
    producer: int
    first: int
    last: int


class Producers(Services):
    """Producers of one Designate, whose only task writes down its partitions.

    Args:
        folder: an empty one.
        url: `[coordination] backend_url`.
    """

    def __init__(self, folder: Path, url: str) -> None:
        super().__init__(folder, openstack.python_with_services())
        self._record = folder / "record"
        self._record.touch()
        self.install(
            "hashring_designate",
            "[designate.producer_tasks]\nrecorded = hashring_designate:Recorded\n",
        )
        (folder / "designate.conf").write_text(
            f"[DEFAULT]\ntransport_url = fake://\nstate_path = {folder}\n"
            f"[coordination]\nbackend_url = {url}\nrun_watchers_interval = 1\n"
            f"[heartbeat_emitter]\nemitter_type = noop\n"
            f"[service:producer]\nworkers = 1\nenabled_tasks = recorded\n"
        )

    def start(self) -> subprocess.Popen[bytes]:
        """Start one more producer."""
        command = self.command(
            "designate.cmd.producer:main",
            "designate-producer",
            f"--config-file={self.folder}/designate.conf",
            first=["designate.cmd", "hashring_designate"],
        )
        return self.launch(command, {"RECORDED_FILE": str(self._record)})

    @property
    def ranges(self) -> list[Range]:
        """All that was written down so far, in order."""
        found = fields_of(self._record)
        return sorted(Range(float(now), *map(int, rest)) for now, *rest in found)

    def wait_for_shares(self, producers: int) -> None:
        """Wait until so many share all partitions, each of which is one's alone."""
        began = clock.boottime()

        def is_so() -> bool:
            latest = {one.producer: one for one in self.ranges if one.moment > began}
            shares = sorted((one.first, one.last) for one in latest.values())
            now = clock.boottime()
            if len(shares) != producers or any(now - one.moment > 5 for one in latest.values()):
                return False
            ends = [-1, *(last for _, last in shares)]
            return [first for first, _ in shares] == [end + 1 for end in ends[:-1]] and (
                ends[-1] == PARTITIONS - 1
            )

        wait_until(is_so, within=180, what=f"{producers} producers share all partitions")
