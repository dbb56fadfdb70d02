"""Supervisor: several agents as processes of their own; one that dies is started again.

Knows processes, signals and how long to wait before a restart; nothing of groups or polling. A
worker's lease outlives it when it dies, so a restarted one waits for that to run out; and a
worker whose supervisor dies stops by itself.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import multiprocessing
import multiprocessing.connection
import multiprocessing.resource_tracker
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterable
from multiprocessing.context import SpawnProcess

from hashring import clock
from hashring.backoff import grown
from hashring.errors import HashringError
from hashring.exit_codes import FAILED, USAGE, exit_code
from hashring.logs import formatter
from hashring.telemetry.agent.agent import Agent
from hashring.telemetry.agent.launch import Launch
from hashring.telemetry.agent.signals import Signals
from hashring.telemetry.agent.systemd import Notifier, Watchdog

__all__ = ["Supervisor", "configure_logging", "start_worker"]

log = logging.getLogger(__name__)

_GRACE = 15.0
"""Seconds beyond its drain_timeout after which a worker is killed: a hand-over and a delivery that
come late get a little time each, and so does a publisher's call in flight."""

_SPAWN = multiprocessing.get_context("spawn")  # a fork would share threads' locks and sockets


def configure_logging(level: str, file: str | None = None, *, form: str = "text") -> None:
    """Send the log to the standard error, or to a file.

    Args:
        level: the name of a level of :mod:`logging`, in any case.
        file: appended to.
        form: ``"text"`` or ``"json"``.
    """
    logging.basicConfig(level=level.upper(), filename=file, force=True)
    for handler in logging.getLogger().handlers:
        handler.setFormatter(formatter(form))
    # It tells of each try, where this package tells of an outage once; and it shows whole paths and
    # queries, in which secrets may stand.
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    # Its debugging lines show the requests that log in, passwords and all.
    logging.getLogger("kazoo").setLevel(max(logging.INFO, logging.getLogger().level))


def start_worker(
    launch: Launch,
    *,
    log_level: str = "WARNING",
    log_file: str | None = None,
    log_format: str = "text",
) -> SpawnProcess:
    """Start an agent as a process of its own, and return it.

    It drains on SIGTERM, takes no notice of Ctrl-C, and drains when this process ends.

    Args:
        launch: what it takes to make the agent.
        log_level: of its log.
        log_file: its log, and all else that it says; ``None``: the standard error.
        log_format: ``"text"`` or ``"json"``.
    """
    process = _SPAWN.Process(
        target=_worker,
        args=(launch, log_level, log_file, log_format),
        name=launch.settings.member,
        daemon=False,
    )
    # A process inherits what its parent blocks: it is deaf to Ctrl-C from its first step on. The
    # tracker would be started first, and unblock what is blocked.
    multiprocessing.resource_tracker.ensure_running()
    # A reload is for it once it listens; until then the signal waits.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return process


