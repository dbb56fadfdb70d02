"""``hashring agent`` and its commands, and ``hashring show``: their options and help.

What they do is in ``running``, and each imports it when it runs: help needs click alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from hashring.exit_codes import FAILED
from hashring.telemetry.cli.flags import (
    listen_option,
    token_file_option,
    with_agent_options,
    with_files,
    with_log_options,
)
from hashring.telemetry.cli.spool import spool

__all__ = ["agent", "show"]


@click.group(invoke_without_command=True)
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
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Keep this agent's status in FILE, as JSON.",
)
@listen_option
@token_file_option
@with_log_options
@click.pass_context
def agent(
    context: click.Context, /, workers: int, log_level: str, log_format: str, **options: Any
) -> int:
    """Poll this machine's resources, sharing them with the group's other agents.

    Each resource (processor, disk, file system, network interface, process, the host) is polled
    by one agent in every window of INTERVAL seconds. Ctrl-C and SIGTERM hand over, then end; a
    second Ctrl-C ends at once.

    The commands below are agents that are configured by files: ceilometer.conf, polling.yaml and
    pipeline.yaml. The options above are not theirs.
    """
    if context.invoked_subcommand is not None:
        given = [
            parameter.opts[0]
            for parameter in context.command.params
            if parameter.name is not None
            and context.get_parameter_source(parameter.name) is ParameterSource.COMMANDLINE
        ]
        if given:
            raise click.UsageError(
                f"{', '.join(given)}: not an option of an agent that is configured by files; "
                f"see hashring agent {context.invoked_subcommand} --help"
            )
        return 0
    from hashring.telemetry.cli import running

    return running.run_unconfigured(workers, log_level, log_format, **options)


@agent.command()
@with_agent_options
def central(**options: Any) -> int:
    """Poll what is reached over the network, and the hosts: the namespace `central`.

    SIGTERM hands over, then ends; SIGHUP reads the configuration anew.
    """
    from hashring.telemetry.cli import running

    return running.run_configured(("central",), **options)


@agent.command()
@with_agent_options
def compute(**options: Any) -> int:
    """Poll the instances of the hypervisor: the namespace `compute`.

    SIGTERM hands over, then ends; SIGHUP reads the configuration anew.
    """
    from hashring.telemetry.cli import running

    return running.run_configured(("compute",), **options)


@agent.command()
@click.option(
    "--polling-namespaces",
    metavar="NAMES",
    help="central, compute, or both with a comma between.  [default: polling_namespaces]",
)
@with_agent_options
def poll(polling_namespaces: str | None, **options: Any) -> int:
    """Poll the namespaces that the configuration names, both in one process."""
    from hashring.telemetry.cli import running

    return running.run_configured(running.namespaces_of(polling_namespaces), **options)


@agent.command()
@click.option(
    "--polling-namespaces",
    metavar="NAMES",
    help="central, compute, or both with a comma between.  [default: polling_namespaces]",
)
@click.option("--look/--no-look", default=True, help="Read the store, to tell who polls now.")
@click.option(
    "--sinks/--no-sinks",
    default=True,
    help="Open the sinks and the spool as an agent would, and let go of them.",
)
@with_files
def check(
    polling_namespaces: str | None,
    look: bool,
    sinks: bool,
    config_files: tuple[Path, ...],
    config_dirs: tuple[Path, ...],
) -> int:
    """Print what would be polled, how often, by whom; poll nothing, publish nothing.

    The exit code is 1 where an agent would refuse to start.
    """
    from hashring.telemetry.cli import running

    namespaces = running.namespaces_of(polling_namespaces)
    lines, starts = running.check(namespaces, config_files, config_dirs, look=look, sinks=sinks)
    for line in lines:
        click.echo(line)
    return 0 if starts else FAILED


agent.add_command(spool)


@click.command()
def show() -> int:
    """See agents share this machine, die, join and leave, in under a minute."""
    from hashring.telemetry.cli.show import Interrupted, Show

    try:
        return Show().run()
    except Interrupted:
        return 130
