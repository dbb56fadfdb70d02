"""Suggestions: which known name somebody meant who wrote one that nobody knows."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["closest", "meant"]

_TYPO = 0.65  # difflib's ratio, from 0 to 1: lower, and words are alike that only share an ending


def closest(given: object, known: Iterable[str]) -> str | None:
    """Return the known name of which another one looks like a typo, or ``None``.

    Example:
        >>> closest("intervall", ["interval", "meters"]), closest("events", ["interval", "meters"])
        ('interval', None)
    """
    found = difflib.get_close_matches(str(given), sorted(known), 1, _TYPO)
    return found[0] if found else None


def meant(given: object, known: Iterable[str]) -> str:
    """Return the end of a message that suggests a name; empty where none is close.

    Example:
        >>> meant("meter", ["interval", "meters"])
        " (did you mean 'meters'?)"
    """
    found = closest(given, known)
    return f" (did you mean {found!r}?)" if found else ""
