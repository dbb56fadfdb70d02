"""`Leases`: names that one process holds in a store, on one driver, with one heartbeat for all.

An exclusive lease is a membership under a name of its own: a driver's ``join`` is atomic, and
refuses while another incarnation's lease lives. The rules:

1. **Fence.** A lease is valid until 0.9 ttl after the start of the last confirmed heartbeat, or of
   the join. Who asks compares the clock. An exclusive one that has passed it once is lost for good.
2. **A store that forgot.** Whoever joins reads the group afterwards. Where the store has remembered
   for less than a ttl, somebody may hold the name whom it has forgotten: the join is taken back.
3. **Come back in time.** Who finds its lease gone while the store's memory is young joins again,
   with the same incarnation. The lease goes on if that join returned before the fence; nobody can
   have had the name meanwhile, by rule 2. Where the memory is old, the lease is lost.

Each process is present in a group under a name that nobody else wants, so that a store that keeps
the age of its memory by group keeps it for as long as anybody lives.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import logging
import math
import os
import threading
import uuid
import weakref
from collections.abc import Mapping
from typing import Any

from hashring import clock
from hashring.backoff import jittered
from hashring.driver import Driver, incarnation_of
from hashring.errors import HashringError, LeaseLost, MemberExists, StoreUnavailable
from hashring.partition.notes import Flag, Signal
from hashring.partition.waiting import heartbeat_retry
from hashring.protocol.lease import FENCE
from hashring.protocol.record import Member
from hashring.ring.ring import HashRing

__all__ = ["Lease", "Leases", "TooYoung"]

log = logging.getLogger("hashring")

_PRESENCE = "~"
"""What the name begins with under which a process is present in a group."""

_AGAIN = 0.05
"""Seconds before a lease that the store forgot, and another process has for a moment, is asked for
again."""

_LOOK = 0.02
"""Seconds between two looks of who waits for a heartbeat."""


@functools.cache
def _spec() -> str:
    return HashRing({}).spec


class TooYoung(HashringError):
    """The store has remembered for less than a ttl: somebody may hold the name.

    Attributes:
        seconds: after so many it will have remembered for long enough, if nothing happens.
    """

    def __init__(self, message: str, seconds: float) -> None:
        super().__init__(message)
        self.seconds = seconds


class Lease:
    """One name that this process holds, or held.

    Attributes:
        group: the store's group.
        name: the member id in it.
        incarnation: one unbroken holding; a lease that is not exclusive gets a new one when it
            comes back.
        exclusive: it is lost for good once the fence has passed. One that is not comes back.
        deadline: the fence, in seconds on ``CLOCK_BOOTTIME``.
        lost: set once it is over for good.
    """

    def __init__(
        self, group: str, name: str, ttl: float, meta: Mapping[str, Any], *, exclusive: bool
    ) -> None:
        self.group = group
        self.name = name
        self.exclusive = exclusive
        self.meta = meta
        self.incarnation = uuid.uuid4().hex
        self.deadline = -math.inf
        self.lost = Flag()
        self._ttl = ttl
        self._pid = os.getpid()

    @property
    def valid(self) -> bool:
        """Whether it is surely held now."""
        return (
            not self.lost.is_set() and clock.boottime() < self.deadline and os.getpid() == self._pid
        )

    def record(self) -> bytes:
        """Return what the store is to keep: a member that owns no slots."""
        member = Member(
            self.name,
            self.incarnation,
            0.0,
            _spec(),
            self._ttl,
            meta=self.meta,
        )
        return member.to_json()


_open: weakref.WeakSet[Leases] = weakref.WeakSet()


class Leases:
    """All leases of one driver. Methods may be called from any thread.

    Args:
        driver: not yet open; of this object alone.
    """

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self.ttl = driver.ttl
        self._calls = threading.Lock()  # a driver takes one call beside its heartbeat
        self._state = threading.Lock()
        self._held: list[Lease] = []
        self._cursors: dict[str, bytes | None] = {}
        self._is_aged: dict[str, bool] = {}
        self._present: dict[str, Lease] = {}
        self._is_open = False
        self._closed = Flag()
        self._thread: threading.Thread | None = None
        self._beat_now = Signal()
        self._pid = os.getpid()
        self.confirmed = -math.inf
        """When the last heartbeat that was confirmed began, in seconds on ``CLOCK_BOOTTIME``."""

    # ---- opening and closing ---------------------------------------------------------------

    def open(self) -> None:
        """Connect; nothing where it is open already.

        Raises:
            StoreUnavailable, StoreUnusable: see :meth:`hashring.driver.Driver.open`.
        """
        self._check()
        with self._calls:
            if self._is_open:
                return
            self.driver.open()
            self._is_open = True
            self._closed = Flag()
            _open.add(self)

    def appear(self, group: str) -> None:
        """Be present in a group from now on: the store keeps the age of its memory of it."""
        if group not in self._present:
            name = _PRESENCE + uuid.uuid4().hex
            lease = Lease(group, name, self.ttl, {}, exclusive=False)
            self.join(lease)
            self._present[group] = lease

    def close(self) -> None:
        """Give every lease back and end the thread. Idempotent; may be opened again."""
        if os.getpid() != self._pid or not self._is_open:
            return
        self._end_thread()
        with self._state:
            held, self._held = self._held, []
            self._present.clear()
        for lease in held:
            lease.lost.set()
        with self._calls:
            for lease in held:
                self._leave(lease)
            self._is_open = False
            self._cursors.clear()
            self._is_aged.clear()
            self.driver.close()
        _open.discard(self)

    def rest(self, seconds: float) -> bool:
        """Wait for so many seconds, or until it is closed; return whether it is."""
        return self._closed.wait(seconds)

    def abandon(self) -> None:
        """Have everything given back soon. Takes no lock: a finaliser may call it."""
        self._closed.set()
        self._beat_now.set()

    def _check(self) -> None:
        if os.getpid() != self._pid:
            raise LeaseLost(
                f"{self.driver.url}: a forked child holds nothing of its parent's: make a lock or "
                "a coordinator of its own in the child"
            )

    # ---- taking and giving back ------------------------------------------------------------

    def take(self, group: str, name: str, meta: Mapping[str, Any] | None = None) -> Lease:
        """Take a name that nobody else may hold.

        Raises:
            MemberExists: another holds it.
            TooYoung: another may hold it, whom the store has forgotten.
            StoreUnavailable: it was not taken, or has been given back, or runs out by itself.
        """
        self._check()
        lease = Lease(group, name, self.ttl, meta or {}, exclusive=True)
        with self._calls:
            if not self._is_aged.get(group):
                self._check_age(group, None)  # who may come back is not to find the name taken
            began = clock.boottime()
            try:
                self.driver.join(group, name, lease.record())
                self._check_age(group, lease)
                lease.deadline = began + FENCE * self.ttl
                if lease.valid:
                    self._keep(lease)
                    return lease
            except MemberExists:
                raise
            except BaseException:
                self._leave(lease)
                raise
            self._leave(lease)
        raise StoreUnavailable(
            f"{self.driver.url}: taking {name!r} took longer than its lease runs"
        )

    def _leave(self, lease: Lease) -> None:
        """End a lease in the store, which else runs out; the caller has the calls."""
        with contextlib.suppress(HashringError):
            self.driver.leave(lease.group, lease.name)

    def _check_age(self, group: str, lease: Lease | None) -> None:
        """Raise unless the store has remembered the group for a ttl, and a lease is in it."""
        changes = self.driver.read_since(group, self._cursors.get(group))
        if changes is None:
            records, age = self.driver.read(group)
        else:
            records, age = changes.changed, changes.memory_age
            self._cursors[group] = changes.cursor
        self._is_aged[group] = age >= self.ttl
        if age < self.ttl:
            seconds = self.ttl - age
            raise TooYoung(
                f"{self.driver.url}: the store has remembered for {age:.1f} s, and who held "
                f"something before may hold it for {seconds:.1f} s more",
                seconds,
            )
        if lease is not None and incarnation_of(records.get(lease.name, b"")) != lease.incarnation:
            raise TooYoung(f"{self.driver.url}: the store forgot what it had just taken", self.ttl)

    def join(self, lease: Lease) -> None:
        """Begin a lease that is not exclusive: one of several that live beside each other.

        Raises:
            MemberExists: another process is there under this name.
            StoreUnavailable: the outcome is unknown.
        """
        self._check()
        with self._calls:
            began = clock.boottime()
            self.driver.join(lease.group, lease.name, lease.record())
            lease.deadline = began + FENCE * self.ttl
            self._keep(lease)

    def publish(self, lease: Lease, meta: Mapping[str, Any]) -> None:
        """Replace what a lease publishes.

        Raises:
            LeaseLost: it is gone.
            BadRecord: it is no JSON object, or too large.
            StoreUnavailable: the outcome is unknown.
        """
        self._check()
        with self._calls:
            before, lease.meta = lease.meta, meta
            try:
                self.driver.publish(lease.group, lease.name, lease.record())
            except BaseException:
                lease.meta = before
                raise

    def read(self, group: str) -> tuple[Mapping[str, bytes], float]:
        """Return the live records of a group, and for how long the store has remembered."""
        self._check()
        with self._calls:
            return self.driver.read(group)

    def groups(self) -> list[str]:
        """Return the store's groups that have live members.

        Raises:
            NotOffered: this store cannot list them.
        """
        self._check()
        with self._calls:
            return self.driver.groups()

    def give(self, lease: Lease) -> None:
        """Give a lease back. It is over at once; where the store is away, it runs out there."""
        lease.lost.set()
        if os.getpid() != self._pid:
            return
        with self._state:
            if lease not in self._held:
                return
            self._held.remove(lease)
        with self._calls:
            if self._is_open:
                try:
                    self.driver.leave(lease.group, lease.name)
                except StoreUnavailable as error:
                    log.warning("%s is given back, which the store was not told: %s",
                                lease.name, error)  # fmt: skip

    def beat(self, seconds: float) -> bool:
        """Have a heartbeat sent now; return whether one was confirmed within so many seconds."""
        asked = clock.boottime()
        self._beat_now.set()
        while self.confirmed < asked:
            left = asked + seconds - clock.boottime()
            if left <= 0 or self._closed.wait(min(left, _LOOK)):
                return False
        return True

    def _keep(self, lease: Lease) -> None:
        with self._state:
            self._held.append(lease)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._beat, name="hashring-leases", daemon=True
                )
                self._thread.start()

    def _end_thread(self) -> None:
        self._closed.set()
        self._beat_now.set()
        with self._state:
            thread, self._thread = self._thread, None
        if thread is not None and thread is not threading.current_thread():
            thread.join()  # every call on the driver ends within its timeout, so this does too

    # ---- the thread that heartbeats --------------------------------------------------------

    def _beat(self) -> None:
        pause, closed = self.ttl / 3, self._closed
        while not closed.is_set():
            if self._beat_now.wait(max(0.0, pause)):
                self._beat_now.clear()
            if closed.is_set():
                break
            began = clock.boottime()
            try:
                pause = self._beat_once(began)
            except HashringError as error:
                log.warning("%s: a heartbeat failed: %s", self.driver.url, error)
                pause = jittered(heartbeat_retry(self.ttl / 3, self.ttl))
            except Exception:  # a defect of the driver: without heartbeats all is lost, safely
                log.exception("%s: a heartbeat failed", self.driver.url)
                pause = jittered(heartbeat_retry(self.ttl / 3, self.ttl))
            self._lose_what_is_over()
        if self._thread is threading.current_thread():  # abandoned: nobody closes it
            self.close()

    def _beat_once(self, began: float) -> float:
        """Renew all leases; return for how long to wait."""
        with self._state:
            held = [lease for lease in self._held if lease.deadline > -math.inf]
        try:
            self.driver.heartbeat()
        except LeaseLost:
            self._sort_out()
            return _AGAIN
        self.confirmed = began
        for lease in held:
            # One whose fence has passed meanwhile is over, though its lease may never have ended.
            if not lease.exclusive or clock.boottime() < lease.deadline:
                lease.deadline = max(lease.deadline, began + FENCE * self.ttl)
        return began + self.ttl / 3 - clock.boottime()

    def _lose_what_is_over(self) -> None:
        with self._state:
            over = [one for one in self._held if one.exclusive and not one.valid]
        for lease in over:
            log.warning("%s: %s is lost: no heartbeat was confirmed in time",
                        self.driver.url, lease.name)  # fmt: skip
            self.give(lease)

    def _sort_out(self) -> None:
        """Find out which leases are gone, and have them back where that may be."""
        with self._state:
            groups: dict[str, list[Lease]] = {}
            for lease in self._held:
                groups.setdefault(lease.group, []).append(lease)
        for group, leases in groups.items():
            with self._calls:
                records, age = self.driver.read(group)
                for lease in leases:
                    if incarnation_of(records.get(lease.name, b"")) != lease.incarnation:
                        self._come_back(lease, age)

    def _come_back(self, lease: Lease, age: float) -> None:
        """Join again with a lease that is gone, or lose it; the caller has the calls."""
        if lease.lost.is_set():
            return
        if lease.exclusive and (age >= self.ttl or not lease.valid):
            self._lose(lease)
            return
        if not lease.exclusive:
            lease.incarnation = uuid.uuid4().hex
        began = clock.boottime()
        try:
            self.driver.join(lease.group, lease.name, lease.record())
        except MemberExists:
            return  # one that found the store young gives it back; else the fence decides
        if lease.exclusive and not lease.valid:
            self._lose(lease)
            return
        lease.deadline = began + FENCE * self.ttl
        log.info("%s: %s was forgotten by the store, and is back", self.driver.url, lease.name)

    def _lose(self, lease: Lease) -> None:
        """Note that one is gone; the caller has the calls."""
        lease.lost.set()
        with self._state:
            self._held = [one for one in self._held if one is not lease]
        log.warning("%s: %s is lost: its lease is gone", self.driver.url, lease.name)
        self._leave(lease)  # it is not renewed any more


@atexit.register
def _close_all() -> None:
    for leases in list(_open):
        leases.close()
