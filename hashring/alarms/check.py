"""Check: what an evaluator would do, in lines; nothing is written, and nobody is told."""

from __future__ import annotations

from collections.abc import Iterator

from hashring import clock
from hashring.alarms import definitions
from hashring.alarms.actions.catalogue import Catalogue
from hashring.alarms.database import migrations
from hashring.alarms.database.definitions import id_of
from hashring.alarms.database.engine import Database
from hashring.alarms.database.evaluations import Evaluations
from hashring.alarms.database.notifications import Notifications
from hashring.alarms.errors import BadAlarm
from hashring.alarms.model import Alarm, Leaf, alarm_of
from hashring.alarms.settings import Settings
from hashring.alarms.sources.asking import Asking
from hashring.alarms.sources.prometheus import PrometheusSource
from hashring.errors import HashringError
from hashring.url import masked

__all__ = ["report"]


def report(settings: Settings, *, look: bool) -> tuple[list[str], bool]:
    """Return the lines, and whether all is well.

    Args:
        settings: of the evaluator.
        look: read the database, and ask Prometheus each query once.
    """
    actions = Catalogue(settings)
    try:
        placed, problems = definitions.load_all(settings.definitions, actions.check)
    finally:
        actions.close()
    alarms = [(one.place, one.alarm) for one in placed]
    lines = [
        f"database: {masked(settings.database)}",
        f"group: {settings.group} at {masked(settings.backend_url)}, ttl {settings.ttl:g} s",
    ]
    if look:
        found, wrong, notes = _in_database(settings, {id_of(alarm.name) for _, alarm in alarms})
        alarms += found
        problems += wrong
        lines += notes
    lines.append(f"{len(alarms)} alarms, each evaluated once every {settings.interval:g} s:")
    lines += [_line(place, alarm) for place, alarm in alarms]
    if look:
        problems += _asked(settings, [alarm for _, alarm in alarms])
    lines += [f"WRONG  {problem}" for problem in problems]
    return lines, not problems


def _line(place: str, alarm: Alarm) -> str:
    told = sorted({masked(url) for _, url in alarm.all_actions}) or ["nobody"]
    enabled = "" if alarm.enabled else " (disabled)"
    return f"    {alarm.name}{enabled}: {alarm.type}, tells {', '.join(told)}  [{place}]"


def _in_database(
    settings: Settings, of_files: set[str]
) -> tuple[list[tuple[str, Alarm]], list[str], list[str]]:
    """Return the alarms that are not of these files, what is wrong there, and what to say of it."""
    database = Database(settings.database)
    notes = ["the database is made when the first evaluator starts"]
    if database.file is not None and not database.file.exists():
        return [], [], notes
    try:
        wrong = migrations.problem(database)
        if wrong is None:
            return _read(database, settings, of_files)
    except HashringError as error:
        wrong = str(error)
    finally:
        database.close()
    if database.is_sqlite and "migrate" in wrong:
        return [], [], notes
    return [], [wrong], []


def _read(
    database: Database, settings: Settings, of_files: set[str]
) -> tuple[list[tuple[str, Alarm]], list[str], list[str]]:
    evaluations = Evaluations(database, settings.interval)
    ids = [one for one in evaluations.enabled() if one not in of_files]
    found, problems = [], []
    for definition in evaluations.definitions(ids):
        try:
            found.append((f"database: {definition.alarm_id}", alarm_of(definition.fields)))
        except BadAlarm as error:
            problems.append(f"alarm {definition.alarm_id} in the database: {error}")
    outbox = Notifications(database)
    waiting = outbox.waiting()
    notes = [
        f"notifications: {waiting.pending} wait, {waiting.delivered} delivered of late, "
        f"{waiting.given_up} given up",
        *(f"    {line}" for line in outbox.problems()),
    ]
    return found, problems, notes


def _asked(settings: Settings, alarms: list[Alarm]) -> Iterator[str]:
    """Ask the queries of alarms once each; return what is wrong with the answers."""
    leaves = [(alarm.name, leaf) for alarm in alarms for leaf in _leaves(alarm)]
    asked = [(name, leaf) for name, leaf in leaves if leaf.type == "prometheus"]
    if not asked:
        return
    if settings.prometheus_url is None:
        yield (
            f"{len(asked)} rules ask Prometheus, and [alarm] prometheus_url (--prometheus-url) "
            "names none"
        )
        return
    source = PrometheusSource(
        settings.prometheus_url,
        settings.threads,
        settings.prometheus_ca,
        settings.project_label,
    )
    try:
        asking = Asking({"prometheus": source}, clock.wall() - settings.lag, settings.query_timeout)
        for name, leaf in asked:
            if (away := asking.judgement(leaf).away) is not None:
                yield f"{name}: {away}"
    finally:
        source.close()


def _leaves(alarm: Alarm) -> list[Leaf]:
    if alarm.type == "event":
        return []
    rule = alarm.parsed()
    return [rule] if isinstance(rule, Leaf) else list(rule.leaves())
