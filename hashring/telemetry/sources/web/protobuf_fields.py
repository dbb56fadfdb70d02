"""Protobuf's wire format: the fields of a message, one after the other. Knows no message.

A field is a number, a type of four, and what the type says: a whole number (varint), eight or four
bytes, or so many bytes. A reader takes the fields that it knows, with the types that it expects,
and passes over all others, as protobuf's own libraries do.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from hashring.telemetry.errors import BadExposition

__all__ = [
    "BYTES",
    "EIGHT",
    "FOUR",
    "VARINT",
    "Field",
    "double",
    "doubles",
    "fields",
    "length",
    "signed",
    "varints",
]

VARINT, EIGHT, BYTES, FOUR = 0, 1, 2, 5
"""The types: a whole number, eight bytes, so many bytes, four bytes."""

_CUT_OFF = "a message ends before it should"
_LARGEST_TAG = 2**32 - 1
_WHOLE = 2**64 - 1
_double = struct.Struct("<d").unpack_from


class Field(NamedTuple):
    """One field of a message.

    Attributes:
        number: which.
        type: of the four.
        value: the number of a varint; otherwise how many bytes it is.
        start: where its bytes begin; of a varint, where it ends.
    """

    number: int
    type: int
    value: int
    start: int


def _varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    found = shift = 0
    while True:
        if at >= end:
            raise BadExposition(_CUT_OFF)
        if shift == 70:
            raise BadExposition("a number has more than ten bytes")
        one = data[at]
        at += 1
        found |= (one & 0x7F) << shift
        if one < 0x80:
            return found & _WHOLE, at
        shift += 7


def length(data: bytes, at: int, end: int) -> tuple[int, int]:
    """Return how many bytes a message says it has, and where they begin.

    Raises:
        BadExposition: there are not so many.
    """
    found, at = _varint(data, at, end)
    if found > end - at:
        raise BadExposition(_CUT_OFF)
    return found, at


def fields(data: bytes, at: int, end: int) -> Iterator[Field]:
    r"""Iterate over a message's fields.

    Args:
        data: holds the message.
        at: where it begins.
        end: where it ends.

    Raises:
        BadExposition: it is not a message.

    Example:
        >>> data = b"\x08\x96\x01\x12\x02ab"
        >>> [tuple(field) for field in fields(data, 0, len(data))]
        [(1, 0, 150, 3), (2, 2, 2, 5)]
    """
    while at < end:
        tag, at = _varint(data, at, end)
        number, type_ = tag >> 3, tag & 7
        if not number or tag > _LARGEST_TAG:
            raise BadExposition("a field has no legal number")
        if type_ == VARINT:
            value, at = _varint(data, at, end)
            yield Field(number, type_, value, at)
            continue
        if type_ == BYTES:
            value, at = length(data, at, end)
        elif type_ in (EIGHT, FOUR):
            value = 8 if type_ == EIGHT else 4
            if value > end - at:
                raise BadExposition(_CUT_OFF)
        else:
            raise BadExposition(f"a field has the unknown type {type_}")
        yield Field(number, type_, value, at)
        at += value


def double(data: bytes, at: int) -> float:
    """Return the number in eight bytes."""
    found: float = _double(data, at)[0]
    return found


def doubles(data: bytes, field: Field) -> list[float]:
    """Return the numbers of a repeated field, packed into one or standing alone.

    Raises:
        BadExposition: they are cut off.
    """
    if field.value % 8:
        raise BadExposition(_CUT_OFF)
    return [double(data, at) for at in range(field.start, field.start + field.value, 8)]


def varints(data: bytes, field: Field) -> list[int]:
    """Return the whole numbers of a repeated field, packed into one or standing alone.

    Raises:
        BadExposition: they are cut off.
    """
    if field.type == VARINT:
        return [field.value]
    found = []
    at, end = field.start, field.start + field.value
    while at < end:
        one, at = _varint(data, at, end)
        found.append(one)
    return found


def signed(value: int) -> int:
    """Return a whole number that is written as protobuf's ``sint32`` and ``sint64`` are.

    >>> [signed(value) for value in (0, 1, 2, 3)]
    [0, -1, 1, -2]
    """
    return value >> 1 ^ -(value & 1)
