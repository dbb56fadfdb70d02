"""Real processes, a real store, and what is done to them: the harness of the fault tests.

A :class:`Group` is the worker processes of one run (:mod:`hashring.testing.faults.worker`) on one
store; a plan is a list of :class:`Step`; :func:`run_plan` carries it out and returns the
:class:`~hashring.testing.faults.history.History` that the workers wrote. What is right or wrong is
judged there, not here. This room starts, pauses and kills processes; it knows no protocol.

The author of a driver gives his store as a :class:`Store`, and gets all of this::

    class MyStore(ServerStore): ...

    with MyStore(...) as store:
        history = run_plan(reference_plan(seed=1), store, folder)
        verdict = check(history)
        assert not verdict.violations, verdict.violations
"""

from __future__ import annotations

import abc
import contextlib
import dataclasses
import errno
import fcntl
import heapq
import itertools
import os
import random
import shutil
import signal
import sqlite3
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from hashring import clock
from hashring.driver import load
from hashring.errors import HashringError
from hashring.ring.ring import HashRing
from hashring.testing.faults import host_clock
from hashring.testing.faults.history import CLOCK_STEPS, History, Log
from hashring.testing.proxy import FaultProxy

__all__ = [
    "BACK_IN_TIME",
    "WORKER",
    "Fault",
    "Group",
    "SQLiteStore",
    "Server",
    "ServerStore",
    "Step",
    "Store",
    "fault_plan",
    "random_plan",
    "reference_plan",
    "run_plan",
]

WORKER = (sys.executable, "-m", "hashring.testing.faults.worker")
"""The command of a member, to which its options are added."""

BACK_IN_TIME = "store goes back in time"
"""The fault of a :class:`Store` that can do it: a copy is kept, and some seconds later restored."""


FROZEN = "store paused"
"""The fault of a server that is there and silent: calls without a time limit hang."""

_FROZEN_FOR = 2.5
"""The least seconds for which a fault plan freezes a store: more than 0.57 of a ttl of 3 s."""

_FARTHEST_STEP = 8.0
"""Seconds: the most by which a random plan steps a clock. A step of more excuses more windows."""


def _nothing() -> None:
    """End a fault that is over at once."""


@dataclasses.dataclass(frozen=True)
class Fault:
    """One way to break a store.

    Attributes:
        begin: break it.
        end: mend it; nothing for what is over at once.
        seconds: the least and the most time between the two, for a plan drawn at random.
    """

    begin: Callable[[], None]
    end: Callable[[], None] = _nothing
    seconds: tuple[float, float] = (0.0, 0.0)


class Store(abc.ABC):
    """A real store for one run: a context manager that starts it, and ends it with all it made.

    A subclass gives :attr:`url` and what can be done to the store, by name, in :meth:`faults`.

    Attributes:
        name: for the report.
    """

    name = "store"

    @property
    @abc.abstractmethod
    def url(self) -> str:
        """Where the members find it, while :meth:`__enter__` has been called."""

    @property
    def direct_url(self) -> str:
        """The same without anything of ours between, for measuring times."""
        return self.url

    @abc.abstractmethod
    def start(self) -> None:
        """Start it, and wait until it serves."""

    @abc.abstractmethod
    def stop(self) -> None:
        """Stop it and remove what it left. Called once, whatever state the faults left it in."""

    def faults(self) -> Mapping[str, Fault]:
        """Return what can be done to it here and now, by a name that the report shows."""
        return {}

    def keep_copy(self) -> None:  # noqa: B027 - a store that nobody can copy needs none
        """Keep a copy of the data for :meth:`go_back_in_time`, while the store serves."""

    def go_back_in_time(self) -> None:
        """Put an older copy of the data in the place of the present one, and serve again.

        As an operator does who restores a backup, or a machine that comes up from a snapshot: what
        was confirmed since :meth:`keep_copy` is forgotten, and what was removed since is back. A
        store that cannot be restored loses everything.
        """
        raise NotImplementedError

    def back_in_time(self) -> Mapping[str, Fault]:
        """Return the fault in which the store goes back to what it was a few seconds before.

        It is for :meth:`faults` to include, where the store has a :meth:`go_back_in_time`.
        """
        if type(self).go_back_in_time is Store.go_back_in_time:
            return {}
        return {BACK_IN_TIME: Fault(self.keep_copy, self.go_back_in_time, (0.5, 6.0))}

    def missing(self) -> Mapping[str, str]:
        """Return the faults that this machine does not allow, and why."""
        return {}

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


