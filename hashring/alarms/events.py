"""Event alarms: an alarm's owner evaluates the events that were noted for it, each once, in order.

One thread looks for notes. An alarm's slot is pinned meanwhile: whoever takes it over waits, and
goes on with the notes that are left.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from typing import Self

from hashring import clock
from hashring.alarms.database.engine import Database
from hashring.alarms.database.evaluations import Definition, Outcome
from hashring.alarms.database.events import Events, Fired, Noted
from hashring.alarms.database.notifications import Intention, key_of_event, sink_of
from hashring.alarms.errors import BadAlarm
from hashring.alarms.event import hits, reason_of
from hashring.alarms.model import Alarm, State, alarm_of, event_rule_of
from hashring.alarms.outbox import Outbox
from hashring.alarms.settings import Settings
from hashring.backoff import jittered
from hashring.errors import HashringError
from hashring.partition.cycle import Cycle
from hashring.partition.partition import Partition

__all__ = ["EventAlarms"]

log = logging.getLogger(__name__)

_LOOK = 1.0
"""Seconds between two looks for events."""

_TRIES = 3
"""How often one event is evaluated anew because its alarm's user changes that meanwhile."""

_TIDY = 600.0
"""Seconds between two looks for what is old enough to be dropped."""


class EventAlarms:
    """Evaluates event alarms for as long as its block runs.

    Args:
        partition: whose alarms.
        database: where events and alarms are.
        outbox: is woken when somebody is to be told.
        settings: how long things are kept.

    Attributes:
        evaluated: events, each of one alarm, since the start.
        fired: how many of them changed their alarm, or repeated its actions.
    """

    def __init__(
        self, partition: Partition, database: Database, outbox: Outbox, settings: Settings
    ) -> None:
        self._partition = partition
        self._events = Events(database)
        self._outbox = outbox
        self._settings = settings
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="events", daemon=True)
        self._wrong: set[str] = set()  # alarms of which it was said that they are wrong
        self._complained = False
        self.evaluated = self.fired = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()  # each statement of its has a bound

    def _run(self) -> None:
        tidy_at = clock.boottime() + jittered(_TIDY)
        while True:
            try:
                while self._look() and not self._ended.is_set():
                    pass
                if clock.boottime() >= tidy_at:
                    tidy_at = clock.boottime() + jittered(_TIDY)
                    self._events.tidy(clock.wall() - self._settings.keep_for)
                self._complained = False
            except HashringError as error:
                if not self._complained:
                    log.error("events wait: %s", error)  # noqa: TRY400 - for the operator
                self._complained = True
            except Exception:
                log.exception("events could not be evaluated; they are again in a moment")
            if self._ended.wait(_LOOK):
                return

    def _look(self) -> int:
        """Evaluate what is noted for alarms of this member; return how many there were."""
        after = (-1, "")
        while found := self._events.noted(after):
            if any(self._partition.owns(one.alarm_id) for one in found):
                with self._partition.cycle() as cycle:
                    # What was read before the slots were pinned may have been evaluated meanwhile:
                    # then its note is gone, and nothing is written.
                    mine = list(cycle.owned(found, key=_alarm_id))
                    self._work(cycle, mine)
                    return len(mine)
            # All of these are others': theirs must not hide our own.
            after = found[-1].received, found[-1].alarm_id
        return 0

    def _work(self, cycle: Cycle, noted: Sequence[Noted]) -> None:
        known = self._events.states([one.alarm_id for one in noted])
        dropped: list[Noted] = []
        for one in noted:
            if self._ended.is_set() or not cycle.valid:
                break
            self.evaluated += 1
            try:
                fired = self._fired(one, known)
            except Exception:
                # One that no code foresaw must not keep the other alarms' events waiting.
                log.exception("alarm %s does not see an event: it is dropped", one.alarm_id)
                fired = None
            if fired is None:
                dropped.append(one)
            elif self._commit(fired):
                known.pop(one.alarm_id)  # its state is another now
                known |= self._events.states([one.alarm_id])
        if dropped:
            self._events.drop(dropped)

    def _commit(self, fired: Fired) -> bool:
        """Commit; return whether something was written."""
        for _ in range(_TRIES):
            outcome = self._events.fire(fired, clock.wall())
            if outcome is Outcome.DONE:
                self.fired += 1
                log.info("alarm %s is alarm: %s", fired.noted.alarm_id, fired.reason)
                self._outbox.wake()
                return True
            if outcome is Outcome.REPEATED:
                return True
            again = self._fired(fired.noted, self._events.states([fired.noted.alarm_id]))
            if again is None:
                self._events.drop([fired.noted])
                return True
            fired = again
        return False  # the next look finds it quieter

    def _fired(self, noted: Noted, known: dict[str, tuple[Definition, str]]) -> Fired | None:
        """Return what an event makes of its alarm; ``None``: nothing."""
        if noted.alarm_id not in known:
            return None  # deleted or disabled meanwhile
        definition, state = known[noted.alarm_id]
        try:
            alarm = alarm_of(definition.fields)
            rule = event_rule_of(alarm.rule)
        except BadAlarm as error:
            self._say(definition, error)
            return None
        if (state == State.ALARM and not alarm.repeat_actions) or not hits(rule, noted.event):
            return None
        reason, data = reason_of(alarm.rule, noted.event)
        sent = {
            "alarm_name": alarm.name,
            "alarm_id": definition.alarm_id,
            "severity": str(alarm.severity),
            "previous": state or str(State.UNKNOWN),
            "current": str(State.ALARM),
            "reason": reason,
            "reason_data": data,
        }
        return Fired(
            noted,
            definition,
            state,
            reason,
            state != State.ALARM or alarm.repeat_actions,
            self._intentions(noted, definition, alarm, sent),
        )

    def _intentions(
        self, noted: Noted, definition: Definition, alarm: Alarm, sent: Mapping[str, object]
    ) -> list[Intention]:
        body = {
            "sent": sent,
            "interval": self._settings.interval,
            "project_id": definition.project_id or "",
        }
        urls = alarm.alarm_actions
        return [
            Intention(
                key_of_event(
                    definition.alarm_id, noted.event.message_id, url, urls[:number].count(url)
                ),
                sink_of(url),
                url,
                body,
            )
            for number, url in enumerate(urls)
        ]

    def _say(self, definition: Definition, error: BadAlarm) -> None:
        if definition.alarm_id not in self._wrong:
            self._wrong.add(definition.alarm_id)
            log.error("alarm %s is not evaluated: %s", definition.alarm_id, error)


def _alarm_id(noted: Noted) -> str:
    return noted.alarm_id
