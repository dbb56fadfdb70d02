"""`Readings`: a member's readings of its group, put together from what changed where a driver can.

It keeps the records of the latest reading and the cursor that belongs to them. What it returns is
always a whole and unchanging :class:`~hashring.driver.Reading`: nobody can tell how it was got.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from types import MappingProxyType

from hashring.backoff import jittered
from hashring.clock import boottime
from hashring.driver import Changes, Driver, Reading
from hashring.errors import StoreUnavailable

__all__ = ["Readings"]

log = logging.getLogger("hashring")

_CHECK = 60.0
"""Seconds between two checks of what was put together, by reading everything. Shorter: a defect of
a driver misleads a member for less time, and the store sends more."""

_CHECK_MEMBER = 10.0
"""The same for each member of the group, if that is more: so what the checks of n members cost the
store grows with n, and not with its square: a record of each in ten seconds."""

_MOST_NAMED = 5


class Readings:
    """Reads one group by one driver, for one thread.

    Args:
        driver: the store.
        group: the group's id.
        name: of the member that reads, for the log.
        now: the clock by which checks are made, in seconds.

    Attributes:
        acks: how many readings in a row brought other records and no other view.
    """

    def __init__(
        self, driver: Driver, group: str, name: str, now: Callable[[], float] = boottime
    ) -> None:
        self._driver = driver
        self._group = group
        self._name = name
        self._now = now
        self._records: Mapping[str, bytes] = MappingProxyType({})
        self._cursor: bytes | None = None
        self._is_trusted = True
        self.acks = 0
        self._last: tuple[str | None, Mapping[str, bytes]] = (None, self._records)
        self._largest = 0  # the most members since the last check
        self._check_at = self._next_check()

    def read(self) -> Reading:
        """Return the group as it is in the store now, after the call began.

        Raises:
            StoreUnavailable: the store could not be read.
        """
        if not self._is_trusted:
            return self._driver.read(self._group)
        reading = self._by_changes()
        if reading is None:
            return self._driver.read(self._group)
        size = len(reading.records)
        if self._now() >= self._check_at:
            self._largest = size
            reading = self._checked(reading)
            self._check_at = self._next_check()
        elif size > self._largest:
            self._largest = size
            self._check_at = max(self._check_at, self._next_check())
        return reading

    def _next_check(self) -> float:
        return self._now() + jittered(max(_CHECK, _CHECK_MEMBER * self._largest))

    def note(self, reading: Reading, view: str | None) -> None:
        """Note the id of the view that the latest reading showed."""
        before, records = self._last
        self._last = view, reading.records
        only_acks = view == before and reading.records != records
        self.acks = self.acks + 1 if only_acks else 0

    def _by_changes(self) -> Reading | None:
        """Return a reading that was put together; ``None`` where the driver cannot."""
        for cursor in (self._cursor, None):
            # Until all is put together nothing is known: an error costs one reading of everything.
            self._cursor = None
            try:
                changes = self._driver.read_since(self._group, cursor)
            except StoreUnavailable:
                self._cursor = cursor  # not this one: an answer was lost, and there will be another
                raise
            if changes is None:
                return None
            records = self._put_together(changes, cursor)
            if records is not None:
                self._records, self._cursor = records, changes.cursor
                return Reading(records, changes.memory_age)
        log.error(
            "%s: %s reads everything from now on: read_since() of %s brought records of another "
            "number of members than it told; please tell the driver's author",
            self._group,
            self._name,
            self._driver.url,
        )
        self._is_trusted = False
        return None

    def _put_together(self, changes: Changes, cursor: bytes | None) -> Mapping[str, bytes] | None:
        """Return all records; ``None`` where the changes cannot be all that there were."""
        if cursor is None and not changes.complete:
            return None
        if not (changes.changed or changes.gone or changes.complete):
            records = self._records
        else:
            records = MappingProxyType(changes.applied_to(self._records))
        return records if len(records) == changes.size else None

    def _checked(self, before: Reading) -> Reading:
        """Read everything, and again what changed; stop trusting the driver where they differ.

        What changed between the first two readings is no difference: the third, of what changed
        since the first, names it. The last reading is the one that counts, since a wait begins
        with it.
        """
        cursor, self._cursor = self._cursor, None
        whole = self._driver.read(self._group)
        later = self._driver.read_since(self._group, cursor)
        if later is None:
            return self._driver.read(self._group)
        differing = {
            member
            for member in before.records.keys() | whole.records.keys()
            if before.records.get(member) != whole.records.get(member)
        }
        wrong = sorted(differing - later.changed.keys() - {*later.gone})
        records = self._put_together(later, cursor)
        if records is not None and (later.complete or not wrong):
            self._records, self._cursor = records, later.cursor
            return Reading(records, later.memory_age)
        log.error(
            "%s: %s reads everything from now on: read_since() of %s had missed what became of "
            "%s; please tell the driver's author",
            self._group,
            self._name,
            self._driver.url,
            ", ".join(wrong[:_MOST_NAMED]) or "some member",
        )
        self._is_trusted = False
        return self._driver.read(self._group)
