"""The Redis driver's one Lua script, ``script.lua``: every operation on a group.

It runs on the server's own time. It knows Redis and the keys of a group, but no connections.

The keys of a group share one hash slot:

=========  ====================================================================================
group      hash: which server this is, since when, the group's version (its name is the channel),
           for each of the last versions ``m<version>``, the time at which it was made, and for
           members ``q:<member>``, the patches of the last changes of its record (``patches``)
leases     sorted set: member -> the time at which its lease runs out, in microseconds of ``TIME``
owners     hash: member -> ``ttl sequence token incarnation`` of the lease
records    hash: member -> record
changes    sorted set: member -> the version that last changed it, removals included
writers    hash: driver token -> ``sequence time`` of its last write, while it has a lease, and
           for a while after
=========  ====================================================================================

Each but the first holds an entry for the empty name, which no member can have. So none of them
is ever empty, and one that is missing was forgotten: by a flush, an eviction, or a restart. They
all expire a day after the last member went, or after the first call where nobody ever joined.

A kept patch says from which version to which it leads, and counts only where ``changes`` has the
latter: so a driver of a release that knows none, or keeps its own under ``p:`` or ``d:``, may write
into the same group.

A call names the history that it knows: the epoch, a version, and that version's mark. An answer
has ``=`` for an epoch and a mark that are still the same. Where the group has a lower version, or
another mark for that one, it is an older copy that somebody put back: then it starts a new epoch,
with a young memory. A join must know the present epoch, and a version since the last time that
tokens without a lease were dropped from ``writers``. So a join that was held up on its way is
refused although nothing is left of its driver.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

__all__ = ["PARTS", "SAME", "SCRIPT", "SHA1"]

PARTS = ("group", "leases", "owners", "records", "changes", "writers")

SAME = b"="
"""What stands in an answer for an epoch or a mark that is the one that the caller named."""

SCRIPT = Path(__file__).with_name("script.lua").read_text(encoding="utf-8")

SHA1 = hashlib.sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()
