"""Transitions: an alarm enters a state, or repeats its actions; what is written in one commit.

Whoever evaluates, in a window or for an event, writes these rows: the columns of the state, if the
alarm is still the one that was evaluated; the history; and the intention to notify.
"""

from __future__ import annotations

import enum
import itertools
import json
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

import sqlalchemy as sa

from hashring.alarms.database.engine import microseconds
from hashring.alarms.database.notifications import Intention
from hashring.alarms.database.tables import ALARM
from hashring.alarms.model import State

__all__ = ["Definition", "Outcome", "history_of", "outgoing_of", "state_written", "utc"]


class Definition(NamedTuple):
    """An alarm's row, as its user defined it: fields as of the model, and whose it is."""

    alarm_id: str
    seen: datetime | None
    fields: Mapping[str, Any]
    project_id: str | None
    user_id: str | None


class Outcome(enum.Enum):
    """What became of a step."""

    DONE = enum.auto()
    REPEATED = enum.auto()
    """This window, or a later one, was evaluated before: nothing was written."""
    CHANGED = enum.auto()
    """Its user has changed or deleted it meanwhile: nothing was written."""


def utc(seconds: float) -> datetime:
    """Return a wall-clock time as the tables of Aodh have it: UTC, without a zone.

    >>> utc(0.0)
    datetime.datetime(1970, 1, 1, 0, 0)
    """
    return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None)


def _written(is_known: bool, enters: bool) -> sa.Update:
    """Return what writes the columns of the state, if the alarm is the one that was evaluated.

    Args:
        is_known: it has a time of its last change.
        enters: it enters a state; else its actions are repeated.
    """
    same_definition = (
        ALARM.c.timestamp == sa.bindparam("seen") if is_known else ALARM.c.timestamp.is_(None)
    )
    entered: dict[str, Any] = {
        "state": sa.bindparam("entered"),
        "state_reason": sa.bindparam("why"),
        "state_timestamp": sa.bindparam("now"),
    }
    found: sa.Update = (
        ALARM.update()
        .where(ALARM.c.alarm_id == sa.bindparam("of"), same_definition)
        .where(sa.func.coalesce(ALARM.c.state, "") == sa.bindparam("before"))
        .where(ALARM.c.enabled.is_(True))
        .values(evaluate_timestamp=sa.bindparam("now"), **(entered if enters else {}))
    )
    return found


_WRITTEN = {key: _written(*key) for key in itertools.product((True, False), repeat=2)}


def state_written(
    alarm_id: str,
    seen: datetime | None,
    before: str,
    entered: State | None,
    reason: str,
    now: float,
) -> tuple[sa.Update, dict[str, Any]]:
    """Return what writes the columns of the state, and its parameters.

    It changes no row where a user has changed or deleted the alarm since it was read.

    Args:
        alarm_id: whose.
        seen: when its user had changed it last, as it was read.
        before: its state's text, as it was read.
        entered: the state that it enters; ``None``: it stays, and its actions are repeated.
        reason: why it enters it, for people.
        now: wall-clock seconds.
    """
    values: dict[str, Any] = {"of": alarm_id, "before": before, "now": utc(now)}
    if seen is not None:
        values["seen"] = seen
    if entered is not None:
        values |= {"entered": str(entered), "why": reason}
    return _WRITTEN[seen is not None, entered is not None], values


def history_of(definition: Definition, state: State, reason: str, now: float) -> dict[str, Any]:
    """Return the row of the history for a state that an alarm is in now, as Aodh writes it."""
    return {
        "event_id": str(uuid.uuid4()),
        "alarm_id": definition.alarm_id,
        "on_behalf_of": definition.project_id,
        "project_id": None,
        "user_id": None,
        "type": "state transition",
        "detail": json.dumps({"state": str(state), "transition_reason": reason}),
        "timestamp": utc(now),
        "severity": definition.fields.get("severity"),
    }


def outgoing_of(alarm_id: str, at: int, intention: Intention, now: float) -> dict[str, Any]:
    """Return the row of the outbox for somebody who is to be told.

    Args:
        alarm_id: of what.
        at: the window, or when the event was kept, in microseconds: it gives the order.
        intention: whom, and with which words.
        now: wall-clock seconds.
    """
    return {
        "key": intention.key,
        "alarm_id": alarm_id,
        "window_start": at,
        "sink": intention.sink,
        "action": intention.action,
        "body": dict(intention.body),
        "created": microseconds(now),
        "attempts": 0,
        "next_try": 0,
        "done": None,
        "gave_up": False,
        "last_error": None,
    }