class Server(Protocol):
    """What :class:`ServerStore` needs of a server that listens on one TCP port of the loopback."""

    port: int

    def start(self) -> None:
        """Start the process and wait until it serves; the same port every time."""

    def stop(self) -> None:
        """Stop the process in good order."""

    def kill(self) -> None:
        """``kill -9``."""

    def pause(self) -> None:
        """``kill -STOP``."""

    def resume(self) -> None:
        """``kill -CONT``."""


class ServerStore(Store):
    """A store with one server, reached through a :class:`~hashring.testing.FaultProxy`.

    Args:
        name: for the report.
        server: not yet started.
        url: the members' URL, with ``{address}`` where host and port belong.
    """

    def __init__(self, name: str, server: Server, url: str) -> None:
        self.name = name
        self.server = server
        self._url = url
        self._proxy: FaultProxy | None = None

    @property
    def proxy(self) -> FaultProxy:
        """The proxy between the members and the server."""
        assert self._proxy is not None, "the store has not been started"
        return self._proxy

    @property
    def url(self) -> str:
        """See :attr:`Store.url`."""
        host, port = self.proxy.address
        return self._url.format(address=f"{host}:{port}")

    @property
    def direct_url(self) -> str:
        """See :attr:`Store.direct_url`."""
        return self._url.format(address=f"127.0.0.1:{self.server.port}")

    def start(self) -> None:
        """See :meth:`Store.start`."""
        self.server.start()
        self._proxy = FaultProxy("127.0.0.1", self.server.port)
        self._proxy.start()

    def stop(self) -> None:
        """See :meth:`Store.stop`."""
        if self._proxy is not None:
            self._proxy.close()
        self.server.resume()
        self.server.stop()

    def restart(self) -> None:
        """Kill the server and start it again at once."""
        self.server.kill()
        self.server.start()

    def faults(self) -> Mapping[str, Fault]:
        """See :meth:`Store.faults`."""
        proxy, server = self.proxy, self.server
        return {
            "store restarted": Fault(self.restart),
            "store stopped": Fault(server.stop, server.start, (0.5, 6.0)),
            FROZEN: Fault(server.pause, server.resume, (0.5, 6.0)),
            "connections cut": Fault(proxy.cut),
            "connections refused": Fault(proxy.refuse, proxy.restore, (0.5, 5.0)),
            "half-open": Fault(proxy.half_open, proxy.restore, (0.5, 5.0)),
            "answers lost": Fault(lambda: proxy.blackhole("down"), proxy.restore, (0.5, 5.0)),
            "store delayed": Fault(lambda: proxy.delay(0.1, 0.1), proxy.restore, (1.0, 6.0)),
            "store slow": Fault(lambda: proxy.throttle(50_000), proxy.restore, (1.0, 6.0)),
            **self.back_in_time(),
        }


