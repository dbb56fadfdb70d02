"""Status: what an agent says of itself while it runs, and the file that it keeps it in.

The file is replaced as a whole, so that a reader always finds a complete one. This module knows
nothing of how an agent works: it is told.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType

__all__ = ["GroupStatus", "Status", "StatusFile", "read_status"]

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True)
class GroupStatus:
    """What an agent says of itself in one of its groups; the names are those of `Status`.

    Attributes:
        reason: why it is not settled, in a sentence; empty where it is, or has left.
    """

    state: str
    reason: str = ""
    view_id: str | None = None
    members: tuple[str, ...] = ()
    slots: int = 0
    resources: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Status:
    """What an agent says of itself.

    Attributes:
        member: its id in its groups.
        pid: its process id.
        state: joining, settling, settled, fenced, draining or left: of its groups', the one
            that is farthest from settled.
        view_id: the view that it acts on; ``None`` before it has one, and where there are several.
        members: the ids of the views' members.
        slots: how many slots it holds, in all groups together.
        resources: how many resources it has polled in its newest window.
        window: that window; ``None`` before the first.
        last_poll: when it last published polls: wall-clock seconds since the epoch.
        polls: how many polls it has made; samples: how many samples it has published.
        failures: how many polls or publications have failed.
        causes: how many for each cause, and beside them what is not a failure: resources that were
            gone, and turns that were left out.
        missed: how many windows it has skipped because it was late itself.
        clock_steps: how often the host's wall clock has stepped by more than ``ttl``.
        clock_step: by how many seconds it stepped last, negative where it was back.
        hanging: how many calls were given up and have not come back.
        set_aside: resources that are not polled for a while because a poll of them stopped an
            agent, and how often in a row each has.
        groups: each group by name.
        publishers: what became of the samples, by publisher (secrets masked): how many were sent,
            wait in the spool, were dropped, and how many calls failed.
    """

    member: str
    pid: int
    state: str
    view_id: str | None = None
    members: tuple[str, ...] = ()
    slots: int = 0
    resources: int = 0
    window: int | None = None
    last_poll: float | None = None
    polls: int = 0
    samples: int = 0
    failures: int = 0
    missed: int = 0
    clock_steps: int = 0
    clock_step: float | None = None
    hanging: int = 0
    set_aside: Mapping[str, int] = dataclasses.field(default_factory=dict)
    causes: Mapping[str, int] = dataclasses.field(default_factory=dict)
    groups: Mapping[str, GroupStatus] = dataclasses.field(default_factory=dict)
    publishers: Mapping[str, Mapping[str, int]] = dataclasses.field(default_factory=dict)


def read_status(path: Path) -> Status | None:
    """Return the status in a file, or ``None`` where there is none (yet)."""
    try:
        found = json.loads(path.read_text())
        groups = {
            name: GroupStatus(**{**group, "members": tuple(group["members"])})
            for name, group in found["groups"].items()
        }
        return Status(**{**found, "members": tuple(found["members"]), "groups": groups})
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


class StatusFile:
    """Keeps a status file up to date from a thread of its own, for as long as the block runs.

    Args:
        path: the file.
        status: what to write, asked each time.
        every: seconds between two looks; the file is replaced if the status has changed.

    Example:
        >>> import tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> path = Path(folder.name) / "status.json"
        >>> with StatusFile(path, lambda: Status(member="a", pid=1, state="settled")):
        ...     pass
        >>> read_status(path).state
        'settled'
        >>> folder.cleanup()
    """

    def __init__(self, path: Path, status: Callable[[], Status], every: float = 0.2) -> None:
        self._path = path
        self._status = status
        self._every = every
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="status", daemon=True)
        self._last: Status | None = None

    def __enter__(self) -> StatusFile:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        failed = False
        pause = 0.0
        while True:
            # The last words are written too: the end is looked at first, the status after it.
            ended = self._ended.wait(pause)
            pause = self._every
            try:
                status = self._status()
                if status != self._last:
                    self._replace(status)
                    self._last = status
            except Exception as error:
                if not failed:
                    log.warning("cannot keep the status file %s: %s", self._path, error)
                failed = True
            if ended:
                return

    def _replace(self, status: Status) -> None:
        fresh = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        try:
            fresh.write_text(json.dumps(dataclasses.asdict(status)))
            fresh.replace(self._path)
        except BaseException:
            with contextlib.suppress(OSError):
                fresh.unlink()
            raise
