"""Link: one connection to a hypervisor, opened when needed, opened again when it broke.

libvirt's calls have no timeout, and cannot be interrupted. So a thread of its own speaks on the
connection, one question at a time; whoever asks waits for no longer than the timeout. A thread
that hangs is left to itself, with its connection, and the next question gets new ones. libvirt's
keepalive ends such a call in the end, where it is the daemon that hangs; it needs an event loop,
which runs in a thread as long as there is a connection.

One question at a time is also what libvirt's client before 10.4 needs: two threads on one
connection may crash the whole process there (CVE-2024-4418), and Debian 12 has 9.0.

With ``hypervisor.py``, the only room that knows libvirt. It does not know what is asked.
"""

from __future__ import annotations

import functools
import logging
import queue
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from hashring import clock
from hashring.errors import MissingDependency
from hashring.telemetry.errors import HypervisorUnavailable
from hashring.url import masked, secrets_in, without_secrets

__all__ = ["HypervisorUnavailable", "Link", "MissingLibvirt", "library"]

log = logging.getLogger(__name__)

_Answer = TypeVar("_Answer")

_RETRY = 1.0
"""Seconds for which a connection that could not be opened is not tried again: the polls of a
cycle fail at once instead of one after the other."""


class MissingLibvirt(MissingDependency):
    """libvirt's Python binding is not installed."""

    def __init__(self) -> None:
        super().__init__("the compute agent", "libvirt-python", "libvirt")
        # An ImportError shows its msg.
        self.msg = (
            f"{self.args[0]} (it is built on this machine; on Debian first: "
            "apt install libvirt-dev pkg-config gcc python3-dev)"
        )


def library() -> Any:
    """Return libvirt's module; imported late, so that agents without instances need none."""
    try:
        import libvirt
    except ImportError as error:
        raise MissingLibvirt from error
    _silence(libvirt)
    return libvirt


@functools.cache
def _silence(libvirt: Any) -> None:
    # libvirt would print every error to the standard error, those that we expect too.
    libvirt.registerErrorHandler(_silent, None)


def _silent(_context: object, _error: object) -> None:
    pass


class _EventLoop:
    """libvirt's event loop, in a thread, while there is somebody who needs it.

    libvirt has one for each process, and it must be there before the first connection is opened.
    """

    def __init__(self) -> None:
        # Whoever holds it may be interrupted by the collection of a Hypervisor that lets go.
        self._lock = threading.RLock()
        self._users = 0
        self._thread: threading.Thread | None = None
        self._timer: int | None = None
        self._libvirt: Any = None

    def start(self) -> None:
        libvirt = self._libvirt = library()
        with self._lock:
            self._users += 1
            if self._timer is None:
                libvirt.virEventRegisterDefaultImpl()
                # It never fires by itself; it is there to wake the loop.
                self._timer = libvirt.virEventAddTimeout(-1, self._sleep_on, None)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="libvirt-events", daemon=True
                )
                self._thread.start()

    def stop(self) -> None:
        # Not waited for: this may run within that very thread, which ends by itself.
        with self._lock:
            self._users -= 1
            if self._users == 0:
                self._libvirt.virEventUpdateTimeout(self._timer, 0)

    def _sleep_on(self, timer: int, _nothing: object) -> None:
        # Called by libvirt: a timer that has fired would fire again.
        self._libvirt.virEventUpdateTimeout(timer, -1)

    def _run(self) -> None:
        libvirt = self._libvirt
        while True:
            failed = False
            try:
                libvirt.virEventRunDefaultImpl()
            except libvirt.libvirtError as error:
                log.warning("libvirt's event loop ends: %s; the next connection starts it", error)
                failed = True
            with self._lock:
                if failed or self._users == 0:
                    self._thread = None
                    return


_events = _EventLoop()


class _Session:
    """One connection, and the thread that opens it, speaks on it and closes it.

    Attributes:
        started: when it was begun, in seconds on a clock that never steps.
        opened: set once the connection is open or has failed to be.
        failure: why it could not be opened; empty: it could.
        begun: how many questions have been begun.
    """

    def __init__(self, uri: str, timeout: float) -> None:
        self.started = clock.boottime()
        self.opened = threading.Event()
        self.failure = ""
        self.begun = 0
        self._libvirt = library()
        self._uri = uri
        self._timeout = timeout
        self._connection: Any = None
        self._ending = threading.RLock()  # see _EventLoop
        self._ended = False
        self._questions: queue.SimpleQueue[tuple[Callable[[Any], Any], Future[Any]] | None] = (
            queue.SimpleQueue()
        )
        threading.Thread(target=self._run, name="libvirt-connection", daemon=True).start()

    def put(self, question: Callable[[Any], _Answer]) -> Future[_Answer] | None:
        """Return what will be the answer; ``None``: the session has been ended."""
        future: Future[_Answer] = Future()
        with self._ending:
            if self._ended:
                return None
            self._questions.put((question, future))
        return future

    def end(self) -> None:
        """Let the thread end and the connection be closed, after what was asked before."""
        with self._ending:
            self._ended = True
            self._questions.put(None)

    def is_alive(self) -> bool:
        """Whether the connection still is one. Asks nobody but this process."""
        connection = self._connection
        try:
            return connection is not None and bool(connection.isAlive() == 1)
        except self._libvirt.libvirtError:
            return False

    def _run(self) -> None:
        _events.start()
        try:
            connection = self._libvirt.openReadOnly(self._uri or None)
        except self._libvirt.libvirtError as error:
            self.failure = str(error)
            _events.stop()
            self.opened.set()
            return
        # Closing asks the other end, so the pings must go on until it is done.
        weakref.finalize(connection, _events.stop).atexit = False
        self._keep_alive(connection)
        self._connection = connection
        self.opened.set()
        while self._answer_one(connection):
            pass
        # Never closed by hand: the last reference to a connection closes it.
        self._connection = None

    def _answer_one(self, connection: Any) -> bool:
        asked = self._questions.get()
        if asked is None:
            return False
        question, future = asked
        if future.set_running_or_notify_cancel():
            self.begun += 1
            try:
                future.set_result(question(connection))
            except Exception as error:
                future.set_exception(error)
        # An error's traceback has this frame, which must not hold on to the connection.
        del asked, question, future, connection
        return True

    def _keep_alive(self, connection: Any) -> None:
        """Let libvirt ping the other end, so that a call ends within about the timeout."""
        interval = max(1, int(self._timeout / 4))  # libvirt counts in whole seconds
        count = max(1, int(self._timeout / interval) - 1)
        try:
            connection.setKeepAlive(interval, count)
        except self._libvirt.libvirtError as error:
            # Not every driver has a daemon at its other end; and an old daemon cannot be pinged.
            log.debug("%r is not kept alive: %s", masked(self._uri), error)