class SQLiteStore(Store):
    """The embedded store, on a small disk of its own where this machine lets us mount one.

    The disk can then be filled. Where root may mark files as immutable, it can become read-only
    under the feet of those that have it open.
    """

    name = "sqlite"
    _IMMUTABLE = 0x10
    _GET_FLAGS, _SET_FLAGS = 0x80086601, 0x40086602  # FS_IOC_GETFLAGS, FS_IOC_SETFLAGS

    def __init__(self, *, options: str = "timeout=1&connect_timeout=1") -> None:
        self._options = options
        self._folder = Path(tempfile.mkdtemp(prefix="hashring-faults-"))
        self._disk = self._folder / "disk"
        self._mounted = False
        self._missing: dict[str, str] = {}
        self._lock: sqlite3.Connection | None = None
        self._slow: threading.Thread | None = None
        self._quick = threading.Event()

    @property
    def path(self) -> Path:
        """The database."""
        return self._disk / "group.db"

    @property
    def url(self) -> str:
        """See :attr:`Store.url`."""
        return f"sqlite://{self.path}?{self._options}"

    def start(self) -> None:
        """See :meth:`Store.start`."""
        self._disk.mkdir()
        image = self._folder / "image"
        with image.open("wb") as file:
            file.truncate(16 << 20)
        try:
            # No blocks kept back for root, who may be the one to meet the full disk.
            _call("mkfs.ext4", "-q", "-m", "0", str(image))
            _call("mount", "-o", "loop", str(image), str(self._disk))
            self._mounted = True
        except OSError as error:
            self._missing["disk full"] = f"no disk of its own: {error}"
        probe = self._disk / "probe"
        probe.touch()
        try:
            self._make_immutable(probe, immutable=True)
            self._make_immutable(probe, immutable=False)
        except OSError as error:
            self._missing["disk read-only"] = f"no immutable files: {error.strerror}"
        probe.unlink()

    def stop(self) -> None:
        """See :meth:`Store.stop`."""
        self._unlock()
        self._be_quick()
        if self._disk.exists() and "disk read-only" not in self._missing:
            self._write_again()
        if self._mounted:
            _call("umount", "--lazy", str(self._disk))
            self._mounted = False
        shutil.rmtree(self._folder, ignore_errors=True)

    def missing(self) -> Mapping[str, str]:
        """See :meth:`Store.missing`."""
        return dict(self._missing)

    def faults(self) -> Mapping[str, Fault]:
        """See :meth:`Store.faults`."""
        found = {
            "store locked": Fault(self._lock_out, self._unlock, (0.5, 6.0)),
            "store slow": Fault(self._be_slow, self._be_quick, (1.0, 6.0)),
            "store removed": Fault(self._remove),
            "disk full": Fault(self._fill, self._empty, (1.0, 6.0)),
            "disk read-only": Fault(self._write_no_more, self._write_again, (1.0, 6.0)),
            **self.back_in_time(),
        }
        return {name: fault for name, fault in found.items() if name not in self._missing}

    def _lock_out(self) -> None:
        """Keep the lock that every writer needs."""
        self._lock = sqlite3.connect(
            self.path, timeout=5, isolation_level=None, check_same_thread=False
        )
        self._lock.execute("BEGIN IMMEDIATE")

    def _unlock(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _be_slow(self) -> None:
        self._quick.clear()
        self._slow = threading.Thread(target=self._hog, name="slow store", daemon=True)
        self._slow.start()

    def _hog(self) -> None:
        """Keep the lock for most of the time."""
        with contextlib.closing(
            sqlite3.connect(self.path, timeout=5, isolation_level=None)
        ) as connection:
            while not self._quick.wait(0.02):
                with contextlib.suppress(sqlite3.OperationalError):
                    connection.execute("BEGIN IMMEDIATE")
                    self._quick.wait(0.1)
                    connection.execute("ROLLBACK")

    def _be_quick(self) -> None:
        self._quick.set()
        if self._slow is not None:
            self._slow.join()
            self._slow = None

    def _remove(self) -> None:
        """Take the file away, as somebody who tidies up: the store forgets."""
        for path in self._files():
            path.unlink(missing_ok=True)

    def _files(self) -> list[Path]:
        return [self.path, *(self.path.with_name(self.path.name + end) for end in ("-wal", "-shm"))]

    def _fill(self) -> None:
        with (self._disk / "filler").open("wb", buffering=0) as file:
            for size in (1 << 16, 1 << 12, 1):
                try:
                    while True:
                        file.write(bytes(size))
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise

    def _empty(self) -> None:
        (self._disk / "filler").unlink(missing_ok=True)

    def _write_no_more(self) -> None:
        # Not the -shm file, which SQLite maps into memory: the kernel would kill whoever writes
        # to a page of it (SIGBUS).
        for path in self._files()[:2]:
            with contextlib.suppress(FileNotFoundError):
                self._make_immutable(path, immutable=True)

    def _write_again(self) -> None:
        for path in self._files():
            with contextlib.suppress(FileNotFoundError):
                self._make_immutable(path, immutable=False)

    def _make_immutable(self, path: Path, *, immutable: bool) -> None:
        """Have the file system refuse every write, also to those that have the file open."""
        with path.open("rb") as file:
            (flags,) = struct.unpack("l", fcntl.ioctl(file, self._GET_FLAGS, struct.pack("l", 0)))
            flags = flags | self._IMMUTABLE if immutable else flags & ~self._IMMUTABLE
            fcntl.ioctl(file, self._SET_FLAGS, struct.pack("l", flags))


def _call(*command: str) -> None:
    """Run a tool of the system; ``OSError`` where there is none, or where it fails."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
    program = shutil.which(command[0], path=path)
    if program is None:
        raise OSError(f"there is no {command[0]}")
    done = subprocess.run(  # noqa: S603 - our own command
        [program, *command[1:]], capture_output=True, text=True, timeout=60, check=False
    )
    if done.returncode:
        raise OSError(f"{command[0]}: {done.stderr.strip() or done.returncode}")


# ---- the processes ---------------------------------------------------------------------------


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
        self, *members: str, within: float = 60.0, meanwhile: Callable[[], None] = _nothing
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
        self, *members: str, within: float = 60.0, meanwhile: Callable[[], None] = _nothing
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


# ---- plans -------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Step:
    """One thing to do.

    Attributes:
        act: ``start``, ``join``, ``leave``, ``restart`` (drain, then start again), ``kill``,
            ``pause``, ``flood`` (many join and leave again), ``garbage`` (a record that nobody can
            read), ``clock steps`` (their wall clocks, and at the end back to the true time),
            ``rest``, or the name of a store's fault.
        members: to whom.
        wait: seconds before it, after the step before was done.
        seconds: how long a pause or a fault lasts; ``rest`` and everything else: nothing.
        abide: wait for the end of it before the next step.
        amount: seconds by which clocks step, back where it is negative.
    """

    act: str
    members: tuple[str, ...] = ()
    wait: float = 0.0
    seconds: float = 0.0
    abide: bool = True
    amount: float = 0.0


def reference_plan(
    seed: int, *, losses: bool = True, amid: Sequence[str] = (), short: bool = False
) -> list[Step]:
    """Return the plan that every store must pass; the seed shifts it against the windows.

    Four members start together; one joins; two join at once; one leaves; all are restarted, one
    after the other. That must cost nothing. Then, with ``losses``, one is killed, started again,
    and one is paused for 10 s.

    Args:
        seed: which members, and at which moments.
        losses: with the kill and the pause.
        amid: faults of the store, each once, between the leave and the restarts.
        short: restart two members only, and pause for 5 s.
    """
    chance = random.Random(seed)  # noqa: S311 - a plan, no secret
    first = [f"m{number}" for number in range(4)]
    members = [*first, "m4", "m5", "m6"]

    def shift() -> float:
        return chance.uniform(1.0, 2.0) if short else chance.uniform(2.0, 4.0)

    leaving = chance.choice(members)
    plan = [
        Step("start", tuple(first)),
        Step("join", ("m4",), wait=shift()),
        Step("double join", ("m5", "m6"), wait=shift()),
        Step("leave", (leaving,), wait=shift()),
    ]
    members.remove(leaving)
    for fault in amid:
        # A store that forgot has the group stand still for a ttl; then it may change again.
        plan += [Step(fault, wait=shift(), seconds=0.5), Step("rest", wait=4.5)]
    chance.shuffle(members)
    for member in members[:2] if short else members:
        plan.append(Step("restart", (member,), wait=chance.uniform(0.0, 1.0)))
    if losses:
        killed, paused = chance.sample(members, 2)
        plan += [
            Step("kill", (killed,), wait=shift()),
            Step("join", (killed,), wait=5.0 if short else 6.5),
            Step("pause", (paused,), wait=shift(), seconds=5.0 if short else 10.0),
            Step("rest", wait=2.0 if short else 5.0),
        ]
    plan.append(Step("rest", wait=2.0))
    return plan


def fault_plan(faults: Sequence[str], *, seconds: float = 1.2) -> list[Step]:
    """Return a plan that has each of these faults of a store once, and two joins among them.

    Each lasts so many seconds; ``store paused`` long enough to tell a call without a time limit.
    """
    plan = [Step("start", ("m0", "m1", "m2"))]
    joining = {len(faults) // 3: "m3", 2 * len(faults) // 3: "m4"}
    for number, fault in enumerate(faults):
        if number in joining:
            plan.append(Step("join", (joining[number],), wait=0.2))
        lasts = max(seconds, _FROZEN_FOR) if fault == FROZEN else seconds
        plan.append(Step(fault, wait=0.6, seconds=lasts))
    return [*plan, Step("rest", wait=6.0)]


def random_plan(
    seed: int, seconds: float, faults: Mapping[str, Fault], *, clock_steps: bool = False
) -> Iterator[Step]:
    """Draw faults of every kind for about so many seconds; some run while others begin.

    Args:
        seed: of the draw.
        seconds: how long.
        faults: the store's own (:meth:`Store.faults`).
        clock_steps: a third of what happens are steps of clocks, and not one in twenty. They
            excuse misses and repeats, so that such a run tells of overlaps alone.
    """
    chance = random.Random(seed)  # noqa: S311 - a plan, no secret
    names = (f"r{number}" for number in itertools.count(4))
    members = [f"r{number}" for number in range(4)]
    end = time.monotonic() + seconds
    yield Step("start", tuple(members))
    own = ["join", "leave", "restart", "kill", "pause", "short pause", "flood", "garbage", "roll"]
    own.append(CLOCK_STEPS)
    decks: list[tuple[list[str], list[str]]] = [(own, [])]
    if faults:
        decks.append((sorted(faults), []))
    if clock_steps:
        decks.append(([CLOCK_STEPS], []))
    while time.monotonic() < end:
        # As much is done to members as to the store; each kind in its turn.
        deck = decks[chance.randrange(len(decks))]
        if not deck[1]:
            deck[1].extend(chance.sample(deck[0], len(deck[0])))
        kind = deck[1].pop()
        wait = chance.choice([0.0, chance.uniform(0.0, 1.0), chance.uniform(1.0, 6.0)])
        one = chance.choice(members)
        if kind == "join" and len(members) < 7:
            members.append(next(names))
            yield Step("join", (members[-1],), wait=wait, abide=chance.random() < 0.5)
        elif kind == "leave" and len(members) > 3:
            members.remove(one)
            yield Step("leave", (one,), wait=wait, abide=chance.random() < 0.5)
        elif kind == "restart":
            yield Step("restart", (one,), wait=wait)
        elif kind == "roll":
            for member in chance.sample(members, len(members)):
                yield Step("restart", (member,))
        elif kind == "kill":
            yield Step("kill", (one,), wait=wait)
            # Sometimes it comes back within its lease, under the same name.
            yield Step("join", (one,), wait=chance.uniform(0.0, 6.0), abide=False)
        elif kind == "pause":
            yield Step("pause", (one,), wait, chance.uniform(3.5, 10.0), chance.random() < 0.5)
        elif kind == "short pause":
            yield Step("pause", (one,), wait, chance.uniform(0.1, 2.5), chance.random() < 0.5)
        elif kind == "flood":
            flood = tuple(next(names) for _ in range(chance.randint(3, 6)))
            yield Step("flood", flood, wait=wait)
        elif kind == "garbage":
            yield Step("garbage", (next(names),), wait=wait)
        elif kind == CLOCK_STEPS:
            whose = (one,) if chance.random() < 0.5 else tuple(members)
            amount = chance.choice((-1.0, 1.0)) * chance.uniform(0.5, _FARTHEST_STEP)
            seconds = chance.uniform(0.5, 6.0)
            yield Step(kind, whose, wait, seconds, chance.random() < 0.5, amount)
        elif kind in faults:
            least, most = faults[kind].seconds
            yield Step(kind, (), wait, chance.uniform(least, most), chance.random() < 0.7)
    yield Step("rest", wait=8.0)


class _Runner:
    """Carries a plan out."""

    def __init__(self, group: Group, store: Store) -> None:
        self._group = group
        self._faults = store.faults()
        self._later: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._is_broken = False
        self._clocks_are_wrong = False

    def run(self, plan: Sequence[Step] | Iterator[Step]) -> None:
        for step in plan:
            self._sleep(step.wait)
            self._group.check()
            self._do(step)
        # What is still broken is mended before the run ends.
        while self._later:
            self._sleep(max(0.0, self._later[0][0] - time.monotonic()))

    def _sleep(self, seconds: float) -> None:
        """Sleep, and mend meanwhile what is due."""
        until = time.monotonic() + seconds
        while self._later and self._later[0][0] <= until:
            time.sleep(max(0.0, self._later[0][0] - time.monotonic()))
            self._mend_due()
        time.sleep(max(0.0, until - time.monotonic()))

    def _mend_due(self) -> None:
        while self._later and self._later[0][0] <= time.monotonic():
            _, _, mend = heapq.heappop(self._later)
            mend()

    def _do(self, step: Step) -> None:
        group, members = self._group, step.members
        if step.act == "rest":
            return
        if step.act == CLOCK_STEPS:
            self._step_clocks(step)
            return
        while self._group.paused & set(members):
            # Nothing else is done to a paused process.
            self._sleep(max(0.0, self._later[0][0] - time.monotonic()))
        if step.act == "garbage":
            self._garbage(step)
            return
        if step.act in self._faults:
            self._break(step)
            return
        over = group.event(step.act, *members)
        if step.act in {"start", "join", "double join"}:
            group.start(*members)
            if step.abide:
                group.wait_ready(*members, meanwhile=self._mend_due)
            over()
        elif step.act == "leave":
            group.terminate(*members)
            if step.abide:
                group.wait_gone(*members, meanwhile=self._mend_due)
            over()
        elif step.act == "restart":
            group.terminate(*members)
            group.wait_gone(*members, meanwhile=self._mend_due)
            group.start(*members)
            group.wait_ready(*members, meanwhile=self._mend_due)
            over()
        elif step.act == "kill":
            group.kill(*members)
            over()
        elif step.act == "flood":
            group.start(*members)
            group.wait_ready(*members, meanwhile=self._mend_due)
            group.terminate(*members)
            group.wait_gone(*members, meanwhile=self._mend_due)
            over()
        elif step.act == "pause":
            group.pause(*members)
            self._mend_later(step, lambda: self._resume(members, over))
        else:
            raise ValueError(
                f"a plan has the step {step.act!r}; this store has: {', '.join(self._faults)}"
            )

    def _resume(self, members: tuple[str, ...], over: Callable[[], None]) -> None:
        self._group.resume(*members)
        over()

    def _mend_later(self, step: Step, mend: Callable[[], None]) -> None:
        heapq.heappush(self._later, (time.monotonic() + step.seconds, next(self._order), mend))
        if step.abide:
            self._sleep(step.seconds)

    def _break(self, step: Step) -> None:
        while self._is_broken:
            # One fault of the store at a time: mending one may mend another.
            self._sleep(max(0.0, self._later[0][0] - time.monotonic()))
        fault = self._faults[step.act]
        over = self._group.event(step.act)
        fault.begin()
        self._is_broken = True

        def mend() -> None:
            fault.end()
            self._is_broken = False
            over()

        self._mend_later(step, mend)

    def _step_clocks(self, step: Step) -> None:
        """Step clocks, those of paused members too, and at the end back to the true time."""
        while self._clocks_are_wrong:
            # One step at a time, so that its reach can be told.
            self._sleep(max(0.0, self._later[0][0] - time.monotonic()))
        over = self._group.event(step.act, *step.members, reach=abs(step.amount))
        self._group.step_clocks(step.amount, *step.members)
        self._clocks_are_wrong = True

        def correct() -> None:
            self._group.step_clocks(-step.amount, *step.members)
            self._clocks_are_wrong = False
            over()

        self._mend_later(step, correct)

    def _garbage(self, step: Step) -> None:
        """Put a record that nobody can read into the group; it goes with its lease."""
        over = self._group.event("garbage", *step.members)
        driver = load(self._group.url, ttl=self._group.ttl)
        try:
            driver.open()
            driver.join("faults", step.members[0], b"\xff no record of ours")
        except HashringError:
            pass
        finally:
            driver.close()
        self._mend_later(dataclasses.replace(step, seconds=self._group.ttl, abide=False), over)


def run_plan(
    plan: Sequence[Step] | Iterator[Step],
    store: Store,
    folder: Path,
    *,
    ttl: float = 3.0,
    interval: float = 1.0,
    keys: int = 2000,
    on_crash: str = "skip",
    work: float = 0.1,
    command: Sequence[str] = WORKER,
    slots: int | None = None,
) -> History:
    """Carry out a plan on a store that has been started, and return what happened.

    Args:
        plan: the steps.
        store: entered as a context manager.
        folder: for the logs; it is made where there is none, and must be empty.
        ttl: the lease in seconds.
        interval: seconds a window.
        keys: how many.
        on_crash: see :meth:`hashring.Partition.cycles`.
        work: seconds that a window's work takes a worker.
        command: another worker, with the same options and log.
        slots: 0 for a worker that logs no holds.

    Raises:
        TimeoutError: a member has not joined or left in a minute.
        ChildProcessError: a member ended by itself.
        FileExistsError: the folder has logs of another run, which would be judged with this one's.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if found := next(folder.glob("*.jsonl"), None):
        raise FileExistsError(f"{found} is of another run: give run_plan an empty folder")
    with Group(
        store.url,
        folder,
        ttl=ttl,
        interval=interval,
        keys=keys,
        on_crash=on_crash,
        work=work,
        command=command,
        slots=slots,
    ) as group:
        _Runner(group, store).run(plan)
        group.finish()
    return History.load(folder)
