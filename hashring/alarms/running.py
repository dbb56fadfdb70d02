"""A program of the alarms from its settings: database, group, threads; and its end."""

from __future__ import annotations

import contextlib
import logging
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
from hashring.alarms.events import EventAlarms
from hashring.alarms.intake import Intake
from hashring.alarms.model import RULES
from hashring.alarms.outbox import Outbox
from hashring.alarms.reporting import Reporting
from hashring.alarms.settings import Settings
from hashring.alarms.sources.asking import Source
from hashring.alarms.sources.gnocchi import GnocchiSource
from hashring.alarms.sources.gnocchi_access import access_to_gnocchi
from hashring.alarms.sources.prometheus import PrometheusSource
from hashring.alarms.sources.samples import SampleSource
from hashring.partition.cycle import Cycles
from hashring.partition.partition import Partition, join
from hashring.telemetry.agent.signals import Signals, hold_reloads
from hashring.telemetry.agent.systemd import Notifier, Watchdog

__all__ = ["opened", "run_evaluator", "run_intake", "run_listener", "sources_of"]

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
    if (access := access_to_gnocchi(settings)) is not None:
        gnocchi = GnocchiSource(access, settings.threads)
        found |= {name: gnocchi for name in RULES if name.startswith("gnocchi_")}
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
        stack.enter_context(EventAlarms(partition, database, outbox, settings))
        evaluator = stack.enter_context(Evaluator(database, sources, actions, settings))
        cycles = partition.cycles(settings.interval, name="alarms")
        reporting = stack.enter_context(
            Reporting(settings, partition, cycles, database, evaluator, outbox)
        )
        notifier = Notifier()
        stack.enter_context(Watchdog(notifier, reporting.is_alive))

        def stop() -> None:
            notifier.stopping("hands its alarms over")
            partition.stop()

        def reload() -> None:
            notifier.reloading()
            files.reload.set()
            notifier.ready()

        with Signals(stop, reload=reload):
            notifier.ready(f"evaluates alarms as {partition.member}")
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
        with _survived(f"window {cycle.window} was not evaluated"):
            # Files that cannot be written now must not cost the alarms that are there a window.
            with _survived("the alarms of the files are not written now"):
                files.look(cycle.owns(_DEFINITIONS))
            if evaluator.work(cycle):
                outbox.wake()


@contextlib.contextmanager
def _survived(what: str) -> Iterator[None]:
    """Say what has failed, and go on: one error must not end the others' alarms as well."""
    try:
        yield
    except DatabaseUnavailable as error:
        log.error("%s: %s", what, error)  # noqa: TRY400
    except Exception:
        log.exception("%s", what)


def run_intake(settings: Settings) -> int:
    """Take samples until told to end; return the exit code."""
    ended = threading.Event()
    with opened(settings) as database, Intake(settings.listen, database), Signals(ended.set):
        log.info("samples and events are taken at %s", settings.listen)
        ended.wait()
    return 0


def run_listener(settings: Settings) -> int:
    """Take events from the message queue until told to end; return the exit code."""
    from hashring.alarms.listener import Listener  # its client library is an extra

    ended = threading.Event()
    with opened(settings) as database, Listener(settings, database), Signals(ended.set):
        log.info("events are taken from the topic %s", settings.event_topic)
        ended.wait()
    return 0
