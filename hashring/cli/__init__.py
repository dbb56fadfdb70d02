"""The ``hashring`` command: where it begins, and how it ends.

An error that is hashring's own is one line on the standard error and an exit code: 2 if what was
asked for is wrong, 1 if it went wrong. Which commands there are is said in ``front``, which is
imported late: it needs click, and the lack of it is such an error too.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from hashring._installation import check_files, check_platform
from hashring.errors import HashringError, MissingDependency
from hashring.exit_codes import exit_code

__all__ = ["main"]

# Here too: another distribution may have overwritten hashring/__init__.py.
check_files()


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
        try:
            import click
        except ImportError as error:
            raise MissingDependency("the hashring command", "click", "telemetry") from error
        from hashring.cli import front

        try:
            code = front.hashring.main(
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
        except (ModuleNotFoundError, MissingDependency):
            check_platform()  # elsewhere it is the system that lacks the module
            raise
        return code if isinstance(code, int) else 0
    except KeyboardInterrupt:
        return 130
    except HashringError as error:
        print(f"hashring: {error}", file=sys.stderr)  # noqa: T201 - the command's own output
        return exit_code(error)
