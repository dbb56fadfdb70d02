"""`lock` and `Lock`: one holder of a name among all processes, also on a store that forgets.

Waiting, time limits and the user's face stand here; what makes a lock exclusive stands in
`leases.py`.
"""

from __future__ import annotations

import math
import threading
import types
import weakref
from typing import Self

from hashring import clock
from hashring.backoff import Backoff
from hashring.driver import Driver, DriverURL, check_names
from hashring.errors import MemberExists, NotAcquired, StoreUnavailable
from hashring.leases.leases import Lease, Leases, TooYoung
from hashring.leases.patience import Patience
from hashring.partition.arguments import checked_number, loaded

__all__ = ["GROUP", "Lock", "lock"]

GROUP = "hashring.locks"
"""The store's group in which all locks are: one group, since a store that forgets keeps the age of
its memory by group, and a fresh one costs a ttl."""

_NAME = "="
"""What a lock's name begins with in the group, so that it is nobody's presence."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 0.25
"""Seconds between two tries at a lock that another holds, doubling up to the second."""

_SLICE = 0.2
"""The longest wait in seconds between two looks at whether a lock of this process is free."""


def lock(
    url: str | DriverURL | Driver,
    name: str,
    ttl: float | None = None,
    timeout: float | None = None,
    *,
    group: str = GROUP,
) -> Lock:
    """Return a lock that one process of all holds at a time.

    ::

        with hashring.lock("redis://cache", "nightly-report") as lock:
            for part in parts:
                if not lock.owned:      # the store was away for too long: somebody else may have it
                    break
                work(part)

    It is exclusive also where the store forgets: after a restart of Redis or Memcached that comes
    back empty nobody gets the lock before a ttl has passed, so the first lock ever on such a store
    waits that long, too. The holder has its lease back by itself, if it is in time, and else sees
    that it lost the lock: :attr:`Lock.owned`. A holder that crashes keeps it for a ttl at most.

    For a leader among processes that share no keys: who has the lock of that name leads.

    Args:
        url: the store's URL, or a driver that is not yet open and serves nothing else.
        name: what there is to hold. Any text.
        ttl: the lease in seconds. ``None``: as the URL says, else 10. All that want one lock need
            the same.
        timeout: seconds to wait where a ``with`` block begins; ``None``: for as long as it takes.
        group: the store's group; locks in different groups know nothing of each other.

    Raises:
        BadURL, UnknownDriver, MissingDependency: the URL has no driver.
        BadName: the name is empty or too long.
        BadArgument: an argument is out of range; it is a ``ValueError``.

    Example:
        >>> import hashring
        >>> with hashring.lock("memory://doc", "report", timeout=5) as lock:
        ...     lock.owned
        True
        >>> lock.owned
        False
    """
    check_names(group, name)
    if timeout is not None:
        timeout = checked_number("timeout", timeout)
    leases = Leases(loaded(url, ttl))
    found = Lock(leases, group, name, timeout=timeout, is_alone=True)
    weakref.finalize(found, leases.abandon).atexit = False  # what is open is closed there anyway
    return found


class Lock:
    """A lock. Made by :func:`hashring.lock`.

    Not re-entrant: a second :meth:`acquire` waits for the first one's :meth:`release`, whichever
    thread calls it. Any thread may release it. Threads of one process that use one object exclude
    each other as processes do. A forked child owns nothing. Use it in a ``with`` block, or call
    :meth:`close` once it is no longer wanted.

    Attributes:
        name: what there is to hold.
    """

    def __init__(
        self,
        leases: Leases,
        group: str,
        name: str,
        *,
        timeout: float | None = None,
        is_alone: bool = False,
        patience: float = 0.0,
    ) -> None:
        self.name = name
        self._leases = leases
        self._group = group
        self._timeout = timeout
        self._patience = patience  # seconds for which a store that is away is asked again, at least
        self._is_alone = is_alone  # nothing else uses these leases
        self._changed = threading.Condition()
        self._lease: Lease | None = None
        self._is_taking = False

    # ---- what its owner asks ---------------------------------------------------------------

    @property
    def owned(self) -> bool:
        """Whether this process has it, now. False for good once the lease could have run out."""
        lease = self._lease
        return lease is not None and lease.valid

    @property
    def acquired(self) -> bool:
        """The same as :attr:`owned`, by tooz's name for it."""
        return self.owned

    @property
    def remaining(self) -> float:
        """Seconds for which this process surely has it, if the store is not heard of any more."""
        lease = self._lease
        if lease is None or not lease.valid:
            return 0.0
        return max(0.0, lease.deadline - clock.boottime())

    @property
    def token(self) -> str | None:
        """What tells this holding from all others, for sinks; ``None``: it has none."""
        lease = self._lease
        return None if lease is None else lease.incarnation

    def wait(self, timeout: float | None = None) -> bool:
        """Wait at most so many seconds until it is not owned any more; return whether it is not.

        For who leads for as long as it may::

            with hashring.lock(url, "leader") as lock:
                while not lock.wait(60):
                    compact()

        Args:
            timeout: seconds; ``None``: for as long as it takes.
        """
        until = math.inf if timeout is None else clock.boottime() + timeout
        while (lease := self._lease) is not None and lease.valid:
            now = clock.boottime()
            if now >= until:
                return False
            lease.lost.wait(min(until - now, max(0.001, lease.deadline - now), _SLICE))
        return True

    # ---- taking it, and giving it back -----------------------------------------------------

    def acquire(self, timeout: float | None = None, *, blocking: bool = True) -> bool:
        """Take it; return whether this process has it.

        Args:
            timeout: seconds to wait; ``None``: for as long as it takes.
            blocking: false: do not wait at all.

        Raises:
            StoreUnavailable: the store was away to the end of the wait.
            StoreUnusable: it can never serve.
            LeaseLost: this is a forked child.
        """
        return self._acquire(0.0 if not blocking else timeout) is None

    def _acquire(self, timeout: float | None) -> str | None:
        """Take it; return ``None``, or why it could not be taken in time."""
        until = math.inf if timeout is None else clock.boottime() + timeout
        with self._changed:
            while self._is_taking or self.owned:
                left = until - clock.boottime()
                if left <= 0:
                    return "this process holds it already"
                self._changed.wait(min(left, _SLICE))
            self._is_taking = True
        lease = None
        try:
            self._leases.open()
            lease, why = self._take(until)
        finally:
            with self._changed:
                self._is_taking = False
                if lease is not None:
                    self._lease = lease
                self._changed.notify_all()
        return why

    def _take(self, until: float) -> tuple[Lease | None, str | None]:
        pauses = Backoff(_FIRST_PAUSE, _LONGEST_PAUSE)
        patience = Patience(self._patience, self._leases.ttl)
        while True:
            must_end = True
            patience.begin()
            try:
                self._leases.appear(self._group)
                return self._leases.take(self._group, _NAME + self.name), None
            except MemberExists as error:
                why, pause = str(error), next(pauses)
            except TooYoung as error:
                why, pause = str(error), min(error.seconds + _FIRST_PAUSE, _LONGEST_PAUSE)
            except StoreUnavailable as error:
                why, pause = str(error), next(pauses)
                must_end = patience.is_over(pause)
                if must_end and clock.boottime() + pause >= until:
                    raise
            left = until - clock.boottime()
            if left <= 0 and must_end:
                return None, why
            if self._leases.rest(min(pause, left) if must_end else pause):
                return None, "it was closed meanwhile"

    def release(self) -> bool:
        """Give it back; return whether this process had it until now.

        Where the store is away the lease runs out by itself: nobody has to be told.
        """
        with self._changed:
            lease, self._lease = self._lease, None
            self._changed.notify_all()
        if lease is None:
            return False
        was_owned = lease.valid
        self._leases.give(lease)
        return was_owned

    def close(self) -> None:
        """Give it back, and end its connection and its thread. It can be acquired again."""
        self.release()
        if self._is_alone:
            self._leases.close()

    def __enter__(self) -> Self:
        """Acquire it.

        Raises:
            NotAcquired: the time is up. The block is not run.
        """
        try:
            why = self._acquire(self._timeout)
        except BaseException:
            self.close()
            raise
        if why is not None:
            self.close()
            raise NotAcquired(
                f"the lock {self.name!r} was not acquired in {self._timeout} s: {why}"
            )
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: types.TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = f"owned for {self.remaining:.1f} s more" if self.owned else "not owned"
        return f"<Lock {self.name!r} at {self._leases.driver.url}: {state}>"
