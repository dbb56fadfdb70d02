"""Evaluator: one window of one member: load what is due, ask, decide, commit.

The time that sources are asked about is the window's own. Whatever happens, the database has for
each alarm one newest window; who comes second writes nothing. Commits go on beside the questions.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple, Self

from hashring import clock
from hashring.alarms.actions.catalogue import Catalogue
from hashring.alarms.commits import Commits
from hashring.alarms.database.engine import Database, microseconds
from hashring.alarms.database.evaluations import (
    Definition,
    Evaluations,
    Outcome,
    Standing,
    Step,
)
from hashring.alarms.database.notifications import Intention, key_of, sink_of
from hashring.alarms.errors import BadAlarm
from hashring.alarms.machine import Change, decided, over_windows, unknown_for
from hashring.alarms.model import Alarm, Leaf, Rule, State, alarm_of
from hashring.alarms.schedule import is_in_time
from hashring.alarms.settings import Settings
from hashring.alarms.sources.asking import Asking, Source
from hashring.partition.cycle import Cycle

__all__ = ["Counts", "Evaluator"]

log = logging.getLogger(__name__)

_AHEAD = 60.0
"""Seconds, and two windows more: a window that lies so far ahead was written by a wrong clock."""

_TRIES = 3
"""How often an alarm is evaluated anew in a window because its user changes it meanwhile."""


@dataclasses.dataclass
class Counts:
    """What an evaluator has done since it started.

    Attributes:
        evaluated: alarms, each in a window.
        changes: alarms that entered a state.
        repeated: evaluations that found their window done.
        overtaken: evaluations that a user's change overtook, and that were made anew.
        unanswered: evaluations without an answer of a source.
        questions: that sources were asked.
        invalid: alarms whose definition is wrong, in the newest window.
        owned: alarms of this member in the newest window.
        window: its number.
        took: seconds from its start until all of them were evaluated; ``None`` before the first.
    """

    evaluated: int = 0
    changes: int = 0
    repeated: int = 0
    overtaken: int = 0
    unanswered: int = 0
    questions: int = 0
    invalid: int = 0
    owned: int = 0
    window: int | None = None
    took: float | None = None


class _Known(NamedTuple):
    """An alarm's definition, parsed."""

    definition: Definition
    alarm: Alarm
    rule: Rule


class _Due(NamedTuple):
    standing: Standing
    known: _Known


@dataclasses.dataclass
class _Window:
    """What commits need to know of the window that they belong to.

    Attributes:
        asking: the sources.
        start: of the window, in wall-clock seconds.
        until: when no try of a commit begins any more, on the boottime clock.
        is_told: somebody is to be told of what was committed.
    """

    asking: Asking
    start: float
    until: float
    is_told: bool = False


