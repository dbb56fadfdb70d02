"""Events in the database: each kept once, and for each alarm that it may concern a note of it.

An event and its notes are one commit, so an event that comes again adds nothing. An alarm and an
event are one commit too: the note goes with the change of state, the history and the intention to
notify. Whoever comes second finds no note, and writes nothing.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy import exc

from hashring.alarms.database.engine import Database, microseconds
from hashring.alarms.database.evaluations import Evaluations
from hashring.alarms.database.notifications import Intention
from hashring.alarms.database.tables import ALARM, EVENT, HISTORY, NOTE, OUTBOX
from hashring.alarms.database.transitions import (
    Definition,
    Outcome,
    history_of,
    outgoing_of,
    state_written,
)
from hashring.alarms.event import Event, events_of
from hashring.alarms.model import State

__all__ = ["Events", "Fired", "Noted"]

_TOGETHER = 200
"""Events of one transaction, and parameters of one question."""


class Noted(NamedTuple):
    """An event that one alarm is to be evaluated for.

    Attributes:
        alarm_id: the alarm's.
        event: the event.
        received: when it was kept, in microseconds: no two of one alarm are equal.
    """

    alarm_id: str
    event: Event
    received: int


class Fired(NamedTuple):
    """What an event makes of an alarm.

    Attributes:
        noted: the alarm and the event.
        definition: of the alarm, as it was evaluated.
        before: its state's text then.
        reason: why, for people.
        records: it is told of in the history.
        intentions: whom to tell.
    """

    noted: Noted
    definition: Definition
    before: str
    reason: str
    records: bool
    intentions: Sequence[Intention]


class Events:
    """The events, for the intake and for who evaluates."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._evaluations = Evaluations(database, 0.0)

    # ---- the intake

    def keep(self, events: Sequence[Event], now: float) -> int:
        """Keep events, and note them for the alarms of their project; return how many are new.

        An alarm without a project, such as one of a file, is noted for every event.

        Args:
            events: they.
            now: wall-clock seconds.
        """
        found = {event.message_id: event for event in events}
        fresh = 0
        ids = list(found)
        for start in range(0, len(ids), _TOGETHER):
            chunk = [found[one] for one in ids[start : start + _TOGETHER]]
            try:
                fresh += self._keep(chunk, now + start * 1e-6)
            except exc.IntegrityError:
                # Another intake has kept one of them at this moment: each for itself.
                for number, event in enumerate(chunk):
                    fresh += self._keep_one(event, now + (start + number) * 1e-6)
        return fresh

    def _keep_one(self, event: Event, now: float) -> int:
        try:
            return self._keep([event], now)
        except exc.IntegrityError:
            return 0

    def _keep(self, events: Sequence[Event], now: float) -> int:
        ids = [event.message_id for event in events]
        with self._database.writing() as connection:
            known = set(
                connection.execute(
                    sa.select(EVENT.c.message_id).where(EVENT.c.message_id.in_(ids))
                ).scalars()
            )
            fresh = [event for event in events if event.message_id not in known]
            if not fresh:
                return 0
            watching = self._watching(connection)
            received = {
                event.message_id: microseconds(now) + number for number, event in enumerate(fresh)
            }
            connection.execute(
                EVENT.insert(),
                [
                    {
                        "message_id": event.message_id,
                        "received": received[event.message_id],
                        "body": dict(event.body),
                    }
                    for event in fresh
                ],
            )
            notes = [
                {
                    "alarm_id": alarm_id,
                    "message_id": event.message_id,
                    "received": received[event.message_id],
                }
                for event in fresh
                for alarm_id, project, kind in watching
                if project in ("", event.project_id) and fnmatch.fnmatch(event.event_type, kind)
            ]
            if notes:
                connection.execute(NOTE.insert(), notes)
        return len(fresh)

    @staticmethod
    def _watching(connection: sa.Connection) -> list[tuple[str, str, str]]:
        """Return id, project and type of event of the event alarms."""
        wanted = sa.select(ALARM.c.alarm_id, ALARM.c.project_id, ALARM.c.rule).where(
            ALARM.c.type == "event", ALARM.c.enabled.is_(True)
        )
        return [
            (row.alarm_id, row.project_id or "", str(row.rule.get("event_type") or "*"))
            for row in connection.execute(wanted)
            if isinstance(row.rule, dict)  # what else there is, is no rule
        ]

    # ---- who evaluates

    def noted(self, after: tuple[int, str] = (-1, ""), most: int = 1_000) -> list[Noted]:
        """Return the oldest notes: alarms and the events that they are to be evaluated for.

        Args:
            after: ``received`` and alarm of a note; those that come later are returned.
            most: how many.
        """
        received, alarm_id = after
        wanted = (
            sa.select(NOTE.c.alarm_id, NOTE.c.received, EVENT.c.body)
            .join(EVENT, EVENT.c.message_id == NOTE.c.message_id)
            .where(
                sa.or_(
                    NOTE.c.received > received,
                    sa.and_(NOTE.c.received == received, NOTE.c.alarm_id > alarm_id),
                )
            )
            .order_by(NOTE.c.received, NOTE.c.alarm_id)
            .limit(most)
        )
        with self._database.reading() as connection:
            rows = connection.execute(wanted).all()
        return [Noted(row.alarm_id, events_of(row.body)[0], row.received) for row in rows]

    def states(self, alarm_ids: Sequence[str]) -> dict[str, tuple[Definition, str]]:
        """Return definition and state of those of some alarms that are enabled event alarms."""
        ids = list(dict.fromkeys(alarm_ids))
        states: dict[str, str] = {}
        for start in range(0, len(ids), _TOGETHER):
            wanted = sa.select(ALARM.c.alarm_id, ALARM.c.state).where(
                ALARM.c.alarm_id.in_(ids[start : start + _TOGETHER]),
                ALARM.c.type == "event",
                ALARM.c.enabled.is_(True),
            )
            with self._database.reading() as connection:
                states |= {row.alarm_id: row.state or "" for row in connection.execute(wanted)}
        return {
            definition.alarm_id: (definition, states[definition.alarm_id])
            for definition in self._evaluations.definitions(states)
        }

    def drop(self, noted: Sequence[Noted]) -> None:
        """Take back notes of events that change nothing."""
        with self._database.writing() as connection:
            for one in noted:
                connection.execute(_note(one))

    def fire(self, fired: Fired, now: float) -> Outcome:
        """Commit what an event makes of an alarm: its note, state, history, whom to tell."""
        noted, definition = fired.noted, fired.definition
        changed = state_written(
            noted.alarm_id,
            definition.seen,
            fired.before,
            State.ALARM if fired.before != State.ALARM else None,
            fired.reason,
            now,
        )
        with self._database.writing() as connection:
            if not connection.execute(_note(noted)).rowcount:
                return Outcome.REPEATED
            if not connection.execute(*changed).rowcount:
                connection.rollback()
                return Outcome.CHANGED
            if fired.records:
                row = history_of(definition, State.ALARM, fired.reason, now)
                connection.execute(HISTORY.insert(), row)
            outgoing = [
                outgoing_of(noted.alarm_id, noted.received, one, now) for one in fired.intentions
            ]
            if outgoing:
                connection.execute(OUTBOX.insert(), outgoing)
        return Outcome.DONE

    def tidy(self, before: float) -> None:
        """Drop events that are older than a time, and notes of alarms that are deleted."""
        limit = microseconds(before)
        with self._database.writing() as connection:
            gone = ~sa.exists().where(ALARM.c.alarm_id == NOTE.c.alarm_id)
            connection.execute(NOTE.delete().where(gone))
            waits = sa.exists().where(NOTE.c.message_id == EVENT.c.message_id)
            connection.execute(EVENT.delete().where(EVENT.c.received < limit, ~waits))


def _note(noted: Noted) -> sa.Delete:
    found: sa.Delete = NOTE.delete().where(
        NOTE.c.alarm_id == noted.alarm_id, NOTE.c.message_id == noted.event.message_id
    )
    return found
