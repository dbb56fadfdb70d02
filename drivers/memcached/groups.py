"""Groups on a memcached: their lists, the members that live, and those whose lease ran out.

See the first lines of :mod:`.driver` for what must hold.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import threading

from hashring.clock import boottime
from hashring.driver import Reading

from .connection import Beaten, Connection, pause
from .keys import LAG, Lease, Listing, list_key, member_key, version_key
from .uptime import DRIFT, ServerTime

__all__ = ["Groups"]

_BURIED = 300
"""Seconds for which the key of a dead lease stays after it was taken off its group's list: longer
than a join that was delayed on its way can take to arrive, which the key then refuses."""


@dataclasses.dataclass(frozen=True)
class Sighting:
    """When this driver first saw a member's key as it is; its first line changes with each swap."""

    line: bytes
    at: float


@dataclasses.dataclass
class Seen:
    """What this driver saw of a group."""

    sightings: dict[str, Sighting] = dataclasses.field(default_factory=dict)
    version: bytes | None = None


class Groups:
    """Groups as one driver has seen them.

    Args:
        time: of the server.
    """

    def __init__(self, time: ServerTime) -> None:
        self._time = time
        self._lock = threading.Lock()
        self._seen: dict[str, Seen] = {}

    def seen_of(self, group: str) -> Seen:
        """Return what was seen of a group."""
        with self._lock:
            return self._seen.setdefault(group, Seen())

    def sight(self, group: str, member: str, value: bytes) -> Lease:
        """Return a lease, and note since when it stands as it does."""
        line = value.partition(b"\n")[0]
        sightings = self.seen_of(group).sightings
        old = sightings.get(member)
        if old is None or old.line != line:
            sightings[member] = Sighting(line, boottime())
        return Lease.decoded(value)

    def ran_out(self, group: str, member: str, lease: Lease, uptime: int) -> bool:
        """Return whether a lease ran out, by an uptime of the server or by our own watch."""
        sighting = self.seen_of(group).sightings.get(member)
        watched = 0.0 if sighting is None else boottime() - sighting.at
        return watched >= lease.ttl * (1 + DRIFT) or uptime >= lease.until

    def kill(
        self, connection: Connection, group: str, member: str, lease: Lease, number: bytes
    ) -> None:
        """Mark a lease as dead: from now on no heartbeat revives it."""
        dead = dataclasses.replace(lease, dead=True, record=b"")
        connection.swap(member_key(group, member), dead.encoded(), number, dead.keeps)
        connection.count(version_key(group))

    def read(self, connection: Connection, group: str) -> tuple[Reading, bytes | None]:
        """Return what is alive, and the version before it was read.

        Keys are read one after the other, which is enough: whoever joins meanwhile holds nothing
        yet, and whoever published something since was read either before or after. The age of the
        memory goes by an uptime from before the list, so that it is no newer than what it judges;
        the end of a lease by one from after it.
        """
        seen = self.seen_of(group)
        of_list, of_version = list_key(group), version_key(group)
        began = self._time.uptime(connection)
        found = connection.get([of_version, of_list])
        version = found.get(of_version, (None, b""))[0]
        if of_list not in found:
            self._begin(connection, group)
            raise Beaten
        listed = Listing.decoded(found[of_list][0])
        keys = {member_key(group, member): member for member in listed.members}
        values = connection.get(keys) if keys else {}
        leases = {
            keys[key]: (self.sight(group, keys[key], value), number)
            for key, (value, number) in values.items()
        }
        for member in list(seen.sightings):
            if member not in leases:
                seen.sightings.pop(member, None)
        uptime = self._time.uptime(connection)
        forgotten = listed.members - leases.keys()
        # A stamp is rounded up, but one that is far ahead is of a server before this one.
        if forgotten or listed.since is None or uptime < listed.since - 2 * LAG:
            fresh = Listing(self._time.stamp(connection), listed.members - forgotten)
            connection.swap(of_list, fresh.encoded(), found[of_list][1], 0)
            connection.count(of_version)
            raise Beaten
        late = False
        for member, (lease, number) in leases.items():
            if not lease.dead and self.ran_out(group, member, lease, uptime):
                late = True
                with contextlib.suppress(Beaten):
                    self.kill(connection, group, member, lease, number)
        if late:
            raise Beaten
        dead = {member for member, (lease, _) in leases.items() if lease.dead}
        if dead:
            self.strike(connection, group, dead)
            raise Beaten
        if version is None:
            connection.count(of_version)
            raise Beaten
        records = {member: lease.record for member, (lease, _) in leases.items()}
        return Reading(records, max(0.0, began - listed.since)), version

    def _begin(self, connection: Connection, group: str) -> None:
        """Make the list of a group that has none: it is new, or was forgotten."""
        # Stamped once it is there: what is forgotten until then must not count as remembered.
        connection.add(list_key(group), Listing(None, frozenset()).encoded(), 0)
        connection.count(version_key(group))

    def enlist(self, connection: Connection, group: str, member: str, *, was_missing: bool) -> None:
        """Put a member into the list, after its lease.

        The list is written even where it has the member already, so that nobody who saw the dead
        lease before strikes the new one.
        """
        key = list_key(group)
        while True:
            found = connection.get([key])
            try:
                if key not in found:
                    self._begin(connection, group)
                    continue
                value, number = found[key]
                listed = Listing.decoded(value)
                forgotten = was_missing and member in listed.members
                since = None if forgotten else listed.since
                fresh = Listing(since, listed.members | {member})
                connection.swap(key, fresh.encoded(), number, 0)
            except Beaten:
                pause()
            else:
                return

    def strike(self, connection: Connection, group: str, dead: set[str]) -> None:
        """Take members whose lease was marked as dead off the list."""
        key = list_key(group)
        while True:
            # The list before the leases: see _enlist.
            found = connection.get([key])
            if key not in found:
                return
            value, number = found[key]
            listed = Listing.decoded(value)
            candidates = {member_key(group, member): member for member in dead & listed.members}
            if not candidates:
                return
            leases = connection.get(candidates)
            still = {
                member
                for name, member in candidates.items()
                if name in leases and Lease.decoded(leases[name][0]).dead
            }
            if not still:
                return
            fresh = Listing(listed.since, listed.members - still)
            try:
                connection.swap(key, fresh.encoded(), number, 0)
            except Beaten:
                pause()
            else:
                connection.count(version_key(group))
                self._bury(connection, group, still, leases)
                return

    def _bury(
        self,
        connection: Connection,
        group: str,
        struck: set[str],
        leases: dict[str, tuple[bytes, bytes]],
    ) -> None:
        """Let the keys of members that were struck off go soon, and not in a day only.

        Members come and go under new ids. A key that is on no list may be missing.
        """
        for member in struck:
            key = member_key(group, member)
            value, number = leases[key]
            keeps = _BURIED + 2 * math.ceil(Lease.decoded(value).ttl)
            with contextlib.suppress(Beaten):  # by one that joins under this id again
                connection.swap(key, value, number, keeps)

    def leases(self, connection: Connection, group: str) -> dict[str, float]:
        """Return for how many seconds at most each lease runs, by the server's uptime."""
        listed = connection.get([list_key(group)]).get(list_key(group))
        members = Listing.decoded(listed[0]).members if listed is not None else ()
        keys = {member_key(group, member): member for member in members}
        values = connection.get(keys) if keys else {}
        uptime = self._time.uptime(connection)
        found = {keys[key]: Lease.decoded(value) for key, (value, _) in values.items()}
        return {
            member: max(0.5, float(lease.until - LAG - uptime))
            for member, lease in found.items()
            if not lease.dead
        }
