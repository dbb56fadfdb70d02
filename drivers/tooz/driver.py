"""``tooz+SCHEME://…``: groups on a backend of tooz, where there is no driver of our own.

tooz promises less than a lease: its ``file`` members live by the wall clock, its ``zookeeper``
members as long as a thread pings, and a heartbeat there need not have renewed anything. So the
backend is used as a reliable board alone, and the lease is kept by watching the board:

* A member's entry carries a number that grows with every write, and a heartbeat is a write. A
  reader takes an entry for dead once it has seen the *same* number for ``ttl`` seconds on its own
  clock. No clock is ever compared with another, and nothing but the backend's storage is trusted.
* A heartbeat returns only if it was done before anybody could have taken its entry for dead:
  within 0.95 ttl of the start of the last write that succeeded. The rest is for clocks that
  do not run at quite the same rate. Later, the lease counts as lost even if the entry is there.
* The backend's own liveness, three times ``ttl``, only clears away what dead members leave behind.
* An entry has a name of its own, which no other process uses, so nobody can overwrite another's.
  Two that want the same member's name write a candidacy first and look for others then: whoever
  sees an older member or a candidate with a smaller token withdraws (Lamport's bakery).
* A write whose outcome is unknown ends its entry's name: the next write makes another entry, with
  a larger number, and readers take the largest. So it cannot come back over a later one.

The price: a reader that is new to a group takes what dead members left for living ones, for one
``ttl``. This module knows nothing of what is in a record but its incarnation.
"""

from __future__ import annotations

import contextlib
import math
import os
import threading
from collections.abc import Iterator
from typing import Any, ClassVar

from hashring.clock import boottime
from hashring.driver import (
    Driver,
    DriverURL,
    Option,
    Reading,
    check_names,
    check_record,
    incarnation_of,
    seconds,
)
from hashring.errors import HashringError, MemberExists, MissingDependency, StoreUnavailable

from .._net import tell_limits, within_the_lease

try:
    from tooz import ToozError, coordination
except ImportError as error:
    raise MissingDependency("a tooz+…:// driver", "tooz", "tooz") from error

from .backend import Backend, check_backend, group_id, group_of
from .board import Board, Entry
from .entries import Entries, Lease, someone_may_think_us_dead

__all__ = ["ToozDriver"]

_SWEEP = 4  # remains of dead members to remove at one reading, at most


