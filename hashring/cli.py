"""The ``hashring`` command: where it begins, and how it ends.

An error that is hashring's own is one line on the standard error and an exit code: 2 if what was
asked for is wrong, 1 if it went wrong. The commands themselves are in
``hashring.telemetry.cli.commands``, which is imported late: it needs click, and the lack of it is
such an error too.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from hashring._installation import check_files, check_platform
from hashring.errors import HashringError, MissingDependency
from hashring.telemetry.agent.exit_codes import exit_code

__all__ = ["main"]

# Here too: another distribution may have overwritten hashring/__init__.py.
check_files()

_PACKAGES = {
    "msgpack": "msgpack",
    "oslo_config": "oslo.config",
    "platformdirs": "platformdirs",
    "prometheus_client": "prometheus-client",
    "psutil": "psutil",
    "requests": "requests",
    "rich": "rich",
    "yaml": "PyYAML",
}
"""The modules that commands import when they run, and the distributions that have them."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code.

    Args:
        arguments: of the command; by default those of this process.

    Example:
        >>> main(["--version"])  # doctest: +ELLIPSIS
        hashring ...
        0
    """
    try:
        return _command(arguments)
    except KeyboardInterrupt:
        return 130
    except HashringError as error:
        print(f"hashring: {error}", file=sys.stderr)  # noqa: T201 - the command's own output
        return exit_code(error)


def _command(arguments: Sequence[str] | None) -> int:
    """Run the command; a library that it needs and does not find is an error of ours."""
    try:
        import click
    except ImportError as error:
        raise MissingDependency("the hashring command", "click", "telemetry") from error
    from hashring.telemetry.cli import commands

    try:
        code = commands.hashring.main(
            args=None if arguments is None else list(arguments),
            prog_name="hashring",
            standalone_mode=False,
        )
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        return 130
    except ModuleNotFoundError as error:
        check_platform()  # elsewhere it is the system that lacks the module
        package = _PACKAGES.get((error.name or "").partition(".")[0])
        if package is None:
            raise
        raise MissingDependency("this command", package, "telemetry") from error
    return code if isinstance(code, int) else 0
