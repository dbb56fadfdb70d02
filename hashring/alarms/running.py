"""A program of the alarms from its settings: database, group, threads; and its end."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Iterator
from pathlib import Path

from hashring import clock
from hashring.alarms import definitions
from hashring.alarms.actions.catalogue import Catalogue
from hashring.alarms.database import migrations
from hashring.alarms.database.definitions import sync
from hashring.alarms.database.engine import Database
from hashring.alarms.database.samples import Samples
from hashring.alarms.errors import BadAlarm, DatabaseUnavailable, DatabaseUnusable
from hashring.alarms.evaluator import Evaluator
from hashring.alarms.intake import Intake
from hashring.alarms.outbox import Outbox
from hashring.alarms.settings import Settings
from hashring.alarms.sources.asking import Source
from hashring.alarms.sources.prometheus import PrometheusSource
from hashring.alarms.sources.samples import SampleSource
from hashring.alarms.status import Status, StatusFile
from hashring.partition.cycle import Cycles
from hashring.partition.partition import Partition, join
from hashring.telemetry.agent.signals import Signals, hold_reloads

__all__ = ["opened", "run_evaluator", "run_intake", "sources_of"]

log = logging.getLogger(__name__)

_DEFINITIONS = "definitions"
"""The key whose owner lets the database have the alarms of the files."""


@contextlib.contextmanager
def opened(settings: Settings) -> Iterator[Database]:
    """Give the database, its tables in order; those of SQLite are made where they are missing.

    Raises:
        DatabaseUnusable: tables are missing, or of another release.
        DatabaseUnavailable: it does not answer.
    """
    database = Database(settings.database)
    try:
        if database.file is not None:
            _make_folder(database.file)
        wrong = migrations.problem(database)
        if wrong is not None:
            if not database.is_sqlite:
                raise DatabaseUnusable(wrong)
            migrations.migrate(database)
        yield database
    finally:
        database.close()


def _make_folder(path: Path) -> None:
    with contextlib.suppress(OSError):  # what is wrong will be said when it is opened
        path.parent.mkdir(parents=True, exist_ok=True)


def sources_of(settings: Settings, database: Database) -> dict[str, Source]:
    """Return the sources by the types of rules."""
    found: dict[str, Source] = {"hashring_threshold": SampleSource(Samples(database))}
    if settings.prometheus_url is not None:
        found["prometheus"] = PrometheusSource(
            settings.prometheus_url,
            settings.threads,
            settings.prometheus_ca,
            settings.project_label,
        )
    return found


class _Files:
    """The alarms of the files, for the member that owns them.

    They are read again whenever they have changed; while something in them is wrong, all stays as
    it was, and is said once.
    """

    def __init__(self, settings: Settings, actions: Catalogue, database: Database) -> None:
        self._folders = settings.definitions
        self._actions = actions
        self._database = database
        self._read: str | None = None
        self.reload = threading.Event()

    def check(self) -> None:
        """Refuse wrong files at the start."""
        definitions.load(self._folders, self._actions.check)

    def look(self, is_owner: bool) -> None:
        """Write what has changed, if this member is the one that does."""
        if not self._folders:
            return
        if not is_owner:
            self._read = None  # whoever gains them reads them
            return
        found = definitions.fingerprint(self._folders)
        if found == self._read and not self.reload.is_set():
            return
        self.reload.clear()
        try:
            placed = definitions.load(self._folders, self._actions.check)
        except BadAlarm as error:
            log.error("the alarms stay as they were: %s", error)  # noqa: TRY400 - for the operator
            self._read = found
            return
        done = sync(self._database, [one.alarm for one in placed], clock.wall())
        self._read = found
        if any(done):
            log.info("alarms of files: %d made, %d changed, %d removed", *done)


def run_evaluator(settings: Settings) -> int:
    """Run an evaluator until it is told to end; return the exit code."""
    hold_reloads()
    with contextlib.ExitStack() as stack:
        actions = Catalogue(settings)
        stack.callback(actions.close)
        database = stack.enter_context(opened(settings))
        files = _Files(settings, actions, database)
        files.check()
        sources = sources_of(settings, database)
        for source in sources.values():
            stack.callback(source.close)
        partition = stack.enter_context(contextlib.closing(_Joined(settings))).partition
        outbox = stack.enter_context(Outbox(partition, database, actions, settings))
        evaluator = stack.enter_context(Evaluator(database, sources, actions, settings))
        cycles = partition.cycles(settings.interval, name="alarms")
        stack.enter_context(
            StatusFile(settings.status_file, lambda: _status(partition, cycles, evaluator, outbox))
        )
        with Signals(partition.stop, reload=files.reload.set):
            _work(partition, cycles, evaluator, outbox, files)
    return 0


class _Joined:
    """The membership; its end is a hand-over."""

    def __init__(self, settings: Settings) -> None:
        self._timeout = settings.drain_timeout
        self.partition = join(
            settings.backend_url,
            settings.group,
            settings.member,
            ttl=settings.ttl,
            heartbeat=settings.heartbeat,
            wait=2 * settings.ttl + 5,  # a killed one of this name holds its lease until then
        )

    def close(self) -> None:
        self.partition.drain(self._timeout)
        self.partition.leave()


def _work(
    partition: Partition, cycles: Cycles, evaluator: Evaluator, outbox: Outbox, files: _Files
) -> None:
    for cycle in cycles:
        try:
            files.look(cycle.owns(_DEFINITIONS))
            if evaluator.work(cycle):
                outbox.wake()
        except DatabaseUnavailable as error:
            log.error("window %s was not evaluated: %s", cycle.window, error)  # noqa: TRY400
        except Exception:
            # One that no code foresaw must not end the others' alarms as well.
            log.exception("window %s was not evaluated", cycle.window)


def _status(partition: Partition, cycles: Cycles, evaluator: Evaluator, outbox: Outbox) -> Status:
    counts = evaluator.counts
    return Status(
        member=partition.member,
        pid=os.getpid(),
        state=partition.state,
        members=tuple(sorted(partition.members)),
        slots=len(partition.held),
        window=counts.window,
        alarms=counts.owned,
        invalid=counts.invalid,
        evaluated=counts.evaluated,
        changes=counts.changes,
        repeated=counts.repeated,
        overtaken=counts.overtaken,
        unanswered=counts.unanswered,
        questions=counts.questions,
        delivered=outbox.delivered,
        failed=outbox.failed,
        given_up=outbox.given_up,
        missed=cycles.missed,
    )


def run_intake(settings: Settings) -> int:
    """Take samples until told to end; return the exit code."""
    ended = threading.Event()
    with opened(settings) as database, Intake(settings.listen, database), Signals(ended.set):
        log.info("samples are taken at %s", settings.listen)
        ended.wait()
    return 0
