"""What is other in a record than in the one before, so that a change brings that alone.

A patch is made by who publishes, and applied by who reads; the script keeps it, and looks only at
the checksum of the record that it is for. It replaces *pieces* of that record: what stands between
two quotes, by number. So members whose records are built alike have the same patch, however long
their texts are, but for what is a member's own: the bytes of base64 (a set of slots), and numbers
with a fraction (times). A patch therefore has two parts: one that other members' patches may share,
which a reader is sent once for all of them, and the member's own.

The shared part is a list of edits: from which piece to which, and how many texts stand there
instead. A text is one byte for its kind, and

=====  =====================================================================================
``=``  the text itself
``b``  bytes of which the record has the base64
``o``  nothing: the bytes are in the own part
``n``  what stands before a number, the upper half of its IEEE 754 bytes, what stands behind it;
       the lower half is in the own part. (The upper one changes each 17 minutes, as times go.)
``r``  a number that was there before: which ``n`` or ``b`` of this patch, and what stands before
       and behind it
``s``  base64 that was there before: which ``n`` or ``b`` of this patch
=====  =====================================================================================

Texts and bytes come after their length. Records are bytes: that most of them are JSON only makes
their patches short. This module knows no server.
"""

from __future__ import annotations

import base64
import difflib
import hashlib
import re
import struct
from collections.abc import Mapping, Sequence
from typing import NamedTuple

__all__ = ["Patch", "Torn", "applied", "checksum", "patch_of", "records_of"]

_MOST = 8192
"""Bytes of the largest record that is patched. Larger: a publish takes more processor time."""

_COMMON = 24
"""Bytes of base64 up to which they may well stand in another member's patch, too: a view's id has
so many. What is longer is the member's own."""

_BASE64 = re.compile(rb"(?:[A-Za-z0-9+/]{4}){4,}(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")
_NUMBER = re.compile(rb"(\D*)(\d{6,}\.\d+)(\D*)")

_EDIT = struct.Struct(">HHB")
_DOUBLE = struct.Struct(">d")
_HALF = 4


class Patch(NamedTuple):
    """How to make a record of the one before.

    Attributes:
        base: checksum of the record before.
        shared: the edits, without what is the member's own.
        own: the member's own bytes, in their order.
    """

    base: bytes
    shared: bytes
    own: bytes


class Torn(Exception):
    """Patches that do not fit: what they were made for is not what is known."""


def patch_of(old: bytes, new: bytes) -> Patch | None:
    r"""Return the patch that makes a record of an older one; ``None`` where it would save little.

    >>> patch_of(b'{"applied":"one","weight":1.0,"spec":"x=1"}',
    ...          b'{"applied":"two","weight":1.0,"spec":"x=1"}').shared
    b'\x00\x03\x00\x04\x01=\x03two'
    """
    if max(len(old), len(new)) > _MOST:
        return None
    before, after = old.split(b'"'), new.split(b'"')
    shared = bytearray()
    own = bytearray()
    earlier: list[bytes] = []
    matcher = difflib.SequenceMatcher(None, before, after, autojunk=False)
    for kind, start, stop, begin, end in matcher.get_opcodes():
        if kind == "equal":
            continue
        if end - begin > 255:
            return None
        shared += _EDIT.pack(start, stop, end - begin)
        for piece in after[begin:end]:
            common, particular = _coded(piece, earlier)
            shared += common
            own += particular
    if not shared or len(shared) + len(own) >= len(new):
        return None
    patch = Patch(checksum(old), bytes(shared), bytes(own))
    return patch if applied(old, patch) == new else None


def _coded(piece: bytes, earlier: list[bytes]) -> tuple[bytes, bytes]:
    """Return a piece as the shared part has it, and as the own part has it.

    Args:
        piece: of the new record.
        earlier: numbers and views of this patch so far; one that is new is added.
    """
    if found := _NUMBER.fullmatch(piece):
        before, number, behind = found.groups()
        if number in earlier:
            again = bytes([earlier.index(number)])
            return b"r" + again + _with_size(before) + _with_size(behind), b""
        if repr(float(number)).encode() == number and len(earlier) < 256:
            earlier.append(number)
            packed = _DOUBLE.pack(float(number))
            common = b"n" + _with_size(before) + packed[:_HALF] + _with_size(behind)
            return common, packed[_HALF:]
    elif _BASE64.fullmatch(piece):
        if piece in earlier:
            return b"s" + bytes([earlier.index(piece)]), b""
        content = base64.b64decode(piece)
        if base64.b64encode(content) == piece:
            if len(content) > _COMMON:
                return b"o", _with_size(content)
            if len(earlier) < 256:
                earlier.append(piece)
                return b"b" + _with_size(content), b""
    return b"=" + _with_size(piece), b""


def _with_size(text: bytes) -> bytes:
    if len(text) < _LONG:
        return bytes([len(text)]) + text
    return bytes([_LONG]) + struct.pack(">H", len(text)) + text


def applied(record: bytes, patch: Patch) -> bytes:
    r"""Return what a patch makes of a record.

    Raises:
        Torn: it is a patch for another record, or none at all.

    >>> applied(b'"one" and "two"', Patch(b"", b"\0\1\0\2\1=\5three", b""))
    b'"three" and "two"'
    """
    try:
        made, end = _replaced(record, _edits(patch.shared), patch.own, 0)
    except (LookupError, ValueError, struct.error) as error:
        raise Torn(f"a patch that cannot be read: {error}") from error
    if end != len(patch.own):
        raise Torn("a patch with more of its own than its edits take")
    return made


