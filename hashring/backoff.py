"""Pauses before a further try: each longer than the one before, and none in step with others'.

The only module that knows how such a pause grows. It waits for nothing: who asks has its own way
to wait, which its own end can interrupt.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

__all__ = ["Backoff", "grown", "jittered"]

_MOST_STEPS = 64
"""Steps after which a pause grows no more, so that no count of failures can overflow."""


def grown(first: float, longest: float, failures: int, *, factor: float = 2.0) -> float:
    """Return the pause after so many failures in a row, before its random part.

    Args:
        first: the pause after the first failure, in seconds or in turns.
        longest: the bound of every pause, in the same unit.
        failures: how many in a row; less than 1 counts as 1.
        factor: by how much a pause is longer than the one before.

    >>> [grown(0.5, 3.0, failures) for failures in range(1, 5)]
    [0.5, 1.0, 2.0, 3.0]
    """
    steps = min(max(failures - 1, 0), _MOST_STEPS)
    return float(min(first * factor**steps, longest))


def jittered(pause: float, part: float = 0.5) -> float:
    """Return a pause that is up to ``part`` of it shorter, at random.

    Who failed together at one moment, when a store went away, must not come back together.

    Args:
        pause: in seconds.
        part: of the pause, from 0 (always the whole) to 1 (from nothing to the whole).

    >>> jittered(2.0, 0), 1.0 <= jittered(2.0) <= 2.0
    (2.0, True)
    """
    return pause * (1 - part * random.random())  # noqa: S311 - no secret depends on it


class Backoff:
    """The pauses of one series of failures, in seconds: an iterator without an end.

    For one thread, or under its caller's lock.

    Args:
        first: the first pause; each further one is ``factor`` times as long.
        longest: the bound of every pause.
        jitter: the random part of each, 0 to 1; see :func:`jittered`.
        factor: by how much a pause is longer than the one before.

    Example:
        >>> pauses = Backoff(0.1, 1.0, jitter=0)
        >>> [next(pauses) for _ in range(5)]
        [0.1, 0.2, 0.4, 0.8, 1.0]
        >>> pauses.reset()
        >>> next(pauses)
        0.1
    """

    def __init__(
        self, first: float, longest: float, *, jitter: float = 0.5, factor: float = 2.0
    ) -> None:
        self._first = first
        self._longest = longest
        self._jitter = jitter
        self._factor = factor
        self.failures = 0
        """Pauses that were taken since the last success."""

    def __iter__(self) -> Iterator[float]:
        return self

    def __next__(self) -> float:
        self.failures += 1
        pause = grown(self._first, self._longest, self.failures, factor=self._factor)
        return jittered(pause, self._jitter)

    def reset(self) -> None:
        """Begin anew, after a success."""
        self.failures = 0
