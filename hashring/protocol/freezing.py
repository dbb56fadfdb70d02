"""Freezing: the latest word on whether a group stands as it is. Pure values.

Where a group is frozen, its view has those members alone that **stay**: who had acked a view when
it saw the freeze, and who comes back to a place that is kept for it (`parking.py`). Who joins later
owns nothing. Who drains leaves its place, unworked. Who crashes is taken over, as ever.

The word lives in every member's record, which outlives the command that said it: each member copies
the latest one that any record shows, with whether it stays. Which of two is the latest is a matter
of their numbers, not of clocks. So all that read the same records find the same view.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable

from hashring.protocol.request import is_plain, printable

__all__ = ["Freeze", "latest", "next_number"]

_MAX_NUMBER = 2**53

_MAX_MOMENT = 1e12


@dataclasses.dataclass(frozen=True, slots=True)
class Freeze:
    """A word on whether a group is frozen.

    Attributes:
        number: the greater one counts; of two that are equal the one that thaws.
        on: it is frozen; else it is thawed.
        by: who said so, by their own word.
        at: when, in wall-clock seconds of theirs, for people; nothing is decided by it.
    """

    number: int
    on: bool
    by: str
    at: float

    @property
    def rank(self) -> tuple[int, bool, str, float]:
        """What says which of two counts."""
        return self.number, not self.on, self.by, self.at

    def to_fields(self) -> dict[str, object]:
        """Return what stands in the record."""
        return dataclasses.asdict(self)

    @classmethod
    def from_fields(cls, found: object) -> Freeze | None:
        """Return the word that stands in a record; ``None`` where there is no valid one.

        >>> Freeze.from_fields({"number": 1, "on": True, "by": "alice", "at": 5.0}).on
        True
        >>> Freeze.from_fields({"number": -1, "on": True, "by": "alice", "at": 5.0}) is None
        True
        """
        if not isinstance(found, dict):
            return None
        number, on, by, at = (found.get(name) for name in ("number", "on", "by", "at"))
        if isinstance(number, bool) or not isinstance(number, int) or not isinstance(on, bool):
            return None
        if isinstance(at, bool) or not isinstance(at, int | float) or not is_plain(by):
            return None
        if not 0 < number <= _MAX_NUMBER or not math.isfinite(at) or abs(at) > _MAX_MOMENT:
            return None
        return cls(number, on, str(by), float(at))

    def ended_by(self, member: str, wall: float) -> Freeze:
        """Return the word by which a member ends a freeze that keeps nobody any more."""
        by = printable(f"{member:.80}: none of those that it kept is left")
        return Freeze(self.number + 1, False, by, wall)


def latest(words: Iterable[Freeze | None]) -> Freeze | None:
    """Return the word that counts.

    >>> latest([None, Freeze(2, False, "a", 0.0), Freeze(1, True, "b", 9.0)]).by
    'a'
    """
    return max((word for word in words if word is not None), key=lambda one: one.rank, default=None)


def next_number(word: Freeze | None) -> int:
    """Return the number of a word that is to count more than this one."""
    return 1 if word is None else min(word.number + 1, _MAX_NUMBER)
