"""Survey: how all alarms of a database stand, and what its outbox holds, in a few numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import sqlalchemy as sa

from hashring.alarms.database.engine import Database, microseconds
from hashring.alarms.database.evaluations import utc
from hashring.alarms.database.notifications import Notifications
from hashring.alarms.database.tables import ALARM, OUTBOX, SIDE
from hashring.alarms.model import State

__all__ = ["Survey", "survey"]

_PROBLEMS = 20
"""Notifications that fail, or were given up, of which a sentence is told."""


class Survey(NamedTuple):
    """What a database says of all its alarms.

    Attributes:
        states: how many enabled alarms are in each state.
        overdue: how many of them have not been evaluated for two windows, those with time
            constraints apart.
        waiting: notifications that are to be delivered.
        waiting_since: when the oldest of them was written, in wall-clock seconds; ``None``: none
            waits.
        dead_letters: notifications that were given up, for as long as they are kept.
        problems: sentences on notifications that were given up, or fail, the newest first;
            without secrets.
    """

    states: Mapping[str, int]
    overdue: int
    waiting: int
    waiting_since: float | None
    dead_letters: int
    problems: tuple[str, ...]


def survey(database: Database, now: float, interval: float) -> Survey:
    """Return how a database's alarms stand.

    Args:
        database: it.
        now: wall-clock seconds.
        interval: seconds of a window.

    Raises:
        DatabaseUnavailable, DatabaseUnusable: it does not answer.
    """
    enabled = sa.and_(ALARM.c.enabled.is_(True), ALARM.c.type != "event")
    by_state = sa.select(ALARM.c.state, sa.func.count()).where(enabled).group_by(ALARM.c.state)
    oldest = sa.select(sa.func.min(OUTBOX.c.created)).where(OUTBOX.c.done.is_(None))
    states = {str(state): 0 for state in State}
    with database.reading() as connection:
        for state, count in connection.execute(by_state):
            known = state if state in states else str(State.UNKNOWN)
            states[known] += count
        overdue = int(connection.execute(_overdue(now - 2 * interval).where(enabled)).scalar_one())
        since = connection.execute(oldest).scalar()
    outbox = Notifications(database)
    found = outbox.waiting()
    return Survey(
        states,
        overdue,
        found.pending,
        None if since is None else since / 1e6,
        found.given_up,
        tuple(outbox.problems(_PROBLEMS)),
    )


def _overdue(limit: float) -> sa.Select[Any]:
    """Return the question how many alarms have no window that began after a time."""
    reached = sa.func.coalesce(SIDE.c.window_start, 0)
    # One that is new has no window yet: it is judged by when it was made.
    is_new = sa.and_(reached == 0, ALARM.c.timestamp >= utc(limit))
    # Outside of its times one is not evaluated, and that is right.
    times = ALARM.c.time_constraints
    always = sa.or_(times.is_(None), times == sa.literal([], times.type))
    return (
        sa.select(sa.func.count())
        .select_from(ALARM.outerjoin(SIDE, ALARM.c.alarm_id == SIDE.c.alarm_id))
        .where(reached < microseconds(limit), sa.not_(sa.func.coalesce(is_new, False)), always)
    )
