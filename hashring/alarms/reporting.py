"""Reporting: how an evaluator is seen from outside: its status file, its page, its metrics.

All three say the same. The numbers of the whole database are asked for by one thread, at intervals:
however many look at the page, the database is asked as often. Where nothing is to be seen, there is
no thread and no cost.
"""

from __future__ import annotations

import contextlib
import logging
import socket
from typing import TYPE_CHECKING, Self

from hashring import clock
from hashring.alarms.database.engine import Database
from hashring.alarms.database.survey import Survey, survey
from hashring.alarms.evaluator import Evaluator
from hashring.alarms.outbox import Outbox
from hashring.alarms.settings import Settings
from hashring.alarms.status import Alarms, Status
from hashring.errors import HashringError
from hashring.observe.description import Ownership
from hashring.page.posts import Posts
from hashring.page.steering import Steering
from hashring.page.token import Token
from hashring.page.watcher import Watcher
from hashring.partition.cycle import Cycles
from hashring.partition.partition import Partition
from hashring.telemetry.agent.status import StatusFile
from hashring.telemetry.polling.repeating import Repeating

if TYPE_CHECKING:
    from hashring.telemetry.agent.listener import Listener

__all__ = ["Reporting"]

log = logging.getLogger(__name__)

_SURVEY = 5.0
"""Seconds between two surveys of the database."""

_STUCK = 30.0
"""Seconds without a sign of the outbox's thread after which an evaluator is taken for stuck."""


class Reporting:
    """How an evaluator is seen from outside, for as long as the block runs.

    Args:
        settings: where it is to be seen.
        partition, cycles, database, evaluator, outbox: of the program.

    Attributes:
        listener: what serves the page; ``None`` where nothing is to be served.

    Raises:
        CannotListen: the address is taken, or not this host's.
    """

    def __init__(
        self,
        settings: Settings,
        partition: Partition,
        cycles: Cycles,
        database: Database,
        evaluator: Evaluator,
        outbox: Outbox,
    ) -> None:
        self._settings = settings
        self._partition = partition
        self._cycles = cycles
        self._database = database
        self._evaluator = evaluator
        self._outbox = outbox
        self._watcher = Watcher(lambda: [partition])
        self._stack = contextlib.ExitStack()
        self._survey: tuple[float, Survey] | None = None
        self._is_away = False
        self.listener: Listener | None = None

    def __enter__(self) -> Self:
        settings = self._settings
        with contextlib.ExitStack() as stack:
            if settings.status_file is not None or settings.page is not None:
                stack.enter_context(self._watcher)
                stack.enter_context(Repeating(self._look, _SURVEY, name="survey"))
            if settings.status_file is not None:
                stack.enter_context(StatusFile(settings.status_file, self.status))
            if settings.page is not None:
                steering = stack.enter_context(contextlib.closing(Steering(self._watcher.named)))
                self.listener = stack.enter_context(self._listener(settings.page, steering))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def _listener(self, address: str, steering: Steering) -> Listener:
        # Imported here: an evaluator that serves nothing needs neither the server nor the metrics.
        from prometheus_client import make_wsgi_app

        from hashring.alarms.metrics import registry
        from hashring.page.wsgi import Routes
        from hashring.telemetry.agent.listener import Listener
        from hashring.telemetry.model.listen import ListenAddress

        found = registry(self.status, self._partition)
        token = Token.of(self._settings.token, self._settings.token_file)
        posts = None if token is None else Posts(token, steering)
        routes = Routes(self, make_wsgi_app(found), self.is_alive, posts)
        return Listener(ListenAddress.parse(address), routes)

    def is_alive(self) -> bool:
        """Return whether the evaluator does what it is there for."""
        return clock.boottime() - self._outbox.looked_at < _STUCK

    # ---- what the page asks

    def status(self) -> Status:
        """Return what the evaluator says of itself now."""
        partition, process = self._partition, self._watcher.status()
        return Status(
            written_at=round(clock.wall(), 3),
            host=socket.gethostname(),
            state=partition.state,
            groups=process.groups,
            events=process.events,
            member=partition.member,
            members=tuple(sorted(partition.members)),
            slots=0 if partition.state == "left" else len(partition.held),
            window=self._evaluator.counts.window,
            missed=self._cycles.missed,
            alarms=self._alarms(),
        )

    def owner(self, name: str, key: str) -> Ownership:
        """Say whose a key, an alarm's id, is: see :meth:`hashring.page.Watcher.owner`."""
        return self._watcher.owner(name, key)

    def _alarms(self) -> Alarms:
        counts, outbox = self._evaluator.counts, self._outbox
        at, found = self._survey or (None, None)
        return Alarms(
            interval=self._settings.interval,
            owned=counts.owned,
            invalid=counts.invalid,
            took=None if counts.took is None else round(counts.took, 3),
            evaluated=counts.evaluated,
            unanswered=counts.unanswered,
            repeated=counts.repeated,
            overtaken=counts.overtaken,
            changes=counts.changes,
            questions=counts.questions,
            delivered=outbox.delivered,
            failed=outbox.failed,
            given_up=outbox.given_up,
            sinks_away=outbox.sinks_away,
            surveyed_at=at,
            database_is_away=self._is_away,
            **({} if found is None else found._asdict()),
        )

    # ---- the thread that asks the database

    def _look(self) -> None:
        now = clock.wall()
        try:
            self._survey = round(now, 3), survey(self._database, now, self._settings.interval)
            self._is_away = False
        except HashringError as error:
            self._complain(str(error))
        except Exception:  # it must go on: the page says that its numbers are old
            log.exception("the alarms could not be counted")
            self._is_away = True

    def _complain(self, why: str) -> None:
        if not self._is_away:
            log.warning("the alarms cannot be counted for the page: %s", why)
        self._is_away = True
