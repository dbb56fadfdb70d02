"""One driver's entries on the board: written, renewed, moved to another name, taken away.

See the first lines of :mod:`.driver` for why an entry has a name of its own.
"""

from __future__ import annotations

import contextlib
from typing import Any
from urllib.parse import quote

from tooz import ToozError, coordination

from hashring.clock import boottime
from hashring.driver import Driver

from .backend import Backend, as_tooz_errors, group_id

__all__ = ["Entries", "Lease", "Seat", "someone_may_think_us_dead"]

_SURE = 0.95  # the part of ttl for which a member trusts its own entry; readers wait the whole


class Seat:
    """A tooz coordinator under a name of its own: the one writer of one entry."""

    def __init__(self, coordinator: Any, name: str) -> None:
        self.coordinator = coordinator
        self.name = name
        self.unsure = False  # a write under this name may land at any time
        self.kept = boottime()  # when the backend was last asked to keep the entry for longer


class Lease:
    """Our membership in one group: what was written last, and until when it surely stands."""

    def __init__(self, joined: int, incarnation: str | None, record: bytes) -> None:
        self.joined = joined
        self.incarnation = incarnation
        self.record = record
        self.settled = False
        self.lost = False
        self.sure_until = 0.0
        self.seat: Seat | None = None
        self.spare: Seat | None = None


def someone_may_think_us_dead(lease: Lease) -> bool:
    """Return whether a reader may have taken the lease's entry for dead by now."""
    return boottime() > lease.sure_until


class Entries:
    """Writes for one driver; the caller keeps its threads apart.

    Args:
        driver: for its lease and its token.
        backend: where to write.
    """

    def __init__(self, driver: Driver, backend: Backend) -> None:
        self._driver = driver
        self._backend = backend
        self._number = 0
        self._names = 0

    def renew(self, group: str, member: str, lease: Lease, deadline: float) -> None:
        """Write the lease's record again, unless somebody may have taken us for dead."""
        if not lease.lost and someone_may_think_us_dead(lease):
            lease.lost = True
        if lease.lost:
            self.withdraw(group, lease, deadline)
        else:
            self.write(group, member, lease, deadline)

    def write(self, group: str, member: str, lease: Lease, deadline: float) -> None:
        """Write the lease's record; the lease is lost where that came too late."""
        self._number += 1
        said = {
            "joined": lease.joined,
            "number": self._number,
            "settled": lease.settled,
            "ttl": self._driver.ttl,
            "record": lease.record,
        }
        began = boottime()
        try:
            if lease.seat is None or self._backend.name == "file" or lease.seat.unsure:
                self._move(group, member, lease, said, deadline)
            else:
                self._update(group, lease.seat, said, deadline)
        except (coordination.MemberNotJoined, coordination.GroupNotCreated):
            lease.lost = True
            return
        if lease.sure_until and someone_may_think_us_dead(lease):
            lease.lost = True  # it was written too late: a reader may already have given us up
        else:
            lease.sure_until = began + self._driver.ttl * _SURE

    def _update(self, group: str, seat: Seat, said: dict[str, Any], deadline: float) -> None:
        try:
            if (
                self._backend.name.startswith("etcd3")
                and boottime() - seat.kept > self._driver.ttl / 2
            ):
                seat.kept = boottime()
                # Keeps the backend's own lease, which is longer than ours. Where that has run out,
                # tooz begins another and says nothing; but our entry is gone then.
                as_tooz_errors(seat.coordinator.heartbeat)
            self._backend.done(
                deadline, seat.coordinator.update_capabilities, group_id(group), said
            )
        except (coordination.MemberNotJoined, coordination.GroupNotCreated):
            raise
        except BaseException:
            seat.unsure = True  # it may land at any time from now on
            raise

    def _move(
        self, group: str, member: str, lease: Lease, said: dict[str, Any], deadline: float
    ) -> None:
        """Write under another name, and only then take the old one away.

        So there is no moment without an entry of ours, also on the file backend, where tooz cannot
        change what a member says of itself.
        """
        old, new = lease.seat, lease.spare
        lease.spare = None
        if new is None:
            self._names += 1
            name = f"{quote(member, safe='')}!{self._driver.token}!{self._names}"
            new = Seat(self._backend.coordinator(name, deadline), name)
        try:
            self._enter(group, new, said, deadline)
        except BaseException:
            self._backend.abandon(
                new.coordinator, deadline
            )  # whether it is on the board is unknown: never use it
            raise
        lease.seat = new
        if old is not None:
            with contextlib.suppress(ToozError, OSError):
                self._backend.done(deadline, old.coordinator.leave_group, group_id(group))
                if self._backend.name == "file" and not old.unsure:
                    lease.spare = old
            if lease.spare is None:
                self._backend.abandon(old.coordinator, deadline)

    def _enter(self, group: str, seat: Seat, said: dict[str, Any], deadline: float) -> None:
        while True:
            try:
                self._backend.done(deadline, seat.coordinator.join_group, group_id(group), said)
            except coordination.GroupNotCreated:
                with contextlib.suppress(coordination.GroupAlreadyExist):
                    self._backend.done(deadline, seat.coordinator.create_group, group_id(group))
            else:
                return

    def withdraw(self, group: str, lease: Lease, deadline: float, *, quietly: bool = True) -> None:
        """Take our entries off the board."""
        seats = [seat for seat in (lease.seat, lease.spare) if seat is not None]
        lease.seat = lease.spare = None
        gone = (coordination.MemberNotJoined, coordination.GroupNotCreated)
        try:
            for seat in seats[:1]:
                with contextlib.suppress(*(gone if not quietly else (ToozError, OSError))):
                    self._backend.done(deadline, seat.coordinator.leave_group, group_id(group))
        finally:
            for seat in seats:
                self._backend.abandon(seat.coordinator, deadline)