class Evaluator:
    """Evaluates the alarms that a cycle owns. For one thread.

    Args:
        database: where the alarms are.
        sources: by the types of rules.
        actions: to know which of them want to be told in every window.
        settings: how long, how many at once.

    Attributes:
        counts: what it has done.
    """

    def __init__(
        self,
        database: Database,
        sources: Mapping[str, Source],
        actions: Catalogue,
        settings: Settings,
    ) -> None:
        self._database = database
        self._evaluations = Evaluations(database, 2 * settings.interval + _AHEAD)
        self._sources = sources
        self._actions = actions
        self._settings = settings
        self._known: dict[str, _Known | None] = {}  # None: its definition is wrong
        self._seen: dict[str, object] = {}
        self._away: set[str] = set()  # causes that were told, until a window without them
        self.counts = Counts()

    def __enter__(self) -> Self:
        self._threads = ThreadPoolExecutor(self._settings.threads, "queries")
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown(wait=True)

    def work(self, cycle: Cycle) -> bool:
        """Evaluate what is due in a cycle; return whether somebody is to be told.

        Raises:
            DatabaseUnavailable: the database was away for all of the window.
            DatabaseUnusable: its tables are missing.
        """
        started = clock.boottime()
        # The window's work is worth as much late as in time, until the next one begins.
        until = started + max(0.1, cycle.start + self._settings.interval - clock.wall())
        due = self._database.insistent(lambda: self._due(cycle), until)
        asking = Asking(self._sources, cycle.start - self._settings.lag, self._query_timeout())
        window = _Window(asking, cycle.start, until)
        away: set[str] = set()

        def evaluate(one: _Due) -> tuple[_Due, Step | None]:
            try:
                return one, self._step(one, asking, cycle.start)
            except Exception:
                # One that no code foresaw must not end the others' evaluation as well.
                log.exception("alarm %s is not evaluated", one.standing.alarm_id)
                return one, None

        results = cycle.map(
            self._threads,
            evaluate,
            due,
            key=_id_of,
            ordered=False,
            in_flight=self._settings.threads,
        )
        with Commits(partial(self._commit, window), partial(self._keep, window)) as commits:
            for one, step in results:
                if step is None:
                    continue
                self.counts.evaluated += 1
                if step.away:
                    self.counts.unanswered += 1
                    away.add(step.reason)
                commits.put((one, step), changes=step.state is not None)
        self.counts.questions += asking.questions
        if not cycle.late:
            self.counts.took = clock.wall() - cycle.start
        self.counts.window = cycle.window
        self._say(away)
        return window.is_told

    def _query_timeout(self) -> float:
        return min(self._settings.query_timeout, self._settings.interval / 2)

    # ---- what is due

    def _due(self, cycle: Cycle) -> list[_Due]:
        standing = self._evaluations.standing()
        owned = list(cycle.owned(standing, key=_alarm_id))
        if any(one.window_start is None for one in owned):
            self._evaluations.begin()
        self._learn(owned)
        start, ahead = microseconds(cycle.start), microseconds(clock.wall() + self._ahead())
        due = []
        for one in owned:
            known = self._known[one.alarm_id]
            reached = one.window_start or 0
            if known is None or start <= reached <= ahead:
                continue
            try:
                is_due = is_in_time(known.alarm.time_constraints, cycle.start)
            except Exception:  # as in the evaluation: it must cost no other alarm
                log.exception("alarm %s is not evaluated: its time constraints", one.alarm_id)
                continue
            if is_due:
                due.append(_Due(one, known))
        if not cycle.late:
            self.counts.owned = len(owned)
            self.counts.invalid = sum(self._known[one.alarm_id] is None for one in owned)
        return due

    def _ahead(self) -> float:
        return 2 * self._settings.interval + _AHEAD

    def _learn(self, owned: Sequence[Standing]) -> None:
        """Read the definitions that are new, or that their users have changed."""
        there = {one.alarm_id for one in owned}
        for alarm_id in self._known.keys() - there:
            del self._known[alarm_id], self._seen[alarm_id]
        news = [
            one.alarm_id
            for one in owned
            if one.alarm_id not in self._known or self._seen[one.alarm_id] != one.seen
        ]
        for alarm_id in news:  # one that is deleted at this moment stays unknown
            self._known[alarm_id], self._seen[alarm_id] = None, None
        for definition in self._evaluations.definitions(news):
            self._known[definition.alarm_id] = _parsed(definition)
            self._seen[definition.alarm_id] = definition.seen

    # ---- one alarm

    def _step(self, due: _Due, asking: Asking, start: float) -> Step:
        """Return what this window makes of an alarm."""
        standing, (definition, alarm, rule) = due
        leaves = [rule] if isinstance(rule, Leaf) else list(rule.leaves())
        past = standing.past if len(standing.past) == len(leaves) else ("",) * len(leaves)
        judgements, now_past = [], []
        for before, leaf in zip(past, leaves, strict=True):
            found = asking.judgement(leaf)
            if leaf.type == "prometheus":
                before, found = over_windows(before, found, leaf.rule.evaluation_periods)
            judgements.append(found)
            now_past.append(before)
        current = _state(standing.state)
        verdict = decided(current, rule, judgements, repeat=alarm.repeat_actions)
        away = 0 if verdict.away is None else standing.away + 1
        change = verdict.change
        if verdict.away is not None and away > self._settings.source_grace:
            change = unknown_for(current, f"not evaluated: {verdict.away}")
        told = self._intentions(due, current, change, start)
        return Step(
            standing=standing,
            window_start=start,
            past=tuple(now_past),
            away=away,
            state=None
            if change is None and not told
            else current
            if change is None
            else change.state,
            reason=change.reason if change is not None else verdict.away or "",
            intentions=told,
            definition=definition,
        )

    def _intentions(
        self, due: _Due, current: State, change: Change | None, start: float
    ) -> list[Intention]:
        """Return whom to tell: the new state's actions, or those that want to hear it again."""
        alarm, definition = due.known.alarm, due.known.definition
        if change is not None:
            actions = alarm.actions(change.state)
        else:
            actions = [
                url
                for url in (alarm.alarm_actions if current is State.ALARM else ())
                if self._actions.resends(url)
            ]
            change = Change(current, f"Remaining as {current}", {"type": "threshold"})
        sent = {
            "alarm_name": alarm.name,
            "alarm_id": definition.alarm_id,
            "severity": str(alarm.severity),
            "previous": str(current),
            "current": str(change.state),
            "reason": change.reason,
            "reason_data": dict(change.data),
        }
        body: dict[str, Any] = {
            "sent": sent,
            "interval": self._settings.interval,
            "project_id": definition.project_id or "",
        }
        return [
            Intention(
                key_of(definition.alarm_id, start, url, actions[:number].count(url)),
                sink_of(url),
                url,
                body,
            )
            for number, url in enumerate(actions)
        ]

    # ---- commits

    def _keep(self, window: _Window, unchanged: Sequence[tuple[_Due, Step]]) -> None:
        steps = [step for _, step in unchanged]
        self._database.insistent(lambda: self._evaluations.keep(steps, clock.wall()), window.until)

    def _commit(self, window: _Window, changed: Sequence[tuple[_Due, Step]]) -> None:
        """Commit changes together; what a user has changed meanwhile is evaluated anew."""
        left = list(changed)
        for _ in range(_TRIES):
            steps = [step for _, step in left]
            commit = partial(self._evaluations.change_all, steps, clock.wall())
            outcomes = self._database.insistent(commit, window.until)
            left = self._committed(window, list(zip(left, outcomes, strict=True)))
            if not left:
                return
        # The next window finds the rest quieter.

    def _committed(
        self, window: _Window, found: Sequence[tuple[tuple[_Due, Step], Outcome]]
    ) -> list[tuple[_Due, Step]]:
        """Count what became of changes; return those that are to be tried again."""
        again = []
        for (due, step), outcome in found:
            if outcome is Outcome.DONE:
                window.is_told |= bool(step.intentions)
                if step.state != due.standing.state:
                    self.counts.changes += 1
                    log.info("alarm %s is %s: %s", due.standing.alarm_id, step.state, step.reason)
            elif outcome is Outcome.REPEATED:
                self.counts.repeated += 1
            else:
                self.counts.overtaken += 1
                alarm_id = due.standing.alarm_id
                fresh = self._database.insistent(partial(self._again, alarm_id), window.until)
                if fresh is not None:
                    again.append((fresh, self._step(fresh, window.asking, window.start)))
        unchanged = [one for one in again if one[1].state is None]
        if unchanged:
            self._keep(window, unchanged)
        return [one for one in again if one[1].state is not None]

    def _again(self, alarm_id: str) -> _Due | None:
        found = self._evaluations.standing(alarm_id)
        if not found:
            return None
        self._learn_one(alarm_id)
        known = self._known.get(alarm_id)
        return None if known is None else _Due(found[0], known)

    def _learn_one(self, alarm_id: str) -> None:
        for definition in self._evaluations.definitions([alarm_id]):
            self._known[alarm_id] = _parsed(definition)
            self._seen[alarm_id] = definition.seen

    # ---- what is said

    def _say(self, away: set[str]) -> None:
        for reason in sorted(away - self._away)[:5]:
            log.warning("alarms are not evaluated: %s", reason)
        self._away = away


def _parsed(definition: Definition) -> _Known | None:
    try:
        alarm = alarm_of(definition.fields)
        return _Known(definition, alarm, alarm.parsed())
    except BadAlarm as error:
        log.error(  # noqa: TRY400 - for the operator
            "alarm %s (%s) is not evaluated: %s",
            definition.alarm_id,
            definition.fields.get("name"),
            error,
        )
    except Exception:  # as in the evaluation
        log.exception("alarm %s is not evaluated", definition.alarm_id)
    return None


def _state(text: str) -> State:
    try:
        return State(text)
    except ValueError:
        return State.UNKNOWN


def _alarm_id(standing: Standing) -> str:
    return standing.alarm_id


def _id_of(due: _Due) -> str:
    return due.standing.alarm_id
