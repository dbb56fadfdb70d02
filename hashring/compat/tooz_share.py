"""`SharePartitioner`: tooz's `Partitioner` on a partition of ours, so that no two own one object.

tooz tells nobody when an act on an answer has ended. So each "yes" is a grip: what was answered
stays this process's for some seconds, whatever becomes of the group. This module knows no store
and no tooz coordinator.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType
from typing import Any

from tooz.partitioner import Partitioner

from hashring import clock
from hashring.compat.tooz_names import decoded, translated
from hashring.errors import BadKey
from hashring.partition.grip import Grip
from hashring.partition.partition import Partition
from hashring.ring.ring import HashRing, SlotSet

__all__ = ["RingView", "SharePartitioner"]

_SLACK = 1.02
"""A grip is taken for so many times ``hold``: the answers of a fiftieth of it need no new one. An
heir waits for that long, too."""


_forks = 0
"""How many forks led to this process from the one that loaded this module. A number is compared
sooner than the process can be asked for its id."""


def _count_fork() -> None:
    global _forks
    _forks += 1


os.register_at_fork(after_in_child=_count_fork)


class RingView:
    """The members by tooz's names, and who is responsible for an object: as of the last tick."""

    def __init__(self, ring: HashRing) -> None:
        self._ring = ring
        self._names = {member: decoded(member) for member in ring.members}

    @property
    def nodes(self) -> Mapping[bytes, float]:
        """The weights of the members, by id."""
        ring = self._ring
        return MappingProxyType({self._names[name]: ring.members[name] for name in ring.members})

    def get_nodes(
        self, data: bytes, ignore_nodes: Iterable[object] | None = None, replicas: int = 1
    ) -> set[bytes]:
        """Return the members responsible for the data, by preference the first of them."""
        ignored = set(ignore_nodes or ())
        able = sum(1 for weight in self._ring.members.values() if weight > 0)
        if not able:
            return set()
        most = min(able, replicas + len(ignored))
        found = [self._names[name] for name in self._ring.owners(data, most)]
        return set([name for name in found if name not in ignored][:replicas])

    def __len__(self) -> int:
        return len(self._names)


class SharePartitioner(Partitioner):
    """A partitioner whose "yes, it is yours" is true in one process at a time.

    Args:
        coordinator: the backend.
        group_id: the caller's name of the group.
        partition: this member's.
        member_id: the caller's name of this member.
        hold: seconds for which an answer stays true.
        partitions: as the caller said; without effect here.
    """

    def __init__(  # tooz's own begins to watch the group, which is not needed here
        self,
        coordinator: Any,
        group_id: bytes,
        partition: Partition,
        member_id: bytes,
        hold: float,
        partitions: int,
    ) -> None:
        self.partitions = partitions
        self.group_id = group_id
        self.partition = partition
        self._coord = coordinator
        self._member_id = member_id
        self._hold = hold
        self._member = partition._membership
        self._handoff = self._member.handoff
        self._forks = _forks
        self._lock = threading.Lock()
        self._grip: Grip | None = None
        self._slots: SlotSet | None = None  # what the grip pins, and until this moment
        self._until = 0.0  # it lasts for a whole hold, and the fence is yet to come
        self._earlier: list[Grip] = []
        self.ring: Any = RingView(partition.ring)

    # ---- one object ------------------------------------------------------------------------

    def belongs_to_self(
        self, obj: object, ignore_members: Iterable[object] | None = None, replicas: int = 1
    ) -> bool:
        """Whether an object is this process's, for the next ``hold`` seconds or to the fence.

        With ``replicas`` or ``ignore_members`` it is a question to the ring, as in tooz, and
        exclusive by nothing.
        """
        if replicas != 1 or ignore_members:
            return self._member_id in self.members_for_object(obj, ignore_members, replicas)
        # This is asked a million times: the common cases first, and nothing twice.
        key = obj if type(obj) is str else self._hash_object(obj)
        now = clock.boottime()
        held = self._handoff.held(now)
        if not held.owns(key):
            if self._member.failure is not None:
                self._check()
            return False
        if held is self._slots and now < self._until and self._forks == _forks:
            return True
        self._check()
        return self._regrip().owns(key)

    def belongs_to_member(
        self,
        obj: object,
        member_id: bytes,
        ignore_members: Iterable[object] | None = None,
        replicas: int = 1,
    ) -> bool:
        """Whether an object belongs to a member: exclusively where it is asked of oneself."""
        if member_id == self._member_id:
            return self.belongs_to_self(obj, ignore_members, replicas)
        return member_id in self.members_for_object(obj, ignore_members, replicas)

    # ---- many objects, which tooz does not have --------------------------------------------

    def owned_by_self(self, objects: Collection[Any]) -> list[Any]:
        """Return those of the objects that are this process's, in order. See `belongs_to_self`."""
        self._check()
        grip = self._regrip()
        try:
            return list(grip.owned(objects))
        except BadKey:
            return list(grip.owned(objects, key=self._hash_object))

    def mask_for_self(self, objects: Collection[Any]) -> bytearray:
        """Return 1 for each of the objects that is this process's. See `belongs_to_self`."""
        self._check()
        grip = self._regrip()
        try:
            mask = grip.slots.mask(objects)
        except BadKey:
            mask = grip.slots.mask(objects, key=self._hash_object)
        return mask if grip.valid else bytearray(len(mask))

    def _check(self) -> None:
        """Raise why this member can never take part, if it cannot."""
        with translated(self.group_id, self._member_id):
            self._member.check_parent()

    # ---- grips -----------------------------------------------------------------------------

    def _regrip(self) -> Grip:
        """Return a grip of what is held now that lasts for ``hold`` seconds at least."""
        with self._lock, translated(self.group_id, self._member_id):
            grip, held, now = self._grip, self.partition.held, clock.boottime()
            if grip is not None and held is self._slots and now < self._until:
                return grip
            is_same = grip is not None and held is grip.slots
            if grip is None or not is_same or not grip.renew(_SLACK * self._hold):
                # Where the group has changed, the earlier one runs out by itself.
                before = self._earlier if grip is None else [*self._earlier, grip]
                self._earlier = [one for one in before if one.valid]
                grip = self.partition.grip(_SLACK * self._hold)
            self._grip = grip
            if grip.valid:
                until = now + (_SLACK - 1.0) * self._hold
                self._slots, self._until = grip.slots, min(until, self._handoff.deadline)
            return grip

    def end_cycle(self) -> None:
        """Let go what answers have kept: nobody acts on one any more."""
        with self._lock:
            grips = [*self._earlier, *([self._grip] if self._grip is not None else [])]
            self._earlier, self._grip, self._slots = [], None, None
        for grip in grips:
            grip.release()

    # ---- the ring --------------------------------------------------------------------------

    def has_all_among(self, members: Collection[str]) -> bool:
        """Whether the latest view is of these members, and all that it gives this one is held.

        What it takes from this one may still be in other threads' hands: new answers are final.
        """
        handoff = self._handoff
        with self._member.lock:
            view = handoff.view
            if view is None or view.weights.keys() != set(members):
                return False
            return view.slots(self._member.member) <= handoff.held(clock.boottime())

    def show(self) -> None:
        """Show the ring of now: nodes change only where answers are final."""
        ring = self.partition.ring
        if dict(ring.members) != dict(self.ring._ring.members):
            self.ring = RingView(ring)

    def stop(self) -> None:
        """Stop it. The membership ends by `leave_group`."""
        self.end_cycle()
