"""``memory://`` and ``memory://name``: a store inside this process, for tests and for threads.

All driver objects of one process that use the same name share one store. It never forgets, needs
no server, and ends with the process. This module knows nothing of other processes: a forked child
that touches a store of its parent's gets an error, because the two would not see each other.
"""

from __future__ import annotations

import dataclasses
import math
import os
import threading

from hashring.clock import boottime
from hashring.driver import (
    Changes,
    Driver,
    DriverURL,
    Reading,
    check_names,
    check_record,
    incarnation_of,
)
from hashring.errors import BadURL, StoreUnusable

from ._journal import Journal

__all__ = ["MemoryDriver"]


@dataclasses.dataclass
class _Lease:
    token: str
    incarnation: str | None
    record: bytes
    expires: float


class _Group:
    """Leases, and what became of them."""

    def __init__(self) -> None:
        self.leases: dict[str, _Lease] = {}
        self.journal = Journal()

    @property
    def version(self) -> int:
        """The number of the last change."""
        return self.journal.version

    def since(self, cursor: bytes | None) -> Changes:
        """Return what changed since a cursor."""
        records = {member: lease.record for member, lease in self.leases.items()}
        return self.journal.since(cursor, records, math.inf)


class _Store:
    """The groups of one name. Every field is read and written under ``changed``."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.groups: dict[str, _Group] = {}
        self.pid = os.getpid()

    def group(self, name: str) -> _Group:
        """Return the group with every lease that has run out removed."""
        group = self.groups.get(name)
        if group is None:
            group = self.groups[name] = _Group()
        now = boottime()
        expired = [member for member, lease in group.leases.items() if lease.expires <= now]
        for member in expired:
            del group.leases[member]
        if expired:
            self.touch(group, *expired)
        return group

    def touch(self, group: _Group, *members: str) -> None:
        group.journal.note(members, group.leases)
        self.changed.notify_all()


_stores: dict[str, _Store] = {}
_stores_lock = threading.Lock()


def _forget_after_fork() -> None:
    # The child's copies are another store under the same name, their locks perhaps held by
    # threads that the child does not have.
    global _stores_lock
    _stores_lock = threading.Lock()
    _stores.clear()


os.register_at_fork(after_in_child=_forget_after_fork)


class MemoryDriver(Driver):
    """A group of threads in one process.

    Example:
        >>> from hashring.driver import load
        >>> driver = load("memory://example", ttl=10.0)
        >>> driver.open()
        >>> driver.join("group", "a", b"{}")
        >>> driver.read("group")
        Reading(records={'a': b'{}'}, memory_age=inf)
        >>> driver.leave("group", "a")
        >>> driver.close()
    """

    promise = "threads of one process; never forgets while the process lives"
    epochs = "a count of the group's changes, from 1 on in each process"
    interrupts = True

    def __init__(self, url: DriverURL, *, ttl: float) -> None:
        super().__init__(url, ttl=ttl)
        if url.path or url.user is not None or url.secret is not None or len(url.hosts) > 1:
            raise BadURL(f"{url}: write memory:// or memory://name, with nothing but options after")
        name, port = url.hosts[0] if url.hosts else ("", None)
        if port is not None:
            raise BadURL(f"{url}: a store in memory has a name, but no port: memory://{name}")
        self._name = name
        self._store: _Store | None = None
        self._own: dict[tuple[str, str], str | None] = {}
        self._seen: dict[str, int] = {}
        self._interrupted = False

    def open(self) -> None:
        """Attach to the store of this name in this process."""
        with _stores_lock:
            self._store = _stores.setdefault(self._name, _Store())

    def close(self) -> None:
        """Detach; a :meth:`wait` in another thread returns. Leases run on until they expire."""
        store, self._store = self._store, None
        if store is not None and store.pid == os.getpid():
            with store.changed:
                store.changed.notify_all()

    def join(self, group: str, member: str, record: bytes) -> None:
        """See :meth:`hashring.driver.Driver.join`."""
        check_names(group, member)
        check_record(record)
        incarnation = incarnation_of(record)
        store = self._attached()
        with store.changed:
            state = store.group(group)
            lease = state.leases.get(member)
            if lease is not None and (lease.token, lease.incarnation) != (self.token, incarnation):
                until = f"its lease runs for {lease.expires - boottime():.1f} s more"
                raise self.member_exists(group, member, lease.incarnation, until)
            state.leases[member] = _Lease(
                self.token, incarnation, bytes(record), boottime() + self.ttl
            )
            self._own[group, member] = incarnation
            store.touch(state, member)

    def publish(self, group: str, member: str, record: bytes) -> int:
        """See :meth:`hashring.driver.Driver.publish`."""
        check_names(group, member)
        check_record(record)
        store = self._attached()
        with store.changed:
            state = store.group(group)
            lease = state.leases.get(member)
            if lease is None or (lease.token, lease.incarnation) != (
                self.token,
                incarnation_of(record),
            ):
                raise self.lease_lost((group, member))
            lease.record = bytes(record)
            store.touch(state, member)
            return state.version

    def heartbeat(self) -> None:
        """See :meth:`hashring.driver.Driver.heartbeat`."""
        store = self._attached()
        lost = []
        with store.changed:
            for (group, member), incarnation in self._own.items():
                lease = store.group(group).leases.get(member)
                if lease is None or (lease.token, lease.incarnation) != (self.token, incarnation):
                    lost.append((group, member))
                else:
                    lease.expires = boottime() + self.ttl
        if lost:
            raise self.lease_lost(*lost)

    def read(self, group: str) -> Reading:
        """See :meth:`hashring.driver.Driver.read`."""
        check_names(group)
        store = self._attached()
        with store.changed:
            state = store.group(group)
            self._seen[group] = state.version
            return Reading(
                {member: lease.record for member, lease in state.leases.items()}, math.inf
            )

    def read_since(self, group: str, cursor: bytes | None) -> Changes:
        """See :meth:`hashring.driver.Driver.read_since`."""
        check_names(group)
        store = self._attached()
        with store.changed:
            state = store.group(group)
            self._seen[group] = state.version
            return state.since(cursor)

    def wait(self, group: str, timeout: float) -> None:
        """See :meth:`hashring.driver.Driver.wait`. A lease that runs out is a change, too."""
        check_names(group)
        store = self._attached()
        deadline = boottime() + timeout
        with store.changed:
            while self._store is store:
                state = store.group(group)
                now = boottime()
                if self._interrupted:
                    self._interrupted = False
                    return
                if state.version != self._seen.get(group) or now >= deadline:
                    return
                ends = min((lease.expires for lease in state.leases.values()), default=deadline)
                store.changed.wait(max(0.0, min(ends, deadline) - now))

    def interrupt(self) -> None:
        """See :meth:`hashring.driver.Driver.interrupt`."""
        store = self._store
        if store is not None and store.pid == os.getpid():
            with store.changed:
                self._interrupted = True
                store.changed.notify_all()

    def leave(self, group: str, member: str) -> None:
        """See :meth:`hashring.driver.Driver.leave`."""
        check_names(group, member)
        store = self._attached()
        with store.changed:
            self._own.pop((group, member), None)
            state = store.group(group)
            lease = state.leases.get(member)
            if lease is not None and lease.token == self.token:
                del state.leases[member]
                store.touch(state, member)

    def groups(self) -> list[str]:
        """See :meth:`hashring.driver.Driver.groups`."""
        store = self._attached()
        with store.changed:
            return [name for name in list(store.groups) if store.group(name).leases]

    def seize(self, group: str, member: str, record: bytes) -> None:
        """See :meth:`hashring.driver.Driver.seize`."""
        check_names(group, member)
        check_record(record)
        incarnation = incarnation_of(record)
        store = self._attached()
        with store.changed:
            state = store.group(group)
            if member not in state.leases:
                raise self.lease_lost((group, member))
            expires = boottime() + self.ttl
            state.leases[member] = _Lease(self.token, incarnation, bytes(record), expires)
            self._own[group, member] = incarnation
            store.touch(state, member)

    def leases(self, group: str) -> dict[str, float]:
        """See :meth:`hashring.driver.Driver.leases`."""
        check_names(group)
        store = self._attached()
        with store.changed:
            now = boottime()
            leases = store.group(group).leases
            return {member: lease.expires - now for member, lease in leases.items()}

    def _attached(self) -> _Store:
        store = self._store
        if store is None:
            raise self.not_open()
        if store.pid != os.getpid():
            raise StoreUnusable(
                f"{self.url} lives in process {store.pid} and this is its fork {os.getpid()}: "
                "they share no memory; use sqlite:///path for several processes"
            )
        return store