class ToozDriver(Driver):
    """Groups on a tooz backend that forgets nothing: ``file``, ``etcd3+http``, ``zookeeper``.

    The URL is tooz's own with ``tooz+`` before it. Backends that can forget (``redis``,
    ``memcached``, ``ipc``) are refused, and so are those without groups (``mysql``,
    ``postgresql``, ``kubernetes``: tooz has only locks there).
    """

    promise = "leases kept by watching a tooz backend's groups; forgets only if the backend does"
    options: ClassVar[tuple[Option, ...]] = (
        Option("poll", seconds, 0.2, "seconds between two looks at the group while waiting"),
        Option("api_version", str, None, "etcd: the gateway's version; default: ask the server"),
        Option("ca_cert", str, None, "etcd: file with the authorities to trust"),
        Option("cert_cert", str, None, "etcd: file with our own certificate"),
        Option("cert_key", str, None, "etcd: file with its key"),
        Option("namespace", str, None, "zookeeper: the node under which tooz keeps everything"),
        Option("use_ssl", str, None, "zookeeper: encrypt"),
        Option("verify_certs", str, None, "zookeeper: check the servers' certificates"),
        Option("ca", str, None, "zookeeper: file with the authorities to trust"),
        Option("certfile", str, None, "zookeeper: file with our own certificate"),
        Option("keyfile", str, None, "zookeeper: file with its key"),
        Option("keyfile_password", str, None, "zookeeper: the key's password", secret=True),
    )
    _reader: Any

    def __init__(self, url: DriverURL, *, ttl: float) -> None:
        super().__init__(url, ttl=ttl)
        self._backend = Backend(self, check_backend(url, self.ttl))
        self.settings = within_the_lease(self)
        self._opened_in = os.getpid()
        self._begin()

    def open(self) -> None:
        """See :meth:`hashring.driver.Driver.open`."""
        forked = self._opened_in != os.getpid()
        if not self._closed.is_set() and not forked:
            return
        if forked:
            self._begin()
        self._opened_in = os.getpid()
        self._closed.clear()
        tell_limits(self)
        with self._reported("connecting"):
            try:
                self._reader = self._backend.coordinator(f"!{self.token}!", self._deadline())
            except BaseException:
                self._closed.set()
                raise

    def _begin(self) -> None:
        """Make what belongs to one process: locks, and what is known of leases and of groups."""
        self._closed = threading.Event()
        self._closed.set()
        self._writing = threading.Lock()
        self._reading = threading.Lock()
        self._seeing = threading.Lock()
        self._leases: dict[tuple[str, str], Lease] = {}
        self._boards: dict[str, Board] = {}
        self._reader = None
        self._entries = Entries(self, self._backend)

    def close(self) -> None:
        """See :meth:`hashring.driver.Driver.close`. Our entries stay, and die with time."""
        if self._closed.is_set():
            return
        self._closed.set()
        if self._opened_in != os.getpid():
            return  # the coordinators and their threads are the parent's
        with self._writing, self._reading:
            for lease in self._leases.values():
                for seat in (lease.seat, lease.spare):
                    if seat is not None:
                        self._backend.abandon(seat.coordinator)
                lease.seat = lease.spare = None
                lease.lost = True
            self._backend.abandon(self._reader)
            self._reader = None
            self._boards.clear()

    def join(self, group: str, member: str, record: bytes) -> None:
        """See :meth:`hashring.driver.Driver.join`."""
        check_names(group, member)
        check_record(record)
        deadline = self._deadline()
        with self._locked(self._writing, deadline), self._reported("joining"):
            incarnation = incarnation_of(record)
            lease = self._leases.get((group, member))
            if lease is not None and not lease.lost:
                if lease.settled and not someone_may_think_us_dead(lease):
                    if lease.incarnation != incarnation:
                        raise self._taken(group, member)
                    lease.record = record
                    self._entries.write(group, member, lease, deadline)
                    if not lease.lost:
                        return
                self._entries.withdraw(group, lease, deadline)
            self._settle(group, member, record, deadline)

    def _settle(self, group: str, member: str, record: bytes, deadline: float) -> None:
        """Take a member's name, or find that it is taken (Lamport's bakery, see above)."""
        living, rank = self._rivals(group, member, self._reader, deadline)
        if any(rival.settled for rival in living):
            raise self._taken(group, member)
        before = self._leases.pop((group, member), None)
        lease = Lease(rank + 1, incarnation_of(record), record)
        try:
            while not self._alone(group, member, lease, deadline):
                self._closed.wait(min(self.settings["poll"], 0.05))
                self._check_open()
            lease.settled = True
            self._entries.write(group, member, lease, deadline)
            self._check_stands(lease)
        except BaseException:
            self._entries.withdraw(group, lease, deadline)
            if before is not None:
                self._leases[group, member] = before  # still lost
            raise
        self._leases[group, member] = lease

    def _alone(self, group: str, member: str, lease: Lease, deadline: float) -> bool:
        """Say that we want a name, and look whether nobody else has it or wants it.

        Raises:
            MemberExists: somebody has it, or wants it with a smaller token.
        """
        # The look follows the write, on the same coordinator: of two candidates, the one that
        # wrote later sees the other.
        self._entries.write(group, member, lease, deadline)
        self._check_stands(lease)
        assert lease.seat is not None
        living, rank = self._rivals(group, member, lease.seat.coordinator, deadline)
        if any(rival.settled or rival.token < self.token for rival in living):
            raise self._taken(group, member)
        alone = not living and rank < lease.joined
        lease.joined = max(lease.joined, rank + 1)
        return alone

    def _check_stands(self, lease: Lease) -> None:
        if lease.lost:
            raise StoreUnavailable(f"{self.url}: the backend was too slow to begin a lease")

    def _rivals(
        self, group: str, member: str, coordinator: Any, deadline: float
    ) -> tuple[list[Entry], int]:
        """Return the others that live under a member's name, and the highest rank of all."""
        living, entries = self._look(group, coordinator, deadline)
        rivals = [e for e in living if e.member == member and e.token != self.token]
        ranks = [e.joined for e in entries if e.member == member and e.token != self.token]
        return rivals, max(ranks, default=0)

    def publish(self, group: str, member: str, record: bytes) -> None:
        """See :meth:`hashring.driver.Driver.publish`."""
        check_names(group, member)
        check_record(record)
        deadline = self._deadline()
        with self._locked(self._writing, deadline), self._reported("publishing"):
            lease = self._leases.get((group, member))
            if lease is None or lease.incarnation != incarnation_of(record):
                raise self.lease_lost((group, member))
            lease.record = record
            self._entries.renew(group, member, lease, deadline)
            if lease.lost:
                # Where the backend is away, that is what there is to say.
                self._look(group, self._reader, deadline)
                raise self.lease_lost((group, member))

    def heartbeat(self) -> None:
        """See :meth:`hashring.driver.Driver.heartbeat`."""
        deadline = self._deadline()
        with self._locked(self._writing, deadline), self._reported("the heartbeat"):
            for (group, member), lease in self._leases.items():
                self._entries.renew(group, member, lease, deadline)
            lost = [names for names, lease in self._leases.items() if lease.lost]
            if lost:
                raise self.lease_lost(*lost)

    def leave(self, group: str, member: str) -> None:
        """See :meth:`hashring.driver.Driver.leave`."""
        check_names(group, member)
        deadline = self._deadline()
        with self._locked(self._writing, deadline), self._reported("leaving"):
            lease = self._leases.pop((group, member), None)
            if lease is not None:
                self._entries.withdraw(group, lease, deadline, quietly=False)

    def read(self, group: str) -> Reading:
        """See :meth:`hashring.driver.Driver.read`."""
        check_names(group)
        deadline = self._deadline()
        with self._locked(self._reading, deadline), self._reported("reading"):
            records = self._records(group, deadline)
            self._boards[group].shown = records
            return Reading(dict(records), math.inf)

    def wait(self, group: str, timeout: float) -> None:
        """See :meth:`hashring.driver.Driver.wait`. It looks at the group from time to time."""
        check_names(group)
        self._check_open()
        until = boottime() + timeout
        while boottime() < until:
            with self._locked(self._reading, self._deadline()):
                board = self._boards.get(group)
                try:
                    if board is not None and self._records(group, self._deadline()) != board.shown:
                        return
                except (ToozError, OSError):
                    pass  # the next read reports it
            if self._closed.wait(max(0.0, min(self.settings["poll"], until - boottime()))):
                return

    def groups(self) -> list[str]:
        """See :meth:`hashring.driver.Driver.groups`."""
        deadline = self._deadline()
        with self._locked(self._reading, deadline), self._reported("listing the groups"):
            found = self._backend.done(deadline, self._reader.get_groups)
            names = [name for name in map(group_of, found) if name is not None]
            return [name for name in names if self._records(name, deadline)]

    def _records(self, group: str, deadline: float) -> dict[str, bytes]:
        # Through the coordinator that writes here, where there is one: what it shows is never
        # older than what it has written.
        coordinator = self._reader
        for (other, _), lease in list(self._leases.items()):
            seat = lease.seat
            if other == group and seat is not None:
                coordinator = seat.coordinator
        living, _ = self._look(group, coordinator, deadline)
        newest: dict[str, Entry] = {}
        for entry in living:
            held = newest.get(entry.member)
            if entry.settled and (held is None or held.rank < entry.rank):
                newest[entry.member] = entry
        return {member: entry.record for member, entry in newest.items()}

    def _look(
        self, group: str, coordinator: Any, deadline: float
    ) -> tuple[list[Entry], list[Entry]]:
        """Look at the board through a coordinator: what lives, and all that is there."""
        asked = boottime()
        try:
            shown = self._shown(coordinator, group_id(group), deadline)
        except coordination.GroupNotCreated:
            shown = {}
        answered = boottime()
        entries = [Entry.parsed(name, said, self.ttl) for name, said in shown.items()]
        with self._seeing:
            board = self._boards.setdefault(group, Board())
            living = board.living(entries, asked, answered)
            remains = board.remains[:_SWEEP]
        if self._backend.name == "file":
            for name in remains:
                self._sweep(group, name, deadline)
        return living, entries

    def _shown(self, coordinator: Any, group: bytes, deadline: float) -> dict[Any, Any]:
        if hasattr(coordinator, "get_members_with_capabilities"):
            whole: dict[Any, Any] = self._backend.done(
                deadline, coordinator.get_members_with_capabilities, group
            )
            return whole
        shown = {}  # tooz before 9 has no such call
        for member in self._backend.done(deadline, coordinator.get_members, group):
            with contextlib.suppress(coordination.MemberNotJoined):
                shown[member] = self._backend.done(
                    deadline, coordinator.get_member_capabilities, group, member
                )
        return shown

    def _sweep(self, group: str, name: str, deadline: float) -> None:
        """Remove what a dead member left on the file backend, where nothing else does."""
        with contextlib.suppress(ToozError, OSError):
            coordinator = self._backend.coordinator(name, deadline)
            try:
                self._backend.done(deadline, coordinator.leave_group, group_id(group))
            finally:
                self._backend.abandon(coordinator, deadline)

    def _deadline(self) -> float:
        return boottime() + float(self.settings["timeout"])

    @contextlib.contextmanager
    def _locked(self, lock: threading.Lock, deadline: float) -> Iterator[None]:
        self._check_open()
        if not lock.acquire(timeout=max(0.0, deadline - boottime())):
            raise StoreUnavailable(f"{self.url}: an earlier call still waits for the backend")
        try:
            self._check_open()
            yield
        finally:
            lock.release()

    @contextlib.contextmanager
    def _reported(self, doing: str) -> Iterator[None]:
        try:
            yield
        except HashringError:
            raise
        except (ToozError, OSError) as error:
            raise self.unavailable(doing, error) from error

    def _check_open(self) -> None:
        if self._closed.is_set():
            raise self.not_open()
        if self._opened_in != os.getpid():
            raise self.forked(self._opened_in)

    def _taken(self, group: str, member: str) -> MemberExists:
        until = f"or it has been dead for less than {self.ttl:g} s"
        return self.member_exists(group, member, until=until)
