"""Alarms as their users see and change them: Aodh's tables, for the API.

A user's change writes the columns that are the user's, and its history, in one transaction. Columns
of the state are written only where the user has set the state; what an evaluator writes meanwhile
stays. Who may do what is decided elsewhere.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy import exc

from hashring.alarms.database.conditions import Condition, clause, rank
from hashring.alarms.database.definitions import FILES
from hashring.alarms.database.engine import Database
from hashring.alarms.database.tables import ALARM, COUNTER, HISTORY, QUOTA, SIDE
from hashring.alarms.errors import BadQuery

__all__ = ["Change", "Page", "Stored"]

Row = Mapping[str, Any]


class Change(NamedTuple):
    """What the history will say of a change.

    Attributes:
        kind: ``creation``, ``rule change`` or ``state transition``.
        detail: JSON types.
        user_id, project_id: who makes it; may be ``None``.
        on_behalf_of: the project whose alarm it is.
    """

    kind: str
    detail: Mapping[str, Any]
    user_id: str | None
    project_id: str | None
    on_behalf_of: str | None


class Page(NamedTuple):
    """In which order rows are wanted, and how many.

    Attributes:
        order: columns, each with whether the largest comes first; the row's id breaks ties.
        limit: at most so many; ``None``: all.
        marker: the id of the row after which to begin.
    """

    order: Sequence[tuple[str, bool]] = (("timestamp", True),)
    limit: int | None = None
    marker: str | None = None


Decide = Callable[[Row, bool], tuple[Mapping[str, Any], Change | None]]
"""From an alarm's row, and whether it comes from a file, to the columns to write."""


