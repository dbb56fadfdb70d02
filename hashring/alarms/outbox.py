"""Outbox: delivers the notifications of this member's alarms, in order, until each is accepted.

A notification is sent while its alarm's slot is pinned: whoever takes the alarm over waits for the
request in flight, so a planned change sends nothing twice. After a crash it is sent again with the
same key. One thread looks for work, a bounded number send, each a few of one sink: these share a
look whether they still wait, and a note that they were accepted. A sink that does not answer has
few of the threads, and is left alone for pauses that grow.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import threading
from collections import Counter, deque
from collections.abc import Sequence
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
from hashring.partition.cycle import Cycle
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

_TOGETHER = 8
"""Notifications of one sink that a thread sends one after the other, at most."""

_BRIEF = 0.1
"""Seconds after which it begins no further one of them: a hand-over waits for all of them, and
after a crash those are sent again that were accepted and not noted yet."""

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
        self._in_hand: set[str] = set()  # keys of those that are being sent
        self._sending: Counter[str] = Counter()  # by sink, how many threads send to it
        self._untried: list[Outgoing] = []  # given back by those who send
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
        self._take_back()
        if now >= self._look_at or (self._written.is_set() and now >= self._rest_until):
            self._written.clear()
            self._find(now)
            self._look_at = now + _LOOK
            self._rest_until = now + _PART * (clock.boottime() - now)
        for sink, heads in list(self._heads.items()):
            while heads and not self._stopping and self._begin(sink, heads, now):
                pass
            if not heads:
                del self._heads[sink]

    def _take_back(self) -> None:
        """Put what threads had no time for before what waits."""
        with self._lock:
            untried, self._untried = self._untried, []
        for outgoing in reversed(untried):
            self._heads.setdefault(outgoing.sink, deque()).appendleft(outgoing)

    def _find(self, now: float) -> None:
        """Look for notifications to sinks that could take one, and for which none is known."""
        with self._lock:
            busy = {sink for sink in self._sending if not self._room(sink)}
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

    def _room(self, sink: str) -> int:
        """Return how many more threads may send to a sink."""
        known = self._sinks.get(sink)
        # Of a sink that did not answer, one notification tries whether it does again.
        most = 1 if known is not None and known.failures else self._of_one_sink
        return max(0, most - self._sending[sink])

    def _begin(self, sink: str, heads: deque[Outgoing], now: float) -> bool:
        """Have a thread send some of a sink's notifications, unless it has enough of them, or
        rests.
        """
        with self._lock:
            known = self._sinks.get(sink)
            if known is not None and known.not_before > now:
                return False
            room = self._room(sink)
            if not room:
                return False
            # Where there are few, each of its threads gets as many.
            share = min(_TOGETHER, math.ceil(len(heads) / room))
            # Some may be there twice, or have been found again while they are being sent.
            batch: dict[str, Outgoing] = {}
            for outgoing in (heads.popleft() for _ in range(share)):
                if outgoing.key not in self._in_hand:
                    batch[outgoing.key] = outgoing
            if not batch:
                return True
            self._in_hand.update(batch)
            self._sending[sink] += 1
        self._senders.submit(self._send, sink, [*batch.values()])
        return True

    def _complain(self, error: HashringError) -> None:
        if not self._complained:
            log.error("notifications wait: %s", error)
        self._complained = True

    # ---- the threads that send

    def _send(self, sink: str, batch: list[Outgoing]) -> None:
        untried: list[Outgoing] = []
        try:
            with self._partition.cycle() as cycle:
                untried = self._sent(cycle, batch)
        except DatabaseUnavailable as error:
            self._complain(error)
        except HashringError as error:
            log.warning("notifications wait: %s", error)
        except Exception:
            log.exception("notifications for %s could not be handled", sink)
        finally:
            with self._lock:
                self._in_hand.difference_update(one.key for one in batch)
                self._sending[sink] -= 1
                if not self._sending[sink]:
                    del self._sending[sink]
                self._untried += untried
            # The next ones of these alarms may be sent now; where others wait for the sink, they
            # come first, and no look into the database is needed for them.
            if not untried and not self._heads.get(sink):
                self._written.set()
            self._wake.set()

    def _sent(self, cycle: Cycle, batch: Sequence[Outgoing]) -> list[Outgoing]:
        """Send one after the other, and note which were accepted; return those left untried."""
        mine = [one for one in batch if cycle.owns(one.alarm_id)]
        if not mine or self._stopping:
            return []
        # What was read before the slots were pinned may have been sent meanwhile.
        pending = self._waiting.pending([one.key for one in mine], clock.wall())
        waits = deque(one for one in mine if one.key in pending)
        until = clock.boottime() + _BRIEF
        accepted: list[str] = []
        try:
            while waits and not self._stopping and cycle.owns(waits[0].alarm_id):
                if not self._try(waits.popleft(), accepted):
                    return []  # the sink rests
                if clock.boottime() >= until:
                    break
        finally:
            if accepted:
                # The sink has them. Were this not noted, the same would be sent again.
                self._database.insistent(
                    lambda: self._waiting.delivered(accepted, clock.wall()),
                    clock.boottime() + self._settings.ttl / 2,
                )
        return list(waits)

    def _try(self, outgoing: Outgoing, accepted: list[str]) -> bool:
        """Send one; return whether the sink may be sent another one now."""
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
            return error.answered
        except HashringError as error:  # there is no such plug-in, or it is broken
            self._failed(outgoing, ActionFailed(str(error), answered=True))
        except Exception as error:
            log.exception("the action %s failed", masked(outgoing.action))
            self._failed(outgoing, ActionFailed(f"its plug-in raised {type(error).__name__}"))
            return False
        else:
            self._answered(outgoing.sink)
            self.delivered += 1
            accepted.append(outgoing.key)
        return True

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
