"""Patterns in shell style against each other and against names, in bounded work.

Whether two patterns can match one text is asked of patterns that strangers wrote. Each question
takes one pass over one pattern, with all places in the other as the bits of one number, and every
pass is charged to a :class:`Budget`. Pure.
"""

from __future__ import annotations

import bisect
import fnmatch
from collections.abc import Iterable, Iterator, Sequence

__all__ = ["Budget", "Pattern", "TooMuchWork", "is_open", "matching"]

_WILD = frozenset("*?[")


class TooMuchWork(Exception):
    """The budget is spent."""


class Budget:
    """How much comparing one question may cost.

    Args:
        steps: symbols looked at.
    """

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self._left = steps

    def spend(self, steps: int) -> None:
        """Charge so many steps.

        Raises:
            TooMuchWork: there are not so many left.
        """
        self._left -= steps
        if self._left < 0:
            raise TooMuchWork


def is_open(text: str) -> bool:
    """Whether a text is a pattern and no name."""
    return not _WILD.isdisjoint(text)


class Pattern:
    """A pattern: ``*``, ``?``, classes (``[...]``), and literal characters.

    Example:
        >>> budget = Budget(1000)
        >>> Pattern("disk.*.read").meets(Pattern("disk.vd?.*"), budget)
        True
        >>> Pattern("disk.*").covers(Pattern("disk.vd?.*"), budget)
        True
        >>> Pattern("disk.*").meets(Pattern("cpu*"), budget)
        False
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.symbols = _symbols(text)
        self.prefix = text[: next((at for at, char in enumerate(text) if char in _WILD), len(text))]
        self._end = 1 << len(self.symbols)
        self._stars = self._any = self._single = 0
        self._places: dict[str, int] = {}
        for at, symbol in enumerate(self.symbols):
            place = 1 << at
            self._places[symbol] = self._places.get(symbol, 0) | place
            if symbol == "*":
                self._stars |= place
            else:
                self._single |= place
                if symbol == "?" or len(symbol) > 1:
                    self._any |= place

    def meets(self, other: Pattern, budget: Budget) -> bool:
        """Whether some text matches both; a class counts as any character, so it errs to yes.

        Raises:
            TooMuchWork: the budget is spent.
        """
        if len(self.symbols) > len(other.symbols):
            return other.meets(self, budget)
        # The places in the other that a text can have reached which matches ours up to here.
        reached = 1 | (other._stars & 1) << 1
        for number, symbol in enumerate(self.symbols, start=1):
            if symbol == "*":
                reached = _from_lowest(reached, other._end)
                continue
            alike = other._single
            if symbol != "?" and len(symbol) == 1:
                alike = other._places.get(symbol, 0) & other._single | other._any
            reached = (reached & alike) << 1 | reached & other._stars
            reached |= (reached & other._stars) << 1
            if not reached:
                budget.spend(number)
                return False
        budget.spend(len(self.symbols))
        return bool(reached & other._end)

    def covers(self, narrow: Pattern, budget: Budget) -> bool:
        """Whether whatever ``narrow`` matches, this matches too; errs to no.

        Raises:
            TooMuchWork: the budget is spent.
        """
        budget.spend(len(self.symbols))
        reached = 1
        for symbol in self.symbols:
            if symbol == "*":
                reached = _from_lowest(reached, narrow._end)
            elif symbol == "?":
                reached = (reached & narrow._single) << 1
            else:
                reached = (reached & narrow._places.get(symbol, 0)) << 1
            if not reached:
                return False
        return bool(reached & narrow._end)


def _from_lowest(reached: int, end: int) -> int:
    """Return all places from the first one reached on: a star takes any part of the rest."""
    return (end << 1) - (reached & -reached)


def _symbols(text: str) -> tuple[str, ...]:
    symbols: list[str] = []
    at = 0
    while at < len(text):
        # A "]" right after the opening belongs to the class, as in the shell.
        end = text.find("]", at + (3 if text[at + 1 : at + 2] == "!" else 2))
        if text[at] == "[" and end > 0:
            symbols.append(text[at : end + 1])
            at = end + 1
        else:
            if text[at] != "*" or symbols[-1:] != ["*"]:
                symbols.append(text[at])
            at += 1
    return tuple(symbols)


def matching(
    include: str, exclude: Iterable[str], names: Sequence[str], budget: Budget
) -> Iterator[str]:
    """Iterate over the names that a pattern matches and none of the others does.

    Args:
        include: the pattern.
        exclude: patterns of what does not count.
        names: sorted.
        budget: what is charged.

    Raises:
        TooMuchWork: the budget is spent.

    Example:
        >>> list(matching("cpu*", ["*_raw"], ["cpu", "cpu_raw", "ram"], Budget(1000)))
        ['cpu']
    """
    exclude = tuple(exclude)
    # Compiling takes longer than matching.
    budget.spend(24 * (len(include) + sum(map(len, exclude))))
    prefix = Pattern(include).prefix
    first = bisect.bisect_left(names, prefix)
    for name in names[first:]:
        budget.spend(4 + len(name) // 16)
        if not name.startswith(prefix):
            return
        if fnmatch.fnmatchcase(name, include):
            budget.spend((4 + len(name) // 16) * len(exclude))
            if not any(fnmatch.fnmatchcase(name, but) for but in exclude):
                yield name
