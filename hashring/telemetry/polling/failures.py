"""Failures: what failed, how often; each cause is logged once. Knows nothing of what it counts."""

from __future__ import annotations

import logging
import threading
from collections import Counter

__all__ = ["Failures"]

log = logging.getLogger(__name__)


class Failures:
    """What failed, how often; each cause is logged once. For several threads.

    Example:
        >>> failures = Failures()
        >>> for _ in range(3):
        ...     failures.add("pollster Levels", OSError("no answer"))
        >>> failures.total
        3

    What is not a failure (a resource that ended, a turn that was left out) is counted beside them.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[tuple[str, str]] = Counter()
        self._others: Counter[tuple[str, str]] = Counter()

    def add(self, what: str, error: BaseException, *, of: str = "") -> None:
        """Count a failure, and log it if it is the first of its cause.

        Args:
            what: what failed.
            error: how; its type is the cause.
            of: where it failed now.
        """
        cause = (what, type(error).__name__)
        with self._lock:
            is_new = cause not in self._counts
            self._counts[cause] += 1
        if is_new:
            log.warning(
                "%s%s failed: %s: %s (further ones of this kind are counted, not logged)",
                what,
                f" of {of}" if of else "",
                type(error).__name__,
                error,
                exc_info=error if log.isEnabledFor(logging.DEBUG) else None,
            )

    def count(self, what: str, kind: str) -> None:
        """Count what is not a failure, and no reason for a line in the log."""
        with self._lock:
            self._others[what, kind] += 1

    @property
    def counts(self) -> Counter[tuple[str, str]]:
        """How often, by what failed and the type of the error; and what is not a failure."""
        with self._lock:
            return self._counts + self._others

    @property
    def total(self) -> int:
        """How many failures in all."""
        with self._lock:
            return self._counts.total()
