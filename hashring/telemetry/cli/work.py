"""What the commands of the agents do, once their options are known.

Turns options into the values that the rest of the package takes; nothing is decided here.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from hashring._installation import check_platform
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

__all__ = ["check", "drop", "list_spool", "namespaces", "run_configured", "run_here"]

log = logging.getLogger(__name__)


def run_here(workers: int, log_level: str, **options: Any) -> int:
    """Run agents that poll this machine and are configured by the command line alone."""
    configure_logging(log_level)
    return _run(Launch(_settings(**options)), workers, log_level)


def check(
    wanted: tuple[str, ...] | None,
    config_files: Sequence[Path],
    config_dirs: Sequence[Path],
    *,
    look: bool,
    sinks: bool,
) -> int:
    """Print what an agent would do, and return the exit code of one that could not start."""
    configure_logging("warning")
    launch = _launch(wanted, config_files, config_dirs)
    plan = make_plan(launch.settings)
    tried = rehearse(launch.settings, plan, while_agents_run=True) if sinks else ()
    findings = tuple(tried)
    for line in report(launch.settings, plan, look=look, findings=findings):
        click.echo(line)
    return FAILED if problems(plan, findings) else 0


def list_spool(config_files: Sequence[Path], config_dirs: Sequence[Path]) -> int:
    """Print how many samples wait for which sink."""
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


def drop(
    url: str,
    config_files: Sequence[Path],
    config_dirs: Sequence[Path],
    *,
    although_configured: bool,
    timeout: float,
) -> int:
    """Give up the samples that wait for a sink, in the spools of agents that run, too."""
    folder, sinks = _spool(config_files, config_dirs)
    urls = leftovers.matching(leftovers.routes(folder), url)
    if not urls:
        raise BadConfig(
            f"nothing waits for {masked(url)} in {folder}: see hashring agent spool list"
        )
    if sinks & set(urls) and not although_configured:
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


def namespaces(text: str | None) -> tuple[str, ...] | None:
    """Return the namespaces that a list with commas names; None for None.

    Raises:
        BadConfig: one of them is unknown.
    """
    if text is None:
        return None
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    for name in names:
        if name not in ("central", "compute"):
            raise BadConfig(f"--polling-namespaces knows central and compute, not {name!r}")
    return names


def _launch(
    wanted: tuple[str, ...] | None,
    config_files: Sequence[Path],
    config_dirs: Sequence[Path],
    **overrides: Any,
) -> Launch:
    """Return the agent that the configuration and the command line describe."""
    overrides = {name: value for name, value in overrides.items() if value is not None}
    if wanted is not None:
        overrides["namespaces"] = wanted
    settings = options.load(config_files, config_dirs, **overrides)
    # A reload is to find the same member, though its name was made up.
    overrides["member"] = settings.member
    return Launch(settings, is_configured=True, overrides=overrides)


def run_configured(
    wanted: tuple[str, ...] | None,
    *,
    config_files: tuple[Path, ...],
    config_dirs: tuple[Path, ...],
    workers: int,
    log_level: str,
    allow_overlap: bool,
    **overrides: Any,
) -> int:
    """Run agents that are configured by files, for these namespaces or for those of the files."""
    configure_logging(log_level)
    launch = _launch(
        wanted, config_files, config_dirs, allow_overlap=allow_overlap or None, **overrides
    )
    if options.is_embedded(launch.settings.backend_url):
        log.warning(
            "no [coordination] backend_url: the store is %s; agents of other hosts are not seen",
            launch.settings.backend_url,
        )
    return _run(launch, workers, log_level)


def _run(launch: Launch, workers: int, log_level: str) -> int:
    check_platform()
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
