"""``hashring alarm``: its commands, each of which imports what it needs when it runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from hashring.exit_codes import FAILED
from hashring.telemetry.cli.flags import token_file_option, with_files, with_log_options

__all__ = ["alarm"]


def _with_database(command: Callable[..., int]) -> Callable[..., int]:
    """Add the options of every command that opens the database."""
    for option in reversed(
        (
            click.option(
                "--state-dir",
                metavar="DIR",
                help="Folder of the database and the group's store, where none are named.",
            ),
            click.option(
                "--database",
                metavar="URL",
                help="The alarms' database, as SQLAlchemy spells it.  [default: SQLite in DIR]",
            ),
        )
    ):
        command = option(command)
    return with_files(with_log_options(command))


def _with_alarms(command: Callable[..., int]) -> Callable[..., int]:
    """Add the options that say which alarms, and how they are evaluated."""
    for option in reversed(
        (
            click.option(
                "--definitions",
                multiple=True,
                metavar="DIR",
                help="Folder of *.yaml with alarms; may be given several times.",
            ),
            click.option("--prometheus-url", metavar="URL", help="Where PromQL queries are asked."),
            click.option(
                "--interval",
                type=float,
                metavar="SECONDS",
                help="The length of a window: each alarm is evaluated once in each.  [default: 60]",
            ),
        )
    ):
        command = option(command)
    return _with_database(command)


@click.group()
def alarm() -> None:
    """Evaluate alarms once a window, and tell of each change once, whoever dies.

    The alarms come from files (--definitions) or from an Aodh's database. Start as many evaluators
    as you like: they share the alarms.
    """


@alarm.command()
@click.option("--backend-url", metavar="URL", help="The group's store.  [default: SQLite in DIR]")
@click.option("--member", help="This evaluator's id.  [default: HOST and a random part]")
@click.option("--ttl", type=float, help="Seconds after which others take over.  [default: 10]")
@click.option(
    "--workers",
    "threads",
    type=int,
    metavar="N",
    help="Queries at once, and notifications at once.  [default: 16]",
)
@click.option(
    "--listen",
    "page",
    metavar="HOST:PORT",
    help="Serve the page and the metrics there, or at unix:/PATH.",
)
@token_file_option
@click.option(
    "--status-file", metavar="FILE", help="Keep this evaluator's status in FILE, as JSON."
)
@_with_alarms
def evaluator(log_level: str, log_format: str, **options: Any) -> int:
    """Evaluate alarms, keep their history, deliver their notifications.

    SIGTERM hands over, then ends. Files of alarms are read again when they change, and on SIGHUP.
    """
    from hashring.alarms import running
    from hashring.telemetry.agent.supervisor import configure_logging

    configure_logging(log_level, form=log_format)
    return running.run_evaluator(_settings(**options))


@alarm.command()
@click.option("--look/--no-look", default=True, help="Open the database, ask Prometheus.")
@_with_alarms
def check(log_level: str, log_format: str, look: bool, **options: Any) -> int:
    """Print which alarms would be evaluated, how often, and what is wrong with the others.

    Nothing is written, nobody is told. The exit code is 1 where something is wrong.
    """
    from hashring.alarms.check import report
    from hashring.telemetry.agent.supervisor import configure_logging

    configure_logging(log_level, form=log_format)
    lines, is_well = report(_settings(**options), look=look)
    for line in lines:
        click.echo(line)
    return 0 if is_well else FAILED


@alarm.command()
@_with_database
def migrate(log_level: str, log_format: str, **options: Any) -> int:
    """Make the database's tables, or bring ours up to date. Doing it twice changes nothing."""
    from hashring.alarms.database import migrations
    from hashring.alarms.database.engine import Database
    from hashring.telemetry.agent.supervisor import configure_logging

    configure_logging(log_level, form=log_format)
    database = Database(_settings(**options).database)
    try:
        migrations.migrate(database)
    finally:
        database.close()
    click.echo(f"{database.shown}: its tables are those of revision {migrations.HEAD}")
    return 0


@alarm.command()
@click.option("--listen", metavar="HOST:PORT", help="Where.  [default: 127.0.0.1:8042]")
@_with_database
def intake(log_level: str, log_format: str, **options: Any) -> int:
    """Take the agents' samples, POST /v1/samples, and events, POST /v1/events."""
    from hashring.alarms import running
    from hashring.telemetry.agent.supervisor import configure_logging

    configure_logging(log_level, form=log_format)
    return running.run_intake(_settings(**options))


@alarm.command()
@click.option("--listen", metavar="HOST:PORT", help="Where.  [default: 127.0.0.1:8042]")
@click.option(
    "--auth-mode",
    type=click.Choice(("keystone", "basic", "noauth")),
    help="How it knows who asks.  [default: [api] auth_mode, keystone]",
)
@_with_database
def api(
    log_level: str, log_format: str, auth_mode: str | None, listen: str | None, **options: Any
) -> int:
    """Serve Aodh's API v2 on the alarms' database, for the aodh and openstack clients."""
    from hashring.alarms.api import options as reading
    from hashring.alarms.api.serving import run_api
    from hashring.telemetry.agent.supervisor import configure_logging

    configure_logging(log_level, form=log_format)
    found, notes = reading.load(
        options["config_files"], options["config_dirs"], auth_mode=auth_mode
    )
    for note in notes:
        click.echo(note, err=True)
    return run_api(_settings(listen=listen, **options), found)


@alarm.command()
@_with_database
def listener(log_level: str, log_format: str, **options: Any) -> int:
    """Take events from a message queue, as aodh-listener does, for event alarms.

    It needs oslo.messaging; the queue is [DEFAULT] transport_url.
    """
    from hashring.alarms import running
    from hashring.telemetry.agent.supervisor import configure_logging

    configure_logging(log_level, form=log_format)
    return running.run_listener(_settings(**options))


@alarm.command()
def show() -> int:
    """See disks fill up while an evaluator is killed, and each alarm told once."""
    from hashring.alarms.show import AlarmShow, Interrupted

    try:
        return AlarmShow().run()
    except Interrupted:
        return 130


def _settings(config_files: tuple[Path, ...], config_dirs: tuple[Path, ...], **options: Any) -> Any:
    from hashring.alarms import options as reading

    return reading.load(config_files, config_dirs, **options)
