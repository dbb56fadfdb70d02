"""What every test server shares: free ports, start, readiness, stop. Knows no particular server."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

LOOPBACK = "127.0.0.1"

_INSTALL = Path(__file__).with_name("install.sh")
_PORTS = Path(tempfile.gettempdir()) / f"hashring-tests-{os.getuid()}.port"


def free_port() -> int:
    """Return a TCP port that nothing listens on, and that no other test is given for long.

    The processes of a test run take ports in turn, so that a server that is down for a while finds
    its own free again. All lie below the range from which the kernel picks the ports of outgoing
    connections: none of those takes one between this call and the start of the server either.
    """
    kernels = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    ports = range(10_000, min(kernels, 32_000))
    with _PORTS.open("a+") as shared:
        fcntl.flock(shared, fcntl.LOCK_EX)  # until the file is closed
        shared.seek(0)
        last = int(shared.read() or ports[-1])
        for step in range(1, len(ports) + 1):
            port = ports[(last - ports[0] + step) % len(ports)]
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((LOOPBACK, port))
                except OSError:
                    continue
            shared.truncate(0)
            shared.write(str(port))
            return port
    raise RuntimeError("no free port on the loopback interface")


def wait_until(
    holds: Callable[[], object], *, within: float = 60.0, what: str = "the condition"
) -> None:
    """Return once ``holds()`` is true; fail with ``what`` where that takes too many seconds.

    The pauses grow: what takes long to come true need not be asked for a hundred times a second.
    """
    deadline = time.monotonic() + within
    pause = 0.01
    while not holds():
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come true within {within} s")
        time.sleep(pause)
        pause = min(1.1 * pause, 0.05)


def program(name: str, package: str) -> str:
    """Return the path of a server's program; install its Debian package where it is missing."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
    found = shutil.which(name, path=path)
    if found is None:
        done = subprocess.run(
            [str(_INSTALL), package], capture_output=True, text=True, timeout=280, check=False
        )
        assert done.returncode == 0, f"{package} was not installed:\n{done.stdout}{done.stderr}"
        found = shutil.which(name, path=path)
    assert found is not None, f"the package {package} brought no {name}"
    return found


class Server(ABC):
    """One server process with a folder of its own, which outlives restarts of the process.

    A subclass gives the command and says when the server is ready. It is stopped by its process
    id, and so is the whole of what it started: the command must stay in the foreground.
    """

    def __init__(self) -> None:
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix=f"{type(self).__name__.lower()}-"))
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def command(self) -> list[str]:
        """Return the command line, new for every start."""

    @abstractmethod
    def ready(self) -> bool:
        """Return whether the server serves: a question on the wire, not a guess."""

    @property
    def address(self) -> str:
        return f"{LOOPBACK}:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None, f"{type(self).__name__} is not running"
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self, *, within: float = 60.0) -> None:
        """Start the process and wait until it serves."""
        self.launch()
        self.wait_ready(within=within)

    def launch(self) -> None:
        """Start the process and do not wait: an ensemble's servers are ready only together."""
        assert not self.running, f"{type(self).__name__} is running already"
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                self.command(),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait_ready(self, *, within: float = 60.0) -> None:
        """Wait until the server serves; where it died or is late, fail with its log."""
        deadline = time.monotonic() + within
        while not self.ready():
            late = time.monotonic() > deadline
            if late or not self.running:
                log = (self.folder / "server.log").read_text(errors="replace")[-4000:]
                self.kill()
                why = f"was not ready within {within} s" if late else "ended at its start"
                raise AssertionError(f"{type(self).__name__} {why}:\n{log}")
            time.sleep(0.01)

    def stop(self, *, within: float = 60.0) -> None:
        """Ask the process to end, as an operator would; kill it where it does not.

        One that is killed may lose what it had yet to write, so a busy machine has its time.
        """
        if self._process is None:
            return
        self._signal(signal.SIGCONT)
        self._signal(signal.SIGTERM)
        try:
            self._process.wait(within)
        except subprocess.TimeoutExpired:
            self.kill()
        self._process = None

    def kill(self) -> None:
        """``kill -9``: the process gets no say."""
        if self._process is None:
            return
        self._signal(signal.SIGKILL)
        self._process.wait()
        self._process = None

    def pause(self) -> None:
        """Freeze the process: its connections stay open, and nothing answers."""
        self._signal(signal.SIGSTOP)
        # Its threads run on until one of them is scheduled and takes the signal.
        wait_until(lambda: not self.running or self._frozen(), what="the stop of every thread")

    def resume(self) -> None:
        """Let a paused process run on."""
        self._signal(signal.SIGCONT)

    def _frozen(self) -> bool:
        states = set()
        for thread in Path(f"/proc/{self.pid}/task").iterdir():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
                states.add((thread / "stat").read_text().rpartition(")")[2].split()[0])
        return states <= {"T", "t"}

    def _signal(self, number: int) -> None:
        # A process that ended but was not waited for keeps its id, so this can hit no stranger.
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, number)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        self._remove()

    def _remove(self) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


class SilentServer:
    """A server that accepts every connection and never says a word."""

    def __init__(self) -> None:
        self.port = 0

    def __enter__(self) -> Self:
        # The kernel completes connections into the backlog, and nobody ever reads them.
        self._socket = socket.create_server((LOOPBACK, 0), backlog=64)
        self.port = self._socket.getsockname()[1]
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
