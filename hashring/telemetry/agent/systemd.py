"""systemd's notify protocol: READY, RELOADING, STOPPING, a status line, and the watchdog.

Each message is one datagram to the socket that ``NOTIFY_SOCKET`` names (sd_notify(3)). Where it
names none, nothing happens: the same agent runs under systemd, in a container and in a terminal.
This module knows nothing of what it tells of.
"""

from __future__ import annotations

import logging
import math
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from typing import Self

__all__ = ["Notifier", "Watchdog"]

log = logging.getLogger(__name__)


class Notifier:
    """Tells systemd how a service is doing.

    No call blocks or fails: systemd's socket may be full, gone, or never have been there, and
    nothing of that may stop the service.

    Args:
        environment: where ``NOTIFY_SOCKET``, ``WATCHDOG_USEC`` and ``WATCHDOG_PID`` are looked up;
            by default this process's.

    Example:
        >>> Notifier({}).ready()  # nobody listens: nothing happens
        False
    """

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        found = os.environ if environment is None else environment
        self._address = _address(found.get("NOTIFY_SOCKET", ""))
        self.watchdog_timeout = _watchdog_timeout(found)
        """Seconds of silence after which systemd takes the service for dead; ``None``: never."""

    def ready(self, status: str = "") -> bool:
        """The service is up, or has reloaded.

        Args:
            status: a line for ``systemctl status``.

        Returns:
            Whether it was sent, as from every method here.
        """
        return self._send("READY=1", *_status(status))

    def reloading(self, status: str = "") -> bool:
        """The service has begun to reload; :meth:`ready` says that it is done."""
        # The time lets systemd tell this reload from one that it asked for before (it compares
        # with its own CLOCK_MONOTONIC).
        microseconds = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        return self._send("RELOADING=1", f"MONOTONIC_USEC={microseconds}", *_status(status))

    def stopping(self, status: str = "") -> bool:
        """The service has begun to end."""
        return self._send("STOPPING=1", *_status(status))

    def status(self, status: str) -> bool:
        """Say in a line what the service does."""
        return self._send(*_status(status))

    def alive(self) -> bool:
        """Pet the watchdog once; :class:`Watchdog` does it in time."""
        return self._send("WATCHDOG=1")

    def _send(self, *lines: str) -> bool:
        if self._address is None:
            return False
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as speaker:
                speaker.setblocking(False)
                speaker.sendto("\n".join(lines).encode(), self._address)
        except OSError as error:
            log.debug("systemd was not told %s: %s", lines[0], error)
            return False
        return True


class Watchdog:
    """Pets systemd's watchdog from a thread for as long as the block runs and all is well.

    A service that hangs must stop petting, so ``alive`` should tell of what may hang: that the
    polling loop has come round lately, say, and not just that this thread runs.

    Args:
        notifier: whom to tell. Where systemd has set no watchdog, no thread is started.
        alive: called twice in each ``watchdog_timeout``; must return soon. ``False``, or an
            exception, means that systemd is not told, and restarts the service once its time is up.

    Example::

        with Watchdog(notifier, agent.is_alive):
            agent.run()
    """

    def __init__(self, notifier: Notifier, alive: Callable[[], bool]) -> None:
        self._notifier = notifier
        self._alive = alive
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        timeout = self._notifier.watchdog_timeout
        if timeout is not None:
            self._thread = threading.Thread(
                target=self._run, args=(timeout / 2,), name="watchdog", daemon=True
            )
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self, pause: float) -> None:
        silent = False
        while True:
            try:
                is_alive = self._alive()
            except Exception:
                log.exception("the watchdog cannot tell whether the service is alive")
                is_alive = False
            if is_alive:
                self._notifier.alive()
            elif not silent:
                log.error("the service hangs: the watchdog is not petted until it goes on")
            silent = not is_alive
            if self._ended.wait(pause):
                return


def _address(text: str) -> str | bytes | None:
    if text.startswith("/"):
        return text
    if text.startswith("@") and len(text) > 1:
        return b"\0" + text[1:].encode()  # Linux's abstract names begin with a NUL
    if text:
        log.warning("NOTIFY_SOCKET=%r is neither a path nor an abstract name: ignored", text)
    return None


def _watchdog_timeout(environment: Mapping[str, str]) -> float | None:
    text = environment.get("WATCHDOG_USEC", "")
    # A process that inherited another one's watchdog must not pet it.
    if not text or environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    try:
        seconds = int(text) / 1_000_000
    except (ValueError, OverflowError):
        seconds = math.nan
    if not 0 < seconds <= threading.TIMEOUT_MAX:
        log.warning("WATCHDOG_USEC=%r is not a positive number of microseconds: ignored", text)
        return None
    return seconds


def _status(status: str) -> list[str]:
    # A line break would begin another assignment.
    return [f"STATUS={' '.join(status.split())}"] if status else []
