"""What is due in a window, and the one transaction of an alarm and a window.

State, history and the intention to notify are one commit. Only columns of the state are written,
and only if the alarm is still as it was when it was evaluated, so nothing that a user does
meanwhile is undone. The window of an alarm only grows: whoever comes second, or wakes up late,
writes nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy import exc

from hashring.alarms.database.engine import Database, microseconds
from hashring.alarms.database.notifications import Intention
from hashring.alarms.database.tables import ALARM, HISTORY, OUTBOX, SIDE
from hashring.alarms.database.transitions import (
    Definition,
    Outcome,
    history_of,
    outgoing_of,
    state_written,
    utc,
)
from hashring.alarms.model import State

__all__ = ["Definition", "Evaluations", "Outcome", "Standing", "Step", "utc"]

_CHUNK = 200
"""Rows that are asked for, or written, in one statement: some databases bound its parameters."""


class Standing(NamedTuple):
    """How an alarm stands: what is read of each of them in each window.

    Attributes:
        alarm_id: its id.
        seen: when its user changed it last; other text, and its definition is another.
        state: its state's text; ``None`` and unknown texts count as *insufficient data*.
        window_start: of its newest evaluated window, in microseconds; ``None``: it is new to us.
        past: what the machine remembers, for each leaf of its rule.
        away: how many windows in a row its source has not answered.
    """

    alarm_id: str
    seen: datetime | None
    state: str
    window_start: int | None
    past: tuple[str, ...]
    away: int


@dataclasses.dataclass(frozen=True, slots=True)
class Step:
    """What one window makes of one alarm.

    Attributes:
        standing: how it stood.
        window_start: of the window, in wall-clock seconds.
        past: what the machine will remember.
        away: windows in a row without an answer, this one included.
        state: its state from now on; ``None``: nothing changes, and nobody is told.
        reason: why, for people.
        intentions: whom to tell.
        definition: of the alarm; needed where there is a state.
    """

    standing: Standing
    window_start: float
    past: tuple[str, ...]
    away: int = 0
    state: State | None = None
    reason: str = ""
    intentions: Sequence[Intention] = ()
    definition: Definition | None = None


class Evaluations:
    """What the evaluator reads and writes.

    Args:
        database: where.
        horizon: seconds. A window that lies so far ahead of now was written while a clock was
            wrong; it does not hold up the alarm.
    """

    def __init__(self, database: Database, horizon: float) -> None:
        self._database = database
        self._horizon = horizon

    def enabled(self) -> list[str]:
        """Return the ids of all alarms that are enabled, event alarms among them."""
        wanted = sa.select(ALARM.c.alarm_id).where(ALARM.c.enabled.is_(True))
        with self._database.reading() as connection:
            return list(connection.execute(wanted).scalars())

    def standing(self, alarm_id: str | None = None) -> list[Standing]:
        """Return how all alarms stand that are to be evaluated: enabled, and no event alarms.

        Args:
            alarm_id: ask for this one alone.
        """
        wanted = (
            sa.select(
                *(ALARM.c.alarm_id, ALARM.c.timestamp, ALARM.c.state, SIDE.c.window_start),
                *(SIDE.c.definition, SIDE.c.past, SIDE.c.away),
            )
            .select_from(ALARM.outerjoin(SIDE, ALARM.c.alarm_id == SIDE.c.alarm_id))
            .where(ALARM.c.enabled.is_(True), ALARM.c.type != "event")
        )
        if alarm_id is not None:
            wanted = wanted.where(ALARM.c.alarm_id == alarm_id)
        with self._database.reading() as connection:
            rows = connection.execute(wanted).all()
        return [
            Standing(
                row.alarm_id,
                row.timestamp,
                row.state or "",
                row.window_start,
                # What was counted belongs to the rule that it was counted for.
                tuple(row.past or ()) if row.definition == row.timestamp else (),
                row.away or 0,
            )
            for row in rows
        ]

    def begin(self) -> None:
        """Make our rows for alarms that are new to us."""
        missing = sa.select(
            ALARM.c.alarm_id, sa.literal(0, sa.BigInteger), sa.literal(0, sa.Integer)
        ).where(
            ~sa.exists().where(SIDE.c.alarm_id == ALARM.c.alarm_id),
        )
        try:
            with self._database.writing() as connection:
                connection.execute(
                    SIDE.insert().from_select(["alarm_id", "window_start", "away"], missing)
                )
        except exc.IntegrityError:
            return  # another evaluator has made them at this moment

    def definitions(self, alarm_ids: Iterable[str]) -> Iterator[Definition]:
        """Iterate over the definitions of some alarms; those deleted meanwhile are left out."""
        columns = (
            *(ALARM.c.alarm_id, ALARM.c.timestamp, ALARM.c.project_id, ALARM.c.user_id),
            *(ALARM.c.name, ALARM.c.type, ALARM.c.rule, ALARM.c.description, ALARM.c.enabled),
            *(ALARM.c.severity, ALARM.c.repeat_actions, ALARM.c.ok_actions),
            *(ALARM.c.alarm_actions, ALARM.c.insufficient_data_actions, ALARM.c.time_constraints),
        )
        for chunk in _chunks(list(alarm_ids)):
            wanted = sa.select(*columns).where(ALARM.c.alarm_id.in_(chunk))
            with self._database.reading() as connection:
                rows = connection.execute(wanted).all()
            for row in rows:
                fields = {
                    name: value
                    for name, value in row._mapping.items()
                    if name not in ("alarm_id", "timestamp", "project_id", "user_id")
                    and value is not None
                }
                yield Definition(row.alarm_id, row.timestamp, fields, row.project_id, row.user_id)

    def keep(self, steps: Sequence[Step], now: float) -> None:
        """Commit the steps of alarms of which nothing changes, together.

        Args:
            steps: none of them has a state.
            now: wall-clock seconds.
        """
        for chunk in _chunks(sorted(steps, key=lambda step: step.standing.alarm_id)):
            with self._database.writing() as connection:
                connection.execute(_ADVANCE, [self._values(step, now) for step in chunk])

    def change(self, step: Step, now: float) -> Outcome:
        """Commit the step of an alarm that enters a state, or whose actions are repeated.

        Args:
            step: it has a state and a definition.
            now: wall-clock seconds.
        """
        with self._database.writing() as connection:
            outcome = self._changed(connection, step, now)
            if outcome is Outcome.CHANGED:
                connection.rollback()
            elif outcome is Outcome.DONE:
                self._write_of(connection, [step], now)
        return outcome

    def change_all(self, steps: Sequence[Step], now: float) -> list[Outcome]:
        """Commit the steps of several alarms in one transaction: see :meth:`change`.

        Where a user has changed one of them meanwhile, each has a transaction of its own.

        Args:
            steps: in any order; of different alarms.
            now: wall-clock seconds.
        """
        # In the order of ids: two that write the same alarms wait for each other in one direction.
        order = sorted(range(len(steps)), key=lambda number: steps[number].standing.alarm_id)
        found: dict[int, Outcome] = {}
        with self._database.writing() as connection:
            for number in order:
                found[number] = self._changed(connection, steps[number], now)
                if found[number] is Outcome.CHANGED:
                    connection.rollback()
                    break
            else:
                done = [steps[number] for number in order if found[number] is Outcome.DONE]
                self._write_of(connection, done, now)
                return [found[number] for number in range(len(steps))]
        return [self.change(step, now) for step in steps]

    def _changed(self, connection: sa.Connection, step: Step, now: float) -> Outcome:
        """Write window and state of one alarm; after ``CHANGED``, the window must be taken back."""
        if not connection.execute(_ADVANCE, self._values(step, now)).rowcount:
            return Outcome.REPEATED
        if not connection.execute(*_state(step, now)).rowcount:
            return Outcome.CHANGED
        return Outcome.DONE

    @staticmethod
    def _write_of(connection: sa.Connection, steps: Sequence[Step], now: float) -> None:
        """Write the history of steps, and whom to tell."""
        history = [
            history_of(step.definition, step.state, step.reason, now)
            for step in steps
            if step.state is not None
            and step.state != step.standing.state
            and step.definition is not None
        ]
        outgoing = [
            outgoing_of(step.standing.alarm_id, microseconds(step.window_start), one, now)
            for step in steps
            for one in step.intentions
        ]
        if history:
            connection.execute(HISTORY.insert(), history)
        if outgoing:
            connection.execute(OUTBOX.insert(), outgoing)

    def _values(self, step: Step, now: float) -> dict[str, Any]:
        return {
            "of": step.standing.alarm_id,
            "to": microseconds(step.window_start),
            "horizon": microseconds(now + self._horizon),
            "seen": step.standing.seen,
            "now_past": list(step.past),
            "now_away": step.away,
        }


_ADVANCE: sa.Update = (
    SIDE.update()
    .where(SIDE.c.alarm_id == sa.bindparam("of"))
    .where(
        sa.or_(
            SIDE.c.window_start < sa.bindparam("to"),
            SIDE.c.window_start > sa.bindparam("horizon"),
        )
    )
    .values(
        window_start=sa.bindparam("to"),
        definition=sa.bindparam("seen"),
        past=sa.bindparam("now_past", type_=SIDE.c.past.type),
        away=sa.bindparam("now_away"),
    )
)
"""Write the window of an alarm, if none as new has been written."""


def _state(step: Step, now: float) -> tuple[sa.Update, dict[str, Any]]:
    before = step.standing
    assert step.state is not None
    entered = step.state if step.state != before.state else None
    return state_written(before.alarm_id, before.seen, before.state, entered, step.reason, now)


def _chunks(found: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(found), _CHUNK):
        yield found[start : start + _CHUNK]
