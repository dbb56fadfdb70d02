"""tooz's groups, plain members, locks and leaders: all of them leases on one driver.

A group is there while its creator or a member lives: a store of ours keeps leases and nothing else.
Partitioned groups are the backend's own business; their members are seen here as all others are.
"""

from __future__ import annotations

import functools
import uuid
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import tooz
from tooz import coordination, locking

from hashring.backoff import Backoff
from hashring.compat.tooz_names import (
    decoded,
    encoded,
    members_of,
    meta_of,
    store_group,
    translated,
)
from hashring.errors import NotOffered, StoreUnavailable
from hashring.leases.leases import Lease, Leases, TooYoung
from hashring.leases.lock import Lock
from hashring.leases.patience import Patience
from hashring.protocol.record import Member

__all__ = ["LOCKS", "NAMES", "Groups", "Leaders", "ToozLock"]

T = TypeVar("T")

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 0.5
"""Seconds between two tries of a call that the store did not answer, doubling up to the second."""

_GROUPS = "tooz:groups"
"""The store's group of those groups that somebody has created."""

NAMES = "tooz:names"
"""The store's group of all locks and leaders: one, for what a fresh one costs (see `leases`)."""

LOCKS = "tooz:locks"
"""The store's group of all locks, where their lease is not that of the members."""

_LEADER = "leader of "


def patiently(leases: Leases, call: Callable[[], T]) -> T:
    """Return what a call returns; where the store does not answer, ask again, for a lease at most.

    A driver gives a call up after a third of the lease, so that a heartbeat leaves time for another
    one. Whoever lists members has no such hurry, tooz's own backends wait for longer, and a service
    writes an error into its log for each call that fails.
    """
    patience = Patience(leases.ttl, leases.ttl)
    pauses = Backoff(_FIRST_PAUSE, _LONGEST_PAUSE)
    while True:
        patience.begin()
        try:
            return call()
        except StoreUnavailable:
            pause = next(pauses)
            if patience.is_over(pause) or leases.rest(pause):
                raise


class ToozLock(locking.Lock):
    """One of tooz's locks: see :class:`hashring.Lock`, which it is. Not re-entrant.

    Args:
        name: the caller's.
        leases: where it is kept.
        group: the store's group that it is kept in.
    """

    def __init__(self, name: bytes, leases: Leases, group: str) -> None:
        super().__init__(name)
        self._lock = Lock(leases, group, encoded(name), patience=leases.ttl)

    @property
    def acquired(self) -> bool:
        """Whether this process owns it, now."""
        return self._lock.owned

    def is_still_owner(self) -> bool:
        """The same as :attr:`acquired`."""
        return self._lock.owned

    def acquire(
        self, blocking: Any = True, shared: bool = False, timeout: float | None = None
    ) -> bool:
        """Take it; return whether this process has it.

        Args:
            blocking: false: do not wait for who has it; a number: wait so many seconds. Where the
                store does not answer it is asked again, for a lease at most.
            shared: shared locks are not offered.
            timeout: seconds to wait.

        Raises:
            NotImplemented: ``shared`` is true.
            ToozConnectionError: the store was away to the end of the wait.
        """
        if shared:
            raise tooz.NotImplemented("hashring has no shared locks")
        if blocking is False:
            timeout = 0.0
        elif blocking is not True and blocking is not None:
            timeout = float(blocking)
        with translated():
            return self._lock.acquire(timeout)

    def release(self) -> bool:
        """Give it back; return whether this process owned it until now."""
        with translated():
            return self._lock.release()


