"""``hashring agent`` and its commands: their options and help, and what they print.

Turns options into the values that the rest of the package takes; nothing is decided here.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from hashring.exit_codes import FAILED
from hashring.telemetry.agent.launch import Launch
from hashring.telemetry.agent.signals import Signals, hold_reloads
from hashring.telemetry.agent.supervisor import Supervisor, configure_logging
from hashring.telemetry.cli.check import problems, report
from hashring.telemetry.cli.flags import log_level_option, with_agent_options, with_files
from hashring.telemetry.cli.spool import spool
from hashring.telemetry.config import options
from hashring.telemetry.config.command_line import BadConfig, agent_settings
from hashring.telemetry.config.plan import make_plan
from hashring.telemetry.config.rehearsal import rehearse
from hashring.telemetry.model.settings import Settings

__all__ = ["agent"]

log = logging.getLogger(__name__)


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
@log_level_option
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
    configure_logging(log_level)
    return _run(Launch(_settings(**options)), workers, log_level)


@agent.command()
@with_agent_options
def central(**options: Any) -> int:
    """Poll what is reached over the network, and the hosts: the namespace `central`.

    SIGTERM hands over, then ends; SIGHUP reads the configuration anew.
    """
    return _run_configured(("central",), **options)


@agent.command()
@with_agent_options
def compute(**options: Any) -> int:
    """Poll the instances of the hypervisor: the namespace `compute`.

    SIGTERM hands over, then ends; SIGHUP reads the configuration anew.
    """
    return _run_configured(("compute",), **options)


@agent.command()
@click.option(
    "--polling-namespaces",
    metavar="NAMES",
    help="central, compute, or both with a comma between.  [default: polling_namespaces]",
)
@with_agent_options
def poll(polling_namespaces: str | None, **options: Any) -> int:
    """Poll the namespaces that the configuration names, both in one process."""
    return _run_configured(_namespaces(polling_namespaces), **options)


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
    configure_logging("warning")
    launch = _launch(_namespaces(polling_namespaces), config_files, config_dirs)
    plan = make_plan(launch.settings)
    tried = rehearse(launch.settings, plan, while_agents_run=True) if sinks else ()
    findings = tuple(tried)
    for line in report(launch.settings, plan, look=look, findings=findings):
        click.echo(line)
    return FAILED if problems(plan, findings) else 0


agent.add_command(spool)


def _namespaces(text: str | None) -> tuple[str, ...] | None:
    if text is None:
        return None
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    for name in names:
        if name not in ("central", "compute"):
            raise BadConfig(f"--polling-namespaces knows central and compute, not {name!r}")
    return names


def _launch(
    namespaces: tuple[str, ...] | None,
    config_files: Sequence[Path],
    config_dirs: Sequence[Path],
    **overrides: Any,
) -> Launch:
    """Return the agent that the configuration and the command line describe."""
    overrides = {name: value for name, value in overrides.items() if value is not None}
    if namespaces is not None:
        overrides["namespaces"] = namespaces
    settings = options.load(config_files, config_dirs, **overrides)
    # A reload is to find the same member, though its name was made up.
    overrides["member"] = settings.member
    return Launch(settings, is_configured=True, overrides=overrides)


def _run_configured(
    namespaces: tuple[str, ...] | None,
    *,
    config_files: tuple[Path, ...],
    config_dirs: tuple[Path, ...],
    workers: int,
    log_level: str,
    allow_overlap: bool,
    **overrides: Any,
) -> int:
    configure_logging(log_level)
    launch = _launch(
        namespaces, config_files, config_dirs, allow_overlap=allow_overlap or None, **overrides
    )
    if options.is_embedded(launch.settings.backend_url):
        log.warning(
            "no [coordination] backend_url: the store is %s; agents of other hosts are not seen",
            launch.settings.backend_url,
        )
    return _run(launch, workers, log_level)


def _run(launch: Launch, workers: int, log_level: str) -> int:
    if workers > 1:
        return _supervise(launch, workers, log_level)
    if launch.is_configured:
        hold_reloads()
    running = launch.agent()
    with Signals(running.stop, reload=running.reload if launch.is_configured else None):
        running.run()
    return 0


def _supervise(launch: Launch, workers: int, log_level: str) -> int:
    settings = launch.settings
    if settings.backend_url.partition(":")[0].lower() == "memory":
        raise BadConfig(
            "--workers cannot share memory://, which exists within one process: "
            "give another --backend-url"
        )
    if settings.status_file is not None:
        raise BadConfig("--status-file is of one agent: it cannot be used with --workers")
    supervisor = Supervisor(
        (launch.replace(member=f"{settings.member}.{number}") for number in range(1, workers + 1)),
        log_level=log_level,
    )
    with Signals(
        supervisor.stop,
        abort=supervisor.abort,
        reload=supervisor.reload if launch.is_configured else None,
    ):
        return supervisor.run()


def _settings(resources: Path | None, **options: Any) -> Settings:
    return agent_settings(resources=None if resources is None else _ids(resources), **options)


def _ids(path: Path) -> tuple[str, ...]:
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadConfig(f"--resources {str(path)!r} cannot be read: {error}") from None
    ids = tuple(line.strip() for line in lines if line.strip() and not line.startswith("#"))
    if not ids:
        raise BadConfig(f"--resources {str(path)!r} lists no resource")
    return ids
