"""What the answers of polled targets may cost: bytes, values, memory, and time without the GIL.

To parse JSON is one call that no other thread runs beside, the heartbeat neither. What a call holds
up grows with the number of values, not with the bytes: 60 MiB of ``[],[],`` are 20 million lists,
and ten seconds. So values are counted as the bytes arrive, an answer that has too many is dropped
before it is parsed, and of large answers one is parsed at a time. Small ones are read on the event
loop that they came by, all others in a thread, so that no other answer waits for long. This module
knows no format but what separates the values of JSON, and no target.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Self, TypeVar

from hashring import clock
from hashring.telemetry.errors import FetchFailed

__all__ = [
    "MAX_ANSWER",
    "MAX_BYTES",
    "MAX_SAMPLES",
    "MAX_VALUES",
    "MAX_VALUES_ANSWER",
    "Budget",
    "Reading",
    "TooMuch",
    "reading",
]

T = TypeVar("T")

MAX_ANSWER = 32 * 1024 * 1024
"""Bytes of one answer, decompressed: parsing one string of this size takes some 0.05 s."""

MAX_BYTES = 64 * 1024 * 1024
"""Bytes of all answers of one poll, decompressed."""

MAX_VALUES_ANSWER = 500_000
"""Values of one answer: to parse so many takes 0.25 s at most, measured on a machine of two cores
(``[]`` and ``{"a":{}}``, the dearest; numbers and texts are ten times cheaper)."""

MAX_VALUES = 2_000_000
"""Values of all answers of one poll. They are in memory together."""

MAX_SAMPLES = 250_000
"""Measurements of one poll."""

_VALUE = 160
"""Bytes of memory for a value, as it is counted: an object with one key takes 232, and is two."""

_BYTE = 3
"""Bytes of memory for a byte that has arrived: itself, a copy, and the text. (A text with a rare
character has four for each; it is bounded all the same, by :data:`MAX_ANSWER`.)"""

_SAMPLE = 1000
"""Bytes of memory for a measurement with its metadata."""

_BUDGET = 256 * 1024 * 1024
"""Bytes of memory for all polls in flight. One poll alone may take more than this; it goes on as
soon as it is the oldest one, so the sum is bounded by this and what one poll may take."""

_LARGE = 10_000
"""Values from which on an answer is large: below, parsing takes less than the 5 ms after which
Python lets another thread run in any case."""


_LARGE_TEXT = 256 * 1024
"""Bytes from which on a text that Python's own code reads is large."""

_FEW = 4
"""Large texts that are read at once. Python lets threads take turns of 5 ms each: with so many that
never pause, any other thread, the heartbeat's too, waits 20 ms for its turn."""

_SOME = 256
"""Measurements that are made between two looks at time and number."""

_SHORT_TEXT = 32 * 1024
_FEW_VALUES = 500
"""Bytes, and values of JSON, up to which an answer is read on the event loop: that takes 5 ms at
most, as long as Python lets any thread run at once. More are handed to a thread, which costs some
0.1 ms."""


class TooMuch(FetchFailed):
    """An answer is larger than is read, or there was no memory for it in time."""


