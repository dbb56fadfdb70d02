"""What a store says of a group at one moment.

Values only. `hashring.driver` hands them on under its own name, for the authors of drivers.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

__all__ = ["MAX_RECORD", "Changes", "Reading", "is_young"]

MAX_RECORD = 128 * 1024
"""The largest record, in bytes, that a driver must carry and that a member reads."""


class Reading(NamedTuple):
    """What a store says of a group at one moment (rule 4 of ``docs/protocol.md``).

    Attributes:
        records: the live members' records by member id, read now, never from a cache.
        memory_age: seconds for which the store has surely forgotten nothing; ``math.inf`` if it
            never forgets.
    """

    records: Mapping[str, bytes]
    memory_age: float


class Changes(NamedTuple):
    """What a store says has changed in a group since a cursor; with it, a :class:`Reading`.

    Attributes:
        changed: by member id, the records that are new, or other than at the cursor, as they are
            now. Where it is ``complete``, the records of all live members.
        gone: the ids of those members that were live at the cursor and are not now. Ids of others
            may be among them.
        cursor: what to give to the next call, so that it brings what changes from now on.
        memory_age: as in a :class:`Reading`.
        size: how many live members there are now. Whoever comes to another number has missed
            something, and reads everything.
        complete: the cursor is too old, or of another history: everything known before is void.
    """

    changed: Mapping[str, bytes]
    gone: Collection[str]
    cursor: bytes
    memory_age: float
    size: int
    complete: bool = False

    def applied_to(self, records: Mapping[str, bytes]) -> dict[str, bytes]:
        """Return the live members' records as they are now.

        Args:
            records: those at the cursor; ignored where this is ``complete``.

        Example:
            >>> changes = Changes({"b": b"new"}, ["a"], b"7", 60.0, size=2)
            >>> changes.applied_to({"a": b"old", "b": b"old", "c": b"old"})
            {'b': b'new', 'c': b'old'}
        """
        if self.complete:
            return dict(self.changed)
        now = {**records, **self.changed}
        for member in self.gone:
            now.pop(member, None)
        return now


def is_young(reading: Reading, ttl: float) -> bool:
    """Return whether the store may have forgotten members that still hold slots.

    Args:
        reading: what the store said; an age that is not a number counts as young.
        ttl: the group's lease in seconds.

    Example:
        >>> is_young(Reading({}, 3.0), 10.0), is_young(Reading({}, 10.0), 10.0)
        (True, False)
    """
    return not reading.memory_age >= ttl
