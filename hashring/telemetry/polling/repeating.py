"""Something that is done again and again from a thread of its own, for as long as a block runs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

__all__ = ["Repeating"]


class Repeating:
    """Calls a function at once and then at intervals; the thread ends with the block.

    Args:
        act: what to call. It must return soon, and must not raise: that would be the end of it.
        every: seconds between the end of one call and the next.
        name: of the thread.
        once_more: call it when the block has ended, too: it sees what was done last.

    Example:
        >>> said = []
        >>> with Repeating(lambda: said.append("hello"), 3600.0, name="doc", once_more=True):
        ...     pass
        >>> 1 <= len(said) <= 2
        True
    """

    def __init__(
        self, act: Callable[[], object], every: float, *, name: str, once_more: bool = False
    ) -> None:
        self._act = act
        self._every = every
        self._once_more = once_more
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        pause = 0.0
        while True:
            # The end is looked at first, and the call comes after it.
            ended = self._ended.wait(pause)
            if not ended or self._once_more:
                self._act()
            if ended:
                return
            pause = self._every
