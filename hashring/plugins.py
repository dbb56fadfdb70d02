"""Plug-ins: found by entry point alone, ours and others' alike.

The one loader of drivers, discoveries, pollsters and publishers: their names, their classes, what
is installed, and how to say what is wrong with one. It does not know what any plug-in does.
"""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

from hashring.errors import BrokenPlugin, HashringError, UnknownPlugin
from hashring.url import masked_prose

__all__ = [
    "DISCOVERIES",
    "DRIVERS",
    "POLLSTERS",
    "PUBLISHERS",
    "BrokenPlugin",
    "Description",
    "UnknownPlugin",
    "describe",
    "load",
    "load_all",
    "made",
    "names",
]

DRIVERS = "hashring.drivers"
DISCOVERIES = "hashring.discoveries"
POLLSTERS = "hashring.pollsters"
PUBLISHERS = "hashring.publishers"

_BY_SCHEME = frozenset({DRIVERS})
"""Groups whose names are schemes of URLs, which have no case."""

_OURS = "hashring."
"""What the names of our groups begin with."""

_UNSETTLED = 10.0
"""Seconds for which a folder that has changed is read at every call: an installer makes the folder
of a distribution first, which changes this one, and fills it then, which does not."""

_Base = TypeVar("_Base")
_Made = TypeVar("_Made")


@dataclasses.dataclass(frozen=True)
class Description(Generic[_Base]):
    """One installed plug-in.

    Attributes:
        name: the entry point's.
        distribution: name and version of the distribution that brings it.
        target: the entry point's ``module:class``.
        found: its class, or ``None`` where it cannot be used.
        problem: why it cannot be used, or ``None``.
    """

    name: str
    distribution: str
    target: str
    found: type[_Base] | None
    problem: str | None


def names(group: str) -> list[str]:
    """Return the names of the plug-ins of a group, sorted, whether or not they can be imported.

    >>> "stdout" in names(PUBLISHERS)
    True
    """
    return sorted(_points(group))


def load(group: str, name: str, base: type[_Base]) -> type[_Base]:
    """Return the class of one plug-in.

    Args:
        group: the entry-point group, e.g. :data:`PUBLISHERS`.
        name: the entry point's name.
        base: what the class must be a subclass of.

    Raises:
        UnknownPlugin: no entry point has this name; the message lists those installed.
        BrokenPlugin: it failed to import, is not a subclass of ``base``, lacks a method of it, or
            two distributions claim the name.
    """
    points = _points(group)
    if name not in points:
        raise UnknownPlugin(
            f"no plug-in {name!r} under the entry-point group {group!r}; "
            f"installed: {', '.join(sorted(points)) or 'none'}"
        )
    return _the_one(points[name], base)


def load_all(group: str, base: type[_Base]) -> dict[str, type[_Base]]:
    """Return the classes of every plug-in of a group by name, ordered by it.

    Raises:
        BrokenPlugin: as of :func:`load`.
    """
    return {name: _the_one(found, base) for name, found in sorted(_points(group).items())}


def describe(group: str, base: type[_Base]) -> list[Description[_Base]]:
    """Return what is installed in a group, sorted by name, what cannot be used among it.

    Args:
        group: the entry-point group.
        base: what each class must be a subclass of.

    >>> [found.target for found in describe(PUBLISHERS, object) if found.name == "stdout"]
    ['hashring.telemetry.publishers:StdoutPublisher']
    """
    descriptions = []
    for name, points in sorted(_points(group).items()):
        for point in points:
            found, problem = None, None
            try:
                _refuse_rivals(points)
                found = _class(point, base)
            except HashringError as error:
                problem = str(error)
            origin = _distribution(point)
            descriptions.append(Description(name, origin, point.value, found, problem))
    return descriptions


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


def _points(group: str) -> dict[str, list[metadata.EntryPoint]]:
    points: dict[str, list[metadata.EntryPoint]] = {}
    for point in _installed(group):
        name = point.name.lower() if group in _BY_SCHEME else point.name
        points.setdefault(name, []).append(point)
    return points


_Path = list[tuple[str, int, int]]
"""For each part of the path: where, which, and when it changed last, in nanoseconds."""


class _Known(NamedTuple):
    path: _Path
    points: dict[str, metadata.EntryPoints]  # by group


_known: _Known | None = None
"""What is installed, on which path."""


def _installed(group: str) -> metadata.EntryPoints:
    # A reading opens a file of every distribution, some 20 ms where there are a hundred. A join
    # asks twice, an agent for three groups. So one reading serves all of them, and is kept for as
    # long as no folder of the path changes.
    global _known
    path = _path()
    known = _known
    if known is None or known.path != path:
        read = metadata.entry_points()
        ours = [found for found in read.groups if found.startswith(_OURS)]
        known = _Known(path, {found: read.select(group=found) for found in ours})
        newest = max((changed for _, _, changed in path), default=0)
        is_settled = time.time() - newest / 1e9 > _UNSETTLED
        _known = known if is_settled else None
    return known.points.get(group, metadata.EntryPoints())


def _path() -> _Path:
    parts = []
    for folder in sys.path:
        try:
            found = Path(folder).stat()
        except OSError:
            parts.append((folder, 0, 0))
        else:
            parts.append((folder, found.st_ino, found.st_mtime_ns))
    return parts


def _the_one(points: list[metadata.EntryPoint], base: type[_Base]) -> type[_Base]:
    _refuse_rivals(points)
    return _class(points[0], base)


def _refuse_rivals(points: list[metadata.EntryPoint]) -> None:
    # One distribution may be found twice on the path: that is one claim.
    if len({point.value for point in points}) > 1:
        claims = " and ".join(f"{point.value} of {_distribution(point)}" for point in points)
        raise BrokenPlugin(
            f"the plug-in {points[0].name!r} ({points[0].group}) is claimed by {claims}: "
            "uninstall all but one"
        )


def _class(point: metadata.EntryPoint, base: type[_Base]) -> type[_Base]:
    def where() -> str:
        origin = f"{point.group}: {point.value} of {_distribution(point)}"
        return f"the plug-in {point.name!r} ({origin})"

    try:
        found = point.load()
    except HashringError:
        raise
    except Exception as error:
        raise BrokenPlugin(f"{where()} failed to import: {_why(error)}") from error
    if not (isinstance(found, type) and issubclass(found, base)):
        raise BrokenPlugin(f"{where()} is not a subclass of {base.__module__}.{base.__qualname__}")
    if missing := getattr(found, "__abstractmethods__", None):
        raise BrokenPlugin(f"{where()} lacks: {', '.join(sorted(missing))}")
    return found


def _distribution(point: metadata.EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist is not None else "?"


def _why(error: Exception) -> str:
    # What a plug-in, or a library under it, says may show the URL that it was given.
    return f"{type(error).__name__}: {masked_prose(str(error))}"
