"""What is missing where the machine gave somebody no processor: that is tried again.

A fleet polls, or evaluates, in windows of seconds. Where a machine stands still for as long, even a
fleet without a fault misses some. A run is carried out again only where something beside the fleet
says that it was so.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

log = logging.getLogger(__name__)

TRIES = 3
"""How often a run is carried out where the machine gave somebody no processor."""

_WATCH = """
import time
while True:
    before = time.monotonic()
    time.sleep(0.05)
    late = time.monotonic() - before - 0.05
    if late > 0.5:
        print(late, flush=True)
"""


class Excusable(AssertionError):
    """Something is missing, which a member may have had no processor for."""


class Standstill:
    """Tells whether the machine gave a process no processor for half a second, in a block."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-c", _WATCH], stdout=subprocess.PIPE, text=True
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        said, _ = self._process.communicate()
        self.longest = max(map(float, said.split()), default=0.0)


def judged(run: Callable[[Path], None], folder: Path, late_in: Callable[[Path], list[str]]) -> None:
    """Carry something out; where something is missing for want of the processor, once more.

    That was so where a process that watches for it says so, or a member that it had no time for
    what it was to do.

    Args:
        run: is given a folder of its own each time, and raises ``Excusable`` where something is
            missing. Anything else is an error on any machine.
        folder: an empty one.
        late_in: returns the members that say so, by the files in a run's folder.
    """
    for number in range(1, TRIES + 1):
        files = folder / f"run-{number}"
        files.mkdir()
        still = Standstill()
        try:
            with still:
                run(files)
        except Excusable as error:
            late = late_in(files)
            log.warning(f"{error}; the machine stood still for {still.longest:.1f} s; late: {late}")
            if not (still.longest or late) or number == TRIES:
                raise
        else:
            return


def statuses(folder: Path) -> dict[str, dict[str, Any]]:
    """Return what members last said of themselves, by name: their status files of a run."""
    return {path.stem: dict(json.loads(path.read_text())) for path in folder.glob("*.json")}
