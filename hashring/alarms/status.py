"""Status: what an evaluator says of itself: a value for its status file, its page, its metrics."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from hashring.page.status import ProcessStatus

__all__ = ["Alarms", "Status"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Alarms:
    """What an evaluator says of alarms. The schema of ``/ring`` says the same of the JSON.

    Attributes:
        interval: the length of a window in seconds.
        owned: how many alarms were its own in its newest window.
        invalid: how many of these have a wrong definition, and are not evaluated.
        took: seconds from the start of its newest window until all of its own were evaluated.
        evaluated: alarms that it has evaluated, each in a window; this and the following numbers
            count since its start.
        unanswered: evaluations without an answer of a source.
        repeated: evaluations that found their window done.
        overtaken: evaluations that a user's change overtook, and that were made anew.
        changes: alarms that entered a state.
        questions: that it has asked sources.
        delivered, failed, given_up: how its tries of notifications have ended.
        sinks_away: sinks that do not answer, without secrets.
        surveyed_at: the wall-clock second of the numbers below, which are of the whole database;
            ``None``: there are none yet.
        database_is_away: the latest survey was not answered.
        states: how many enabled alarms are in each state.
        overdue: how many of them have not been evaluated for two windows, those with time
            constraints apart.
        waiting: notifications that are to be delivered.
        waiting_since: when the oldest of them was written, in wall-clock seconds.
        dead_letters: notifications that were given up, for as long as they are kept.
        problems: sentences on notifications that fail or were given up, the newest first.
    """

    interval: float
    owned: int = 0
    invalid: int = 0
    took: float | None = None
    evaluated: int = 0
    unanswered: int = 0
    repeated: int = 0
    overtaken: int = 0
    changes: int = 0
    questions: int = 0
    delivered: int = 0
    failed: int = 0
    given_up: int = 0
    sinks_away: tuple[str, ...] = ()
    surveyed_at: float | None = None
    database_is_away: bool = False
    states: Mapping[str, int] = dataclasses.field(default_factory=dict)
    overdue: int = 0
    waiting: int = 0
    waiting_since: float | None = None
    dead_letters: int = 0
    problems: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Status(ProcessStatus):
    """What an evaluator says of itself, beside what any process says.

    Attributes:
        member: its id in the group.
        members: the ids of the view's members.
        slots: how many slots it holds.
        window: the number of the newest window that it has worked; ``None`` before the first.
        missed: windows that it skipped because it was late itself.
        alarms: what it has done, and how the alarms stand.
    """

    member: str
    members: tuple[str, ...]
    slots: int
    window: int | None
    missed: int
    alarms: Alarms
