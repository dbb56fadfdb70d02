"""A wall clock that the fault harness can step: the host's own, and an offset kept in a file.

The harness writes the file (:class:`HostClock`); a worker follows it (:func:`follow`) in place of
the host's clock. Leases and logs go by ``CLOCK_BOOTTIME``, which nobody steps. This module knows
no process and no store.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from pathlib import Path

from hashring import clock

__all__ = ["VARIABLE", "HostClock", "follow"]

VARIABLE = "HASHRING_FAULTS_CLOCK"
"""The environment variable that names the file to a worker."""

_OFFSET = struct.Struct("=d")


class HostClock:
    """The wall clock of one worker's host, as the harness sets it.

    Args:
        path: of the file, which is made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.offset = 0.0
        self._write()

    def step(self, seconds: float) -> None:
        """Step it, back where ``seconds`` is negative."""
        self.offset += seconds
        self._write()

    def _write(self) -> None:
        # Eight bytes in one write, and never an empty file: whoever has mapped it reads on.
        file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            os.write(file, _OFFSET.pack(self.offset))
        finally:
            os.close(file)


def follow(path: Path) -> None:
    """Have this process read its wall clock by the offset in a file, from now on."""
    with path.open("rb") as file:
        offset = mmap.mmap(file.fileno(), _OFFSET.size, access=mmap.ACCESS_READ)

    def stepped() -> float:
        return time.time() + float(_OFFSET.unpack_from(offset)[0])

    clock.wall = stepped
