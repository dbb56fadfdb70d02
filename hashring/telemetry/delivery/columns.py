"""StoredColumns: what batches of one spool have in common, kept once in its file.

Most of a batch is what was measured of what, and a target says the same in every poll. So columns
of some size have a row of their own (``series``), and the batches name it. A row that no batch
names any more is kept for the next poll, as long as those that are kept so are few; in a file that
was taken over there is no next poll, so it goes at once.

This module knows the table, but no transaction: its caller has begun one, and says when it is over.
"""

from __future__ import annotations

import dataclasses
import sqlite3
from collections import OrderedDict
from collections.abc import Iterable, Mapping

__all__ = ["SERIES", "StoredColumns"]

SERIES = "CREATE TABLE series (id INTEGER PRIMARY KEY, columns BLOB NOT NULL)"

_KEPT = 32 * 1024 * 1024
"""Bytes of columns that no batch names, at most: some 200,000 series, for the next poll."""


_IN_MEMORY = 64 * 1024 * 1024
"""Bytes of columns that are recognised, at most. Others wait in the file alone, while a sink is
away: should they come again, they are written again."""


@dataclasses.dataclass(slots=True)
class _Stored:
    size: int
    batches: int = 0
    columns: bytes | None = None  # None: in the file alone


class StoredColumns:
    """The columns in one spool's file, and how many batches name each."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._stored: dict[int, _Stored] = {}
        self._ids: dict[bytes, int] = {}
        self._idle: OrderedDict[int, int] = OrderedDict()  # no batch names them; the oldest first
        self._idle_bytes = 0
        self._held: OrderedDict[int, int] = OrderedDict()  # in memory; the last one used is last
        self._held_bytes = 0
        self._last = 0

    def load(self) -> int:
        """Read what a file holds that was taken over; return the bytes that batches name."""
        ask = self._connection.execute
        ask(
            "DELETE FROM series WHERE id NOT IN "
            "(SELECT series FROM batches WHERE series IS NOT NULL)"
        )
        for id_, size, batches in ask(
            "SELECT series.id, length(columns), count(*) FROM series "
            "JOIN batches ON batches.series = series.id GROUP BY series.id"
        ):
            self._stored[id_] = _Stored(size, batches)
            self._last = max(self._last, id_)
        return sum(stored.size for stored in self._stored.values())

    def add(self, all_columns: Iterable[bytes]) -> dict[bytes, int]:
        """Write those that are new, within the caller's transaction; return the ids of all."""
        ids: dict[bytes, int] = {}
        new: list[tuple[int, bytes]] = []
        for columns in all_columns:
            if columns not in ids:
                id_ = self._ids.get(columns)
                if id_ is None:
                    id_ = self._last + len(new) + 1
                    new.append((id_, columns))
                ids[columns] = id_
        self._connection.executemany("INSERT INTO series (id, columns) VALUES (?, ?)", new)
        return ids

    def added(self, ids: Mapping[bytes, int], all_columns: Iterable[bytes]) -> int:
        """Note what was committed: a batch for each of these; return how many bytes more count."""
        more = 0
        for columns, id_ in ids.items():
            if id_ not in self._stored:
                self._stored[id_] = _Stored(len(columns), columns=columns)
                self._ids[columns] = id_
                self._last = max(self._last, id_)
                self._held[id_] = len(columns)
                self._held_bytes += len(columns)
            self._held.move_to_end(id_)
        for columns in all_columns:
            id_ = ids[columns]
            stored = self._stored[id_]
            if not stored.batches:
                more += stored.size
                self._idle_bytes -= self._idle.pop(id_, 0)
            stored.batches += 1
        while self._held_bytes > _IN_MEMORY:
            self._release(next(iter(self._held)))
        return more

    def _release(self, id_: int) -> None:
        """Hold columns in memory no more."""
        stored = self._stored[id_]
        if stored.columns is not None:
            self._held_bytes -= self._held.pop(id_)
            del self._ids[stored.columns]
            stored.columns = None

    def counts(self, columns: bytes) -> bool:
        """Whether some batch names these."""
        id_ = self._ids.get(columns)
        return id_ is not None and self._stored[id_].batches > 0

    def of(self, id_: int) -> bytes:
        """Return columns by their id; nothing, which is not columns, where they are missing."""
        stored = self._stored.get(id_)
        if stored is not None and stored.columns is not None:
            return stored.columns
        row = self._connection.execute("SELECT columns FROM series WHERE id = ?", (id_,)).fetchone()
        return b"" if row is None else bytes(row[0])

    def surplus(self, gone: Mapping[int, int]) -> list[int]:
        """Delete, within the caller's transaction, what is too much once so many batches are gone.

        Args:
            gone: by the columns' id, how many batches that name it are deleted.

        Returns:
            The ids of those that were deleted.
        """
        idle = [id_ for id_, count in gone.items() if self._stored[id_].batches == count]
        left = self._idle_bytes + sum(self._stored[id_].size for id_ in idle)
        found: list[int] = []
        for id_ in [*self._idle, *idle]:
            is_own = self._stored[id_].columns is not None
            if is_own and left <= _KEPT:
                continue
            left -= self._stored[id_].size
            found.append(id_)
        self._connection.executemany("DELETE FROM series WHERE id = ?", [(id_,) for id_ in found])
        return found

    def removed(self, gone: Mapping[int, int], deleted: Iterable[int]) -> int:
        """Note what was committed; return how many bytes count no more."""
        less = 0
        for id_, count in gone.items():
            stored = self._stored[id_]
            stored.batches -= count
            if not stored.batches:
                less += stored.size
                self._idle[id_] = stored.size
                self._idle_bytes += stored.size
        for id_ in deleted:
            self._idle_bytes -= self._idle.pop(id_)
            self._release(id_)
            del self._stored[id_]
        return less
