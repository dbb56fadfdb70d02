"""The front of the command: which commands there are, and where each one is.

A command is imported when it is asked for, and what it needs beside click when it runs. So help,
and what needs the core alone, work where the agents' packages are missing. Another command is one
more line in :data:`COMMANDS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import NamedTuple

import click

from hashring.errors import MissingDependency

__all__ = ["COMMANDS", "Listed", "hashring", "missing"]


class Listed(NamedTuple):
    """A command, as far as it is known without importing it.

    Attributes:
        target: ``MODULE:NAME`` of its :class:`click.Command`.
        help: what it does, in a line.
    """

    target: str
    help: str


COMMANDS: Mapping[str, Listed] = {
    "agent": Listed(
        "hashring.telemetry.cli.commands:agent",
        "Poll this machine's resources, sharing them with the group's other agents.",
    ),
    "alarm": Listed(
        "hashring.alarms.cli:alarm",
        "Evaluate alarms once a window, and tell of each change once, whoever dies.",
    ),
    "drivers": Listed(
        "hashring.cli.drivers:drivers",
        "List the installed drivers: where they come from, what they promise, their options.",
    ),
    "group": Listed(
        "hashring.cli.group:group",
        "Look at groups from outside, and steer them.",
    ),
    "show": Listed(
        "hashring.telemetry.cli.commands:show",
        "See agents share this machine, die, join and leave, in under a minute.",
    ),
}

_PACKAGES: Mapping[str, str] = {
    "certifi": "certifi",
    "idna": "idna",
    "msgpack": "msgpack",
    "oslo_config": "oslo.config",
    "platformdirs": "platformdirs",
    "prometheus_client": "prometheus-client",
    "psutil": "psutil",
    "rich": "rich",
    "urllib3": "urllib3",
    "yaml": "PyYAML",
}
"""The modules that commands import when they run, and the packages that have them."""


def missing(error: ModuleNotFoundError) -> MissingDependency | None:
    """Return the error for whoever lacks a package of the extra; ``None``: it is another module.

    Example:
        >>> print(missing(ModuleNotFoundError(name="yaml.nodes")))
        this command needs the package 'PyYAML', which is not installed: pip install ...
        >>> missing(ModuleNotFoundError(name="hashring.no_such")) is None
        True
    """
    package = _PACKAGES.get((error.name or "").partition(".")[0])
    return None if package is None else MissingDependency("this command", package, "telemetry")


class _Front(click.Group):
    """A group whose commands are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        listed = COMMANDS.get(cmd_name)
        if listed is None:
            return None
        module, _, name = listed.target.partition(":")
        found = getattr(import_module(module), name)
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
