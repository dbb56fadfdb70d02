"""The commands of ``hashring``: their options and help, and what they print.

Turns options into the values that the rest of the package takes; nothing is decided here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from hashring import driver
from hashring.telemetry.agent import Agent
from hashring.telemetry.config import (
    AgentConfig,
    BadConfig,
    default_group,
    default_member,
    default_url,
)
from hashring.telemetry.signals import Signals
from hashring.telemetry.supervisor import Supervisor, configure_logging

__all__ = ["hashring"]

_LEVELS = ("debug", "info", "warning", "error")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(
    package_name="hashring-ha", prog_name="hashring", message="%(prog)s %(version)s"
)
def hashring() -> None:
    """Split keys among processes, and hand them over so that no two ever hold one."""


@hashring.command()
@click.option(
    "--backend-url",
    metavar="URL",
    help="The group's store.  [default: SQLite in the user's state folder]",
)
@click.option("--group", help="Agents of one group share what they poll.  [default: agents/HOST]")
@click.option("--member", help="This agent's id in the group.  [default: HOST and a random part]")
@click.option(
    "--interval",
    type=float,
    default=60.0,
    show_default=True,
    help="Seconds between two polls of a resource.",
)
@click.option(
    "--ttl",
    type=float,
    default=10.0,
    show_default=True,
    help="Seconds after which the others take over from an agent that is silent.",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Run this many agents, each as a process; one that dies is started again.",
)
@click.option("--cycles", type=int, metavar="N", help="End after N windows.  [default: never]")
@click.option(
    "--output",
    default="-",
    show_default=True,
    metavar="FILE",
    help="Append the samples to FILE, as JSON lines; - is the standard output.",
)
@click.option(
    "--resources",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Poll only the resources whose ids FILE lists, one a line.  [default: all]",
)
@click.option(
    "--on-crash",
    type=click.Choice(["repeat", "skip"]),
    default="repeat",
    show_default=True,
    help="What to do with the window in which another agent died.",
)
@click.option(
    "--status-file",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="Keep this agent's status in FILE, as JSON.",
)
@click.option(
    "--log-level",
    type=click.Choice(_LEVELS, case_sensitive=False),
    default="warning",
    show_default=True,
    help="What to log to the standard error.",
)
def agent(workers: int, log_level: str, **options: Any) -> int:
    """Poll this machine's resources, sharing them with the group's other agents.

    Each resource (processor, disk, file system, network interface, process, the host) is polled
    by one agent in every window of INTERVAL seconds. Ctrl-C and SIGTERM hand over, then end; a
    second Ctrl-C ends at once.
    """
    configure_logging(log_level)
    config = _config(**options)
    if workers > 1:
        return _supervise(config, workers, log_level)
    running = Agent(config)
    with Signals(running.stop):
        running.run()
    return 0


@hashring.command()
def show() -> int:
    """See agents share this machine, die, join and leave, in under a minute."""
    # Imported here: rich takes longer to import than an agent to start.
    from hashring.telemetry.show import Interrupted, Show

    try:
        return Show().run()
    except Interrupted:
        return 130


@hashring.command()
def drivers() -> None:
    """List the installed drivers: where they come from, what they promise, their options."""
    for found in driver.describe():
        click.echo(f"{found.scheme}://  from {found.distribution} ({found.target})")
        if found.problem is not None:
            click.echo(f"    cannot be used: {found.problem}")
            continue
        click.echo(f"    {found.promise}")
        _echo_options(found.options)
    click.echo("every driver")
    _echo_options(driver.COMMON_OPTIONS)


def _echo_options(options: Sequence[driver.Option]) -> None:
    for option in options:
        default = "" if option.default is None else f"  [default: {option.default}]"
        click.echo(f"    ?{option.name}=  {option.help}{default}")


def _supervise(config: AgentConfig, workers: int, log_level: str) -> int:
    if config.backend_url.partition(":")[0].lower() == "memory":
        raise BadConfig(
            "--workers cannot share memory://, which exists within one process: "
            "give another --backend-url"
        )
    if config.status_file is not None:
        raise BadConfig("--status-file is of one agent: it cannot be used with --workers")
    supervisor = Supervisor(
        (
            dataclasses.replace(config, member=f"{config.member}.{number}")
            for number in range(1, workers + 1)
        ),
        log_level=log_level,
    )
    with Signals(supervisor.stop, abort=supervisor.abort):
        return supervisor.run()


def _config(
    backend_url: str | None,
    group: str | None,
    member: str | None,
    resources: Path | None,
    **options: Any,
) -> AgentConfig:
    return AgentConfig(
        backend_url=backend_url if backend_url is not None else default_url(),
        group=group if group is not None else default_group(),
        member=member if member is not None else default_member(),
        resources=None if resources is None else _ids(resources),
        **options,
    )


def _ids(path: Path) -> tuple[str, ...]:
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadConfig(f"--resources {str(path)!r} cannot be read: {error}") from None
    ids = tuple(line.strip() for line in lines if line.strip() and not line.startswith("#"))
    if not ids:
        raise BadConfig(f"--resources {str(path)!r} lists no resource")
    return ids
