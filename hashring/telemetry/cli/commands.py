"""The commands of ``hashring``: their options and help, and what they print.

Turns options into the values that the rest of the package takes; nothing is decided here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from hashring import driver
from hashring.telemetry.agent.exit_codes import FAILED
from hashring.telemetry.agent.launch import Launch
from hashring.telemetry.agent.signals import Signals, hold_reloads
from hashring.telemetry.agent.supervisor import Supervisor, configure_logging
from hashring.telemetry.cli.check import problems, report
from hashring.telemetry.config import options
from hashring.telemetry.config.config import BadConfig, agent_settings
from hashring.telemetry.config.definitions import load_pipeline
from hashring.telemetry.config.plan import make_plan
from hashring.telemetry.config.rehearsal import rehearse
from hashring.telemetry.delivery import leftovers
from hashring.telemetry.model.settings import Settings
from hashring.url import masked

__all__ = ["hashring"]

log = logging.getLogger(__name__)

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
    configure_logging(log_level)
    return _run(Launch(_settings(**options)), workers, log_level)


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
    return _run_configured(("central",), **options)


@agent.command()
@_running
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
@_running
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
    configure_logging("warning")
    launch = _launch(_namespaces(polling_namespaces), config_files, config_dirs)
    plan = make_plan(launch.settings)
    tried = rehearse(launch.settings, plan, while_agents_run=True) if sinks else ()
    findings = tuple(tried)
    for line in report(launch.settings, plan, look=look, findings=findings):
        click.echo(line)
    return FAILED if problems(plan, findings) else 0


@agent.group()
def spool() -> None:
    """See what waits for sinks that are away, and let go of what nobody wants."""


@spool.command("list")
@_configured
def list_(config_files: tuple[Path, ...], config_dirs: tuple[Path, ...]) -> int:
    """Print how many samples wait for which sink, and whether it is still configured."""
    folder, configured = _spool(config_files, config_dirs)
    found = leftovers.routes(folder)
    click.echo(f"spool: {folder}")
    for url in sorted({route.url for route in found}):
        mine = [route for route in found if route.url == url]
        samples = sum(route.samples for route in mine)
        held = sum(route.is_held for route in mine)
        gone = "" if url in configured else "; not in the configuration"
        click.echo(
            f"{masked(url)}: {samples} samples in {len(mine)} files, {held} of them of agents "
            f"that run{gone}"
        )
    return 0


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
    folder, wanted = _spool(config_files, config_dirs)
    urls = leftovers.matching(leftovers.routes(folder), url)
    if not urls:
        raise BadConfig(
            f"nothing waits for {masked(url)} in {folder}: see hashring agent spool list"
        )
    if wanted & set(urls) and not configured:
        raise BadConfig(
            f"{masked(url)} is in the configuration, so agents would deliver these samples: take "
            "it out there first, or say --configured"
        )
    code = 0
    for one in urls:
        done = leftovers.drop(folder, one, timeout)
        click.echo(f"{masked(one)}: {done.samples} samples dropped")
        for path in done.asked:
            click.echo(f"    {path}: its agent has not answered yet", err=True)
            code = FAILED
    return code


def _spool(config_files: Sequence[Path], config_dirs: Sequence[Path]) -> tuple[Path, set[str]]:
    """Return the folder of the spools, and the sinks of the configuration."""
    settings = options.load(config_files, config_dirs)
    if settings.state_dir is None:
        raise BadConfig("there is no spool: [hashring] state_dir names no folder")
    if settings.pipeline_file is None:
        return settings.state_dir / "spool", {settings.output}
    sinks = load_pipeline(settings.pipeline_file).sinks
    return settings.state_dir / "spool", {url for sink in sinks for url in sink.publishers}


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
