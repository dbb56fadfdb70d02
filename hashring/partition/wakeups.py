"""`Changed`: the condition on a member's lock that also tells listeners who cannot block on it."""

from __future__ import annotations

import threading
from collections.abc import Callable

__all__ = ["Changed"]


class Changed(threading.Condition):
    """A condition that calls its listeners wherever it notifies the threads that wait.

    An event loop cannot wait on a condition: it listens, and has itself woken up.

    Args:
        lock: the member's. Listeners are called with it held, from any thread: they must not wait.
    """

    def __init__(self, lock: threading.RLock) -> None:
        super().__init__(lock)
        self._listeners: tuple[Callable[[], None], ...] = ()

    def listen(self, listener: Callable[[], None]) -> None:
        """Call this from now on. The caller has the lock."""
        self._listeners = (*self._listeners, listener)

    def ignore(self, listener: Callable[[], None]) -> None:
        """Call it no more. The caller has the lock."""
        self._listeners = tuple(known for known in self._listeners if known != listener)

    def notify_all(self) -> None:
        """Wake all threads that wait, and call all listeners."""
        super().notify_all()
        for listener in self._listeners:
            listener()
