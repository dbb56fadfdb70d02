"""The tables of a SQLite store, and what is done in them within a transaction of the caller's.

It knows leases and groups, but no file and no thread.
"""

from __future__ import annotations

import dataclasses
import math
import sqlite3

from hashring.driver import Changes

__all__ = [
    "APPLICATION_ID",
    "JOURNAL",
    "LAYOUT",
    "RESUME",
    "SCHEMA",
    "Look",
    "changed",
    "drop_leases_of",
    "expire",
    "living",
    "look_at",
    "sweep",
]

APPLICATION_ID = 0x68_72_6E_67  # "hrng" in the file's header tells our files from others
LAYOUT = 1  # PRAGMA user_version
_TIME = "CAST(strftime('%s', 'now') AS INTEGER) * 1000000"  # microseconds of the wall clock
RESUME = f"UPDATE counter SET last = max(?, {_TIME})"  # noqa: S608 - of literals alone
SCHEMA = (
    """CREATE TABLE leases (
        "group" TEXT NOT NULL, member TEXT NOT NULL,
        token TEXT NOT NULL, incarnation TEXT,
        boot TEXT NOT NULL, expires REAL NOT NULL,
        record BLOB NOT NULL,
        PRIMARY KEY ("group", member)
    )""",
    # A group's version moves with each join, publish, leave and expiry, but not with a heartbeat.
    # Its numbers come from one counter, so that no group ever sees the same number twice.
    'CREATE TABLE versions ("group" TEXT PRIMARY KEY, version INTEGER NOT NULL)',
    "CREATE TABLE counter (last INTEGER NOT NULL)",
    # It begins with the time in microseconds: the numbers of a file that was removed, and made
    # anew, are greater than those of the one before.
    f"INSERT INTO counter VALUES ({_TIME})",  # noqa: S608 - of literals alone
    # Which file this was when it was last opened for the first time; see File.adopt.
    "CREATE TABLE store (file TEXT NOT NULL, boot TEXT NOT NULL, since REAL)",
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {LAYOUT}",
)

_KEPT = 1024  # the counter's last numbers: who knows none of them reads everything

# What changed since when. Triggers write it, so that a driver of a release before this one, which
# has the same file open, writes it as well. A lease changes first and the counter then, in one
# transaction: so what is changed here belongs to the counter's next number. Each number has a
# random mark, by which an older copy of the file is told from this one.
JOURNAL = (
    """CREATE TABLE IF NOT EXISTS changes (
        "group" TEXT NOT NULL, member TEXT NOT NULL, at INTEGER NOT NULL,
        PRIMARY KEY ("group", member)
    )""",
    "CREATE INDEX IF NOT EXISTS changes_at ON changes (at)",
    "CREATE TABLE IF NOT EXISTS marks (at INTEGER PRIMARY KEY, mark TEXT NOT NULL)",
    *(
        f"""CREATE TRIGGER IF NOT EXISTS {name} AFTER {event} ON leases BEGIN
            INSERT OR REPLACE INTO changes
            SELECT {row}."group", {row}.member, last + 1 FROM counter;
        END"""  # noqa: S608 - of literals alone
        for name, event, row in (
            ("lease_made", "INSERT", "NEW"),
            ("lease_changed", "UPDATE OF token, incarnation, boot, record", "NEW"),
            ("lease_gone", "DELETE", "OLD"),
        )
    ),
    f"""CREATE TRIGGER IF NOT EXISTS counted AFTER UPDATE ON counter BEGIN
        INSERT OR REPLACE INTO marks VALUES (NEW.last, lower(hex(randomblob(8))));
        DELETE FROM marks WHERE at <= NEW.last - {_KEPT};
        DELETE FROM changes WHERE at <= NEW.last - {_KEPT};
    END""",  # noqa: S608 - a number of ours
)


@dataclasses.dataclass(frozen=True)
class Look:
    """A group in one snapshot.

    Attributes:
        changes: since the cursor that was asked for.
        version: the group's; ``None``: it has no lease.
        is_late: some lease has run out, or is of an earlier boot, and still stands.
    """

    changes: Changes
    version: int | None
    is_late: bool


