"""Signals: SIGTERM, Ctrl-C and SIGHUP as calls from a thread that holds no lock.

A Python signal handler runs between two steps of the main thread, perhaps while that holds the
very lock that stopping needs. So the handler does nothing, and a thread that the signal wakes
through a socket does the work. This module knows nothing of what is stopped.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable
from types import FrameType, TracebackType

__all__ = ["Signals", "hold_reloads"]

log = logging.getLogger(__name__)

_ENDED_BY_INTERRUPT = 128 + signal.SIGINT


def _end_at_once() -> None:
    os._exit(_ENDED_BY_INTERRUPT)


def _is_reload(number: int) -> bool:
    return number == signal.SIGHUP


def _nothing(number: int, frame: FrameType | None) -> None:
    """Stand in for the default action; the thread acts."""


def hold_reloads() -> None:
    """Let a SIGHUP wait for :class:`Signals`: before, it would end this process.

    To be called in the main thread, before others are started.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})


class Signals:
    """Calls ``stop`` on the first SIGTERM or Ctrl-C, ``abort`` on a second Ctrl-C, and ``reload``
    on each SIGHUP before them.

    Used as a context manager, in the main thread; what was set before is put back.

    Args:
        stop: called once, from a thread; must return soon.
        abort: called from that thread on a Ctrl-C after the first signal; by default the process
            ends at once, with status 130.
        reload: called from that thread on SIGHUP, perhaps several times, never after ``stop``.
            It must return soon, since the other signals wait for it: set a flag, and let another
            thread do the work. What it raises is logged. Without it SIGHUP does what it did
            before; with it, one that :func:`hold_reloads` has kept is heard now.
    """

    def __init__(
        self,
        stop: Callable[[], None],
        *,
        abort: Callable[[], None] = _end_at_once,
        reload: Callable[[], None] | None = None,
    ) -> None:
        self._stop = stop
        self._reload = reload
        self._abort = abort
        self._stopped = False
        self._before: dict[int, object] = {}

    def __enter__(self) -> Signals:
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        self._thread = threading.Thread(target=self._run, name="signals", daemon=True)
        self._thread.start()
        self._wakeup = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        self._before = {
            signal.SIGTERM: signal.signal(signal.SIGTERM, _nothing),
            signal.SIGINT: signal.signal(signal.SIGINT, _nothing),
        }
        if self._reload is not None:
            self._before[signal.SIGHUP] = signal.signal(signal.SIGHUP, _nothing)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        signal.set_wakeup_fd(self._wakeup)
        with contextlib.suppress(OSError):
            self._writer.shutdown(socket.SHUT_WR)
        self._thread.join()
        self._writer.close()
        self._reader.close()

    def _run(self) -> None:
        # Each byte is the number of a signal; the end of the stream is the end of the block.
        while received := self._reader.recv(64):
            # Of what has come by now, stopping goes first: a reload would be for nothing.
            for number in sorted(received, key=_is_reload):
                if number == signal.SIGINT and self._stopped:
                    self._abort()
                elif number in (signal.SIGTERM, signal.SIGINT) and not self._stopped:
                    self._stopped = True
                    log.info("%s: stopping", signal.Signals(number).name)
                    self._stop()
                elif _is_reload(number) and self._reload is not None and not self._stopped:
                    log.info("SIGHUP: reloading")
                    try:
                        self._reload()
                    except Exception:
                        log.exception("SIGHUP: the reload failed; all goes on as before")
