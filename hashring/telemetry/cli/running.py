"""What the commands of the agents do: start agents, and print what one would do.

The commands import this module when they run: their help needs click alone.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hashring.telemetry.agent.launch import Launch
from hashring.telemetry.agent.signals import Signals, hold_reloads
from hashring.telemetry.agent.supervisor import Supervisor, configure_logging
from hashring.telemetry.cli.check import problems, report
from hashring.telemetry.config import options
from hashring.telemetry.config.command_line import agent_settings
from hashring.telemetry.config.plan import make_plan
from hashring.telemetry.config.rehearsal import rehearse
from hashring.telemetry.errors import BadConfig
from hashring.telemetry.model.listen import ListenAddress
from hashring.telemetry.model.settings import Settings

__all__ = ["check", "namespaces_of", "run_configured", "run_unconfigured"]

log = logging.getLogger(__name__)


def run_unconfigured(workers: int, log_level: str, log_format: str, **options: Any) -> int:
    """Run agents that their command line alone configures; return the exit code.

    Args:
        workers: how many, each as a process.
        log_level: what to log.
        log_format: how.
        options: as of :func:`~hashring.telemetry.config.command_line.agent_settings`.
    """
    configure_logging(log_level, form=log_format)
    return _run(Launch(_settings(**options)), workers, log_level, log_format)


def check(
    namespaces: tuple[str, ...] | None,
    config_files: Sequence[Path],
    config_dirs: Sequence[Path],
    *,
    look: bool,
    sinks: bool,
) -> tuple[Iterator[str], bool]:
    """Return the lines of what an agent would do, and whether it would start.

    Args:
        namespaces: which pollsters; ``None``: as the configuration says.
        config_files: to read.
        config_dirs: folders of more.
        look: read the store.
        sinks: open the sinks and the spool.
    """
    configure_logging("warning")
    launch = _launch(namespaces, config_files, config_dirs)
    plan = make_plan(launch.settings)
    findings = tuple(rehearse(launch.settings, plan, while_agents_run=True)) if sinks else ()
    lines = report(launch.settings, plan, look=look, findings=findings)
    return lines, not problems(plan, findings)


def namespaces_of(text: str | None) -> tuple[str, ...] | None:
    """Return the namespaces that a text names, with commas between; ``None`` for no text."""
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


def run_configured(
    namespaces: tuple[str, ...] | None,
    *,
    config_files: tuple[Path, ...],
    config_dirs: tuple[Path, ...],
    workers: int,
    log_level: str,
    log_format: str,
    allow_overlap: bool,
    **overrides: Any,
) -> int:
    """Run agents that files configure; return the exit code.

    Args:
        namespaces: which pollsters; ``None``: as the configuration says.
        config_files: to read.
        config_dirs: folders of more.
        workers: how many agents, each as a process.
        log_level: what to log.
        log_format: how.
        allow_overlap: start although another agent polls the same.
        overrides: settings that the command line gives.
    """
    configure_logging(log_level, form=log_format)
    launch = _launch(
        namespaces, config_files, config_dirs, allow_overlap=allow_overlap or None, **overrides
    )
    if options.is_embedded(launch.settings.backend_url):
        log.warning(
            "no [coordination] backend_url: the store is %s; agents of other hosts are not seen",
            launch.settings.backend_url,
        )
    return _run(launch, workers, log_level, log_format)


def _run(launch: Launch, workers: int, log_level: str, log_format: str) -> int:
    if workers > 1:
        return _supervise(launch, workers, log_level, log_format)
    if launch.is_configured:
        hold_reloads()
    running = launch.agent()
    with Signals(running.stop, reload=running.reload if launch.is_configured else None):
        running.run()
    return 0


def _supervise(launch: Launch, workers: int, log_level: str, log_format: str) -> int:
    settings = launch.settings
    if settings.backend_url.partition(":")[0].lower() == "memory":
        raise BadConfig(
            "--workers cannot share memory://, which exists within one process: "
            "give another --backend-url"
        )
    if settings.status_file is not None:
        raise BadConfig("--status-file is of one agent: it cannot be used with --workers")
    supervisor = Supervisor(
        (_worker(launch, number) for number in range(1, workers + 1)),
        log_level=log_level,
        log_format=log_format,
    )
    with Signals(
        supervisor.stop,
        abort=supervisor.abort,
        reload=supervisor.reload if launch.is_configured else None,
    ):
        return supervisor.run()


def _worker(launch: Launch, number: int) -> Launch:
    """Return one of several agents: it has an id of its own, and an address of its own."""
    settings = launch.settings
    changes: dict[str, Any] = {"member": f"{settings.member}.{number}"}
    if settings.listen is not None:
        changes["listen"] = str(ListenAddress.parse(settings.listen).of_worker(number))
    return launch.replace(**changes)


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
