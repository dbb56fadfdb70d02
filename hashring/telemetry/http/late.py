"""The client for event loops, imported where something is to be asked and no sooner.

aiohttp takes as long to import as half of an agent's other modules, and most agents ask nothing
over HTTP. That it is there is looked at when an agent starts, all the same.
"""

from __future__ import annotations

import functools
from importlib.util import find_spec

from hashring.errors import MissingDependency

__all__ = ["load", "require"]


def require() -> None:
    """Look that the client could be imported, without doing so.

    Raises:
        MissingDependency: aiohttp is not installed.
    """
    if find_spec("aiohttp") is None:
        raise MissingDependency("polls over HTTP", "aiohttp", "telemetry")


@functools.cache
def load() -> None:
    """Import the client. It is called before a poll's time begins to count, which it might use up.

    Raises:
        MissingDependency: aiohttp is not installed.
    """
    from hashring.telemetry.http import looped  # noqa: F401 - imported for others
