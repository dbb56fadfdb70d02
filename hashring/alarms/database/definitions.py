"""Alarms that come from files, in the database: made, changed, and removed with their file.

An alarm's id is derived from its name, so every host and every restart finds the same. What a user
made by the API is never touched.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from hashring.alarms.database.engine import Database
from hashring.alarms.database.evaluations import utc
from hashring.alarms.database.tables import ALARM, HISTORY, SIDE
from hashring.alarms.model import Alarm, State

__all__ = ["FILES", "Synced", "id_of", "sync"]

FILES = "files"
"""What :attr:`hashring_alarm.origin` says of an alarm that comes from a file."""

_NAMESPACE = uuid.UUID("0a4a4e0f-5f53-5d6c-9a77-5c1fd9f4b6aa")
"""Part of the format: another namespace would make every alarm of a file another one."""


_TOGETHER = 200
"""Rows of one statement: some databases bound its parameters."""


class Synced(NamedTuple):
    """How many alarms were made, changed and removed."""

    made: int
    changed: int
    removed: int


def id_of(name: str) -> str:
    """Return the id of the alarm of this name in the files.

    >>> id_of("disk almost full")
    '96973fa0-4f48-54c1-a6a5-c556ba001d8d'
    """
    return str(uuid.uuid5(_NAMESPACE, name))


def sync(database: Database, alarms: Sequence[Alarm], now: float) -> Synced:
    """Let the database have the alarms of the files, and no others of theirs, in one transaction.

    Args:
        database: where.
        alarms: all that the files define; their names are unique.
        now: wall-clock seconds.
    """
    wanted = {id_of(alarm.name): _columns(alarm) for alarm in alarms}
    mine = sa.select(ALARM).where(
        ALARM.c.alarm_id.in_(sa.select(SIDE.c.alarm_id).where(SIDE.c.origin == FILES))
    )
    with database.writing() as connection:
        found = {row.alarm_id: row._mapping for row in connection.execute(mine)}
        made = [alarm_id for alarm_id in wanted if alarm_id not in found]
        changed = [
            alarm_id
            for alarm_id, columns in wanted.items()
            if alarm_id in found and _differs(found[alarm_id], columns)
        ]
        removed = [alarm_id for alarm_id in found if alarm_id not in wanted]
        # Rows of an alarm that had this id before, and that somebody deleted, are not this one's.
        _drop(connection, [*made, *removed])
        _insert(connection, {alarm_id: wanted[alarm_id] for alarm_id in made}, now)
        for alarm_id in changed:
            connection.execute(
                ALARM.update()
                .where(ALARM.c.alarm_id == alarm_id)
                .values(**wanted[alarm_id], timestamp=utc(now))
            )
        if changed:
            rows = [_record(one, "rule change", wanted[one], now) for one in changed]
            connection.execute(HISTORY.insert(), rows)
    return Synced(len(made), len(changed), len(removed))


def _drop(connection: sa.Connection, alarm_ids: Sequence[str]) -> None:
    for start in range(0, len(alarm_ids), _TOGETHER):
        chunk = alarm_ids[start : start + _TOGETHER]
        for table in (HISTORY, ALARM, SIDE):
            connection.execute(table.delete().where(table.c.alarm_id.in_(chunk)))


def _insert(connection: sa.Connection, alarms: Mapping[str, Mapping[str, Any]], now: float) -> None:
    """Write new alarms: many in a statement, since nobody else writes meanwhile."""
    ids = list(alarms)
    same = {
        "timestamp": utc(now),
        "user_id": "",
        "project_id": "",
        "state": str(State.UNKNOWN),
        "state_reason": "Not evaluated yet",
        "state_timestamp": utc(now),
        "evaluate_timestamp": utc(now),
    }
    for start in range(0, len(ids), _TOGETHER):
        chunk = ids[start : start + _TOGETHER]
        connection.execute(
            ALARM.insert(), [{**alarms[one], "alarm_id": one, **same} for one in chunk]
        )
        connection.execute(
            SIDE.insert(),
            [{"alarm_id": one, "window_start": 0, "away": 0, "origin": FILES} for one in chunk],
        )
        connection.execute(
            HISTORY.insert(), [_record(one, "creation", alarms[one], now) for one in chunk]
        )


def _record(alarm_id: str, kind: str, columns: Mapping[str, Any], now: float) -> dict[str, Any]:
    return {
        "event_id": str(uuid.uuid4()),
        "alarm_id": alarm_id,
        "on_behalf_of": "",
        "type": kind,
        "detail": json.dumps({"name": columns["name"], "rule": columns["rule"]}),
        "timestamp": utc(now),
        "severity": columns["severity"],
    }


def _columns(alarm: Alarm) -> dict[str, Any]:
    found = alarm.model_dump(mode="json")
    found["rule"] = alarm.rule  # as it was written, without defaults
    return found


def _differs(row: sa.RowMapping, columns: Mapping[str, Any]) -> bool:
    return any(row[name] != value for name, value in columns.items())
