"""The tables of a SQLite store, and what is done in them within a transaction of the caller's.

It knows leases and groups, but no file and no thread.
"""

from __future__ import annotations

import math
import sqlite3

__all__ = [
    "APPLICATION_ID",
    "LAYOUT",
    "SCHEMA",
    "changed",
    "drop_leases_of",
    "expire",
    "living",
    "look_at",
    "sweep",
]

APPLICATION_ID = 0x68_72_6E_67  # "hrng" in the file's header tells our files from others
LAYOUT = 1  # PRAGMA user_version
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
    "INSERT INTO counter VALUES (0)",
    # Which file this was when it was last opened for the first time; see File.adopt.
    "CREATE TABLE store (file TEXT NOT NULL, boot TEXT NOT NULL, since REAL)",
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {LAYOUT}",
)


def expire(connection: sqlite3.Connection, group: str, boot: str, now: float) -> None:
    """End the leases of a group that ran out, or are of an earlier boot."""
    if connection.execute(
        'DELETE FROM leases WHERE "group" = ? AND (boot <> ? OR expires <= ?)', (group, boot, now)
    ).rowcount:
        changed(connection, group)


def changed(connection: sqlite3.Connection, group: str) -> None:
    """Give a group a new version; none where it has no lease left."""
    connection.execute("UPDATE counter SET last = last + 1")
    connection.execute("INSERT OR REPLACE INTO versions SELECT ?, last FROM counter", (group,))
    connection.execute(
        'DELETE FROM versions WHERE "group" = ? '
        'AND NOT EXISTS (SELECT 1 FROM leases WHERE "group" = ?)',
        (group, group),
    )


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
    connection: sqlite3.Connection, group: str, boot: str, now: float
) -> tuple[list[tuple[str, str, float, bytes]], int | None, float]:
    """Return a group's rows and version, and the store's memory age, in one snapshot."""
    rows = connection.execute(
        'SELECT member, boot, expires, record FROM leases WHERE "group" = ?', (group,)
    ).fetchall()
    version = connection.execute(
        'SELECT version FROM versions WHERE "group" = ?', (group,)
    ).fetchone()
    adopted, since = connection.execute("SELECT boot, since FROM store").fetchone()
    # Members of an earlier boot are dead: what the store forgot of them does not matter.
    age = math.inf if since is None or adopted != boot else now - since
    return rows, version and version[0], age


def living(connection: sqlite3.Connection, boot: str, now: float) -> list[tuple[str, str, float]]:
    """Return the group, the member and the end of each lease that runs."""
    return connection.execute(
        'SELECT "group", member, expires FROM leases WHERE boot = ? AND expires > ?', (boot, now)
    ).fetchall()
