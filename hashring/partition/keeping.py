"""`Keeper`: one worker for each key that this member holds. What runs them is its caller's.

It decides whom to start, to stop and to start again, and which slots may be let go: `workers.py`
carries that out with threads, `aio/workers.py` with tasks. This module starts nothing itself.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Collection, Iterable
from typing import Any, Protocol

from hashring import clock
from hashring.backoff import Backoff
from hashring.partition.following import Follower
from hashring.partition.keys import by_slot
from hashring.partition.loops import Loops
from hashring.partition.membership import Membership
from hashring.partition.pins import Pin
from hashring.ring.ring import SlotSet

__all__ = ["FIRST_PAUSE", "LONGEST_PAUSE", "Keeper", "Order", "Running"]

log = logging.getLogger("hashring")

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
"""Seconds before a worker that ended by itself is started again, doubling up to the second."""


class Order:
    """What one worker looks at to learn that it is to end.

    Args:
        member: whose slots.
        pin: keeps the slot of its key.

    Attributes:
        epoch: a number for sinks that refuse late writers, as :attr:`hashring.Token.epoch`.
    """

    def __init__(self, member: Membership, pin: Pin) -> None:
        self._member = member
        self._pin = pin
        self._is_told = False
        self.epoch = pin.epoch

    def is_set(self) -> bool:
        """Whether the worker is to end: it was told so, or the fence has passed."""
        return self._is_told or not self._pin.valid

    def __bool__(self) -> bool:
        return self.is_set()

    @property
    def deadline(self) -> float:
        """When the key may be somebody else's in any case: in seconds on ``CLOCK_BOOTTIME``.

        The fence as it stands now, which each heartbeat moves on, or the end of a drain's timeout.
        """
        if not self._pin.valid:
            return -math.inf
        return min(self._member.handoff.deadline, self._member.leave_by)

    @property
    def remaining(self) -> float:
        """Seconds until :attr:`deadline`; 0 where it has passed."""
        return max(0.0, self.deadline - clock.boottime())

    def tell(self) -> None:
        """Tell the worker to end."""
        self._is_told = True


class Running(Protocol):
    """A worker that was started, as its keeper sees it."""

    @property
    def ended(self) -> bool:
        """Whether it has."""
        ...

    @property
    def error(self) -> BaseException | None:
        """What it raised, if it has ended by that."""
        ...

    def tell(self) -> None:
        """Tell it to end."""
        ...


class _Job:
    """One key, and its worker."""

    def __init__(self, slot: int, pauses: tuple[float, float]) -> None:
        self.slot = slot
        self.running: Running | None = None
        self.pin: Pin | None = None  # under which it was started
        self.began = 0.0
        self.told_at = math.inf
        self.not_before = -math.inf
        self.backoff = Backoff(*pauses)
        self.is_named = False  # in the log, as one that does not end


class Keeper:
    """Keeps one worker running for each key that this member holds.

    The loop that a caller writes::

        while (pause := keeper.turn()) is not None:
            ...wait for so many seconds, or until something has changed...

    Args:
        member: whose keys.
        loops: where pins are known.
        begin: starts the worker of a key, whose slot this pin keeps.
        pauses: the first and the longest pause before a worker is started again.

    Attributes:
        failure: why there will be no more workers, where it is an error.
        closing: no worker is to begin any more.
    """

    def __init__(
        self,
        member: Membership,
        loops: Loops,
        begin: Callable[[Any, Pin], Running],
        pauses: tuple[float, float],
    ) -> None:
        self._member = member
        self._begin = begin
        self._pauses = pauses
        self._follower = Follower(member, loops)
        self._universe = self._follower.followed.slots
        self._lock = threading.Lock()
        self._wanted: dict[Any, int] = {}  # keys, and the slot of each
        self._seen: dict[Any, int] = self._wanted
        self._due = math.inf  # when a worker is to be started again
        self._jobs: dict[Any, _Job] = {}
        self.failure: BaseException | None = None
        self.closing = False

    # ---- the keys --------------------------------------------------------------------------

    def add(self, keys: Iterable[Any], key: Callable[[Any], str | bytes] | None) -> None:
        """Keep workers for these keys too."""
        found = by_slot(keys, key, self._universe)
        with self._lock:
            self._wanted = self._wanted | _slots(found)

    def replace(self, keys: Iterable[Any], key: Callable[[Any], str | bytes] | None) -> None:
        """Keep workers for these keys, and for no others."""
        found = by_slot(keys, key, self._universe)
        with self._lock:
            self._wanted = _slots(found)

    def remove(self, keys: Iterable[Any]) -> None:
        """Keep no workers for these keys any more. Those that are unknown are ignored."""
        gone = set(keys)
        with self._lock:
            self._wanted = {key: slot for key, slot in self._wanted.items() if key not in gone}

    @property
    def keys(self) -> Collection[Any]:
        """All keys, whoever holds them."""
        return self._wanted.keys()

    @property
    def running(self) -> list[Any]:
        """The keys whose workers run here, those included that were told to end."""
        return [key for key, job in list(self._jobs.items()) if job.running is not None]

    # ---- a turn ----------------------------------------------------------------------------

    def turn(self) -> float | None:
        """Start, stop and let go what is to be; return for how many seconds nothing is to be done
        unless something changes; ``None``: nothing runs any more, and nothing will.
        """
        now = clock.boottime()
        wanted = self._wanted
        moved = wanted is not self._seen or now >= self._due
        self._seen = wanted
        for key, job in self._jobs.items():
            moved = self._reap(key, job, now) or moved
        try:
            while self._follower.look() is not None:
                moved = True
        except BaseException as error:  # this member can never take part
            self.failure = self.failure or error
            self.closing = True
        for key, job in self._jobs.items():
            if job.running is not None and not self._is_kept(key, job, wanted):
                self._stop(key, job, now)
        if moved and not self.closing:  # of many keys few change: not all are looked at each time
            self._due = self._start(wanted, now)
        self._let_go()
        if not self._jobs and (self.closing or self._follower.is_over):
            self._follower.close()
            return None
        return min(self._follower.pause, max(0.0, self._due - now))

    def _is_kept(self, key: Any, job: _Job, wanted: dict[Any, int]) -> bool:
        # By the same pin: a slot that is back after the fence may have been somebody else's.
        is_held = job.slot in self._follower.followed and job.pin is self._follower.pin
        return not self.closing and key in wanted and is_held

    def _start(self, wanted: dict[Any, int], now: float) -> float:
        """Start whom there is to start; return when the next one is to be."""
        due = math.inf
        followed, pin = self._follower.followed, self._follower.pin
        for key, slot in wanted.items() if followed else ():
            if slot not in followed:
                continue
            job = self._jobs.get(key)
            if job is None:
                job = self._jobs[key] = _Job(slot, self._pauses)
            if job.running is not None:
                continue
            if now < job.not_before:
                due = min(due, job.not_before)
                continue
            assert pin is not None
            job.pin, job.began, job.told_at, job.is_named = pin, now, math.inf, False
            job.running = self._begin(key, pin)
        return due

    def _reap(self, key: Any, job: _Job, now: float) -> bool:
        """Take note of a worker that has ended; return whether it has."""
        running = job.running
        if running is None or not running.ended:
            return False
        job.running = None
        if now - job.began > self._pauses[1]:
            job.backoff.reset()
        told, error = job.told_at < math.inf, running.error
        if told and error is None:
            return True
        if told:
            log.error("%s: the worker of %r failed as it ended: %r", self._name, key, error,
                      exc_info=error)  # fmt: skip
            return True
        pause = next(job.backoff)
        job.not_before = now + pause
        how = "ended by itself" if error is None else f"failed: {error!r}"
        log.log(
            logging.INFO if error is None else logging.ERROR,
            "%s: the worker of %r %s; it is started again in %.1f s",
            self._name, key, how, pause,
            exc_info=error,
        )  # fmt: skip
        return True

    def _stop(self, key: Any, job: _Job, now: float) -> None:
        """Tell a worker to end, once; name it in the log where it does not."""
        assert job.running is not None
        if job.told_at == math.inf:
            job.told_at = now
            job.running.tell()
        elif now - job.told_at > self._member.ttl and not job.is_named:
            job.is_named = True
            log.warning(
                "%s: the worker of %r was told to end %.1f s ago and still runs: others wait for "
                "its key",
                self._name, key, now - job.told_at,
            )  # fmt: skip

    def _let_go(self) -> None:
        """Release what is lost and in no worker's hands any more, and forget its keys."""
        followed, wanted = self._follower.followed, self._wanted
        for key, job in list(self._jobs.items()):
            if job.running is None and (
                self.closing or job.slot not in followed or key not in wanted
            ):
                del self._jobs[key]
        releasing = self._follower.releasing
        if releasing:
            busy = SlotSet.of({job.slot for job in self._jobs.values()}, self._universe)
            self._follower.release(releasing - busy)

    def tell_all(self) -> None:
        """Tell every worker to end, and begin no other."""
        self.closing = True
        for job in list(self._jobs.values()):
            if job.running is not None:
                job.told_at = min(job.told_at, clock.boottime())
                job.running.tell()

    def abandon(self) -> None:
        """Let go everything at once. Takes no lock."""
        self.closing = True
        self._follower.close()

    @property
    def _name(self) -> str:
        return f"{self._member.group}: {self._member.member}"


def _slots(found: dict[int, list[Any]]) -> dict[Any, int]:
    return {key: slot for slot, keys in found.items() for key in keys}