class Budget:
    """Memory that polls share. Who is not the oldest waits while there is too little.

    Only a coroutine waits for it, so that no thread does; its polls may be on several loops.

    Args:
        most: bytes that are given away before anybody has to wait.

    Example:
        >>> budget = Budget(1000)
        >>> async def take():
        ...     with budget.share() as first, budget.share() as second:
        ...         await first.take(900, deadline=clock.boottime() + 0.1)
        ...         await first.take(900, deadline=clock.boottime() + 0.1)  # the oldest never waits
        ...         await second.take(1, deadline=clock.boottime() + 0.1)
        >>> asyncio.run(take())
        Traceback (most recent call last):
        ...
        hashring.telemetry.sources.web.answers.TooMuch: answer: 1 more bytes of memory ...
        >>> budget.used
        0
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._shares: dict[Share, int] = {}  # those that have taken something, oldest first
        self._waiting: dict[Share, tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = {}
        self._used = 0

    @property
    def used(self) -> int:
        """Bytes that are taken now."""
        return self._used

    def share(self) -> Share:
        """Return what lets somebody take memory until its block ends."""
        return Share(self)

    def _end(self, share: Share) -> None:
        with self._lock:
            self._used -= self._shares.pop(share, 0)
            if self._waiting:
                self._wake()

    def _take_at_once(self, share: Share, amount: int) -> bool:
        """Take memory if there is some, and nobody waits for any."""
        with self._lock:
            if self._waiting or self._used + amount > self._most:
                return False
            self._used += amount
            self._shares[share] = self._shares.get(share, 0) + amount
            return True

    def _may_take(self, share: Share, amount: int) -> bool:
        """Take memory if there is some, or note who waits for it."""
        with self._lock:
            self._shares.setdefault(share, 0)
            if self._used + amount > self._most and next(iter(self._shares)) is not share:
                loop = asyncio.get_running_loop()
                self._waiting[share] = loop, loop.create_future()
                return False
            self._used += amount
            self._shares[share] += amount
            self._waiting.pop(share, None)
            if self._waiting and self._used < self._most:
                self._wake()  # there may be enough for another one
            return True

    def _wake(self) -> None:
        """Let the oldest look again, and whoever has waited longest: not all, who may be many."""
        oldest = next(iter(self._shares), None)
        longest = next(iter(self._waiting), None)
        for share in {oldest, longest}:
            if share is not None and share in self._waiting:
                loop, future = self._waiting[share]
                with contextlib.suppress(RuntimeError):  # a loop that has ended waits for nothing
                    loop.call_soon_threadsafe(_resolve, future)

    async def _take(self, share: Share, amount: int, deadline: float) -> None:
        try:
            while not self._may_take(share, amount):
                _, future = self._waiting[share]
                try:
                    async with asyncio.timeout(max(0.0, deadline - clock.boottime())):
                        await future
                except TimeoutError:
                    raise TooMuch(
                        f"answer: {amount} more bytes of memory were not free in time"
                    ) from None
        finally:
            if self._waiting.pop(share, None) is not None:
                with self._lock:
                    self._wake()  # it may have been told what another one could use


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class Share:
    """What one poll has taken of a :class:`Budget`."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._budget._end(self)

    def take_at_once(self, amount: int) -> bool:
        """Take so many bytes if they are free now; return whether they were."""
        return self._budget._take_at_once(self, amount)

    async def take(self, amount: int, deadline: float) -> None:
        """Take memory, as soon as there is some.

        Args:
            amount: bytes.
            deadline: on the clock of :mod:`hashring.clock`.

        Raises:
            TooMuch: there was none by then.
        """
        await self._budget._take(self, amount, deadline)


_AT_ONCE = contextlib.nullcontext()
"""For what is small: it need not wait for its turn."""

_budget = Budget(_BUDGET)
_reading = threading.BoundedSemaphore(_FEW)
_parsing = threading.Lock()
"""Held while a large answer is parsed: two, one right after the other, would let the heartbeat run
between them by luck alone."""


