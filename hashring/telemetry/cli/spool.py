"""``hashring agent spool``: see what waits for sinks that are away, and let go of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from hashring.exit_codes import FAILED
from hashring.telemetry.cli.flags import with_files
from hashring.telemetry.config import options
from hashring.telemetry.config.command_line import BadConfig
from hashring.telemetry.config.definitions import load_pipeline
from hashring.telemetry.delivery import leftovers
from hashring.url import masked

__all__ = ["spool"]


@click.group()
def spool() -> None:
    """See what waits for sinks that are away, and let go of what nobody wants."""


@spool.command("list")
@with_files
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
@with_files
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
