"""What a store says of a group at one moment.

Values only. `hashring.driver` hands them on under its own name, for the authors of drivers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

__all__ = ["MAX_RECORD", "Reading", "is_young"]

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