class Reading:
    """What one poll has read so far, and the end of what it may.

    Args:
        what: the target, for messages.
        share: of the memory.
        deadline: on the clock of :mod:`hashring.clock`.
    """

    def __init__(self, what: str, share: Share, deadline: float) -> None:
        self._what = what
        self._share = share
        self._deadline = deadline
        self._bytes = self._values = self._all_values = self._samples = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._share.__exit__(kind, error, trace)

    def begin(self) -> None:
        """Begin another answer of this poll."""
        self._values = 0

    async def took(self, data: bytes) -> None:
        """Take note of a piece of an answer of any format.

        Raises:
            TooMuch: the answers have too many bytes, or there is no memory for it.
        """
        self._bytes += len(data)
        if self._bytes > MAX_BYTES:
            raise self._too_much(f"more than {MAX_BYTES} bytes in all")
        await self._take(_BYTE * len(data))

    async def took_json(self, data: bytes) -> None:
        """Take note of a piece of an answer in JSON.

        Raises:
            TooMuch: the answers have too many bytes or values, or there is no memory for it.
        """
        found = _count_values(data)
        self._values += found
        self._all_values += found
        if self._values > MAX_VALUES_ANSWER:
            raise self._too_much(f"more than {MAX_VALUES_ANSWER} values")
        if self._all_values > MAX_VALUES:
            raise self._too_much(f"more than {MAX_VALUES} values in all")
        self._bytes += len(data)
        if self._bytes > MAX_BYTES:
            raise self._too_much(f"more than {MAX_BYTES} bytes in all")
        await self._take(_BYTE * len(data) + _VALUE * found)

    async def _take(self, amount: int) -> None:
        if not self._share.take_at_once(amount):
            await self._share.take(amount, self._deadline)

    async def read(self, read: Callable[[], T], *, samples: int = 0, of: int = 1) -> T:
        """Return what a function makes of the answer, which it reads in one go.

        A small answer is read here and now, any other in a thread of the loop's.

        Args:
            read: reads it.
            samples: how many measurements it may make, at most: there must be memory for them.
            of: how often it looks at each value.

        Raises:
            TooMuch: there is no memory for the measurements in time; and what the function raises.
        """
        if samples:
            most = min(samples, MAX_SAMPLES)
            await self._take(_SAMPLE * most)
        if self._bytes <= _SHORT_TEXT and self._all_values * of <= _FEW_VALUES:
            return read()
        return await asyncio.to_thread(read)

    @property
    def values(self) -> int:
        """The values of JSON in all answers so far, at most."""
        return self._all_values

    def kept(self, found: Iterable[T]) -> list[T]:
        """Return the measurements that are made of the answers, as long as they may go on.

        Raises:
            TooMuch: they are too many, or there is no time for them.
        """
        kept: list[T] = []
        for one in found:
            kept.append(one)
            if not len(kept) % _SOME:
                self.took_samples(_SOME)
        self.took_samples(len(kept) % _SOME)
        return kept

    def took_samples(self, count: int) -> None:
        """Take note of measurements that were made of an answer.

        Raises:
            TooMuch: they are too many, or there is no time for them.
        """
        self._samples += count
        if self._samples > MAX_SAMPLES:
            raise self._too_much(f"more than {MAX_SAMPLES} samples")
        self.look()

    def look(self) -> None:
        """Raise where the time is over.

        Raises:
            TooMuch: it is.
        """
        if clock.boottime() > self._deadline:
            raise TooMuch(f"{self._what}: its answer was not read in time")

    def undisturbed(self) -> contextlib.AbstractContextManager[None]:
        """Parse the answer within this block, in one call: of large ones, one at a time.

        Raises:
            TooMuch: others were parsed until the deadline.
        """
        if self._values < _LARGE:
            return _AT_ONCE
        return _one_at_a_time(self._deadline, self._too_much)

    def among_few(self) -> contextlib.AbstractContextManager[None]:
        """Read the answer within this block, by Python's own code: of large ones, a few at a time.

        Raises:
            TooMuch: others were read until the deadline.
        """
        if self._bytes < _LARGE_TEXT:
            return _AT_ONCE
        return _a_few_at_a_time(self._deadline, self._too_much)

    def _too_much(self, why: str) -> TooMuch:
        return TooMuch(f"{self._what}: the answer has {why}")


def reading(what: str, deadline: float) -> Reading:
    """Read a target's answers within a block; at its end their memory is free for others.

    Args:
        what: the target, for messages.
        deadline: on the clock of :mod:`hashring.clock`.
    """
    return Reading(what, _budget.share(), deadline)


@contextlib.contextmanager
def _a_few_at_a_time(deadline: float, too_much: Callable[[str], TooMuch]) -> Iterator[None]:
    if not _reading.acquire(timeout=max(0.0, deadline - clock.boottime())):
        raise too_much("no turn to be read in time: others that are large went before")
    try:
        yield
    finally:
        _reading.release()


@contextlib.contextmanager
def _one_at_a_time(deadline: float, too_much: Callable[[str], TooMuch]) -> Iterator[None]:
    if not _parsing.acquire(timeout=max(0.0, deadline - clock.boottime())):
        raise too_much("no turn to be parsed in time: others that are large went before")
    try:
        yield
    finally:
        _parsing.release()


def _count_values(data: bytes) -> int:
    """Return how many values of JSON begin in a piece of a text, at most: separators within a
    text of JSON count too.

    >>> _count_values(b'[1, {"a": [], "b": "x"}]'), _count_values(b'"a, b"')
    (5, 1)
    """
    return data.count(b",") + data.count(b"[") + data.count(b"{")
