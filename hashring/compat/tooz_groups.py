"""tooz's groups, plain members, locks and leaders: all of them leases on one driver.

A group is there while its creator or a member lives: a store of ours keeps leases and nothing else.
Partitioned groups are the backend's own business; their members are seen here as all others are.
"""

from __future__ import annotations

import uuid
from typing import Any

import tooz
from tooz import coordination, locking

from hashring.compat.tooz_names import (
    decoded,
    encoded,
    members_of,
    meta_of,
    store_group,
    translated,
)
from hashring.errors import NotOffered
from hashring.leases.leases import Lease, Leases, TooYoung
from hashring.leases.lock import Lock
from hashring.protocol.record import Member

__all__ = ["NAMES", "Groups", "Leaders", "ToozLock"]

_GROUPS = "tooz:groups"
"""The store's group of those groups that somebody has created."""

NAMES = "tooz:names"
"""The store's group of all locks and leaders: one, for what a fresh one costs (see `leases`)."""

_LEADER = "leader of "


class ToozLock(locking.Lock):
    """One of tooz's locks: see :class:`hashring.Lock`, which it is. Not re-entrant."""

    def __init__(self, name: bytes, leases: Leases) -> None:
        super().__init__(name)
        self._lock = Lock(leases, NAMES, encoded(name))

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
            blocking: false: do not wait; a number: wait so many seconds.
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

    # ---- groups ----------------------------------------------------------------------------

    def marks(self) -> set[bytes]:
        """Return the groups whose creators live."""
        with translated():
            records, _ = self._leases.read(_GROUPS)
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
                listed = self._leases.groups()
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
            self._leases.join(lease)
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

    def members(self, group: bytes) -> dict[bytes, Member]:
        """Return the members of a group as they are in the store now."""
        with translated(group):
            records, _ = self._leases.read(store_group(group))
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
            self._leases.join(lease)
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
                self._leases.publish(lease, meta_of(capabilities))

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
                self._leads[group] = self._leases.take(NAMES, _LEADER + encoded(group), meta)
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
            records, _ = self._leases.read(NAMES)
            if name not in records:
                return None
            found = Member.from_json(name, records[name]).meta.get("tooz")
        leader = found.get("leader") if isinstance(found, dict) else None
        return decoded(leader) if isinstance(leader, str) else None
