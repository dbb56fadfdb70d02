"""Backoff: which calls are left out for some turns because they failed several times in a row."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

from hashring.backoff import grown

__all__ = ["Backoff"]


class Backoff:
    """Which calls are to be left out for a while, because they failed several times in a row.

    After n failures in a row 2^(n-1) - 1 turns are left out, 7 at most. For several threads.

    Example:
        >>> backoff = Backoff()
        >>> tries = []
        >>> for turn in range(12):
        ...     if backoff.is_due("web1", turn):
        ...         tries.append(turn)
        ...         backoff.failed("web1", turn)
        >>> tries
        [0, 1, 3, 7]
        >>> backoff.worked("web1")
        >>> backoff.is_due("web1", 8)
        True
    """

    _MOST = 7

    def __init__(self) -> None:
        self._failed: dict[Hashable, tuple[int, int]] = {}  # failures in a row, next turn due

    def is_due(self, key: Hashable, turn: int) -> bool:
        """Whether the call is to be made in this turn: a number that grows, e.g. a window's."""
        found = self._failed.get(key)
        if found is None or turn >= found[1]:
            return True
        # The numbers have gone back: they are a clock's, which may step.
        return found[1] - turn > self._MOST + 1

    def failed(self, key: Hashable, turn: int) -> None:
        """Take note of a failure."""
        times = self._failed.get(key, (0, 0))[0] + 1
        self._failed[key] = (times, turn + 1 + int(grown(1, self._MOST + 1, times)) - 1)

    def worked(self, key: Hashable) -> None:
        """Take note of a success."""
        if key in self._failed:
            self._failed.pop(key, None)

    def keep_only(self, keys: Callable[[Any], bool]) -> None:
        """Forget the calls that are not made any more."""
        for key in [key for key in self._failed if not keys(key)]:
            self._failed.pop(key, None)

    def __len__(self) -> int:
        return len(self._failed)
