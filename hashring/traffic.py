"""`Traffic`: how many bytes a driver has sent and received. Nothing decides by it."""

from __future__ import annotations

import threading

__all__ = ["Traffic"]


class Traffic:
    """Counts bytes. For several threads.

    Attributes:
        sent: bytes handed to the network so far.
        received: bytes taken from it.

    Example:
        >>> traffic = Traffic()
        >>> traffic.sends(100)
        >>> traffic.receives(20)
        >>> traffic.sent, traffic.received
        (100, 20)
    """

    __slots__ = ("_lock", "received", "sent")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.sent = 0
        self.received = 0

    def sends(self, count: int) -> None:
        """Count so many bytes more that were sent."""
        with self._lock:
            self.sent += count

    def receives(self, count: int) -> None:
        """Count so many bytes more that were received."""
        with self._lock:
            self.received += count
