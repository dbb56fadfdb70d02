"""`Losses`: counts the members that vanished without a word, from one reading to the next.

Nothing is decided by it. This module knows records, and no store or clock.
"""

from __future__ import annotations

from collections.abc import Mapping

from hashring.protocol.record import Member

__all__ = ["Losses"]


class Losses:
    """Counts members whose records are gone although they did not drain: their lease has ended.

    One that leaves at once, without a drain, is counted as well: no reading tells the two apart.

    Attributes:
        count: how many so far.

    Example:
        >>> a, b = Member("a", "1", 1.0, "r", 10.0), Member("b", "2", 1.0, "r", 10.0)
        >>> losses = Losses()
        >>> losses.look({"a": a, "b": b}, is_sure=True)
        >>> losses.look({"a": a}, is_sure=True)
        >>> losses.count
        1
    """

    def __init__(self) -> None:
        self._before: Mapping[str, Member] = {}
        self.count = 0

    def look(self, members: Mapping[str, Member], *, is_sure: bool) -> None:
        """Compare a reading with the one before.

        Args:
            members: the live members by id; the same object for the same reading.
            is_sure: the store has forgotten nobody, and this member was not fenced meanwhile.
                Otherwise nobody counts as lost.
        """
        if members is self._before:
            return
        if is_sure:
            self.count += sum(
                member.weight > 0 and not member.draining
                for id, member in self._before.items()
                if id not in members
            )
        self._before = members
