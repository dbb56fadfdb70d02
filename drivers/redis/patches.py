"""What is other in a record than in the one before, so that a change brings that alone.

A patch is a list of texts: the first says which parts of the older record to replace, as
``from:to,from:to`` in bytes, and each of the others stands in place of one part: after ``=`` as it
is, and after ``q`` as bytes of which the record has the base64, and a quote behind it. Whoever
publishes makes it, the script checks that it makes the new record of the old one, and whoever reads
applies it. Records are bytes: that most of them are JSON only makes their patches short.

This module knows no server.
"""

from __future__ import annotations

import base64
import difflib
import hashlib
import re
import struct
from collections.abc import Mapping, Sequence

__all__ = ["Torn", "applied", "patch_of", "records_of"]

_MOST = 8192
"""Bytes of the largest record that is patched. Larger: a publish takes more processor time."""

_NEAR = 6
"""Parts that lie so close, in bytes, are replaced as one: to name each would take more."""

_PIECES = re.compile(rb'[^"]*"?')
_BASE64 = re.compile(rb'(?:[A-Za-z0-9+/]{4}){4,}(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?"')
_PLACES = re.compile(rb"(\d+):(\d+)")


class Torn(Exception):
    """Patches that do not fit: what they were made for is not what is known."""


def patch_of(old: bytes, new: bytes) -> list[bytes]:
    """Return the patch that makes a record of an older one; empty where it would be no shorter.

    >>> patch_of(b'{"applied":"one","weight":1.0,"spec":"x=1"}',
    ...          b'{"applied":"two","weight":1.0,"spec":"x=1"}')
    [b'12:16', b'=two"']
    """
    if max(len(old), len(new)) > _MOST:
        return []
    before, after = _PIECES.findall(old), _PIECES.findall(new)
    starts = [0]
    for piece in before:
        starts.append(starts[-1] + len(piece))
    parts: list[tuple[int, int, bytes]] = []
    matcher = difflib.SequenceMatcher(None, before, after, autojunk=False)
    for kind, from_, to, begin, end in matcher.get_opcodes():
        if kind == "equal":
            continue
        start, stop, text = starts[from_], starts[to], b"".join(after[begin:end])
        if parts and start - parts[-1][1] <= _NEAR:
            first, last, earlier = parts.pop()
            start, text = first, earlier + old[last:start] + text
        parts.append((start, stop, text))
    places = b",".join(b"%d:%d" % (start, stop) for start, stop, _ in parts)
    patch = [places, *(_coded(text) for _, _, text in parts)]
    return patch if 0 < sum(map(len, patch)) < len(new) // 2 and len(patch) < 100 else []


def applied(record: bytes, patch: Sequence[bytes]) -> bytes:
    """Return what a patch makes of a record.

    >>> applied(b"one and two", [b"4:7,8:11", b"=or", b"=three"])
    b'one or three'
    """
    pieces, at = [], 0
    for place, text in zip(_PLACES.finditer(patch[0]), patch[1:], strict=True):
        pieces += [record[at : int(place[1])], _decoded(text)]
        at = int(place[2])
    return b"".join([*pieces, record[at:]])


def _coded(text: bytes) -> bytes:
    if _BASE64.fullmatch(text):
        content = base64.b64decode(text[:-1])
        if base64.b64encode(content) == text[:-1]:
            return b"q" + content
    return b"=" + text


def _decoded(text: bytes) -> bytes:
    if text.startswith(b"="):
        return text[1:]
    if text.startswith(b"q"):
        return base64.b64encode(text[1:]) + b'"'
    raise Torn(f"a patch has a text of an unknown kind: {text[:1]!r}")


def records_of(known: Mapping[str, bytes], strings: bytes, entries: bytes) -> dict[str, bytes]:
    """Return the records that the script's patches make of those that are known.

    Args:
        known: the records by member, as they were at the version that the script was told.
        strings: patches but for the texts that are one member's own, each after its length.
        entries: for each member: its id, a checksum of the new record, how many patches led to it,
            and these, the last one first: the number of what it shares, and its own texts.

    Raises:
        Torn: they do not fit.
    """
    records = {}
    try:
        shared, at = [], 0
        while at < len(strings):
            size = _number(strings, at)
            shared.append(_texts(strings[at + 2 : at + 2 + size]))
            at += 2 + size
        at = 0
        while at < len(entries):
            name, at = _sized(entries, at)
            member = name.decode()
            checksum, count = struct.unpack_from(">IB", entries, at)
            at += 5
            steps = []
            for _ in range(count):
                patch = shared[_number(entries, at)].copy()
                at += 2
                for place, text in enumerate(patch):
                    if text is None:
                        patch[place], at = _sized(entries, at)
                steps.append(patch)
            record = known[member]
            for patch in reversed(steps):
                record = applied(record, patch)  # type: ignore[arg-type]  # none is left open
            if _checksum(record) != checksum:
                raise Torn(f"the patches of {member!r} are for another record")
            records[member] = record
    except (LookupError, ValueError, struct.error) as error:
        raise Torn(f"patches that cannot be read: {error}") from error
    return records


_OWN, _LONG = 254, 255
"""In place of a text's length: it is one of the member's own, and: it follows in two bytes."""


def _texts(packed: bytes) -> list[bytes | None]:
    """Return the texts of a patch; ``None`` for each that is a member's own."""
    found: list[bytes | None] = []
    at = 0
    while at < len(packed):
        if packed[at] == _OWN:
            found.append(None)
            at += 1
        else:
            text, at = _sized(packed, at)
            found.append(text)
    return found


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


def _checksum(record: bytes) -> int:
    digest = hashlib.sha1(record, usedforsecurity=False).digest()  # as Redis has it
    return int.from_bytes(digest[:4], "big")
