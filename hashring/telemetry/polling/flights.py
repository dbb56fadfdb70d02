"""Flights: which polls are in hand now, written where another process can read it.

A poll that holds the interpreter keeps every thread of its process from saying so. So each poll is
written down before it begins, in memory that the agent shares with its witness. A look costs the
agent nothing, and a note some two microseconds: no lock, no system call.
"""

from __future__ import annotations

import collections
import functools
import mmap
import os
import struct
import tempfile
import threading
import weakref
from typing import NamedTuple

from hashring import clock

__all__ = ["Flight", "Flights", "open_flights", "read_flights"]

_PLACES = 256
"""Polls that can be noted at once; more are not noted, and never accused."""

_PLACE = 1024
"""Bytes of one. A group and a resource whose names are longer are not noted."""

_STAMP = struct.Struct("<d")
_HEAD = struct.Struct("<dIHH")  # when it began, its thread, the lengths of group and id
_LONGEST = _PLACE - _HEAD.size


_here = threading.local()


class Flight(NamedTuple):
    """One poll in hand: its group, its resource, when it began (``CLOCK_BOOTTIME``), its thread."""

    group: str
    id: str
    began: float
    thread: int


class Flights:
    """The table of one agent's polls. For several threads.

    Example:
        >>> flights = Flights()
        >>> place = flights.begin("g", "web1")
        >>> [flight.id for flight in read_flights(flights.memory)[1]]
        ['web1']
        >>> flights.end(place)
        >>> read_flights(flights.memory)[1]
        []
        >>> flights.close()
    """

    def __init__(self) -> None:
        size = _PLACE * (_PLACES + 1)
        self.fd = _memory_file()
        self._close = weakref.finalize(self, os.close, self.fd)
        os.ftruncate(self.fd, size)
        self.memory = mmap.mmap(self.fd, size)
        self._free = collections.deque(range(1, _PLACES + 1))

    def stamp(self) -> None:
        """Note that this process's threads run."""
        _STAMP.pack_into(self.memory, 0, clock.boottime())

    def begin(self, group: str, id_: str) -> int:
        """Note that a poll begins in this thread; return its place, 0 without one."""
        text, length = _written(group, id_)
        if len(text) > _LONGEST:
            return 0
        try:
            place = self._free.popleft()
        except IndexError:
            return 0
        at = place * _PLACE
        self.memory[at + _HEAD.size : at + _HEAD.size + len(text)] = text
        try:
            thread = _here.thread
        except AttributeError:
            thread = _here.thread = threading.get_native_id()  # a system call
        _HEAD.pack_into(self.memory, at, clock.boottime(), thread, length, len(text) - length)
        return place

    def end(self, place: int) -> None:
        """Note that the poll of a place is over."""
        if place:
            _STAMP.pack_into(self.memory, place * _PLACE, 0.0)
            self._free.append(place)

    def close(self) -> None:
        """Give the descriptor back; the memory goes with this object, as late polls still note."""
        self._close()


@functools.lru_cache(maxsize=2 * _PLACES)
def _written(group: str, id_: str) -> tuple[bytes, int]:
    """Return a group and a resource as they are noted, and the length of the first: a poll on the
    event loop is noted at each of its steps.
    """
    first = group.encode("utf-8", "replace")
    return first + id_.encode("utf-8", "surrogatepass"), len(first)


def _memory_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("flights")
    with tempfile.TemporaryFile() as file:  # pragma: no cover - macOS
        return os.dup(file.fileno())


def read_flights(memory: mmap.mmap) -> tuple[float, list[Flight]]:
    """Return when an agent's threads ran last, and its polls in hand, the oldest first.

    A place that changes while it is read is left out: what stands still long enough to matter does
    not change.
    """
    flights = []
    for at in range(_PLACE, _PLACE * (_PLACES + 1), _PLACE):
        if not _STAMP.unpack_from(memory, at)[0]:
            continue
        head = memory[at : at + _HEAD.size]
        began, thread, first, second = _HEAD.unpack(head)
        if first + second > _LONGEST:
            continue
        start = at + _HEAD.size
        texts = memory[start : start + first], memory[start + first : start + first + second]
        if memory[at : at + _HEAD.size] != head:
            continue
        group, id_ = (text.decode("utf-8", "surrogatepass") for text in texts)
        flights.append(Flight(group, id_, began, thread))
    return _STAMP.unpack_from(memory, 0)[0], sorted(flights, key=lambda flight: flight.began)


def open_flights(fd: int) -> mmap.mmap:
    """Return the table of another process by the descriptor that it passed on."""
    return mmap.mmap(fd, _PLACE * (_PLACES + 1))