def records_of(known: Mapping[str, bytes], strings: bytes, entries: bytes) -> dict[str, bytes]:
    """Return the records that the script's patches make of those that are known.

    Args:
        known: the records by member, as they were at the version that the script was told.
        strings: the shared parts of patches, each after its length.
        entries: for each member: its id, a checksum of the new record, how many patches led to it,
            and these, the last one first: the number of the shared part, and the own one.

    Raises:
        Torn: they do not fit.
    """
    records = {}
    try:
        shared, at = [], 0
        while at < len(strings):
            begin = at + 2
            at = begin + _number(strings, at)
            shared.append(_edits(strings[begin:at]))
        at = 0
        while at < len(entries):
            name, at = _sized(entries, at)
            member = name.decode()
            wanted, count = entries[at : at + 4], entries[at + 4]
            at += 5
            # The last patch comes first, and where one ends tells only its shared part.
            steps = []
            for _ in range(count):
                edits = shared[_number(entries, at)]
                steps.append((edits, at + 2))
                at = _end_of(edits, entries, at + 2)
            record = known[member]
            for edits, begin in reversed(steps):
                record, _ = _replaced(record, edits, entries, begin)
            if checksum(record) != wanted:
                raise Torn(f"the patches of {member!r} are for another record")
            records[member] = record
    except (LookupError, ValueError, struct.error) as error:
        raise Torn(f"patches that cannot be read: {error}") from error
    return records


_LONG = 255
"""In place of a text's length: it follows in two bytes."""


class _Number(NamedTuple):
    """A number of which the upper half is shared, between two texts."""

    before: bytes
    upper: bytes
    behind: bytes


class _Again(NamedTuple):
    """What was there before in the patch, between two texts."""

    before: bytes
    which: int
    behind: bytes


class _View(NamedTuple):
    """Base64 that may be there again."""

    text: bytes


_Text = bytes | _Number | _Again | _View | None
"""``None``: base64 whose bytes are the member's own."""

_Edit = tuple[int, int, Sequence[_Text]]


def _edits(shared: bytes) -> list[_Edit]:
    """Return the edits that a patch's shared part names."""
    edits: list[_Edit] = []
    at = 0
    while at < len(shared):
        start, stop, count = _EDIT.unpack_from(shared, at)
        at += _EDIT.size
        texts: list[_Text] = []
        for _ in range(count):
            text, at = _text(shared, at)
            texts.append(text)
        edits.append((start, stop, texts))
    return edits


def _text(shared: bytes, at: int) -> tuple[_Text, int]:
    """Return the text that begins there, and where it ends."""
    kind, at = shared[at : at + 1], at + 1
    if kind == b"=":
        return _sized(shared, at)
    if kind == b"b":
        content, at = _sized(shared, at)
        return _View(base64.b64encode(content)), at
    if kind == b"o":
        return None, at
    if kind == b"n":
        before, at = _sized(shared, at)
        upper, at = shared[at : at + _HALF], at + _HALF
        behind, at = _sized(shared, at)
        return _Number(before, upper, behind), at
    if kind == b"r":
        which = shared[at]
        before, at = _sized(shared, at + 1)
        behind, at = _sized(shared, at)
        return _Again(before, which, behind), at
    if kind == b"s":
        return _Again(b"", shared[at], b""), at + 1
    raise ValueError(f"a text of an unknown kind: {kind!r}")


def _end_of(edits: Sequence[_Edit], own: bytes, at: int) -> int:
    """Return where a member's own part ends that begins there."""
    for _, _, texts in edits:
        for text in texts:
            if text is None:
                _, at = _sized(own, at)
            elif isinstance(text, _Number):
                at += _HALF
    return at


def _replaced(record: bytes, edits: Sequence[_Edit], own: bytes, at: int) -> tuple[bytes, int]:
    """Return what edits make of a record, and where the member's own part ends.

    Args:
        record: the one before.
        edits: of the shared part.
        own: has the member's own part.
        at: where that begins.
    """
    pieces = record.split(b'"')
    made: list[bytes] = []
    earlier: list[bytes] = []
    place = 0
    for start, stop, texts in edits:
        made += pieces[place:start]
        place = stop
        for text in texts:
            if isinstance(text, bytes):
                made.append(text)
            elif text is None:
                content, at = _sized(own, at)
                made.append(base64.b64encode(content))
            elif isinstance(text, _Number):
                (value,) = _DOUBLE.unpack(text.upper + own[at : at + _HALF])
                at += _HALF
                earlier.append(repr(value).encode())
                made.append(text.before + earlier[-1] + text.behind)
            elif isinstance(text, _View):
                earlier.append(text.text)
                made.append(text.text)
            else:
                made.append(text.before + earlier[text.which] + text.behind)
    made += pieces[place:]
    return b'"'.join(made), at


def _sized(data: bytes, at: int) -> tuple[bytes, int]:
    """Return the text that begins there with its length, and where it ends."""
    size, begin = data[at], at + 1
    if size == _LONG:
        size, begin = _number(data, begin), begin + 2
    if len(data) < begin + size:
        raise ValueError("a text is cut short")
    return data[begin : begin + size], begin + size


def _number(data: bytes, at: int) -> int:
    if len(data) < at + 2:
        raise ValueError("a number is cut short")
    return int.from_bytes(data[at : at + 2], "big")


def checksum(record: bytes) -> bytes:
    """Return four bytes that tell a record from another, as the script has them.

    >>> checksum(b"record").hex()
    '275a7000'
    """
    return hashlib.sha1(record, usedforsecurity=False).digest()[:4]
