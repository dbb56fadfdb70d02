"""The client for event loops, imported where something is to be asked and no sooner.

It takes a while to import, with TLS and its libraries, and most agents ask nothing over HTTP. That
they are there is looked at when an agent starts, all the same.
"""

from __future__ import annotations

import functools
from importlib.util import find_spec

from hashring.errors import MissingDependency

__all__ = ["load", "require"]


def require() -> None:
    """Look that the client could be imported, without doing so.

    Raises:
        MissingDependency: it needs a package that is not installed.
    """
    for package in ("httptools", "aiohappyeyeballs"):
        if find_spec(package) is None:
            raise MissingDependency("polls over HTTP", package, "telemetry")


@functools.cache
def load() -> None:
    """Import the client. It is called before a poll's time begins to count, which it might use up.

    Raises:
        MissingDependency: httptools is not installed.
    """
    from hashring.telemetry.http import looped  # noqa: F401 - imported for others
