"""What publishers that write their own messages share: protobuf's wire format, and rows' memory.

A message of a hundred thousand samples is made of few different pieces: most of a sample is what
was measured of what, and that is the same in every poll. So it is written out once for a series,
and a message is those bytes with a number and a time between them. This module knows no sink.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from hashring.telemetry.model.batch import Series

__all__ = ["Rows", "message", "sized", "text", "varint"]

T = TypeVar("T")

_BYTES = 2  # protobuf's type of what has a length


def varint(number: int) -> bytes:
    r"""Return a whole number, not below 0, as protobuf writes it.

    >>> varint(1), varint(300)
    (b'\x01', b'\xac\x02')
    """
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)


_SIZES = [varint(number) for number in range(4096)]


def sized(size: int) -> bytes:
    """Return a length as protobuf writes it: :func:`varint`, quickly."""
    return _SIZES[size] if size < 4096 else varint(size)


def message(field: int, body: bytes) -> bytes:
    """Return a field that is a message, or a text in UTF-8."""
    return b"".join((varint(field << 3 | _BYTES), sized(len(body)), body))


def text(field: int, value: str) -> bytes:
    """Return a field that is a text; what is not valid Unicode in it as ``?``."""
    # A file's name, for one, need not be valid Unicode; protobuf's text must be.
    return message(field, value.encode("utf-8", "replace"))


class Rows(Generic[T]):
    """What is made of each row of a series, once for as long as somebody holds the series.

    Args:
        make: makes it, of all rows.

    Example:
        >>> rows = Rows(lambda series: list(range(len(series))))
        >>> ten = Series("web1", (), [0] * 10, [None] * 10, [None] * 10)
        >>> rows.of(ten.rows(slice(2, 5))), rows.of(ten) is rows.of(ten)
        ([2, 3, 4], True)
    """

    def __init__(self, make: Callable[[Series], Sequence[T]]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._known: weakref.WeakKeyDictionary[Series, Sequence[T]] = weakref.WeakKeyDictionary()

    def of(self, series: Series) -> Sequence[T]:
        """Return what was made of each row; of a part of a series, what was made of the whole."""
        whole, start = series.whole or (series, 0)
        with self._lock:
            found = self._known.get(whole)
        if found is None:
            found = self._make(whole)
            with self._lock:
                self._known[whole] = found
        return found if whole is series else found[start : start + len(series)]
