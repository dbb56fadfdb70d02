"""`Pin`: the slots that one cycle keeps until it has ended.

A pinned slot is given to nobody else. The pin ends with its cycle, and the slots are free once the
calls that the cycle has handed to threads have ended too. This module knows no store and no window.
"""

from __future__ import annotations

import threading
from typing import Protocol

from hashring.partition.notes import Notes

__all__ = ["Calls", "Pin"]


class _Fence(Protocol):
    """What a pin needs of its member."""

    notes: Notes

    def has_lease(self, lease: int) -> bool: ...


class Calls(Protocol):
    """What a cycle has handed to threads or tasks."""

    @property
    def runs(self) -> bool:
        """Whether a call runs."""
        ...

    def cancel(self) -> None:
        """Let no further call begin. Takes no lock and does not wait."""
        ...

    def finish(self) -> None:
        """Wait for the calls. Only called where a thread works the cycle."""
        ...


class Pin:
    """What a running cycle keeps. It is over when its cycle has ended, and no map of it runs.

    Args:
        number: what the hand-off knows it by.
        lease: the number of the lease under which the slots are held.
        fence: tells whether that lease still runs.
        epoch: see below.

    Attributes:
        epoch: the member's number when the slots were pinned (rule 7 of the protocol): greater than
            that of whoever held one of them before; ``None``: the store gives none.
        thread: the one that began it, and is taken for the one that works it; or a task.
        over: its cycle has ended.
        noted: that has been noted for the member's thread, too.
        maps: the calls that its cycle handed to threads.
    """

    def __init__(self, number: int, lease: int, fence: _Fence, epoch: int | None = None) -> None:
        self.number = number
        self.epoch = epoch
        self.thread: object = threading.get_ident()
        self.over = False
        self.noted = False
        self.maps: list[Calls] = []
        self._lease = lease
        self._fence = fence
        self._fenced = False

    @property
    def valid(self) -> bool:
        """Whether the slots are still held: false for good from the fence on, or from the end."""
        if not self._fenced and not self._fence.has_lease(self._lease):
            self._fenced = True
        return not (self._fenced or self.over)

    @property
    def runs_calls(self) -> bool:
        """Whether a call that was handed to a thread still runs."""
        return any(one.runs for one in self.maps)

    def wake(self) -> None:
        """Let the member's thread look at what has ended. Takes no lock."""
        self._fence.notes.wake.set()

    def end(self) -> None:
        """End it. A finaliser may call this, anywhere: no lock is taken. May be called again."""
        self.over = True
        self.cancel_maps()
        self._fence.notes.end(self)
        self.noted = True

    def cancel_maps(self) -> None:
        """Let no further call begin. Takes no lock and does not wait."""
        for one in self.maps:
            one.cancel()

    def finish_maps(self, raised: type[BaseException] | None = None) -> None:
        """Wait for the calls that were handed to threads.

        Not where a generator is closed: that may be by the garbage collector, in any thread; the
        slots then stay pinned until the last call has ended.

        Args:
            raised: what left the cycle's block, if it was left by an exception.
        """
        if raised is not None:
            self.cancel_maps()
        if raised is None or not issubclass(raised, GeneratorExit):
            for one in self.maps:
                one.finish()
