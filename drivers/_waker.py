"""`Waker`: ends a wait in `poll` from another thread. It knows no store."""

from __future__ import annotations

import contextlib
import math
import os
import select

__all__ = ["Waker"]


class Waker:
    """What a thread waits for beside a socket, so that another one can end the wait.

    It takes no lock and never waits. Nothing has to be closed: its descriptor ends with it.
    """

    def __init__(self) -> None:
        self._descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError):  # there was no descriptor left for it
            os.close(self._descriptor)

    def set(self) -> None:
        """Let the wait that goes on, or else the next one, end at once."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_write(self._descriptor, 1)

    def taken(self) -> bool:
        """Return whether it was set since the last call."""
        with contextlib.suppress(BlockingIOError):
            return os.eventfd_read(self._descriptor) > 0
        return False

    def wait(self, descriptor: int, seconds: float) -> bool:
        """Wait for something to read; return whether there is.

        Args:
            descriptor: of what is to be read, as a rule a socket.
            seconds: for how long at most. ``False`` also where this was set, and it stays so.
        """
        # select() knows no file descriptor above 1023.
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        poll.register(descriptor, select.POLLIN)
        ready = poll.poll(math.ceil(1000 * max(0.0, seconds)))
        return any(number == descriptor for number, _ in ready)
