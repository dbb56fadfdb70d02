"""The options that several commands of the agents have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click

from hashring.logs import FORMATS

__all__ = [
    "listen_option",
    "token_file_option",
    "with_agent_options",
    "with_files",
    "with_log_options",
]

_LEVELS = ("debug", "info", "warning", "error")

_level = click.option(
    "--log-level",
    type=click.Choice(_LEVELS, case_sensitive=False),
    default="warning",
    show_default=True,
    help="What to log to the standard error.",
)

_format = click.option(
    "--log-format",
    type=click.Choice(FORMATS, case_sensitive=False),
    default="text",
    show_default=True,
    help="How: lines of text, or a JSON object a line.",
)


def with_log_options(command: Callable[..., int]) -> Callable[..., int]:
    """Add the options that say what is logged, and how."""
    return _level(_format(command))


listen_option = click.option(
    "--listen",
    metavar="ADDRESS",
    help="Serve the page and the metrics at HOST:PORT or unix:/PATH.  [default: nowhere]",
)


token_file_option = click.option(
    "--token-file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Whoever sends the token in FILE may steer the group by the page.  [default: nobody]",
)


def with_files(command: Callable[..., int]) -> Callable[..., int]:
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


def with_agent_options(command: Callable[..., int]) -> Callable[..., int]:
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
            listen_option,
            token_file_option,
        )
    ):
        command = option(command)
    return with_files(with_log_options(command))
