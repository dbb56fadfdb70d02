"""The worker processes of one run: started, paused, told to end, killed, and the log of all that.

A worker is :mod:`hashring.testing.faults.worker`. This module knows no store but by its URL.
"""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from hashring import clock
from hashring.ring.ring import HashRing
from hashring.testing.faults import host_clock
from hashring.testing.faults.log import Log
from hashring.testing.faults.store import nothing

__all__ = ["WORKER", "Group"]

WORKER = (sys.executable, "-m", "hashring.testing.faults.worker")
"""The command of a member, to which its options are added."""


class Group:
    """The worker processes of one run, and the log of what is done to them.

    Args:
        url: the store's.
        folder: where each process writes its log; must be there, and empty.
        ttl: the lease in seconds.
        interval: seconds a window.
        keys: how many.
        on_crash: what the workers do with the window of a member that crashed.
        work: seconds that a window's work takes a worker, mostly asleep.
        command: another worker than ours, with the same options and log.
        slots: of the ring; 0 for workers that log no holds.
        memory_lateness: the store's: :attr:`hashring.testing.faults.Store.memory_lateness`.
    """

    def __init__(
        self,
        url: str,
        folder: Path,
        *,
        ttl: float = 3.0,
        interval: float = 1.0,
        keys: int = 2000,
        on_crash: str = "skip",
        work: float = 0.1,
        command: Sequence[str] = WORKER,
        slots: int | None = None,
        memory_lateness: float = 0.0,
    ) -> None:
        self.url = url
        self.folder = folder
        self.ttl = ttl
        self._command = [
            *command,
            *("--url", url, "--ttl", str(ttl), "--interval", str(interval), "--keys", str(keys)),
            *("--on-crash", on_crash, "--work", str(work)),
        ]
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._logs: dict[str, Path] = {}
        self._numbers = itertools.count()
        self._events = itertools.count()
        self._clocks: dict[str, host_clock.HostClock] = {}
        self.paused: set[str] = set()
        self._told: set[str] = set()  # to end
        self._log = Log(folder / "harness.jsonl")
        self._log.write(
            "plan",
            wall=clock.wall(),
            ttl=ttl,
            interval=interval,
            keys=keys,
            slots=HashRing({}).universe if slots is None else slots,
            memory_lateness=memory_lateness,
        )

    def check(self) -> None:
        """Make sure that no process has ended unless it was told to.

        Raises:
            ChildProcessError: one has; the message has its status and what it last said.
        """
        for member, process in self._processes.items():
            if process.poll() is not None and member not in self._told:
                raise ChildProcessError(
                    f"member {member} ended by itself, with status {process.returncode}: "
                    f"{self._tail(member)}"
                )

    @property
    def running(self) -> list[str]:
        """The members whose process runs (or is paused)."""
        return [member for member, process in self._processes.items() if process.poll() is None]

    def event(self, kind: str, *members: str, reach: float = 0.0) -> Callable[[], None]:
        """Log that something is done, now; call what is returned when it is over."""
        number = next(self._events)
        self._log.write("event", id=number, kind=kind, members=members, reach=reach)
        return lambda: self._log.write("over", id=number)

    def start(self, *members: str) -> None:
        """Start a process for each of these members."""
        for member in members:
            if member in self.running:
                raise ValueError(f"member {member!r} runs already")
            path = self.folder / f"{next(self._numbers):04}-{member}.jsonl"
            if member not in self._clocks:
                self._clocks[member] = host_clock.HostClock(self.folder / f"{member}.clock")
            with path.with_suffix(".err").open("wb") as errors:
                self._processes[member] = subprocess.Popen(  # noqa: S603 - our own command
                    [*self._command, "--member", member, "--log", str(path)],
                    stdin=subprocess.DEVNULL,
                    stdout=errors,
                    stderr=subprocess.STDOUT,
                    env={**os.environ, host_clock.VARIABLE: str(self._clocks[member].path)},
                )
            self._logs[member] = path
            self._told.discard(member)

    def wait_ready(
        self, *members: str, within: float = 60.0, meanwhile: Callable[[], None] = nothing
    ) -> None:
        """Wait until each of these members has settled once, calling ``meanwhile`` now and then.

        Raises:
            TimeoutError: one has not; the message has what it last logged.
            ChildProcessError: one has ended.
        """
        deadline = time.monotonic() + within
        for member in members:
            while not self._is_ready(member):
                if self._processes[member].poll() is not None:
                    raise ChildProcessError(f"member {member} ended: {self._tail(member)}")
                if time.monotonic() > deadline:
                    raise TimeoutError(
                        f"member {member} has not settled in {within} s: {self._tail(member)}"
                    )
                meanwhile()
                time.sleep(0.05)

    def _is_ready(self, member: str) -> bool:
        try:
            text = self._logs[member].read_text()
        except FileNotFoundError:
            return False
        return '"state":"settled"' in text

    def _tail(self, member: str) -> str:
        path = self._logs[member]
        log = path.read_text()[-500:] if path.exists() else ""
        return log + path.with_suffix(".err").read_text(errors="replace")[-2000:]

    def terminate(self, *members: str) -> None:
        """SIGTERM: have them drain."""
        self._told.update(members)
        for member in members:
            self._processes[member].send_signal(signal.SIGTERM)

    def wait_gone(
        self, *members: str, within: float = 60.0, meanwhile: Callable[[], None] = nothing
    ) -> None:
        """Wait until these processes have ended, calling ``meanwhile`` now and then.

        Raises:
            TimeoutError: one has not.
        """
        deadline = time.monotonic() + within
        for member in members:
            while self._processes[member].poll() is None:
                if time.monotonic() > deadline:
                    raise TimeoutError(
                        f"member {member} has not left in {within} s: {self._tail(member)}"
                    )
                meanwhile()
                time.sleep(0.02)

    def kill(self, *members: str) -> None:
        """SIGKILL."""
        self._told.update(members)
        for member in members:
            self._processes[member].kill()
        for member in members:
            self._processes[member].wait()
            self.paused.discard(member)

    def pause(self, *members: str) -> None:
        """SIGSTOP."""
        for member in members:
            self._processes[member].send_signal(signal.SIGSTOP)
            self.paused.add(member)

    def resume(self, *members: str) -> None:
        """SIGCONT."""
        for member in members:
            self._processes[member].send_signal(signal.SIGCONT)
            self.paused.discard(member)

    def step_clocks(self, seconds: float, *members: str) -> None:
        """Step the wall clocks that these members read, back where ``seconds`` is negative."""
        for member in members:
            self._clocks[member].step(seconds)

    def finish(self) -> None:
        """End the run in good order: from here on nothing counts; all drain."""
        self.check()
        self._log.write("end")
        self.resume(*(member for member in self.paused if member in self.running))
        self.terminate(*self.running)
        self.wait_gone(*self.running)

    def close(self) -> None:
        """Leave no process behind."""
        for process in self._processes.values():
            if process.poll() is None:
                process.kill()
            process.wait()
        self._log.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
