"""The commands of ``hashring``: their options and help, and what they print.

What they do is in ``work.py``, and each imports it when it runs: the help and the list of drivers
need click alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from hashring import driver

__all__ = ["hashring"]

_LEVELS = ("debug", "info", "warning", "error")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(
    package_name="hashring-ha", prog_name="hashring", message="%(prog)s %(version)s"
)
def hashring() -> None:
    """Split keys among processes, and hand them over so that no two ever hold one."""


_log_level = click.option(
    "--log-level",
    type=click.Choice(_LEVELS, case_sensitive=False),
    default="warning",
    show_default=True,
    help="What to log to the standard error.",
)


@hashring.group(invoke_without_command=True)
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
@_log_level
@click.pass_context
def agent(context: click.Context, /, workers: int, log_level: str, **options: Any) -> int:
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
    from hashring.telemetry.cli import work

    return work.run_here(workers, log_level, **options)


def _configured(command: Callable[..., int]) -> Callable[..., int]:
    """Add the options of every command that reads configuration files."""
    for option in reversed(
        (
            click.option(
                "--config-file",
                "config_files",
                multiple=True,
                type=click.Path(dir_okay=False, path_type=Path),
                metavar="FILE",
                help="Read FILE, e.g. /etc/ceilometer/ceilometer.conf; later ones win.",
            ),
            click.option(
                "--config-dir",
                "config_dirs",
                multiple=True,
                type=click.Path(file_okay=False, path_type=Path),
                metavar="DIR",
                help="Read every *.conf in DIR, after the files.",
            ),
        )
    ):
        command = option(command)
    return command


def _running(command: Callable[..., int]) -> Callable[..., int]:
    """Add the options of every agent that is configured by files."""
    for option in reversed(
        (
            click.option("--member", help="This agent's id.  [default: HOST and a random part]"),
            click.option(
                "--workers",
                type=click.IntRange(min=1),
                default=1,
                show_default=True,
                help="Run this many agents, each as a process; one that dies is started again.",
            ),
            click.option(
                "--cycles", type=click.IntRange(min=1), metavar="N", help="End after N windows."
            ),
            click.option(
                "--allow-overlap",
                is_flag=True,
                help="Start although another agent's meters overlap with this one's.",
            ),
            click.option(
                "--status-file",
                type=click.Path(dir_okay=False, path_type=Path),
                metavar="FILE",
                help="Keep this agent's status in FILE, as JSON.",
            ),
        )
    ):
        command = option(command)
    return _configured(_log_level(command))


@agent.command()
@_running
def central(**options: Any) -> int:
    """Poll what is reached over the network, and the hosts: the namespace `central`.

    SIGTERM hands over, then ends; SIGHUP reads the configuration anew.
    """
    from hashring.telemetry.cli import work

    return work.run_configured(("central",), **options)


@agent.command()
@_running
def compute(**options: Any) -> int:
    """Poll the instances of the hypervisor: the namespace `compute`.

    SIGTERM hands over, then ends; SIGHUP reads the configuration anew.
    """
    from hashring.telemetry.cli import work

    return work.run_configured(("compute",), **options)


@agent.command()
@click.option(
    "--polling-namespaces",
    metavar="NAMES",
    help="central, compute, or both with a comma between.  [default: polling_namespaces]",
)
@_running
def poll(polling_namespaces: str | None, **options: Any) -> int:
    """Poll the namespaces that the configuration names, both in one process."""
    from hashring.telemetry.cli import work

    return work.run_configured(work.namespaces(polling_namespaces), **options)


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
@_configured
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
    from hashring.telemetry.cli import work

    found = work.namespaces(polling_namespaces)
    return work.check(found, config_files, config_dirs, look=look, sinks=sinks)


@agent.group()
def spool() -> None:
    """See what waits for sinks that are away, and let go of what nobody wants."""


@spool.command("list")
@_configured
def list_(config_files: tuple[Path, ...], config_dirs: tuple[Path, ...]) -> int:
    """Print how many samples wait for which sink, and whether it is still configured."""
    from hashring.telemetry.cli import work

    return work.list_spool(config_files, config_dirs)


@spool.command("drop")
@click.argument("url")
@click.option("--configured", is_flag=True, help="Drop them although the sink is configured.")
@click.option(
    "--timeout",
    type=float,
    default=20.0,
    show_default=True,
    help="Seconds to wait for agents that run.",
)
@_configured
def drop_(
    url: str,
    configured: bool,
    timeout: float,
    config_files: tuple[Path, ...],
    config_dirs: tuple[Path, ...],
) -> int:
    """Give up the samples that wait for the sink URL, as `list` shows it or whole.

    The samples are lost. Those for other sinks stay.
    """
    from hashring.telemetry.cli import work

    return work.drop(
        url, config_files, config_dirs, although_configured=configured, timeout=timeout
    )


@hashring.command()
def show() -> int:
    """See agents share this machine, die, join and leave, in under a minute."""
    # Imported here: rich takes longer to import than an agent to start.
    from hashring.telemetry.cli.show import Interrupted, Show

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
