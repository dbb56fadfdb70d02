"""The outbox: what is still to be told, in which order, and what became of it.

Of each alarm and each sink (scheme, host and port) only the oldest window is handed out, so an
``ok`` never overtakes the ``alarm`` before it. A key is derived from alarm, window and action
alone: whoever sends a notification, and however often, it is the same.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import sqlalchemy as sa

from hashring.alarms.database.engine import Database, microseconds
from hashring.alarms.database.tables import ALARM, HISTORY, OUTBOX, SAMPLE, SIDE
from hashring.url import masked

__all__ = [
    "MOST",
    "Intention",
    "Notifications",
    "Outgoing",
    "Waiting",
    "key_of",
    "key_of_event",
    "sink_of",
]

_NAMESPACE = uuid.UUID("5e0f2f0a-7f0d-5f7e-8d0b-2a6f5a9b8c31")
"""Part of the format: another namespace would give every notification another key."""

MOST = 2_000
"""Notifications that are handed out at once."""


class Intention(NamedTuple):
    """That somebody is to be told.

    Attributes:
        key: the notification's identity.
        sink: scheme, host and port of the action.
        action: its whole URL, which may hold secrets.
        body: what to tell: JSON types.
    """

    key: str
    sink: str
    action: str
    body: Mapping[str, Any]


class Outgoing(NamedTuple):
    """A notification that waits.

    Attributes:
        key, alarm_id, sink, action, body: as of :class:`Intention`.
        window_start: of the window that it came from, in microseconds.
        created: when it was written, in wall-clock seconds; so is ``next_try``.
        attempts: how often it was tried in vain.
        next_try: when it is to be tried again.
    """

    key: str
    alarm_id: str
    sink: str
    action: str
    body: Mapping[str, Any]
    window_start: int
    created: float
    attempts: int
    next_try: float


class Waiting(NamedTuple):
    """How many notifications wait, were delivered of late, and were given up of late."""

    pending: int
    delivered: int
    given_up: int


def key_of(alarm_id: str, window_start: float, action: str, number: int = 0) -> str:
    """Return the key of a notification.

    Args:
        alarm_id: the alarm's.
        window_start: of the window, in wall-clock seconds.
        action: the URL.
        number: tells apart equal actions of one alarm.

    Example:
        >>> key_of("a", 60.0, "http://sink/")
        '7533fedc-68b3-5141-806a-2d6bc29dccf3'
    """
    parts = [alarm_id, microseconds(window_start), action, number]
    return str(uuid.uuid5(_NAMESPACE, json.dumps(parts)))


def key_of_event(alarm_id: str, message_id: str, action: str, number: int = 0) -> str:
    """Return the key of a notification that comes from an event.

    >>> key_of_event("a", "m", "http://sink/") == key_of_event("a", "m", "http://sink/", 1)
    False
    """
    parts = [alarm_id, "event", message_id, action, number]
    return str(uuid.uuid5(_NAMESPACE, json.dumps(parts)))


def sink_of(action: str) -> str:
    """Return scheme, host and port of an action's URL, without what may be secret.

    >>> sink_of("https://user:secret@hooks.example:8443/in?token=x"), sink_of("log://")
    ('https://hooks.example:8443', 'log://')
    """
    parts = urlsplit(action)
    return f"{parts.scheme.lower()}://{parts.netloc.rpartition('@')[2].lower()}"[:255]


class Notifications:
    """The outbox, for who delivers."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def heads(self, resting: Sequence[str], now: float) -> list[Outgoing]:
        """Return the oldest notifications of each alarm and sink that are not done, and are due.

        Args:
            resting: sinks that are left out.
            now: wall-clock seconds.
        """
        oldest = (
            sa.select(
                OUTBOX.c.alarm_id, OUTBOX.c.sink, sa.func.min(OUTBOX.c.window_start).label("first")
            )
            .where(OUTBOX.c.done.is_(None), OUTBOX.c.sink.not_in(resting))
            .group_by(OUTBOX.c.alarm_id, OUTBOX.c.sink)
            .subquery()
        )
        wanted = (
            sa.select(OUTBOX)
            .join(
                oldest,
                sa.and_(
                    OUTBOX.c.alarm_id == oldest.c.alarm_id,
                    OUTBOX.c.sink == oldest.c.sink,
                    OUTBOX.c.window_start == oldest.c.first,
                ),
            )
            .where(OUTBOX.c.done.is_(None), OUTBOX.c.next_try <= microseconds(now))
            .order_by(OUTBOX.c.window_start, OUTBOX.c.key)
            .limit(MOST)
        )
        with self._database.reading() as connection:
            rows = connection.execute(wanted).all()
        return [
            Outgoing(
                *(row.key, row.alarm_id, row.sink, row.action, row.body, row.window_start),
                *(row.created / 1e6, row.attempts, row.next_try / 1e6),
            )
            for row in rows
        ]

    def pending(self, keys: Collection[str], now: float) -> set[str]:
        """Return the keys of those of some notifications that still wait, and are due."""
        wanted = sa.select(OUTBOX.c.key).where(
            OUTBOX.c.key.in_(keys),
            OUTBOX.c.done.is_(None),
            OUTBOX.c.next_try <= microseconds(now),
        )
        with self._database.reading() as connection:
            return set(connection.execute(wanted).scalars())

    def delivered(self, keys: Collection[str], now: float) -> None:
        """Note that notifications were accepted, in one transaction."""
        with self._database.writing() as connection:
            connection.execute(self._pending(keys).values(done=microseconds(now)))

    def failed(self, key: str, why: str, next_try: float) -> None:
        """Note that a notification is to be tried again, from a wall-clock time on."""
        with self._database.writing() as connection:
            connection.execute(
                self._pending([key]).values(
                    attempts=OUTBOX.c.attempts + 1,
                    next_try=microseconds(next_try),
                    last_error=why,
                )
            )

    def given_up(self, outgoing: Outgoing, why: str, now: float) -> None:
        """Note that a notification will not be tried again, and say so in the alarm's history."""
        with self._database.writing() as connection:
            done = connection.execute(
                self._pending([outgoing.key]).values(
                    attempts=OUTBOX.c.attempts + 1,
                    done=microseconds(now),
                    gave_up=True,
                    last_error=why,
                )
            ).rowcount
            there = sa.select(ALARM).where(ALARM.c.alarm_id == outgoing.alarm_id)
            row = connection.execute(there).mappings().first()
            if done and row is not None:
                connection.execute(HISTORY.insert(), _failure(outgoing, dict(row), why, now))

    def waiting(self) -> Waiting:
        """Return how many wait, and what became of those that are still kept."""
        wanted = sa.select(OUTBOX.c.done.is_(None), OUTBOX.c.gave_up, sa.func.count()).group_by(
            OUTBOX.c.done.is_(None), OUTBOX.c.gave_up
        )
        with self._database.reading() as connection:
            counts = {(bool(row[0]), bool(row[1])): row[2] for row in connection.execute(wanted)}
        return Waiting(
            counts.get((True, False), 0),
            counts.get((False, False), 0),
            counts.get((False, True), 0),
        )

    def problems(self, most: int = 20) -> list[str]:
        """Return lines on notifications that were given up, or fail, newest first."""
        wanted = (
            sa.select(OUTBOX.c.alarm_id, OUTBOX.c.action, OUTBOX.c.gave_up, OUTBOX.c.last_error)
            .where(OUTBOX.c.last_error.is_not(None))
            .where(sa.or_(OUTBOX.c.done.is_(None), OUTBOX.c.gave_up.is_(True)))
            .order_by(OUTBOX.c.created.desc())
            .limit(most)
        )
        with self._database.reading() as connection:
            return [
                f"{row.alarm_id} to {masked(row.action)}: "
                f"{'given up' if row.gave_up else 'is tried again'}: {row.last_error}"
                for row in connection.execute(wanted)
            ]

    def tidy(self, before: float) -> None:
        """Drop what is done, samples, and rows of deleted alarms, if older than a time."""
        limit = microseconds(before)
        with self._database.writing() as connection:
            connection.execute(OUTBOX.delete().where(OUTBOX.c.done < limit))
            connection.execute(SAMPLE.delete().where(SAMPLE.c.window_start < limit))
            gone = ~sa.exists().where(ALARM.c.alarm_id == SIDE.c.alarm_id)
            connection.execute(SIDE.delete().where(gone, SIDE.c.window_start < limit))

    @staticmethod
    def _pending(keys: Collection[str]) -> sa.Update:
        found: sa.Update = OUTBOX.update().where(OUTBOX.c.key.in_(keys), OUTBOX.c.done.is_(None))
        return found


def _failure(outgoing: Outgoing, alarm: Mapping[str, Any], why: str, now: float) -> dict[str, Any]:
    # Aodh's server refuses a whole history in which it finds a type that it does not know.
    reason = f"Not told to {masked(outgoing.action)}: {why}"
    return {
        "event_id": str(uuid.uuid4()),
        "alarm_id": outgoing.alarm_id,
        "on_behalf_of": alarm["project_id"],
        "type": "state transition",
        "detail": json.dumps({"state": alarm["state"], "transition_reason": reason}),
        "severity": alarm["severity"],
        "timestamp": datetime.fromtimestamp(now, UTC).replace(tzinfo=None),
    }
