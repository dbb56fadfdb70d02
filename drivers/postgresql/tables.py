"""The table, and every statement that touches it. Connects to nothing.

One table has three kinds of rows: the *store's* (no group, no member), a *group's* (no member), and
a *member's*, which is its lease. Members' ids have up to 2,048 bytes, more than an index takes, so
rows are found by the ids' SHA-256.

The column ``written`` holds the number of the transaction that wrote the row last. PostgreSQL
keeps the same number with the row itself (``xmin``). They differ where somebody else wrote the
row: a restored dump, an older copy that was put back, a logical replica. Such a row tells
nothing of what was confirmed, so the driver takes it for a store that forgot.
"""

from __future__ import annotations

import re

__all__ = ["Statements", "identifier", "migration"]

_TABLE = """\
CREATE TABLE IF NOT EXISTS {table} (
    in_group bytea NOT NULL,  -- SHA-256 of the group's id; empty in the store's own row
    id bytea NOT NULL,        -- SHA-256 of the member's id; empty in a group's own row
    name bytea NOT NULL,      -- the id of the member, or of the group, in UTF-8
    token text,               -- the driver that holds the lease
    incarnation bytea,
    sequence bigint,          -- of the record, by its driver's count
    record bytea,
    ttl double precision,     -- seconds
    expires timestamptz,      -- of a lease; of a group's row: when it may be removed
    identity text,            -- of the store's row: the server that was seen last
    since timestamptz,        -- since when nothing was forgotten
    written bigint NOT NULL,  -- the transaction that wrote the row, as a driver knows it
    PRIMARY KEY (in_group, id)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500)"""


def identifier(text: str) -> str:
    """Convert an option to a name of SQL that needs no thought about quoting.

    >>> identifier("hashring")
    'hashring'
    """
    if not re.fullmatch(r"[a-z_][a-z0-9_]{0,39}", text):
        raise ValueError("must be up to 40 lower-case letters, digits and _, no digit first")
    return text


def _spelled(table: str, schema: str | None) -> str:
    return f'"{schema}"."{table}"' if schema else f'"{table}"'


def migration(
    table: str = "hashring",
    schema: str | None = None,
    *,
    members: str | None = None,
    watchers: str | None = None,
) -> str:
    """Return the SQL that makes what the driver needs, for a database whose roles may not.

    Args:
        table: its name, as the URL's option ``table`` has it.
        schema: its schema, as the option ``schema``; ``None``: the first of the search path.
        members: the role that members log in as; it is granted what they need.
        watchers: a role that may look, and not join.

    Example:
        >>> print(migration(members="agent").splitlines()[-1])
        GRANT SELECT, INSERT, UPDATE, DELETE ON "hashring" TO "agent";
    """
    name = _spelled(identifier(table), identifier(schema) if schema else None)
    lines = [_TABLE.format(table=name) + ";"]
    for role, rights in ((members, "SELECT, INSERT, UPDATE, DELETE"), (watchers, "SELECT")):
        if role is not None:
            lines.append(f'GRANT {rights} ON {name} TO "{identifier(role)}";')
    return "\n".join(lines) + "\n"


_NOW = "clock_timestamp()"
_XID = "pg_current_xact_id()::text::bigint"
_LEASE = "make_interval(secs => {}::float8)"
_DAY = "interval '1 day'"


def _epoch(expression: str) -> str:
    return f"extract(epoch FROM {expression})::float8"


def _ours(row: str) -> str:
    """Return the test that a row was written by a driver, and by nobody since."""
    return f"({row}.xmin::text::bigint = ({row}.written & 4294967295))"


def _told(table: str, after: str, also: str = "") -> str:
    """Return the part of a statement that gives the group a new version, after what changed it."""
    return (
        f"told AS (UPDATE {table} AS g SET written = {_XID}, expires = {_NOW} + {_DAY}{also}"
        f" WHERE g.in_group = $1::bytea AND g.id = '' AND EXISTS (SELECT FROM {after})"
        f" AND {_ours('g')} RETURNING g.written)"
    )


_NOTIFIED = "(SELECT pg_notify({channel}::text, written::text)::text FROM told)"