def expire(connection: sqlite3.Connection, group: str, boot: str, now: float) -> None:
    """End the leases of a group that ran out, or are of an earlier boot."""
    if connection.execute(
        'DELETE FROM leases WHERE "group" = ? AND (boot <> ? OR expires <= ?)', (group, boot, now)
    ).rowcount:
        changed(connection, group)


def changed(connection: sqlite3.Connection, group: str) -> int:
    """Give a group a new version, and return it; it has none where it has no lease left."""
    ((version,),) = connection.execute("UPDATE counter SET last = last + 1 RETURNING last")
    connection.execute("INSERT OR REPLACE INTO versions SELECT ?, last FROM counter", (group,))
    connection.execute(
        'DELETE FROM versions WHERE "group" = ? '
        'AND NOT EXISTS (SELECT 1 FROM leases WHERE "group" = ?)',
        (group, group),
    )
    return int(version)


def drop_leases_of(connection: sqlite3.Connection, token: str) -> None:
    """End every lease of one driver."""
    groups = connection.execute(
        'SELECT DISTINCT "group" FROM leases WHERE token = ?', (token,)
    ).fetchall()
    connection.execute("DELETE FROM leases WHERE token = ?", (token,))
    for (group,) in groups:
        changed(connection, group)


def sweep(connection: sqlite3.Connection, boot: str, now: float) -> None:
    """End the leases that ran out in groups that nobody reads any more."""
    for (group,) in connection.execute(
        'SELECT DISTINCT "group" FROM leases WHERE boot <> ? OR expires <= ?', (boot, now)
    ).fetchall():
        expire(connection, group, boot, now)


def look_at(
    connection: sqlite3.Connection, group: str, boot: str, now: float, cursor: bytes | None
) -> Look:
    """Return a group as it stands, in a transaction of the caller's."""
    size, late = connection.execute(
        'SELECT count(*), total(boot <> ? OR expires <= ?) FROM leases WHERE "group" = ?',
        (boot, now, group),
    ).fetchone()
    version = connection.execute(
        'SELECT version FROM versions WHERE "group" = ?', (group,)
    ).fetchone()
    adopted, since = connection.execute("SELECT boot, since FROM store").fetchone()
    # Members of an earlier boot are dead: what the store forgot of them does not matter.
    age = math.inf if since is None or adopted != boot else now - since
    # An older copy that was written over the file may be of a release without a journal.
    (tables,) = connection.execute(
        "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name IN ('changes', 'marks')"
    ).fetchone()
    has_journal = tables == 2
    known = _known(connection, cursor) if has_journal else None
    if known is None:
        rows = connection.execute(
            'SELECT member, record FROM leases WHERE "group" = ?', (group,)
        ).fetchall()
    else:
        rows = connection.execute(
            'SELECT c.member, l.record FROM changes c LEFT JOIN leases l ON l."group" = c."group" '
            'AND l.member = c.member WHERE c."group" = ? AND c.at > ?',
            (group, known),
        ).fetchall()
    changes = Changes(
        {member: record for member, record in rows if record is not None},
        [member for member, record in rows if record is None],
        _cursor(connection) if has_journal else b"",
        age,
        size,
        complete=known is None,
    )
    return Look(changes, version and version[0], bool(late))


def _cursor(connection: sqlite3.Connection) -> bytes:
    """Return what stands for the present: the counter and its mark; empty where it has no mark."""
    row = connection.execute(
        "SELECT at, mark FROM marks WHERE at = (SELECT last FROM counter)"
    ).fetchone()
    return b"" if row is None else f"{row[0]} {row[1]}".encode()


def _known(connection: sqlite3.Connection, cursor: bytes | None) -> int | None:
    """Return the counter at a cursor; ``None`` for one that is too old, or another file's."""
    at, _, mark = (cursor or b"").decode("ascii", "replace").partition(" ")
    row = connection.execute(
        "SELECT at FROM marks WHERE at = ? AND mark = ?", (at, mark)
    ).fetchone()
    return None if row is None else int(row[0])


def living(connection: sqlite3.Connection, boot: str, now: float) -> list[tuple[str, str, float]]:
    """Return the group, the member and the end of each lease that runs."""
    return connection.execute(
        'SELECT "group", member, expires FROM leases WHERE boot = ? AND expires > ?', (boot, now)
    ).fetchall()
