"""The database opened: URLs, timeouts, SQLite's ways, and errors as ours, without secrets.

Every statement has a bound: a connection that hangs must not outlast a lease.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy import exc

from hashring import clock
from hashring.alarms.errors import DatabaseUnavailable, DatabaseUnusable
from hashring.backoff import Backoff
from hashring.errors import MissingDependency
from hashring.url import masked, masked_prose

__all__ = ["Database", "default_url", "microseconds"]

T = TypeVar("T")

_CONNECT = 5
"""Seconds for a connection to be made."""

_STATEMENT = 10
"""Seconds for one statement, its waiting for others' locks included."""

_DRIVERS = {
    "postgresql": "postgresql+psycopg",
    "postgres": "postgresql+psycopg",
    "mysql": "mysql+pymysql",
    "mariadb": "mariadb+pymysql",
}
"""What a URL without a driver means."""

_FULL = ("disk is full", "No space left", "table is full")
"""What databases say of a full disk."""

_EXTRAS = {"psycopg": ("psycopg", "postgresql"), "pymysql": ("PyMySQL", "mysql")}


def default_url(folder: Path) -> str:
    """Return the URL of the database in a state folder.

    >>> default_url(Path("/var/lib/hashring"))
    'sqlite:////var/lib/hashring/alarms.db'
    """
    return f"sqlite:///{quote(str((folder / 'alarms.db').absolute()))}"


def microseconds(seconds: float) -> int:
    """Return seconds as the whole number that tables have.

    >>> microseconds(1.5)
    1500000
    """
    return round(seconds * 1_000_000)