class Statements:
    """The statements, for one table.

    Where a parameter is named in a comment, that is its place. What writes a group's rows
    takes the group's lock first, in the same transaction (:attr:`lock`); a heartbeat writes one
    row alone, and needs none.
    """

    def __init__(self, table: str, schema: str | None) -> None:
        self.table = t = _spelled(table, schema)
        self.create = _TABLE.format(table=t)
        self.lock = "SELECT pg_advisory_xact_lock($1::bigint)::text"
        self.share = "SELECT pg_advisory_xact_lock_shared($1::bigint)::text"

        # group -> the rows of the group and of the store
        self.read = (
            f"SELECT r.in_group, r.id, r.name, r.record, {_epoch('r.expires - n.now')}, r.ttl,"
            f" r.identity, {_epoch('n.now - r.since')}, r.written, {_ours('r')}, {_epoch('n.now')}"
            f" FROM (SELECT {_NOW} AS now) AS n LEFT JOIN {t} AS r ON r.in_group IN ($1::bytea, '')"
        )
        # group -> the version of the group, and the seconds until its next lease runs out
        self.look = (
            f"SELECT (SELECT written FROM {t} WHERE in_group = $1::bytea AND id = ''),"
            f" (SELECT {_epoch(f'min(expires) - {_NOW}')} FROM {t}"
            " WHERE in_group = $1::bytea AND id <> '')"
        )
        # groups that nobody has been in for a day. What a member writes meanwhile is newer.
        self.tidy = (
            f"DELETE FROM {t} WHERE expires < {_NOW} AND in_group IN (SELECT g.in_group"
            f" FROM {t} AS g"
            f" WHERE g.id = '' AND g.in_group <> '' AND g.expires < {_NOW} AND NOT EXISTS (SELECT"
            f" FROM {t} AS r WHERE r.in_group = g.in_group AND r.id <> ''"
            f" AND r.expires > {_NOW} - {_DAY}))"
        )
        self._of_memory(t)
        self._of_leases(t)
        self._of_onlookers(t)

    def _of_memory(self, t: str) -> None:
        """Make what settles who lives, and since when nothing was forgotten."""
        # identity: the store's row is of this server, or is begun anew
        self.know_store = (
            f"INSERT INTO {t} AS s (in_group, id, name, identity, since, written)"
            f" VALUES ('', '', '', $1::text, {_NOW}, {_XID}) ON CONFLICT (in_group, id) DO UPDATE"
            " SET identity = excluded.identity, since = excluded.since, written = excluded.written"
            f" WHERE s.identity IS DISTINCT FROM excluded.identity OR s.since > {_NOW}"
            f" OR NOT {_ours('s')}"
        )
        # group, name, whether it forgot: the group's row, begun anew where it did
        self.know_group = (
            f"INSERT INTO {t} AS g (in_group, id, name, since, expires, written)"
            f" VALUES ($1::bytea, '', $2::bytea, CASE WHEN $3::bool THEN {_NOW} END,"
            f" {_NOW} + {_DAY}, {_XID}) ON CONFLICT (in_group, id) DO UPDATE"
            f" SET since = {_NOW}, expires = excluded.expires, written = excluded.written"
            f" WHERE $3::bool OR g.since > {_NOW} OR NOT {_ours('g')} OR EXISTS (SELECT FROM {t}"
            f" AS r WHERE r.in_group = $1::bytea AND r.id <> '' AND NOT {_ours('r')})"
        )
        # group: no lease runs for longer than its ttl, also where the clock was set back
        self.shorten = (
            f"UPDATE {t} AS r SET expires = least(r.expires, {_NOW} + {_LEASE.format('r.ttl')}),"
            f" written = {_XID} WHERE r.in_group = $1::bytea AND r.id <> ''"
            f" AND (r.expires > {_NOW} + {_LEASE.format('r.ttl')} OR NOT {_ours('r')})"
        )
        # group, channel: what ran out is removed. Where that is all of them, the clock may have
        # been set forward under them: then nobody knows for how long they hold on.
        everybody = (
            "(SELECT count(*) FROM gone) ="
            f" (SELECT count(*) FROM {t} WHERE in_group = $1::bytea AND id <> '')"
        )
        self.reap = (
            f"WITH gone AS (DELETE FROM {t} WHERE in_group = $1::bytea AND id <> ''"
            f" AND expires <= {_NOW} RETURNING 1), "
            + _told(t, "gone", f", since = CASE WHEN {everybody} THEN {_NOW} ELSE since END")
            + f" SELECT {_NOTIFIED.format(channel='$2')}"
        )

    def _of_leases(self, t: str) -> None:
        """Make what writes members' rows, and tells of it."""
        mine = (
            "r.in_group = $1::bytea AND r.id = $2::bytea AND r.token = $3::text"
            " AND r.incarnation IS NOT DISTINCT FROM $4::bytea"
            f" AND r.expires > {_NOW} AND {_ours('r')}"
        )

        # group, member, token, incarnation, name, sequence, record, ttl, channel
        self.join = (
            f"WITH done AS (INSERT INTO {t} AS r (in_group, id, token, incarnation, name, sequence,"
            " record, ttl, expires, written) VALUES ($1::bytea, $2::bytea, $3::text, $4::bytea,"
            " $5::bytea, $6::bigint, $7::bytea, $8::float8,"
            f" {_NOW} + {_LEASE.format('$8')}, {_XID})"
            " ON CONFLICT (in_group, id) DO UPDATE SET sequence = excluded.sequence,"
            " record = excluded.record, ttl = excluded.ttl, expires = excluded.expires,"
            " written = excluded.written WHERE r.token = excluded.token"
            " AND r.incarnation IS NOT DISTINCT FROM excluded.incarnation RETURNING 1), "
            + _told(t, "done")
            + " SELECT (SELECT count(*) FROM done), r.incarnation,"
            f" {_epoch(f'r.expires - {_NOW}')},"
            f" {_NOTIFIED.format(channel='$9')} FROM (SELECT) AS one LEFT JOIN {t} AS r"
            " ON r.in_group = $1::bytea AND r.id = $2::bytea"
        )
        # group, member, token, incarnation, sequence, record, ttl, channel
        self.seize = (
            f"WITH done AS (UPDATE {t} AS r SET token = $3::text, incarnation = $4::bytea,"
            " sequence = $5::bigint, record = $6::bytea, ttl = $7::float8,"
            f" expires = {_NOW} + {_LEASE.format('$7')}, written = {_XID}"
            " WHERE r.in_group = $1::bytea AND r.id = $2::bytea"
            f" AND r.expires > {_NOW} AND {_ours('r')} RETURNING 1), "
            + _told(t, "done")
            + f" SELECT (SELECT count(*) FROM done), {_NOTIFIED.format(channel='$8')}"
        )
        # group, member, token, incarnation, sequence, record, channel
        self.publish = (
            f"WITH done AS (UPDATE {t} AS r SET sequence = $5::bigint, record = $6::bytea,"
            f" written = {_XID} WHERE {mine} RETURNING 1), "
            + _told(t, "done")
            + f" SELECT (SELECT count(*) FROM done), {_NOTIFIED.format(channel='$7')}, {_XID}"
        )
        # group, member, token, incarnation, ttl, the latest that the time may be -> the record's
        # sequence, the time, and whether the lease is another's
        self.heartbeat = (
            f"WITH done AS (UPDATE {t} AS r SET ttl = $5::float8, written = {_XID},"
            f" expires = {_NOW} + {_LEASE.format('$5')} WHERE {mine}"
            f" AND {_epoch(_NOW)} <= $6::float8 RETURNING r.sequence)"
            f" SELECT (SELECT sequence FROM done), {_epoch(_NOW)}, EXISTS (SELECT FROM {t} AS r"
            " WHERE r.in_group = $1::bytea AND r.id = $2::bytea AND r.token <> $3::text"
            f" AND r.expires > {_NOW} AND {_ours('r')})"
        )
        # group, member, token, channel
        self.leave = (
            f"WITH gone AS (DELETE FROM {t} WHERE in_group = $1::bytea AND id = $2::bytea"
            " AND token = $3::text RETURNING 1), "
            + _told(t, "gone")
            + f" SELECT {_NOTIFIED.format(channel='$4')}"
        )

    def _of_onlookers(self, t: str) -> None:
        """Make what people ask who look on."""
        # the names of the groups that have members
        self.groups = (
            f"SELECT g.name FROM {t} AS g WHERE g.id = '' AND g.in_group <> '' AND EXISTS (SELECT"
            f" FROM {t} AS r WHERE r.in_group = g.in_group AND r.id <> '' AND r.expires > {_NOW})"
        )
        # group -> members' names, and the seconds that their leases run
        self.leases = (
            f"SELECT name, {_epoch(f'expires - {_NOW}')} FROM {t}"
            f" WHERE in_group = $1::bytea AND id <> '' AND expires > {_NOW}"
        )
