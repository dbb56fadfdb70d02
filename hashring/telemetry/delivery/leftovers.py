"""Leftovers: samples in the spool for sinks that nobody wants any more, and how to let them go.

Serves `hashring agent spool list` and `hashring agent spool drop`. Spools of agents that have ended
are opened here, under their lock. The spool of an agent that runs is that agent's alone: beside it
lies a note of what waits in it, and whoever wants a sink's samples dropped leaves a request there,
which the agent looks for with each of its rounds.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path

from hashring import clock
from hashring.telemetry.delivery.lock import lock_orphan
from hashring.telemetry.delivery.spool import Spool
from hashring.telemetry.delivery.spool_file import SpoolFile
from hashring.telemetry.errors import SpoolBroken
from hashring.url import masked

__all__ = ["Dropped", "Route", "drop", "matching", "requested", "routes", "tell"]

_NOTE = ".waiting"
_REQUEST = ".drop"
_LOOK = 0.1
"""Seconds between two looks at whether an agent has done what it was asked."""


@dataclasses.dataclass(frozen=True)
class Route:
    """What waits for one sink in one spool.

    Attributes:
        path: the spool.
        url: the sink, secrets and all.
        samples: how many wait; of an agent that runs, as it told last.
        is_held: an agent that runs holds the spool.
    """

    path: Path
    url: str
    samples: int
    is_held: bool


@dataclasses.dataclass(frozen=True)
class Dropped:
    """What became of the samples for one sink.

    Attributes:
        samples: how many were dropped; of agents that run, as they told last.
        asked: the spools whose agents have not answered in time; they do once they can.
    """

    samples: int
    asked: tuple[Path, ...] = ()


def routes(folder: Path) -> list[Route]:
    """Return what waits in a folder of spools, oldest spool first.

    Raises:
        SpoolBroken: a spool cannot be read.
    """
    return [route for path in sorted(folder.glob("*.spool")) for route in _routes(path)]


def _routes(path: Path) -> list[Route]:
    lock = lock_orphan(path)
    if lock is not None:
        with contextlib.closing(SpoolFile.adopt(path, lock, False)) as file:
            found: Mapping[str, int] = file.waiting
    else:
        found = _read_note(path)
    return [Route(path, url, count, lock is None) for url, count in found.items() if count]


def drop(folder: Path, url: str, timeout: float) -> Dropped:
    """Give up what waits for one sink, in every spool of a folder.

    Args:
        folder: where the spools lie.
        url: the sink, secrets and all.
        timeout: seconds to wait for agents that run.

    Raises:
        SpoolBroken: a spool cannot be read or written.
    """
    deadline = clock.boottime() + timeout
    left = {route.path: route.samples for route in routes(folder) if route.url == url}
    asked: set[Path] = set()
    dropped = 0
    while left:
        for path, count in list(left.items()):
            if path in asked and not path.with_suffix(_REQUEST).exists():
                dropped += count
                del left[path]
            elif (done := _drop_orphan(path, url)) is not None:
                dropped += done
                del left[path]
            elif path not in asked:
                asked.add(path)
                _write(path.with_suffix(_REQUEST), [url])
        if not left or clock.boottime() >= deadline:
            break
        time.sleep(_LOOK)
    return Dropped(dropped, tuple(left))


def _drop_orphan(path: Path, url: str) -> int | None:
    """Drop what waits for a sink; ``None`` where an agent that runs holds the spool."""
    if not path.exists():
        return 0  # it was delivered meanwhile
    lock = lock_orphan(path)
    if lock is None:
        return None
    file = SpoolFile.adopt(path, lock, False)
    try:
        waiting = file.waiting[url]
        if waiting:
            file.advance(url, file.last(url), waiting)
        if not file.bytes:
            file.remove()
        path.with_suffix(_REQUEST).unlink(missing_ok=True)
    finally:
        file.close()
    return waiting


# -- the agent's side ----------------------------------------------------------------------------


def tell(spool: Spool) -> None:
    """Note beside each spool of this process what waits in it."""
    for path, waiting in spool.waiting_by_file.items():
        with contextlib.suppress(OSError):  # it is for people alone
            note = path.with_suffix(_NOTE)
            if _read_note(path) != waiting:
                _write(note, waiting)
                if not path.exists():
                    # Another thread has delivered the rest meanwhile, and removed both.
                    note.unlink(missing_ok=True)


def requested(spool: Spool) -> frozenset[str]:
    """Return the sinks whose samples are to be dropped, and take the requests away."""
    found: set[str] = set()
    for path in spool.waiting_by_file:
        request = path.with_suffix(_REQUEST)
        with contextlib.suppress(OSError, ValueError):
            urls = json.loads(request.read_text())
            request.unlink()
            found.update(url for url in urls if isinstance(url, str))
    return frozenset(found)


def _read_note(path: Path) -> dict[str, int]:
    try:
        found = json.loads(path.with_suffix(_NOTE).read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _write(path: Path, content: object) -> None:
    """Write a small file whole or not at all, for the owner's eyes: URLs may hold secrets."""
    new = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(new, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(content, file)
        new.replace(path)
    except OSError as error:
        raise SpoolBroken(f"{str(path)!r} cannot be written: {error.strerror or error}") from None


def matching(found: list[Route], text: str) -> list[str]:
    """Return the sinks that a text names: a URL, whole or as messages show it."""
    return sorted({route.url for route in found if text in (route.url, masked(route.url))})
