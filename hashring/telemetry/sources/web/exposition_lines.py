"""The lines of an exposition, and what a series' text says: plain-Python twin of ``_exposition``.

Nearly every line of every exposition is a series, a number and perhaps a time stamp. Those lines
are read here (or at C speed there) by one strict grammar. Whatever else stands in a line is *odd*
and is left, whole, to the parser of prometheus-client: what is understood is thus always what that
parser understands. Both twins offer :class:`Scanner`, :func:`described` and :func:`described_all`,
and one test suite runs over both. This module knows no target.
"""

from __future__ import annotations

import json
import math
import re

__all__ = ["Scanner", "described", "described_all"]

MAX_LINE = 64 * 1024
"""Bytes of a line that is read here, at most."""

_NAME = rb"[a-zA-Z_:][a-zA-Z0-9_:]*"
_PAIR = rb'[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\[\\"n])*"'
_SERIES = re.compile(rb"%b(?:\{(?:%b(?:,%b)*,?)?\})?" % (_NAME, _PAIR, _PAIR))
_LABEL = re.compile(rb'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\[\\"n])*)"')
# A time stamp is not looked at, but it must be one.
_NUMBER = re.compile(
    rb"[ \t]*(?:([+-]?[0-9]{1,18})"
    rb"|([+-]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][+-]?[0-9]{1,4})?)"
    rb"|(NaN|[+-]?Inf))(?: +-?[0-9]{1,18}(?:\.[0-9]{1,18})?)?"
)
_MOST_DIGITS = 40
_MOST_LABELS = 32
_BLANKS = b" \t\r"
_BEGINNINGS = frozenset(b'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_:{"')


class Scanner:
    """Reads an exposition piece by piece, beside what the last one had.

    Args:
        body: the whole.
        known: the series of the last answer, in its order: texts that are the same need not be
            read again.

    Attributes:
        keys: by sample, the text of its series; of an odd line, ``None``.
        volumes: by sample; ``None`` where it is not finite, or the line is odd.
        odd: by odd line, the number of the sample and the line.
        said: the comments that may say a type or a unit.
        is_same: no series has been met so far that is another than the known one of its place.
        is_odd: something is met that only the whole text tells: use another reader.
        is_over: the last comment was the end of OpenMetrics.
        follows_end: a line followed that end.
        not_finite: how many volumes are not finite.
    """

    def __init__(self, body: bytes, known: list[bytes]) -> None:
        self.keys: list[bytes | None] = []
        self.volumes: list[float | int | None] = []
        self.odd: list[tuple[int, bytes]] = []
        self.said: list[bytes] = []
        self.is_same = True
        self.is_odd = self.is_over = self.follows_end = False
        self.not_finite = 0
        self._body = body
        self._known = known
        self._at = 0

    def read(self, size: int) -> bool:
        """Read on for so many bytes, to the end of a line; return whether there is more."""
        body, until = self._body, min(len(self._body), self._at + size)
        while self._at < until and not self.is_odd:
            end = body.find(b"\n", self._at)
            if end < 0:
                end = len(body)
            if end - self._at > MAX_LINE:
                self.is_odd = True
                break
            self._line(body[self._at : end].strip(_BLANKS))
            self._at = end + 1
        return self._at < len(body) and not self.is_odd

    def _line(self, line: bytes) -> None:
        if self.is_over:
            self.follows_end = True
        if not line:
            return
        if line[0] == 0x23:  # #
            self._comment(line)
        elif line[0] in _BEGINNINGS:
            self._sample(line)
        else:
            self.is_odd = True

    def _comment(self, line: bytes) -> None:
        self.is_over = line == b"# EOF"
        if line.startswith(b"# EOF") and not self.is_over:
            self.is_odd = True
        if line[1:].lstrip(b" \t")[:1] in (b"T", b"U"):
            self.said.append(line)

    def _sample(self, line: bytes) -> None:
        place = len(self.keys)
        series = _SERIES.match(line)
        number = None if series is None else _NUMBER.fullmatch(line, series.end())
        if series is None or number is None or not _is_plain(series[0], line):
            self._leave(place, line)
            return
        whole, broken, _ = number.groups()
        volume: float | int | None = None
        if whole is not None:
            volume = int(whole)
        elif broken is not None:
            if len(broken) > _MOST_DIGITS:
                self._leave(place, line)
                return
            volume = float(broken)
            if not math.isfinite(volume):
                volume = None
        if volume is None:
            self.not_finite += 1
        if self.is_same and not (place < len(self._known) and self._known[place] == series[0]):
            self.is_same = False
        self.keys.append(series[0])
        self.volumes.append(volume)

    def _leave(self, place: int, line: bytes) -> None:
        self.odd.append((place, line))
        self.keys.append(None)
        self.volumes.append(None)


def _is_plain(series: bytes, line: bytes) -> bool:
    """Whether a series is apart from its number, and its labels are no special ones."""
    if not series.endswith(b"}"):
        return line[len(series) : len(series) + 1] in (b" ", b"\t")
    names = [name for name, _ in _LABEL.findall(series)]
    return (
        len(names) <= _MOST_LABELS
        and len(set(names)) == len(names)
        and not any(name.startswith(b"__") for name in names)
    )


def described(key: bytes, resource_id: str) -> tuple[str, str | None, str | None]:
    r"""Return what a series' text says: its name, its resource's id, and its labels as JSON.

    Args:
        key: one of a scanner's keys.
        resource_id: the target's: what the id begins with.

    Example:
        >>> described(b'up{b="1",a="x\\"y"}', "web1")
        ('up', 'web1#{a="x\\"y",b="1"}', '{"b":"1","a":"x\\"y"}')
        >>> described(b"up", "web1")
        ('up', None, None)
    """
    name, _, rest = key.partition(b"{")
    # What is escaped in an id is escaped in the format's own way.
    pairs = [(label.decode(), value.decode()) for label, value in _LABEL.findall(rest)]
    if not pairs:
        return name.decode(), None, None
    shown = ",".join(f'{label}="{value}"' for label, value in sorted(pairs))
    labels = {label: _unescaped(value) for label, value in pairs}
    text = json.dumps(labels, separators=(",", ":"))
    return name.decode(), f"{resource_id}#{{{shown}}}", text


def described_all(
    keys: list[bytes], resource_id: str
) -> tuple[list[str], list[str | None], list[str | None]]:
    """Return what many series' texts say, as columns: see :func:`described`.

    >>> described_all([b'up{a="1"}', b"up"], "web1")
    (['up', 'up'], ['web1#{a="1"}', None], ['{"a":"1"}', None])
    """
    names, ids, metadata = [], [], []
    for key in keys:
        name, id_, labels = described(key, resource_id)
        names.append(name)
        ids.append(id_)
        metadata.append(labels)
    return names, ids, metadata


def _unescaped(value: str) -> str:
    if "\\" not in value:
        return value
    return re.sub(r"\\(.)", lambda match: "\n" if match[1] == "n" else match[1], value)