class Groups:
    """The groups that others see, and this coordinator's plain memberships.

    Args:
        leases: where all of it is kept.
        member_id: this coordinator's.

    Attributes:
        plain: the leases of groups that were joined without a share, by group.
    """

    def __init__(self, leases: Leases, member_id: bytes) -> None:
        self._leases = leases
        self._member_id = member_id
        self.plain: dict[bytes, Lease] = {}
        self._created: dict[bytes, Lease] = {}

    def _lease(self, group: str, name: str, meta: dict[str, Any]) -> Lease:
        return Lease(group, name, self._leases.ttl, meta, exclusive=False)

    def _read(self, group: str) -> Mapping[str, bytes]:
        return patiently(self._leases, lambda: self._leases.read(group)[0])

    def _join(self, lease: Lease) -> None:
        patiently(self._leases, lambda: self._leases.join(lease))

    # ---- groups ----------------------------------------------------------------------------

    def marks(self) -> set[bytes]:
        """Return the groups whose creators live."""
        with translated():
            records = self._read(_GROUPS)
        return {decoded(name.partition("/")[0]) for name in records if "/" in name}

    def exists(self, group: bytes) -> bool:
        """Whether its creator or a member lives."""
        return bool(self.members(group)) or group in self.marks()

    def all(self) -> list[bytes]:
        """Return those that somebody has created or, where the store can list, is in."""
        found = self.marks()
        prefix = store_group("")
        with translated():
            try:
                listed = patiently(self._leases, self._leases.groups)
            except NotOffered:
                listed = []
        found |= {decoded(name.removeprefix(prefix)) for name in listed if name.startswith(prefix)}
        return sorted(found)

    def create(self, group: bytes) -> None:
        """Say that a group is there."""
        if self.exists(group):
            raise coordination.GroupAlreadyExist(group)
        lease = self._lease(_GROUPS, f"{encoded(group)}/{uuid.uuid4().hex}", {})
        with translated(group, self._member_id):
            self._join(lease)
        self._created[group] = lease

    def delete(self, group: bytes) -> None:
        """Say so no more, of one that was created here."""
        if self.members(group):
            raise coordination.GroupNotEmpty(group)
        mark = self._created.pop(group, None)
        if mark is not None:
            with translated(group):
                self._leases.give(mark)
        elif group in self.marks():
            raise tooz.NotImplemented(f"{group!r} was created by another coordinator")
        else:
            raise coordination.GroupNotCreated(group)

    # ---- members ---------------------------------------------------------------------------

    def members(self, group: bytes, *, at_once: bool = False) -> dict[bytes, Member]:
        """Return the members of a group as they are in the store now.

        Args:
            group: the group.
            at_once: do not ask a store that does not answer again.
        """
        name = store_group(group)
        with translated(group):
            records = self._leases.read(name)[0] if at_once else self._read(name)
        return members_of(records)

    def members_of_existing(self, group: bytes) -> dict[bytes, Member]:
        """The same; of a group that is not there an error."""
        found = self.members(group)
        if not found and group not in self.marks():
            raise coordination.GroupNotCreated(group)
        return found

    def member(self, group: bytes, member_id: bytes) -> Member:
        """Return one of them."""
        found = self.members_of_existing(group).get(member_id)
        if found is None:
            raise coordination.MemberNotJoined(group, member_id)
        return found

    def join(self, group: bytes, capabilities: Any) -> None:
        """Join without a share."""
        if not self.exists(group):
            raise coordination.GroupNotCreated(group)
        name = encoded(self._member_id)
        with translated(group, self._member_id):
            lease = self._lease(store_group(group), name, meta_of(capabilities))
            self._join(lease)
        self.plain[group] = lease

    def leave(self, group: bytes) -> None:
        """Leave what was joined without a share."""
        lease = self.plain.pop(group, None)
        if lease is not None:
            with translated(group, self._member_id):
                self._leases.give(lease)
        else:
            self.refuse(group)

    def publish(self, group: bytes, capabilities: Any) -> None:
        """Replace the capabilities of a plain membership."""
        lease = self.plain.get(group)
        if lease is None:
            self.refuse(group)
        else:
            with translated(group, self._member_id):
                meta = meta_of(capabilities)
                patiently(self._leases, lambda: self._leases.publish(lease, meta))

    def refuse(self, group: bytes) -> None:
        """Say why a group that was not joined here cannot be left, or published in."""
        if self.exists(group):
            raise coordination.MemberNotJoined(group, self._member_id)
        raise coordination.GroupNotCreated(group)


class Leaders:
    """Who leads which group. Arguments are those of :class:`Groups`."""

    def __init__(self, leases: Leases, member_id: bytes) -> None:
        self._leases = leases
        self._member_id = member_id
        self._leads: dict[bytes, Lease] = {}

    def is_leading(self, group: bytes) -> bool:
        """Whether this coordinator leads, now."""
        lease = self._leads.get(group)
        return lease is not None and lease.valid

    def take(self, group: bytes) -> bool:
        """Try to lead; return whether it does."""
        meta = {"tooz": {"leader": encoded(self._member_id)}}
        try:
            with translated(group, self._member_id):
                name = _LEADER + encoded(group)
                take = functools.partial(self._leases.take, NAMES, name, meta)
                self._leads[group] = patiently(self._leases, take)
        except coordination.MemberAlreadyExist:
            return False
        except coordination.ToozConnectionError as error:
            if isinstance(error.cause, TooYoung):
                return False
            raise
        return True

    def stand_down(self, group: bytes) -> bool:
        """Do not lead any more; return whether it did."""
        lease = self._leads.pop(group, None)
        if lease is None:
            return False
        was_leading = lease.valid
        with translated(group):
            self._leases.give(lease)
        return was_leading

    def leader(self, group: bytes) -> bytes | None:
        """Return the leader's id; ``None``: nobody leads."""
        name = _LEADER + encoded(group)
        with translated(group):
            records = patiently(self._leases, lambda: self._leases.read(NAMES)[0])
            if name not in records:
                return None
            found = Member.from_json(name, records[name]).meta.get("tooz")
        leader = found.get("leader") if isinstance(found, dict) else None
        return decoded(leader) if isinstance(leader, str) else None