class Stored:
    """The alarms, their history and the quotas."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # ---- reading

    def alarms(self, condition: Condition, page: Page) -> list[Row]:
        """Return the alarms that meet a condition.

        Raises:
            BadQuery: the condition or the marker is wrong.
        """
        return self._rows(ALARM, ALARM.c.alarm_id, condition, page)

    def history(self, condition: Condition, page: Page) -> list[Row]:
        """Return the changes that meet a condition.

        Raises:
            BadQuery: the condition or the marker is wrong.
        """
        return self._rows(HISTORY, HISTORY.c.event_id, condition, page)

    def alarm(self, alarm_id: str) -> Row | None:
        """Return an alarm, if there is one."""
        with self._database.reading() as connection:
            return _row(connection, _by_id(alarm_id))

    def _rows(
        self, table: sa.Table, key: sa.Column[Any], condition: Condition, page: Page
    ) -> list[Row]:
        found = clause(table, condition)
        orders = [(rank(table.c[name]), descending) for name, descending in page.order]
        orders.append((rank(key), page.order[-1][1] if page.order else False))
        wanted = sa.select(table).where(found)
        try:
            with self._database.reading() as connection:
                if page.marker is not None:
                    wanted = wanted.where(_after(connection, found, key, orders, page.marker))
                wanted = wanted.order_by(
                    *(one.desc() if descending else one.asc() for one, descending in orders)
                )
                if page.limit is not None:
                    wanted = wanted.limit(page.limit)
                return [dict(row) for row in connection.execute(wanted).mappings()]
        except (exc.DataError, exc.IntegrityError) as error:
            raise BadQuery("filter", None, "the database refuses a value of it") from error

    # ---- changing

    def create(
        self, columns: Row, change: Change | None, allowed: Callable[[int, int, int | None], bool]
    ) -> bool:
        """Make an alarm; return whether its quota allowed it.

        Args:
            columns: of the new row.
            change: for its history; ``None``: none is kept.
            allowed: is asked with the number of alarms of its project, of its user, and the limit
                that is set for the project, if one is.
        """
        project, user = columns["project_id"], columns["user_id"]
        with self._database.writing() as connection:
            if not allowed(
                _count(connection, ALARM.c.project_id, project),
                _count(connection, ALARM.c.user_id, user),
                _limit(connection, project),
            ):
                return False
            connection.execute(ALARM.insert(), dict(columns))
            _record(connection, columns["alarm_id"], change, columns)
        return True

    def update(self, alarm_id: str, decide: Decide) -> Row | None:
        """Change an alarm; return its new row, or ``None`` where there is no such alarm.

        Args:
            alarm_id: its id.
            decide: is asked what to write, while nobody else can change the row. What it raises
                ends the change.
        """
        with self._database.writing() as connection:
            row = _row(connection, _by_id(alarm_id).with_for_update())
            if row is None:
                return None
            columns, change = decide(row, _is_of_file(connection, alarm_id))
            if columns:
                connection.execute(
                    ALARM.update().where(ALARM.c.alarm_id == alarm_id).values(**columns)
                )
            new = {**row, **columns}
            _record(connection, alarm_id, change, new)
        return new

    def delete(self, alarm_id: str, decide: Callable[[Row, bool], None]) -> bool:
        """Remove an alarm and its history; return whether there was one.

        Args:
            alarm_id: its id.
            decide: may raise, which leaves it.
        """
        with self._database.writing() as connection:
            row = _row(connection, _by_id(alarm_id).with_for_update())
            if row is None:
                return False
            decide(row, _is_of_file(connection, alarm_id))
            # Our own row stays until it is tidied away: an evaluator locks it before the alarm's.
            for table in (HISTORY, COUNTER, ALARM):
                connection.execute(table.delete().where(table.c.alarm_id == alarm_id))
        return True

    # ---- quotas

    def quotas(self, project_id: str) -> dict[str, int]:
        """Return the limits that are set for a project, by resource."""
        with self._database.reading() as connection:
            return dict(_quotas(connection, project_id))

    def set_quotas(self, project_id: str, limits: Mapping[str, int]) -> dict[str, int]:
        """Set limits of a project; return all of its."""
        with self._database.writing() as connection:
            for resource, limit in limits.items():
                of = sa.and_(QUOTA.c.project_id == project_id, QUOTA.c.resource == resource)
                if connection.execute(QUOTA.update().where(of).values({"limit": limit})).rowcount:
                    continue
                row = {"id": str(uuid.uuid4()), "project_id": project_id, "resource": resource}
                connection.execute(QUOTA.insert(), {**row, "limit": limit})
            return dict(_quotas(connection, project_id))

    def drop_quotas(self, project_id: str) -> None:
        """Remove the limits of a project: the default counts again."""
        with self._database.writing() as connection:
            connection.execute(QUOTA.delete().where(QUOTA.c.project_id == project_id))

    def ping(self) -> None:
        """Ask the database something, so that one that is away is noticed."""
        with self._database.reading() as connection:
            connection.execute(sa.select(sa.literal(1)))


def _by_id(alarm_id: str) -> sa.Select[Any]:
    return sa.select(ALARM).where(ALARM.c.alarm_id == alarm_id)


def _row(connection: sa.Connection, wanted: sa.Select[Any]) -> Row | None:
    found = connection.execute(wanted).mappings().first()
    return None if found is None else dict(found)


def _after(
    connection: sa.Connection,
    condition: sa.ColumnElement[bool],
    key: sa.Column[Any],
    orders: Sequence[tuple[sa.ColumnElement[Any], bool]],
    marker: str,
) -> sa.ColumnElement[bool]:
    """Return that a row comes after the one with this id."""
    ranks = [one for one, _ in orders]
    found = connection.execute(sa.select(*ranks).where(condition, key == marker)).first()
    if found is None:
        raise BadQuery("marker", marker, "there is no such row in this list")
    cases = []
    for number, ((one, descending), value) in enumerate(zip(orders, found, strict=True)):
        before = [ranks[earlier] == found[earlier] for earlier in range(number)]
        cases.append(sa.and_(*before, one < value if descending else one > value))
    return sa.or_(*cases)


def _is_of_file(connection: sa.Connection, alarm_id: str) -> bool:
    wanted = sa.select(SIDE.c.origin).where(SIDE.c.alarm_id == alarm_id)
    return connection.execute(wanted).scalar() == FILES


def _count(connection: sa.Connection, column: sa.Column[Any], value: str | None) -> int:
    wanted = sa.select(sa.func.count()).select_from(ALARM).where(column == value)
    return int(connection.execute(wanted).scalar_one())


def _limit(connection: sa.Connection, project_id: str | None) -> int | None:
    return dict(_quotas(connection, project_id)).get("alarms")


def _quotas(connection: sa.Connection, project_id: str | None) -> Iterator[tuple[str, int]]:
    wanted = (
        sa.select(QUOTA.c.resource, QUOTA.c.limit)
        .where(QUOTA.c.project_id == project_id)
        .order_by(QUOTA.c.resource)
    )
    for row in connection.execute(wanted):
        yield row.resource, row.limit


def _record(connection: sa.Connection, alarm_id: str, change: Change | None, row: Row) -> None:
    if change is None:
        return
    at = row["state_timestamp"] if change.kind == "state transition" else row["timestamp"]
    connection.execute(
        HISTORY.insert(),
        {
            "event_id": str(uuid.uuid4()),
            "alarm_id": alarm_id,
            "on_behalf_of": change.on_behalf_of,
            "project_id": change.project_id,
            "user_id": change.user_id,
            "type": change.kind,
            "detail": json.dumps(_plain(change.detail)),
            "timestamp": at,
            "severity": change.detail.get("severity"),
        },
    )


def _plain(detail: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in detail.items()
    }
