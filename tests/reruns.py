"""Which failures say more about the machine than about us: such a test runs a second time.

Real servers, leases of a second or two, windows of one: where the machine stands still meanwhile,
as a virtual one does when its host is busy, a test of those proves nothing. So a test runs again,
once, if it failed because a server or a process did not answer in time, or if no process of this
machine got a turn for a while as it ran. What came out wrong on a machine that ran is never tried
again. The summary of the run names what was.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from hashring.errors import StoreUnavailable

LONGEST = 1.0  # seconds without a turn on the processor, after which a lease of two may be lost
_GAPS = "HASHRING_TEST_GAPS"  # the variable that tells the processes of a run where they are noted


class Watch:
    """A process that notes when it got no turn; it ends with the run that started it."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="watch-")
        self.gaps = Path(self._folder.name, "gaps")
        self.gaps.touch()
        os.environ[_GAPS] = str(self.gaps)
        self.process = subprocess.Popen(
            [sys.executable, __file__, self.gaps],
            stdin=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
        )

    def end(self) -> None:
        self.process.communicate()
        self._folder.cleanup()


class Attempt:
    """One test's run, from now on: may its failure be the machine's?"""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def is_inconclusive(self, error: BaseException | None) -> bool:
        if error is None:
            return False  # nothing has failed: the plugin asks after each test
        if isinstance(error, StoreUnavailable | TimeoutError | subprocess.TimeoutExpired):
            return True
        time.sleep(0.2)  # for the watch, which may have stood still as well
        gaps = Path(os.environ[_GAPS]).read_text().split()
        return any(float(gap) >= self._began for gap in gaps)


def marker() -> pytest.MarkDecorator:
    """Return what makes pytest-rerunfailures try a test again that is about to run."""
    return pytest.mark.flaky(reruns=1, condition=Attempt().is_inconclusive)


def hurry(config: pytest.Config) -> None:
    """Spare each test the 40 ms for which pytest-rerunfailures waits in a worker process.

    It tells the run's first process of every test in two small packets, and the second would wait
    for the receipt of the first.
    """
    with contextlib.suppress(AttributeError):  # it may do so no more
        config.failures_db.sock.setsockopt(  # type: ignore[attr-defined]
            socket.IPPROTO_TCP, socket.TCP_NODELAY, 1
        )


def _watch(gaps: Path) -> None:
    last = time.monotonic()
    with gaps.open("a") as file:
        while not select.select([sys.stdin], [], [], 0.05)[0]:
            now = time.monotonic()
            if now - last > LONGEST:
                print(now, file=file, flush=True)
            last = now


if __name__ == "__main__":
    _watch(Path(sys.argv[1]))
