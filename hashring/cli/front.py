"""The front of the command: which commands there are, and where each one is.

A command is imported when it is asked for, and not before: ``hashring --help`` and what needs the
core alone work where the agents' packages are missing. Another command is one more line in
:data:`COMMANDS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import NamedTuple

import click

from hashring.errors import MissingDependency

__all__ = ["COMMANDS", "Listed", "hashring"]


class Listed(NamedTuple):
    """A command, as far as it is known without importing it.

    Attributes:
        target: ``MODULE:NAME`` of its :class:`click.Command`.
        help: what it does, in a line.
        extra: the extra of ``hashring-ha`` that brings what it needs beside click.
    """

    target: str
    help: str
    extra: str = "telemetry"


COMMANDS: Mapping[str, Listed] = {
    "agent": Listed(
        "hashring.telemetry.cli.commands:agent",
        "Poll this machine's resources, sharing them with the group's other agents.",
    ),
    "drivers": Listed(
        "hashring.cli.drivers:drivers",
        "List the installed drivers: where they come from, what they promise, their options.",
    ),
    "show": Listed(
        "hashring.telemetry.cli.show:show",
        "See agents share this machine, die, join and leave, in under a minute.",
    ),
}

_DISTRIBUTIONS = {
    "oslo_config": "oslo.config",
    "prometheus_client": "prometheus-client",
    "yaml": "PyYAML",
}
"""Modules whose distribution has another name."""


class _Front(click.Group):
    """A group whose commands are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        listed = COMMANDS.get(cmd_name)
        if listed is None:
            return None
        module, _, name = listed.target.partition(":")
        try:
            found = getattr(import_module(module), name)
        except ModuleNotFoundError as error:
            missing = (error.name or "").partition(".")[0]
            if missing in ("", "hashring"):
                raise
            package = _DISTRIBUTIONS.get(missing, missing)
            raise MissingDependency(f"hashring {cmd_name}", package, listed.extra) from error
        assert isinstance(found, click.Command)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, listed.help) for name, listed in sorted(COMMANDS.items())])


@click.group(
    cls=_Front,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(
    package_name="hashring-ha", prog_name="hashring", message="%(prog)s %(version)s"
)
def hashring() -> None:
    """Split keys among processes, and hand them over so that no two ever hold one."""