class Link:
    """The connection to a hypervisor, read-only, for all threads that ask.

    Args:
        uri: libvirt's connection URI; empty: libvirt's own choice.
        timeout: seconds within which a connection must be opened, and a question answered.

    Attributes:
        shown: the URI as a message may show it.
        learned: what was found of the driver at the other end; for whoever asks. Empty again when
            a connection is opened.

    Raises:
        MissingLibvirt: libvirt's Python binding is not installed.
    """

    def __init__(self, uri: str, timeout: float) -> None:
        self._libvirt = library()
        self._uri = uri
        self.shown = repr(masked(uri)) if uri else "libvirt's default URI"
        self._timeout = timeout
        self._lock = threading.RLock()  # see _EventLoop
        self._session: _Session | None = None
        self._failure = ""
        self._failed_at = float("-inf")
        self.learned: set[str] = set()

    def ask(self, question: Callable[[Any], _Answer]) -> _Answer:
        """Return the answer to a question that is put to the open connection.

        Args:
            question: is called with libvirt's connection, in the connection's thread. It must not
                return anything that holds on to the connection.

        Raises:
            HypervisorUnavailable: there is no connection and none could be opened, or there was
                no answer in time.
            libvirt.libvirtError: as libvirt raised it.
        """
        future = None
        while future is None:  # another thread may close the session just now
            session = self._open_session()
            begun = session.begun
            future = session.put(question)
        try:
            return future.result(self._timeout)
        except TimeoutError:
            # It hangs, or the one before it has all the time; or else there were just many.
            if not future.cancel() or session.begun == begun:
                self._leave(session)
            raise HypervisorUnavailable(
                f"the hypervisor at {self.shown} has not answered within {self._timeout:g} s: "
                "see whether its libvirt daemon or one of its instances hangs"
            ) from None
        finally:
            del future  # an error's traceback has this frame, and it the error

    def broke(self, error: Any) -> bool:
        """Whether a libvirtError says that there was no connection any more."""
        libvirt = self._libvirt
        session = self._session
        if session is None or not session.is_alive():
            return True
        # Another thread may have opened the next connection already.
        return error.get_error_code() == libvirt.VIR_ERR_INVALID_CONN or (
            error.get_error_domain() in (libvirt.VIR_FROM_RPC, libvirt.VIR_FROM_REMOTE)
            and error.get_error_code()
            in (libvirt.VIR_ERR_INTERNAL_ERROR, libvirt.VIR_ERR_SYSTEM_ERROR, libvirt.VIR_ERR_RPC)
        )

    def close(self) -> None:
        """Close the connection, if there is one. A later :meth:`ask` opens another."""
        session = self._session
        if session is not None:
            self._leave(session)

    def _leave(self, session: _Session) -> None:
        with self._lock:
            if self._session is session:
                self._session = None
        session.end()

    def _open_session(self) -> _Session:
        """Return a session that is open, or was a moment ago."""
        session = self._session
        if session is not None and session.opened.is_set():
            if session.is_alive():
                return session
            self._leave(session)
        with self._lock:
            session = self._session
            if session is None:
                if clock.boottime() - self._failed_at < _RETRY:
                    raise HypervisorUnavailable(self._failure)
                session = self._session = _Session(self._uri, self._timeout)
                self.learned = set()
        # All wait for the same attempt, and once it is late, nobody does.
        if not session.opened.wait(max(0.0, session.started + self._timeout - clock.boottime())):
            raise HypervisorUnavailable(
                f"the hypervisor at {self.shown} has not answered within {self._timeout:g} s: "
                "see whether its libvirt daemon hangs"
            )
        if session.failure:
            why = without_secrets(session.failure, secrets_in(self._uri))
            failure = (
                f"the hypervisor at {self.shown} cannot be opened: {why}: see whether "
                "the URI is right, its libvirt daemon runs, and this user may read from it"
            )
            with self._lock:
                if self._session is session:
                    self._session = None
                    self._failure, self._failed_at = failure, clock.boottime()
            raise HypervisorUnavailable(failure)
        return session
