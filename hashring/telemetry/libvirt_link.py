"""Link: one connection to a hypervisor, opened when needed, opened again when it broke.

libvirt's calls have no timeout. A connection to a daemon is therefore kept alive by libvirt's own
pings, which end a call once nobody answers; they need an event loop, which runs in a thread as
long as there is a connection. Opening one, where there are no pings yet, is done in a thread that
the caller waits for no longer than the timeout.

Threads take turns on a connection. libvirt allows calls side by side, but its client before 10.4
may then crash the whole process (CVE-2024-4418), and Debian 12 has 9.0.

With ``hypervisor.py``, the only room that knows libvirt. It does not know what is asked.
"""

from __future__ import annotations

import functools
import logging
import re
import threading
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

from hashring import clock
from hashring.errors import HashringError, MissingDependency

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


class HypervisorUnavailable(HashringError, ConnectionError):
    """The hypervisor cannot be reached, or does not answer in time. Asking later may help."""


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


def _masked(uri: str) -> str:
    return re.sub(r"://([^/@:]*):[^/@]*@", r"://\1:***@", uri)


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


class _Opening:
    """One attempt to open a connection."""

    def __init__(self) -> None:
        self.started = clock.boottime()
        self.done = threading.Event()
        self.failure: str = ""


class Link:
    """One connection, read-only, that threads share.

    Args:
        uri: libvirt's connection URI; empty: libvirt's own choice.
        timeout: seconds within which a connection must be opened, and a call answered where there
            is a daemon to be pinged; for the latter in whole seconds, two at least.

    Attributes:
        shown: the URI as a message may show it.
        unsupported: what the driver at the other end was found not to tell; for whoever asks.

    Raises:
        MissingLibvirt: libvirt's Python binding is not installed.
    """

    def __init__(self, uri: str, timeout: float) -> None:
        self._libvirt = library()
        self._uri = uri
        self.shown = repr(_masked(uri)) if uri else "libvirt's default URI"
        self._timeout = timeout
        self._turn = threading.Lock()
        self._lock = threading.RLock()  # see _EventLoop
        self._connection: Any = None
        self._opening: _Opening | None = None
        self._failure = ""
        self._failed_at = float("-inf")
        self.unsupported: set[str] = set()

    def ask(self, question: Callable[[Any], _Answer]) -> _Answer:
        """Return the answer to a question that is put to the open connection.

        Args:
            question: is called with libvirt's connection, by one thread at a time. It must not
                return anything that holds on to the connection.

        Raises:
            HypervisorUnavailable: there is no connection, and none could be opened in time, or
                another thread's question has not been answered for that long.
            libvirt.libvirtError: as libvirt raised it.
        """
        if not self._turn.acquire(timeout=self._timeout):
            raise HypervisorUnavailable(
                f"the hypervisor at {self.shown} has not answered another question within "
                f"{self._timeout:g} s: see whether its libvirt daemon or an instance hangs"
            )
        try:
            return question(self._get())
        finally:
            self._turn.release()

    def _get(self) -> Any:
        """Return the open connection; open it where there is none."""
        connection = self._connection
        if connection is not None:
            if self._is_alive(connection):
                return connection
            self._drop(connection)
        with self._lock:
            if self._connection is not None:
                return self._connection
            if clock.boottime() - self._failed_at < _RETRY:
                raise HypervisorUnavailable(self._failure)
            opening = self._opening
            if opening is None:
                opening = self._opening = _Opening()
                threading.Thread(
                    target=self._open, args=(opening,), name="libvirt-open", daemon=True
                ).start()
        opening.done.wait(max(0.0, opening.started + self._timeout - clock.boottime()))
        connection = self._connection
        if connection is not None:
            return connection
        raise HypervisorUnavailable(
            opening.failure
            or f"the hypervisor at {self.shown} has not answered within {self._timeout:g} s: "
            "see whether its libvirt daemon hangs"
        )

    def broke(self, error: Any) -> bool:
        """Whether a libvirtError says that there was no connection any more."""
        libvirt = self._libvirt
        connection = self._connection
        if connection is None or not self._is_alive(connection):
            return True
        # Another thread may have opened the next connection already.
        return error.get_error_code() == libvirt.VIR_ERR_INVALID_CONN or (
            error.get_error_domain() in (libvirt.VIR_FROM_RPC, libvirt.VIR_FROM_REMOTE)
            and error.get_error_code()
            in (libvirt.VIR_ERR_INTERNAL_ERROR, libvirt.VIR_ERR_SYSTEM_ERROR, libvirt.VIR_ERR_RPC)
        )

    def _is_alive(self, connection: Any) -> bool:
        # Asks nobody but this process: the event loop notices a socket's end.
        try:
            return bool(connection.isAlive() == 1)
        except self._libvirt.libvirtError:
            return False

    def close(self) -> None:
        """Close the connection, if there is one. A later :meth:`ask` opens another."""
        with self._lock:
            self._opening = None  # one that is being opened is closed by the thread that does
            connection, self._connection = self._connection, None
        # Closing may wait for the other end, and nobody else should wait for that.
        del connection

    def _drop(self, connection: Any) -> None:
        # Never closed by hand: a thread may be within a call on it, and libvirt's memory of it
        # must last until then. The last reference to it closes it.
        with self._lock:
            if self._connection is connection:
                self._connection = None

    def _open(self, opening: _Opening) -> None:
        libvirt = self._libvirt
        _events.start()
        try:
            connection = libvirt.openReadOnly(self._uri or None)
        except libvirt.libvirtError as error:
            _events.stop()
            with self._lock:
                opening.failure = (
                    f"the hypervisor at {self.shown} cannot be opened: {error}: see whether the "
                    "URI is right, its libvirt daemon runs, and this user may read from it"
                )
                if self._opening is opening:
                    self._opening = None
                    self._failure, self._failed_at = opening.failure, clock.boottime()
            opening.done.set()
            return
        # Closing asks the other end, so the pings must go on until it is done.
        weakref.finalize(connection, _events.stop).atexit = False
        self._keep_alive(connection)
        with self._lock:
            wanted = self._opening is opening
            if wanted:
                self._opening = None
                self._connection = connection
                self._failed_at = float("-inf")
                self.unsupported = set()
        if not wanted:
            opening.failure = f"the connection to {self.shown} was closed while it was opened"
        opening.done.set()

    def _keep_alive(self, connection: Any) -> None:
        """Let libvirt ping the other end, so that a call ends within about the timeout."""
        libvirt = self._libvirt
        interval = max(1, int(self._timeout / 4))  # libvirt counts in whole seconds
        count = max(1, int(self._timeout / interval) - 1)
        try:
            connection.setKeepAlive(interval, count)
        except libvirt.libvirtError as error:
            # Not every driver has a daemon at its other end; and an old daemon cannot be pinged.
            log.debug("%s is not kept alive: %s", self.shown, error)
