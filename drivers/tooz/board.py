"""A group's entries on a tooz backend: what they say, and which of them are dead.

It knows no backend: what was shown, and when, comes in as an argument.
"""

from __future__ import annotations

import dataclasses
from typing import Any
from urllib.parse import unquote

__all__ = ["LINGER", "Board", "Entry"]

LINGER = 3.0  # the backend's own timeout, in leases: for the remains of dead members


@dataclasses.dataclass(frozen=True)
class Entry:
    """One entry on the board, as it was read.

    Attributes:
        name: its name there: the member, the writer's token, and a number.
        member: whose it is.
        token: the driver that wrote it.
        joined: how many had the member's name before, as far as the writer knew.
        number: grows with every write of the same token.
        settled: not a candidate any more.
        ttl: the writer's lease in seconds.
        record: the member's record.
        ours: it has the form of ours; a stranger's is nothing for us to remove.
    """

    name: str
    member: str
    token: str
    joined: int
    number: int
    settled: bool
    ttl: float
    record: bytes
    ours: bool = True

    @classmethod
    def parsed(cls, shown: bytes | str, said: Any, ttl: float) -> Entry:
        """Return what an entry says; a stranger's says nothing, but is shown as a member.

        Args:
            shown: its name.
            said: the capabilities that it has.
            ttl: the lease in seconds that a stranger's counts for.
        """
        name = shown.decode(errors="replace") if isinstance(shown, bytes) else shown
        try:
            quoted, token, _ = name.split("!")
            return cls(
                name=name,
                member=unquote(quoted),
                token=token,
                joined=int(said["joined"]),
                number=int(said["number"]),
                settled=bool(said["settled"]),
                ttl=min(float(said["ttl"]), 86_400.0),
                record=bytes(said["record"]),
            )
        except (ValueError, TypeError, KeyError):
            # A stranger's: it is shown as a member whose record says nothing.
            member = unquote(name.partition("!")[0])
            return cls(name, member, name, 0, 0, True, ttl, b"", ours=False)

    @property
    def rank(self) -> tuple[int, int]:
        """Of two entries of one member, the one with the higher rank is the newer."""
        return self.joined, self.number


class Board:
    """A group's entries as one driver has seen them, and since when."""

    def __init__(self) -> None:
        self.since: dict[str, tuple[int, float]] = {}  # by name: the number, and its first sight
        self.shown: dict[str, bytes] = {}
        self.remains: list[str] = []  # names of entries that have been dead for long

    def living(self, entries: list[Entry], asked: float, answered: float) -> list[Entry]:
        """Return the entries that are not dead, of each token and member the newest.

        Args:
            entries: what the backend showed.
            asked: when it was asked, on the boot-time clock.
            answered: when it had answered.
        """
        self.remains = []
        seen: dict[str, tuple[int, float]] = {}
        newest: dict[tuple[str, str], Entry] = {}
        for entry in entries:
            number, first = self.since.get(entry.name, (None, 0.0))
            # The first sight counts from the answer, and the last from the question.
            seen[entry.name] = (
                (number, first) if number == entry.number else (entry.number, answered)
            )
            still = asked - seen[entry.name][1]
            if still >= entry.ttl:
                if entry.ours and still >= entry.ttl * LINGER:
                    self.remains.append(entry.name)
                continue
            held = newest.get((entry.member, entry.token))
            if held is None or held.rank < entry.rank:
                newest[entry.member, entry.token] = entry
        self.since = seen
        return list(newest.values())
