"""Commits: what a window makes of its alarms, written while others are still asked about.

One thread writes. Whatever has come while it wrote goes into its next transaction, so a change is
written at once where there are few, and shares a transaction with others where there are many.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Generic, Self, TypeVar

__all__ = ["Commits"]

T = TypeVar("T")

_CHANGES = 100
"""Changes of one transaction, at most: an alarm's row is locked for as long as that takes."""

_UNCHANGED = 400
"""Alarms of which nothing changes that are waited for, as nobody is waiting for them."""


class Commits(Generic[T]):
    """Writes for as long as its block runs; its end waits until all is written.

    Args:
        change: writes those that change something, in one transaction.
        keep: writes those that do not.
    """

    def __init__(self, change: Callable[[list[T]], None], keep: Callable[[list[T]], None]) -> None:
        self._change = change
        self._keep = keep
        self._news = threading.Condition()
        self._changed: list[T] = []
        self._unchanged: list[T] = []
        self._ended = False
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="commits", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._news:
            self._ended = True
            self._news.notify()
        self._thread.join()  # each call of its has a bound of its own
        if error is None and self._failure is not None:
            raise self._failure

    def put(self, one: T, *, changes: bool) -> None:
        """Have one written.

        Args:
            one: what to write.
            changes: somebody waits for it.

        Raises:
            Exception: what a former call of ``change`` or ``keep`` has raised: nothing is written
                any more.
        """
        with self._news:
            if self._failure is not None:
                raise self._failure
            (self._changed if changes else self._unchanged).append(one)
            if changes or len(self._unchanged) >= _UNCHANGED:
                self._news.notify()

    def _run(self) -> None:
        while True:
            with self._news:
                self._news.wait_for(self._has_work)
                changed, self._changed = self._changed[:_CHANGES], self._changed[_CHANGES:]
                unchanged: list[T] = []
                if self._ended or len(self._unchanged) >= _UNCHANGED:
                    unchanged, self._unchanged = self._unchanged, []
            if not changed and not unchanged:
                return
            try:
                if changed:
                    self._change(changed)
                if unchanged:
                    self._keep(unchanged)
            except Exception as error:
                with self._news:
                    self._failure = error
                return

    def _has_work(self) -> bool:
        return bool(self._ended or self._changed or len(self._unchanged) >= _UNCHANGED)
