"""`Backend`: tooz's coordinator on our stores, for services that keep tooz and change one URL.

``hashring+redis://...`` in place of ``redis://...``. Partitioned groups are partitions, so their
slots change hands by the protocol; plain members, locks and leaders are leases. What each of tooz's
calls promises here, and what raises ``NotImplemented``, stands in docs/tooz.md.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import threading
from typing import Any

import tooz
from tooz import coordination, locking
from tooz.partitioner import Partitioner

from hashring import clock
from hashring.compat.tooz_groups import LOCKS, NAMES, Groups, Leaders, ToozLock
from hashring.compat.tooz_names import (
    Done,
    as_bytes,
    capabilities_of,
    encoded,
    meta_of,
    store_group,
    translated,
)
from hashring.compat.tooz_options import Options, characteristics, refuse_green_threads
from hashring.compat.tooz_share import SharePartitioner
from hashring.driver import load
from hashring.leases.leases import Leases
from hashring.leases.patience import Patience
from hashring.partition.partition import join

__all__ = ["Backend", "ToozLock"]

log = logging.getLogger("hashring")

_LOOK = 0.05
"""Seconds between two looks at whether the group has settled."""

_HAND_OVER = 2.0
"""Seconds beyond ``hold`` for which a newcomer waits for its share. It has nothing to do before."""


@dataclasses.dataclass(frozen=True)
class _Session:
    """What there is between `start` and `stop`."""

    options: Options
    leases: Leases
    locks: Leases
    groups: Groups
    leaders: Leaders
    began: float


def _appeared(options: Options, ttl: float, group: str, opened: contextlib.ExitStack) -> Leases:
    """Return leases of so many seconds, open and present in a group, and closed by the stack."""
    leases = Leases(load(options.url, ttl=ttl))
    opened.callback(leases.close)
    leases.open()
    leases.appear(group)
    return leases


class Backend(coordination.CoordinationDriverCachedRunWatchers):
    """A coordinator. Made by ``tooz.coordination.get_coordinator("hashring+...")``.

    Args:
        member_id: this member's id; text stands for its UTF-8.
        parsed_url: the URL, split.
        options: the URL's options.
    """

    def __init__(self, member_id: bytes, parsed_url: Any, options: dict[str, Any]) -> None:
        super().__init__(as_bytes(member_id), parsed_url, options)
        self.CHARACTERISTICS = characteristics(parsed_url.scheme)
        self._parsed, self._given = parsed_url, options
        self._session: _Session | None = None
        self._silence = 0.0  # what a heartbeat after the end returns
        self._tickers: set[int] = set()  # the threads that have called run_watchers
        self._shares: dict[bytes, SharePartitioner] = {}
        self._joining = threading.Lock()

    # ---- from start to stop ----------------------------------------------------------------

    def _start(self) -> None:
        with translated():
            options, began = Options.of(self._parsed, self._given), clock.boottime()
            refuse_green_threads(options)
            with contextlib.ExitStack() as opened:
                leases = locks = _appeared(options, options.ttl, NAMES, opened)
                if options.lock_ttl != options.ttl:
                    locks = _appeared(options, options.lock_ttl, LOCKS, opened)
                opened.pop_all()
            groups = Groups(leases, self._member_id)
            leaders = Leaders(leases, self._member_id)
            self._session = _Session(options, leases, locks, groups, leaders, began)
            self._silence = options.ttl / 2

    def _stop(self) -> None:
        for share in list(self._shares.values()):
            share.stop()
            share.partition.leave()
        self._shares.clear()
        self._tickers.clear()
        session = self._session
        if session is not None:
            try:  # another thread of the service may ask until it is over
                session.locks.close()
                session.leases.close()
            finally:
                self._session = None

    def _on(self) -> _Session:
        if self._session is None:
            raise tooz.ToozError("the coordinator is not started: call start() first")
        return self._session

    def heartbeat(self) -> float:
        """Return for how many seconds no call is needed. A thread of ours renews the leases.

        Where it has not for a lease (this process was stopped, or the store is away), one heartbeat
        is sent and waited for, so who goes on after a stop is a member again. After `stop` it does
        nothing: a service's timer may call while another thread stops the coordinator.

        Raises:
            ToozError: the coordinator was never started.
            ToozConnectionError: no heartbeat was confirmed for a lease, nor is one now.
        """
        session = self._session
        if session is None and self._silence:
            return self._silence
        session = self._on()
        leases = session.leases
        silent = clock.boottime() - max(session.began, leases.confirmed)
        patience = Patience(0.0, leases.ttl)
        while silent > leases.ttl and not leases.beat(leases.ttl / 2):
            if patience.is_over(0.0):
                raise coordination.ToozConnectionError(
                    f"{leases.driver.url}: no heartbeat was confirmed for {silent:.1f} s, and the "
                    f"lease is {leases.ttl:g} s"
                )
            patience.begin()
        return leases.ttl / 2

    # ---- groups ----------------------------------------------------------------------------

    def create_group(self, group_id: bytes) -> Done[None]:
        """Create a group. It is there while its creator or a member lives."""
        return Done(lambda: self._on().groups.create(as_bytes(group_id)))

    def get_groups(self) -> Done[list[bytes]]:
        """Return the groups that somebody has created or, where the store can list, is in."""
        return Done(lambda: self._on().groups.all())

    def delete_group(self, group_id: bytes) -> Done[None]:
        """Delete a group that this coordinator has created and that has no members."""
        return Done(lambda: self._on().groups.delete(as_bytes(group_id)))

    # ---- members ---------------------------------------------------------------------------

    def join_group(self, group_id: bytes, capabilities: Any = None) -> Done[None]:
        """Join a group, without a share of anything. A lease that ends comes back by itself."""
        return Done(lambda: self._join(as_bytes(group_id), capabilities))

    def _join(self, group: bytes, capabilities: Any) -> None:
        with self._joining:
            if group in self._joined_groups:
                raise coordination.MemberAlreadyExist(group, self._member_id)
            self._on().groups.join(group, capabilities)
            self._joined_groups.add(group)

    def join_partitioned_group(
        self,
        group_id: bytes,
        weight: int = 1,
        partitions: int = Partitioner.DEFAULT_PARTITION_NUMBER,
    ) -> Partitioner:
        """Join a group and get a partitioner; the group is created where it is not there.

        Args:
            group_id: the group.
            weight: this member's share relative to the others'.
            partitions: without effect here: our ring is balanced by other means.
        """
        group, options = as_bytes(group_id), self._on().options
        with self._joining:
            if group in self._joined_groups:
                raise coordination.MemberAlreadyExist(group, self._member_id)
            with translated(group, self._member_id):
                partition = join(
                    options.url,
                    store_group(group),
                    encoded(self._member_id),
                    weight=weight,
                    ttl=options.ttl,
                    meta=meta_of({"weight": weight}),
                )
            share = SharePartitioner(
                self, group_id, partition, self._member_id, options.hold, partitions
            )
            self._shares[group] = share
            self._joined_groups.add(group)
        self._settle({group: share}, max(options.settle, options.hold + _HAND_OVER))
        return share

    def leave_group(self, group_id: bytes) -> Done[None]:
        """Leave a group; where it is partitioned, with hand-over."""
        return Done(lambda: self._leave(as_bytes(group_id)))

    def _leave(self, group: bytes) -> None:
        share = self._shares.pop(group, None)
        self._joined_groups.discard(group)
        if share is None:
            self._on().groups.leave(group)
            return
        share.stop()
        with translated(group, self._member_id):
            share.partition.drain()

    def get_members(self, group_id: bytes) -> Done[set[bytes]]:
        """Return the ids of the members, as they are in the store now."""
        return Done(lambda: set(self._on().groups.members_of_existing(as_bytes(group_id))))

    def get_member_capabilities(self, group_id: bytes, member_id: bytes) -> Done[Any]:
        """Return a member's capabilities; an empty dict where it has published nothing."""
        group, member = as_bytes(group_id), as_bytes(member_id)
        return Done(lambda: capabilities_of(self._on().groups.member(group, member)))

    def get_members_with_capabilities(self, group_id: bytes) -> Done[dict[bytes, Any]]:
        """Return the capabilities of all members, by id."""
        group = as_bytes(group_id)
        return Done(
            lambda: {
                name: capabilities_of(member)
                for name, member in self._on().groups.members_of_existing(group).items()
            }
        )

    def get_member_info(self, group_id: bytes, member_id: bytes) -> Done[dict[str, Any]]:
        """Return a member's capabilities, under that name."""
        group, member = as_bytes(group_id), as_bytes(member_id)
        return Done(
            lambda: {"capabilities": capabilities_of(self._on().groups.member(group, member))}
        )

    def update_capabilities(self, group_id: bytes, capabilities: Any) -> Done[None]:
        """Replace this member's capabilities. The weight of a partitioned member stays."""
        return Done(lambda: self._update(as_bytes(group_id), capabilities))

    def _update(self, group: bytes, capabilities: Any) -> None:
        share = self._shares.get(group)
        if share is None:
            self._on().groups.publish(group, capabilities)
        else:
            with translated(group, self._member_id):
                share.partition.publish_meta(meta_of(capabilities))

    # ---- ticks -----------------------------------------------------------------------------

    def run_watchers(self, timeout: float | None = None) -> list[Any]:
        """Run the callbacks for what has changed, and show what the rings are now.

        Where one thread alone calls this, what was answered in the last cycle is let go: it is
        over. Then it waits for what the others are about to hand over to this process. It does
        not wait for what this process hands over.

        Args:
            timeout: the most seconds to wait; the URL's ``settle`` is a limit too.
        """
        began = clock.boottime()
        settle = self._on().options.settle
        self._tickers.add(threading.get_ident())
        if len(self._tickers) == 1:
            for share in list(self._shares.values()):
                share.end_cycle()
        self._settle(dict(self._shares), settle if timeout is None else min(settle, timeout))
        left = None if timeout is None else max(0.0, timeout - (clock.boottime() - began))
        found = super().run_watchers(left)
        self.run_elect_coordinator()
        return found

    def _settle(self, shares: dict[bytes, SharePartitioner], seconds: float) -> None:
        """Wait until this process holds what the members that are there now give it, and show it.

        Where the store is away, what is held stays held to the fence: nobody waits for it.
        """
        until = clock.boottime() + seconds
        for group, share in shares.items():
            partition = share.partition
            with translated(group, self._member_id):
                partition._membership.check_parent()
            try:
                while partition.state != "left":
                    members = self._on().groups.members(group, at_once=True)
                    there = {encoded(name) for name, one in members.items() if one.weight > 0}
                    if share.has_all_among(there):
                        share.show()
                        break
                    if clock.boottime() >= until:
                        break
                    with translated(group, self._member_id):
                        partition.wait_changed(_LOOK)
            except coordination.ToozConnectionError as error:
                with translated(group, self._member_id):
                    partition._membership.check_parent()  # it can never take part
                log.warning("%s: the store is away: %s", partition.group, error)

    # ---- locks and leaders -----------------------------------------------------------------

    def get_lock(self, name: bytes) -> locking.Lock:
        """Return a lock: exclusive also where the store forgets. Not re-entrant."""
        session = self._on()
        group = NAMES if session.locks is session.leases else LOCKS
        return ToozLock(name, session.locks, group)

    def run_elect_coordinator(self) -> None:
        """Try to lead where callbacks for that are set, and run them where it is new."""
        leaders = self._on().leaders
        for group in list(self._hooks_elected_leader):
            hooks = self._hooks_elected_leader[group]
            if hooks and not leaders.is_leading(as_bytes(group)) and leaders.take(as_bytes(group)):
                hooks.run(coordination.LeaderElected(group, self._member_id))

    def stand_down_group_leader(self, group_id: bytes) -> bool:
        """Do not lead any more; return whether this one did."""
        return self._on().leaders.stand_down(as_bytes(group_id))

    def get_leader(self, group_id: bytes) -> Done[Any]:
        """Return the leader's id; ``None``: nobody leads."""
        return Done(lambda: self._on().leaders.leader(as_bytes(group_id)))
