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

__all__ = ["HEAD", "migrate", "problem"]

VERSION_TABLE = "hashring_alembic"

HEAD = "0002"
"""The newest revision; a test compares it with the files."""


def problem(database: Database) -> str | None:
    """Return what is wrong with the tables, and what to do; ``None``: nothing is."""
    with database.reading() as connection:
        found = set(sa.inspect(connection).get_table_names())
        version = _version(connection)
    lacking = [table.name for table in tables.THEIRS if table.name not in found]
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
        tables.metadata.create_all(connection, tables=list(tables.THEIRS), checkfirst=True)
        config.attributes["connection"] = connection
        config.attributes["version_table"] = VERSION_TABLE
        command.upgrade(config, "head")


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