def _worker(launch: Launch, log_level: str, log_file: str | None, log_format: str) -> None:
    if log_file is not None:
        descriptor = os.open(log_file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.dup2(descriptor, 2)
        os.close(descriptor)
    configure_logging(log_level, form=log_format)
    # Whoever started this process speaks for it: systemd listens to one process of a service.
    for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"):
        os.environ.pop(name, None)
    try:
        agent = launch.agent()
        with Signals(agent.stop, reload=agent.reload), _ParentWatch(agent):
            agent.run()
    except HashringError as error:
        log.error("%s", error)  # noqa: TRY400 - a sentence for the operator, not for a debugger
        sys.exit(exit_code(error))


class _ParentWatch:
    """Stops an agent when the process that started this one ends, whatever ended it."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._here, self._there = socket.socketpair()
        self._thread = threading.Thread(target=self._run, name="parent", daemon=True)

    def __enter__(self) -> _ParentWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._here.close()
        self._thread.join()
        self._there.close()

    def _run(self) -> None:
        parent = multiprocessing.parent_process()
        assert parent is not None
        ready = multiprocessing.connection.wait([parent.sentinel, self._there])
        if parent.sentinel in ready:
            log.warning("the supervisor has gone: stopping")
            self._agent.stop()


def _has_ended(process: SpawnProcess) -> bool:
    # A process that is ending lets go of its sentinel a moment before it counts as dead. Whoever
    # then took it for alive would ask again at once, for as long as that moment lasts.
    return not process.is_alive() or bool(multiprocessing.connection.wait([process.sentinel], 0))


@dataclasses.dataclass
class _Slot:
    """One worker's place: the process that fills it, or when it is to be filled."""

    launch: Launch
    process: SpawnProcess | None = None
    started: float = 0.0
    due: float = 0.0
    failures: int = 0


class Supervisor:
    """Keeps agents running, each as a process of its own.

    Args:
        launches: one a worker; their members differ.
        log_level: of the workers' logs.
        log_format: of the same.
        backoff: seconds before a dead worker is started again; doubles with each time in a row.
        backoff_max: the longest such wait in seconds. A worker that lived longer than this
            starts from ``backoff`` again.

    Example::

        supervisor = Supervisor(launch.replace(member=f"web1-{n}") for n in range(4))
        with Signals(supervisor.stop, abort=supervisor.abort, reload=supervisor.reload):
            code = supervisor.run()
    """

    def __init__(
        self,
        launches: Iterable[Launch],
        *,
        log_level: str = "WARNING",
        log_format: str = "text",
        backoff: float = 0.5,
        backoff_max: float = 30.0,
    ) -> None:
        # A dead worker's lease lives on for a ttl at most; with a little more, it has surely gone.
        self._slots = [
            _Slot(launch.replace(patience=2 * launch.settings.ttl)) for launch in launches
        ]
        self._log_level, self._log_format = log_level, log_format
        self._backoff = backoff
        self._backoff_max = backoff_max
        self._wake, self._woken = socket.socketpair()
        self._stopping = False
        self._aborted = False
        self._code = 0
        self._notifier = Notifier()

    @property
    def pids(self) -> dict[str, int]:
        """The process ids of the workers that run, by member."""
        return {
            slot.launch.settings.member: slot.process.pid
            for slot in self._slots
            if slot.process is not None and slot.process.pid is not None
        }

    def stop(self) -> None:
        """Let the workers drain and :meth:`run` end. From any thread; idempotent."""
        self._stopping = True
        self._wake_up()

    def abort(self) -> None:
        """End the workers and :meth:`run` at once, without a hand-over. From any thread."""
        self._stopping = self._aborted = True
        self._wake_up()

    def reload(self) -> None:
        """Let every worker read its configuration anew. From any thread."""
        self._notifier.reloading()
        for pid in self.pids.values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGHUP)
        self._notifier.ready()

    def run(self) -> int:
        """Keep the workers running until told to stop, or until all have done their cycles.

        Returns:
            The exit code: 0 if every worker ended as it should, 2 if what they were told is
            unusable, otherwise 1.
        """
        try:
            # The supervisor only waits for its workers, so it is well as long as it runs.
            with Watchdog(self._notifier, lambda: True):
                while not self._stopping and self._slots:
                    self._start_due()
                    self._notifier.ready(f"{len(self.pids)} workers run")
                    self._wait(self._next_due())
                    self._reap()
                self._notifier.stopping()
                self._drain()
        finally:
            self._kill()
            self._wake.close()
            self._woken.close()
        return self._code

    def _start_due(self) -> None:
        now = clock.boottime()
        for slot in self._slots:
            if slot.process is None and slot.due <= now:
                slot.process = start_worker(
                    slot.launch, log_level=self._log_level, log_format=self._log_format
                )
                slot.started = now
                log.info("%s runs as process %s", slot.launch.settings.member, slot.process.pid)

    def _next_due(self) -> float | None:
        dues = [slot.due for slot in self._slots if slot.process is None]
        return max(0.0, min(dues) - clock.boottime()) if dues else None

    def _wait(self, timeout: float | None) -> None:
        sentinels = [slot.process.sentinel for slot in self._slots if slot.process is not None]
        ready = multiprocessing.connection.wait([*sentinels, self._woken], timeout)
        if self._woken in ready:
            self._woken.recv(64)

    def _wake_up(self) -> None:
        with contextlib.suppress(OSError):  # run() has ended: there is nobody to wake
            self._wake.send(b"!")

    def _reap(self) -> None:
        """Take leave of the workers that have ended: some for good, some to be started again."""
        now = clock.boottime()
        for slot in list(self._slots):
            process = slot.process
            if process is None or not _has_ended(process):
                continue
            process.join()
            code = process.exitcode
            process.close()
            slot.process = None
            if code == 0 or self._stopping:
                self._slots.remove(slot)
                # SIGTERM itself ends a worker that has not come to listen to it yet.
                ended_well = code in (0, -signal.SIGTERM)
                self._code = self._code or (0 if ended_well else FAILED)
            elif code == USAGE:
                self._code = USAGE
                self._slots.remove(slot)
                self._stopping = True
            else:
                slot.failures = 1 if now - slot.started > self._backoff_max else slot.failures + 1
                pause = grown(self._backoff, self._backoff_max, slot.failures)
                slot.due = now + pause
                how = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
                log.warning(
                    "%s died (%s): again in %.1f s", slot.launch.settings.member, how, pause
                )

    def _drain(self) -> None:
        """Pass the order to stop on, and give the workers the time that draining may take."""
        for slot in self._slots:
            if slot.process is not None:
                slot.process.terminate()
        patience = (
            max((slot.launch.settings.drain_timeout for slot in self._slots), default=0.0) + _GRACE
        )
        deadline = clock.boottime() + patience
        while not self._aborted:
            self._slots = [slot for slot in self._slots if slot.process is not None]
            left = deadline - clock.boottime()
            if not self._slots or left <= 0:
                return
            self._wait(left)
            self._reap()

    def _kill(self) -> None:
        for slot in self._slots:
            if slot.process is not None:
                if not self._aborted:
                    log.error("%s does not end: killing it", slot.launch.settings.member)
                slot.process.kill()
                slot.process.join()
                slot.process.close()
                self._code = self._code or FAILED
        self._slots = []
