"""`Patience`: for how long a store that does not answer is asked again. It knows no store."""

from __future__ import annotations

from hashring import clock

__all__ = ["Patience"]


class Patience:
    """For how long one call is made again.

    Where the process was stopped in the middle of a try, that try says nothing of the store: its
    time was over when the process went on. So the patience begins anew then, once.

    Args:
        seconds: how long. 0: one try is enough, if nothing stopped the process in it.
        longest: a try that takes for more than so many seconds is one in which something did.
    """

    def __init__(self, seconds: float, longest: float) -> None:
        self._seconds = seconds
        self._longest = longest
        self._began = clock.boottime()
        self._until = self._began + seconds
        self._is_renewed = False

    def begin(self) -> None:
        """Note that a try begins."""
        self._began = clock.boottime()

    def is_over(self, pause: float) -> bool:
        """Whether there is to be no other try after so many seconds."""
        now = clock.boottime()
        if now - self._began > self._longest and not self._is_renewed:
            self._is_renewed = True
            self._until = now + self._seconds
            return False
        return now + pause >= self._until
