"""Finding discoveries, pollsters and publishers: by entry point alone, ours and others' alike.

Knows the three entry-point groups and how to say what is wrong with a plug-in; not what any
plug-in does.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import metadata
from typing import TypeVar

from hashring.errors import HashringError
from hashring.url import masked_prose

__all__ = [
    "DISCOVERIES",
    "POLLSTERS",
    "PUBLISHERS",
    "BrokenPlugin",
    "UnknownPlugin",
    "load",
    "load_all",
    "made",
    "names",
]

DISCOVERIES = "hashring.discoveries"
POLLSTERS = "hashring.pollsters"
PUBLISHERS = "hashring.publishers"

_Base = TypeVar("_Base")
_Made = TypeVar("_Made")


class BrokenPlugin(HashringError, ImportError):
    """A plug-in's entry point is installed but failed to import, or is of another kind."""


class UnknownPlugin(HashringError, LookupError):
    """No plug-in of this name is installed."""


def load(group: str, name: str, base: type[_Base]) -> type[_Base]:
    """Return the class of one plug-in.

    Args:
        group: the entry-point group, e.g. :data:`PUBLISHERS`.
        name: the entry point's name.
        base: what the class must be a subclass of.

    Raises:
        UnknownPlugin: no entry point has this name; the message lists those installed.
        BrokenPlugin: it failed to import, or is no subclass of ``base``.
    """
    points = {point.name: point for point in metadata.entry_points(group=group)}
    if name not in points:
        raise UnknownPlugin(
            f"no plug-in {name!r} under the entry-point group {group!r}; "
            f"installed: {', '.join(sorted(points)) or 'none'}"
        )
    return _class(points[name], base)


def names(group: str) -> list[str]:
    """Return the names of the plug-ins of a group, whether or not they can be imported.

    >>> "stdout" in names(PUBLISHERS)
    True
    """
    return sorted({point.name for point in metadata.entry_points(group=group)})


def load_all(group: str, base: type[_Base]) -> dict[str, type[_Base]]:
    """Return the classes of every plug-in of a group by name, ordered by it.

    Raises:
        BrokenPlugin: one failed to import, or is no subclass of ``base``.
    """
    points = sorted(metadata.entry_points(group=group), key=lambda point: point.name)
    return {point.name: _class(point, base) for point in points}


def made(name: str, make: Callable[[], _Made]) -> _Made:
    """Return what a plug-in makes, or say which plug-in could not be made.

    Args:
        name: what to call it in a message.
        make: makes it.

    Raises:
        HashringError: as the plug-in raised it.
        BrokenPlugin: it raised something else.
    """
    try:
        return make()
    except HashringError:
        raise
    except Exception as error:
        raise BrokenPlugin(f"the plug-in {name!r} could not be made: {_why(error)}") from error


def _why(error: Exception) -> str:
    # What a plug-in, or a library under it, says may show the URL that it was given.
    return f"{type(error).__name__}: {masked_prose(str(error))}"


def _where(point: metadata.EntryPoint) -> str:
    origin = f" of {point.dist.name}" if point.dist is not None else ""
    return f"the plug-in {point.name!r} ({point.group}: {point.value}{origin})"


def _class(point: metadata.EntryPoint, base: type[_Base]) -> type[_Base]:
    where = _where(point)
    try:
        found = point.load()
    except HashringError:
        raise
    except Exception as error:
        raise BrokenPlugin(f"{where} failed to import: {_why(error)}") from error
    if not (isinstance(found, type) and issubclass(found, base)):
        raise BrokenPlugin(f"{where} is no subclass of {base.__module__}.{base.__qualname__}")
    return found