class Database:
    """The alarms' database. It may be used by several threads.

    Args:
        url: SQLAlchemy's: ``sqlite:////path/file.db``, ``postgresql://user:password@host/name``,
            ``mysql://...``.

    Attributes:
        shown: its URL without secrets.
        is_sqlite: it is a file of SQLite, which evaluators of one host share.
        file: that file.

    Raises:
        DatabaseUnusable: the URL is wrong.
        MissingDependency: the client library of the database is not installed.
    """

    def __init__(self, url: str) -> None:
        self.shown = masked(url)
        try:
            parsed = sa.make_url(url)
        except (exc.ArgumentError, ValueError):
            raise DatabaseUnusable(
                f"the database {self.shown}: not a URL such as sqlite:////var/lib/alarms.db or "
                "postgresql://user:password@host/name"
            ) from None
        parsed = parsed.set(drivername=_DRIVERS.get(parsed.drivername, parsed.drivername))
        self.is_sqlite = parsed.get_backend_name() == "sqlite"
        self.file = Path(parsed.database) if self.is_sqlite and parsed.database else None
        try:
            self._engine = sa.create_engine(parsed, **self._options(parsed))
        except exc.NoSuchModuleError:
            raise DatabaseUnusable(
                f"the database {self.shown}: no database of this scheme is known; there are "
                "sqlite, postgresql, mysql and mariadb"
            ) from None
        except ImportError as error:
            package, extra = _EXTRAS.get(
                (error.name or "").partition(".")[0], (error.name, "alarms")
            )
            raise MissingDependency(f"the database {self.shown}", str(package), extra) from error
        except (exc.ArgumentError, ValueError, TypeError) as error:
            raise DatabaseUnusable(f"the database {self.shown}: {_why(error)}") from None
        if self.is_sqlite:
            sa.event.listen(self._engine, "connect", _prepared)
            sa.event.listen(self._engine, "begin", _begun)

    def _options(self, url: sa.URL) -> dict[str, Any]:
        # Its errors would show the parameters of statements, URLs of actions among them.
        options: dict[str, Any] = {
            "hide_parameters": True,
            "pool_size": 8,
            "max_overflow": 32,
            "pool_timeout": _STATEMENT,
        }
        backend = url.get_backend_name()
        if backend == "sqlite":
            if url.database in (None, "", ":memory:"):
                raise DatabaseUnusable(
                    f"the database {self.shown}: alarms need a file, which other evaluators of "
                    "this host can open too: sqlite:////path/alarms.db"
                )
            return options | {"connect_args": {"timeout": _STATEMENT}}
        options |= {"pool_pre_ping": True, "pool_recycle": 1800}
        if backend == "postgresql":
            arguments: dict[str, Any] = {
                "connect_timeout": _CONNECT,
                "options": f"-c statement_timeout={_STATEMENT * 1000}",
            }
            if "psycopg" in url.drivername:
                arguments["tcp_user_timeout"] = _STATEMENT * 1000
            return options | {"connect_args": arguments}
        if backend in ("mysql", "mariadb"):
            arguments = {"connect_timeout": _CONNECT}
            if url.drivername.endswith("pymysql"):
                arguments |= {"read_timeout": _STATEMENT, "write_timeout": _STATEMENT}
            return options | {"connect_args": arguments, "isolation_level": "READ COMMITTED"}
        return options

    @property
    def dialect(self) -> str:
        """Its kind: ``sqlite``, ``postgresql``, ``mysql``, ``mariadb``."""
        return self._engine.dialect.name

    @contextlib.contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """Give a connection for questions.

        Raises:
            DatabaseUnavailable, DatabaseUnusable: it does not answer.
        """
        with self._translated(), self._engine.connect() as connection:
            yield connection

    @contextlib.contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """Give a connection whose statements are one transaction, committed as the block ends.

        Raises:
            DatabaseUnavailable, DatabaseUnusable: it does not answer, or refused a statement.
        """
        with (
            self._translated(),
            self._engine.connect().execution_options(hashring_writes=True) as connection,
            connection.begin(),
        ):
            yield connection

    def insistent(self, function: Callable[[], T], until: float) -> T:
        """Call a function again while the database is away.

        Args:
            function: uses the database; must be safe to repeat.
            until: on the clock of :func:`hashring.clock.boottime`; then its error is raised.
        """
        pauses = Backoff(0.05, 1.0)
        while True:
            try:
                return function()
            except DatabaseUnavailable:
                pause = next(pauses)
                if clock.boottime() + pause >= until:
                    raise
                time.sleep(pause)

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (exc.OperationalError, exc.InterfaceError, exc.TimeoutError) as error:
            if "no such table" in str(error.orig if hasattr(error, "orig") else error):
                raise DatabaseUnusable(self._without_tables()) from error
            raise DatabaseUnavailable(f"the database {self.shown}: {_why(error)}") from error
        except exc.ProgrammingError as error:
            raise DatabaseUnusable(f"{self._without_tables()} ({_why(error)})") from error
        except exc.DBAPIError as error:
            if isinstance(error, exc.IntegrityError | exc.DataError):
                raise
            raise DatabaseUnavailable(f"the database {self.shown}: {_why(error)}") from error

    def _without_tables(self) -> str:
        return (
            f"the database {self.shown} lacks a table or a column: run hashring alarm migrate "
            "with the same configuration"
        )


def _prepared(connection: Any, _: Any) -> None:
    """Make a connection to SQLite as the alarms need it."""
    # Its module would begin transactions by itself, and late: before the first change of a row.
    connection.isolation_level = None
    cursor = connection.cursor()
    # Readers and the one writer do not wait for each other. After a loss of power the last commits
    # may be missing; then these windows are evaluated again, with the same keys.
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = NORMAL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _begun(connection: sa.Connection) -> None:
    # A transaction that reads first and writes then may fail; one that says so at once waits.
    writes = connection.get_execution_options().get("hashring_writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _why(error: Exception) -> str:
    found = getattr(error, "orig", None) or error
    text = masked_prose(" ".join(str(found).split()))
    is_full = any(words in text for words in _FULL)
    hint = "; make room there, what could not be written is tried again" if is_full else ""
    return f"{type(found).__name__}: {text[:300]}{hint}"
