"""Outbox: delivers the notifications of this member's alarms, in order, until each is accepted.

A notification is sent while its alarm's slot is pinned: whoever takes the alarm over waits for the
request in flight, so a planned change sends nothing twice. After a crash it is sent again with the
same key. One thread looks for work, a bounded number send; a sink that does not answer has few of
them, and is left alone for pauses that grow.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import Self

from hashring import clock
from hashring.alarms.actions.catalogue import Catalogue
from hashring.alarms.database.engine import Database
from hashring.alarms.database.notifications import MOST, Notifications, Outgoing
from hashring.alarms.errors import ActionFailed, ActionRefused, DatabaseUnavailable
from hashring.alarms.plugin import Notification
from hashring.alarms.settings import Settings
from hashring.backoff import grown, jittered
from hashring.errors import HashringError
from hashring.partition.partition import Partition
from hashring.url import masked

__all__ = ["Outbox"]

log = logging.getLogger(__name__)

_LOOK = 1.0
"""Seconds between two looks for notifications of alarms that were taken over, or are due again."""

_SOON = 0.05
"""Seconds between two looks while the last one was a moment ago."""

_PART = 4.0
"""A look begins at the earliest so many times its own length after the last one: the database, and
those who send, need their time."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0
"""Seconds before a further try."""

_TIDY = 600.0
"""Seconds between two looks for what is old enough to be dropped."""


@dataclasses.dataclass
class _Sink:
    """What is known of a sink: scheme, host and port."""

    failures: int = 0  # in a row, without an answer
    not_before: float = 0.0  # on CLOCK_BOOTTIME


