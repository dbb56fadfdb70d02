"""What changed in a group since a cursor, for a driver that sees every change itself.

It numbers changes, and keeps the number at which each member last changed or went: all that live,
and of those that went the latest. This module knows no store.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Mapping

from hashring.driver import Changes

__all__ = ["Journal"]

_MOST_GONE = 64
"""Members that went and are still told of, beside twice as many as live. More: memory; fewer: who
has not read for long reads everything sooner."""


class Journal:
    """The changes of one group, for as long as somebody saw them all.

    Attributes:
        version: the number of the last change.
    """

    def __init__(self) -> None:
        self.version = 0
        self._history = uuid.uuid4().hex  # a journal that is begun anew has another
        self._changed_at: dict[str, int] = {}  # by member, the latest last
        self._floor = 0  # who knows less than this version must read everything

    def note(self, members: Iterable[str], live: Collection[str]) -> None:
        """Note that members have changed or went at once.

        Args:
            members: which.
            live: those that live now.
        """
        self.version += 1
        for member in members:
            self._changed_at.pop(member, None)
            self._changed_at[member] = self.version
        if len(self._changed_at) > 2 * len(live) + _MOST_GONE:
            self._floor = self.version
            self._changed_at = {
                member: at for member, at in self._changed_at.items() if member in live
            }

    def since(
        self, cursor: bytes | None, records: Mapping[str, bytes], memory_age: float
    ) -> Changes:
        """Return what changed since a cursor; everything where that cannot be told.

        Args:
            cursor: of this journal or of any other; ``None``: of none.
            records: of the live members, as they are now.
            memory_age: see :class:`hashring.driver.Reading`.
        """
        history, _, known = (cursor or b"").decode("ascii", "replace").partition(" ")
        now = f"{self._history} {self.version}".encode()
        if history != self._history or int(known) < self._floor:
            return Changes(dict(records), (), now, memory_age, len(records), complete=True)
        late = []
        for member in reversed(self._changed_at):
            if self._changed_at[member] <= int(known):
                break
            late.append(member)
        return Changes(
            {member: records[member] for member in late if member in records},
            [member for member in late if member not in records],
            now,
            memory_age,
            len(records),
        )
