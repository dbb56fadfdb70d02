"""A group as somebody sees it who is no member: what ``hashring group`` shows, and a page may.

::

    description   the answers as values, and as JSON
    records       one reading, parsed: the view, and what each record lets its member hold
    describe      who is in, who waits for whom, what is wrong
    owner         whose a key is, who may hold it now, and why they differ
    preview       what would move if members came or went
    stopping      whether a member may be stopped now
    observer      reads a store, twice a second at most, and joins nothing

All but ``observer`` are pure: a reading in, a value out. Imports :mod:`hashring.driver` and the
protocol; no thread and no partition.
"""

from hashring.observe.description import (
    FreezeDescription,
    GroupDescription,
    MemberDescription,
    Ownership,
    Preview,
    StopAdvice,
    Waiting,
)
from hashring.observe.observer import Observer

__all__ = [
    "FreezeDescription",
    "GroupDescription",
    "MemberDescription",
    "Observer",
    "Ownership",
    "Preview",
    "StopAdvice",
    "Waiting",
]
