"""The tables, made and brought up to date: Aodh's if they are missing, ours by alembic.

A revision of ours is a file in ``versions``. Its number stands in a table of its own, so that
Aodh's chain, which may be in the same database, is not touched.
"""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from hashring.alarms.database import tables
from hashring.alarms.database.engine import Database
from hashring.alarms.errors import DatabaseUnusable

__all__ = ["AODH_HEAD", "HEAD", "migrate", "problem"]

VERSION_TABLE = "hashring_alembic"

HEAD = "0002"
"""The newest revision; a test compares it with the files."""

AODH_HEAD = "010"
"""The revision of Aodh's own chain, of its release 23, that its tables here are of."""

_AODH_VERSION = sa.Table(
    "alembic_version",
    sa.MetaData(),
    sa.Column("version_num", sa.String(32), nullable=False),
    sa.PrimaryKeyConstraint("version_num", name="alembic_version_pkc"),
)
"""Where Aodh's chain keeps its number."""


def problem(database: Database) -> str | None:
    """Return what is wrong with the tables, and what to do; ``None``: nothing is."""
    with database.reading() as connection:
        found = set(sa.inspect(connection).get_table_names())
        version = _version(connection)
        lacking = [table.name for table in tables.THEIRS if table.name not in found]
        old = None if lacking else _too_old(database, connection)
    if old is not None:
        return old
    if not lacking and version == HEAD:
        return None
    if version is not None and version > HEAD:
        return _too_new(database, version)
    what = f"lacks the tables {', '.join(lacking)}" if lacking else f"is at revision {version}"
    return (
        f"the database {database.shown} {what}: run hashring alarm migrate with the same "
        "configuration"
    )


def migrate(database: Database) -> None:
    """Make what is missing, and bring our tables up to date. Doing it twice changes nothing.

    Raises:
        DatabaseUnavailable: the database does not answer.
        DatabaseUnusable: a newer release has changed it.
    """
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    with database.writing() as connection:
        version = _version(connection)
        if version is not None and version > HEAD:
            raise DatabaseUnusable(_too_new(database, version))
        _make_theirs(database, connection)
        config.attributes["connection"] = connection
        config.attributes["version_table"] = VERSION_TABLE
        command.upgrade(config, "head")


def _make_theirs(database: Database, connection: sa.Connection) -> None:
    """Make Aodh's tables, unless they are there.

    Its own program must be able to go on from here: it is told of which revision they are.
    """
    there = set(sa.inspect(connection).get_table_names())
    theirs = list(tables.THEIRS)
    found = [table.name for table in theirs if table.name in there]
    if not found:
        tables.metadata.create_all(connection, tables=theirs)
        _AODH_VERSION.create(connection, checkfirst=True)
        version = _AODH_VERSION.c.version_num
        if connection.execute(sa.select(version)).scalar() is None:
            connection.execute(_AODH_VERSION.insert(), {"version_num": AODH_HEAD})
        return
    if len(found) < len(theirs) or _too_old(database, connection) is not None:
        raise DatabaseUnusable(_before_23(database))


def _too_old(database: Database, connection: sa.Connection) -> str | None:
    """Return that Aodh's tables lack what release 23 has; ``None``: they do not."""
    inspector = sa.inspect(connection)
    for table in tables.THEIRS:
        there = {column["name"] for column in inspector.get_columns(table.name)}
        if any(column.name not in there for column in table.columns):
            return _before_23(database)
    return None


def _before_23(database: Database) -> str:
    return (
        f"the database {database.shown} has the tables of an Aodh before release 23: run its "
        "aodh-dbsync of that release first"
    )


def _version(connection: sa.Connection) -> str | None:
    if not sa.inspect(connection).has_table(VERSION_TABLE):
        return None
    table = sa.table(VERSION_TABLE, sa.column("version_num"))
    found = connection.execute(sa.select(table.c.version_num)).scalar()
    return None if found is None else str(found)


def _too_new(database: Database, version: str) -> str:
    return (
        f"the database {database.shown} was changed by a newer hashring (revision {version}; "
        f"this one knows {HEAD}): install that one"
    )
