"""Exit codes: what an error is to whoever started the process.

Knows the kinds of errors, and no error in particular.
"""

from __future__ import annotations

from hashring.errors import HashringError

__all__ = ["FAILED", "USAGE", "exit_code"]

FAILED = 1
"""Something went wrong: another try may succeed."""

USAGE = 2
"""What was asked for is wrong: another try would fail in the same way."""


def exit_code(error: HashringError) -> int:
    """Return the exit code for an error: :data:`USAGE` or :data:`FAILED`.

    >>> from hashring.errors import BadURL, StoreUnavailable
    >>> exit_code(BadURL("?")), exit_code(StoreUnavailable("?"))
    (2, 1)
    """
    return USAGE if isinstance(error, (ValueError, LookupError, ImportError)) else FAILED
