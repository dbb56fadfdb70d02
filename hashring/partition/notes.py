"""What a finaliser leaves behind for a partition's threads: `Notes`, and what they wait on.

The garbage collector runs finalisers in any thread at any allocation, also in one that holds a lock
or is about to wait. A finaliser that took a lock there could wait for its own thread for ever. So
it takes none: it leaves a note, and the partition's threads act on it. This module knows no store.
"""

from __future__ import annotations

import contextlib
import queue
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hashring.partition.pins import Pin
    from hashring.protocol.windows import Stream

__all__ = ["Flag", "Notes", "Signal"]


class Signal:
    """An event for one waiting thread. Unlike `threading.Event` it may be set by a finaliser.

    ``Event.set`` takes a lock that is not reentrant: a finaliser that runs inside it and calls it
    again hangs. ``SimpleQueue.put`` is reentrant and never waits.
    """

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[None] = queue.SimpleQueue()

    def set(self) -> None:
        """Let :meth:`wait` return, now or when it is called. Takes no lock."""
        if self._queue.empty():
            self._queue.put(None)

    def is_set(self) -> bool:
        """Whether it was set since the last :meth:`clear`."""
        return not self._queue.empty()

    def clear(self) -> None:
        """Forget that it was set. Only the thread that waits may call it."""
        with contextlib.suppress(queue.Empty):
            while True:
                self._queue.get_nowait()

    def wait(self, timeout: float) -> bool:
        """Wait at most so many seconds until it is set; return whether it is, and leave it set."""
        try:
            self._queue.get(timeout=max(0.0, timeout))
        except queue.Empty:
            return False
        self._queue.put(None)
        return True


class Flag:
    """A flag that is set once and stays so, for several waiting threads. It takes no lock.

    ``threading.Event`` has one inside, and enters and leaves it in Python: a Ctrl-C between the two
    leaves it locked, and who waits for the event then waits for ever.
    """

    def __init__(self) -> None:
        self._is_set = False
        self._queue: queue.SimpleQueue[None] = queue.SimpleQueue()

    def set(self) -> None:
        """Set it, for good."""
        self._is_set = True
        self._queue.put(None)

    def is_set(self) -> bool:
        """Whether it is set."""
        return self._is_set

    def wait(self, timeout: float) -> bool:
        """Wait at most so many seconds until it is set; return whether it is."""
        if not self._is_set:
            with contextlib.suppress(queue.Empty):
                self._queue.get(timeout=max(0.0, timeout))
                self._queue.put(None)  # for the next who waits
        return self._is_set


class Notes:
    """What has ended, noted without a lock, for whoever next holds the partition's lock.

    Attributes:
        pins: those that have ended, and whose slots are still pinned.
        streams: those that nobody will iterate any more.
        dropped: nobody has the partition in hand any more.
        wake: set with each note, and with ``urgent``.
        urgent: set with what a settled member, too, has to look at soon: an end of its own.
    """

    def __init__(self) -> None:
        self.pins: deque[Pin] = deque()
        self.streams: deque[Stream] = deque()
        self.dropped = False
        self.wake = Signal()
        self.urgent = Signal()

    def hurry(self) -> None:
        """Have it looked at soon, whatever the member waits for."""
        self.urgent.set()
        self.wake.set()

    def clear(self) -> None:
        """What was noted so far is about to be looked at."""
        self.wake.clear()
        self.urgent.clear()

    def end(self, pin: Pin) -> None:
        """Note that a cycle has ended, and what it had pinned."""
        self.pins.append(pin)
        self.wake.set()

    def close(self, stream: Stream) -> None:
        """Note that a stream's loop has been closed."""
        self.streams.append(stream)
        self.wake.set()

    def drop(self) -> None:
        """Note that the partition itself has been dropped."""
        self.dropped = True
        self.hurry()