class Outbox:
    """Delivers for as long as its block runs.

    Args:
        partition: whose alarms.
        database: where they wait.
        actions: who is told.
        settings: how long, how often.

    Attributes:
        delivered, failed, given_up: how many tries ended so, since the start.
        looked_at: when it last looked for work, on the boottime clock: it does so every second.
    """

    def __init__(
        self, partition: Partition, database: Database, actions: Catalogue, settings: Settings
    ) -> None:
        self._partition = partition
        self._database = database
        self._waiting = Notifications(database)
        self._actions = actions
        self._settings = settings
        self._of_one_sink = max(1, settings.threads // 4)
        self._lock = threading.Lock()
        self._in_hand: dict[str, str] = {}  # the sink of each notification that is being sent
        self._sinks: dict[str, _Sink] = {}
        self._wake = threading.Event()
        self._written = threading.Event()  # there may be more than was found
        self._heads: dict[str, deque[Outgoing]] = {}  # what was found, by sink
        self._look_at = self._rest_until = 0.0  # on CLOCK_BOOTTIME
        self._stopping = False
        self._complained = False
        self.delivered = self.failed = self.given_up = 0
        self.looked_at = clock.boottime()

    def __enter__(self) -> Self:
        self._senders = ThreadPoolExecutor(self._settings.threads, "notifications")
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping = True
        self._wake.set()
        self._thread.join()
        self._senders.shutdown(wait=True)  # each is bound by its deadline

    def wake(self) -> None:
        """Look now: something was written."""
        self._written.set()
        self._wake.set()

    @property
    def sinks_away(self) -> tuple[str, ...]:
        """The sinks that did not answer the latest try, without secrets."""
        with self._lock:
            return tuple(sorted(name for name, sink in self._sinks.items() if sink.failures))

    # ---- the thread that looks

    def _run(self) -> None:
        tidy_at = clock.boottime() + jittered(_TIDY)
        while not self._stopping:
            self._wake.clear()
            self.looked_at = clock.boottime()
            try:
                self._look()
                if clock.boottime() >= tidy_at:
                    tidy_at = clock.boottime() + jittered(_TIDY)
                    self._waiting.tidy(clock.wall() - self._settings.keep_for)
                self._complained = False
            except HashringError as error:
                self._complain(error)
            except Exception:
                log.exception("the outbox could not be looked at; it is again in a moment")
            self._wake.wait(_LOOK if self._rest_until < clock.boottime() else _SOON)

    def _look(self) -> None:
        """Send what may be sent, and look into the database for more, if it is time to."""
        now = clock.boottime()
        if now >= self._look_at or (self._written.is_set() and now >= self._rest_until):
            self._written.clear()
            self._find(now)
            self._look_at = now + _LOOK
            self._rest_until = now + _PART * (clock.boottime() - now)
        for sink, heads in list(self._heads.items()):
            while heads and not self._stopping and self._begin(sink, heads[0], now):
                heads.popleft()
            if not heads:
                del self._heads[sink]

    def _find(self, now: float) -> None:
        """Look for notifications to sinks that could take one, and for which none is known."""
        with self._lock:
            busy = {sink for sink in self._in_hand.values() if not self._has_room(sink)}
            resting = {name for name, sink in self._sinks.items() if sink.not_before > now}
        for sink in resting:
            self._heads.pop(sink, None)
        # Only so many are read at once: those of a slow sink must not hide another's.
        left_out = busy | resting | self._heads.keys()
        found = self._waiting.heads(sorted(left_out), clock.wall())
        for outgoing in found:
            if self._partition.owns(outgoing.alarm_id):
                self._heads.setdefault(outgoing.sink, deque()).append(outgoing)
        if len(found) >= MOST:
            self.wake()

    def _has_room(self, sink: str) -> bool:
        """Return whether a sink may get one more at once."""
        known = self._sinks.get(sink)
        # Of a sink that did not answer, one notification tries whether it does again.
        most = 1 if known is not None and known.failures else self._of_one_sink
        return sum(of == sink for of in self._in_hand.values()) < most

    def _begin(self, sink: str, outgoing: Outgoing, now: float) -> bool:
        """Send a notification, unless its sink has as many as it may have, or rests."""
        with self._lock:
            known = self._sinks.get(sink)
            if known is not None and known.not_before > now:
                return False
            if outgoing.key in self._in_hand:
                return True  # it was found again while it is being sent
            if not self._has_room(sink):
                return False
            self._in_hand[outgoing.key] = sink
        self._senders.submit(self._send, outgoing)
        return True

    def _complain(self, error: HashringError) -> None:
        if not self._complained:
            log.error("notifications wait: %s", error)
        self._complained = True

    # ---- the threads that send

    def _send(self, outgoing: Outgoing) -> None:
        try:
            with self._partition.cycle() as cycle:
                # What was read before the slot was pinned may have been sent meanwhile.
                if (
                    not self._stopping
                    and cycle.owns(outgoing.alarm_id)
                    and self._waiting.is_pending(outgoing.key)
                ):
                    self._try(outgoing)
        except DatabaseUnavailable as error:
            self._complain(error)
        except HashringError as error:
            log.warning("a notification waits: %s", error)
        except Exception:
            log.exception("a notification of %s could not be handled", outgoing.alarm_id)
        finally:
            with self._lock:
                self._in_hand.pop(outgoing.key, None)
            # The next one of this alarm may be sent now; where others wait for the sink, they come
            # first, and no look into the database is needed for them.
            if not self._heads.get(outgoing.sink):
                self._written.set()
            self._wake.set()

    def _try(self, outgoing: Outgoing) -> None:
        body = outgoing.body
        notification = Notification(
            *(outgoing.key, outgoing.action, body["sent"], outgoing.window_start / 1e6),
            *(body["interval"], body["project_id"]),
        )
        deadline = clock.boottime() + self._settings.action_timeout
        try:
            self._actions.action(outgoing.action).deliver(notification, deadline)
        except ActionRefused as error:
            self._answered(outgoing.sink)
            self._give_up(outgoing, str(error))
        except ActionFailed as error:
            self._failed(outgoing, error)
        except HashringError as error:  # there is no such plug-in, or it is broken
            self._failed(outgoing, ActionFailed(str(error), answered=True))
        except Exception as error:
            log.exception("the action %s failed", masked(outgoing.action))
            self._failed(outgoing, ActionFailed(f"its plug-in raised {type(error).__name__}"))
        else:
            self._answered(outgoing.sink)
            self.delivered += 1
            # The sink has it. Were this not noted, the same would be sent again.
            self._database.insistent(
                lambda: self._waiting.delivered(outgoing.key, clock.wall()),
                clock.boottime() + self._settings.ttl / 2,
            )

    def _answered(self, sink: str) -> None:
        with self._lock:
            known = self._sinks.pop(sink, None)
        if known is not None and known.failures:
            log.warning("the sink %s answers again", sink)

    def _failed(self, outgoing: Outgoing, error: ActionFailed) -> None:
        self.failed += 1
        if clock.wall() > outgoing.created + self._settings.give_up_after:
            self._give_up(outgoing, str(error))
            return
        if error.answered:
            self._answered(outgoing.sink)
            pause = jittered(grown(_FIRST_PAUSE, _LONGEST_PAUSE, outgoing.attempts + 1))
        else:
            pause = self._rest(outgoing.sink, error)
        self._waiting.failed(outgoing.key, str(error), clock.wall() + pause)

    def _rest(self, name: str, error: ActionFailed) -> float:
        """Leave a sink alone for a while; return for how many seconds."""
        with self._lock:
            sink = self._sinks.setdefault(name, _Sink())
            sink.failures += 1
            pause = jittered(grown(_FIRST_PAUSE, _LONGEST_PAUSE, sink.failures))
            pause = max(pause, error.retry_after or 0.0)
            sink.not_before = clock.boottime() + pause
            is_first = sink.failures == 1
        if is_first:
            log.warning("the sink %s takes nothing, what is for it waits: %s", name, error)
        return pause

    def _give_up(self, outgoing: Outgoing, why: str) -> None:
        self.given_up += 1
        log.error("a notification of %s is given up: %s", outgoing.alarm_id, why)
        self._waiting.given_up(outgoing, why, clock.wall())
