"""A simulated store, as the driver contract describes one."""

from __future__ import annotations

from hashring.driver import incarnation_of
from hashring.errors import LeaseLost, MemberExists
from hashring.protocol.reading import Reading
from hashring.testing.simulation.profiles import TTL

__all__ = ["SimulatedStore"]


class SimulatedStore:
    """A store as the driver contract describes it, on simulated time.

    Args:
        forgetful: its memory began at time 0; else it never forgets anything.
    """

    def __init__(self, *, forgetful: bool) -> None:
        self._leases: dict[str, tuple[bytes, str | None, float]] = {}
        self._memory_since: float | None = 0.0 if forgetful else None
        self._number = 0  # of the last publish; its next one is no less than the time
        self.writes = 0

    def _live(self, member: str, now: float) -> tuple[bytes, str | None, float] | None:
        lease = self._leases.get(member)
        if lease is not None and lease[2] <= now:
            del self._leases[member]
            self.writes += 1
            return None
        return lease

    def record(self, member: str, now: float) -> bytes | None:
        """Return a member's live record."""
        lease = self._live(member, now)
        return None if lease is None else lease[0]

    def join(self, now: float, member: str, record: bytes) -> None:
        """Begin a lease."""
        incarnation = incarnation_of(record)
        lease = self._live(member, now)
        if lease is not None and lease[1] != incarnation:
            raise MemberExists(member)
        self._leases[member] = (record, incarnation, now + TTL)
        self.writes += 1

    def publish(self, now: float, member: str, record: bytes) -> int:
        """Replace a record; return the number of this write."""
        lease = self._live(member, now)
        if lease is None or lease[1] != incarnation_of(record):
            raise LeaseLost(member)
        self._leases[member] = (record, lease[1], lease[2])
        self.writes += 1
        # As the stores do that forget: their own time takes the place of what they forgot.
        self._number = max(self._number + 1, int(now * 1e6))
        return self._number

    def heartbeat(self, now: float, member: str, incarnation: str) -> None:
        """Renew a lease."""
        lease = self._live(member, now)
        if lease is None or lease[1] != incarnation:
            raise LeaseLost(member)
        self._leases[member] = (lease[0], lease[1], now + TTL)

    def read(self, now: float) -> Reading:
        """Return the live records."""
        records = {
            member: lease[0]
            for member in list(self._leases)
            if (lease := self._live(member, now)) is not None
        }
        age = float("inf") if self._memory_since is None else now - self._memory_since
        return Reading(records, age)

    def leave(self, now: float, member: str, incarnation: str) -> None:
        """End a lease."""
        lease = self._live(member, now)
        if lease is not None and lease[1] == incarnation:
            del self._leases[member]
            self.writes += 1

    def forget(self, now: float) -> None:
        """Lose everything, as a server that restarts without persistence does."""
        self._leases.clear()
        self._number = 0
        self._memory_since = now
        self.writes += 1
