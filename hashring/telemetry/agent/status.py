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
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from hashring import clock
from hashring.page.status import Event, GroupStatus, ProcessStatus, to_json
from hashring.telemetry.polling.repeating import Repeating

__all__ = ["STALE", "GroupStatus", "Status", "StatusFile", "read_status"]

log = logging.getLogger(__name__)

STALE = 15.0
"""Seconds after which a file that was not written again was left behind by an agent that died."""

_AT_LEAST = 5.0
"""Seconds after which the file is written again though nothing has changed but its time."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Status(ProcessStatus):
    """What an agent says of itself, beside what any process says.

    Attributes:
        member: its id in its groups.
        view_id: the view of the latest reading; ``None`` before there is one, and where there are
            several.
        members: the ids of the views' members.
        slots: how many slots it holds, in all groups together.
        resources: how many resources it has polled in its newest window.
        window: the number of its newest window; ``None`` before the first.
        lateness: how many seconds after the start of its newest window it began to poll.
        last_poll: when it last published polls: wall-clock seconds since the epoch.
        polls: how many polls it has made whose samples were put.
        samples: how many samples that were.
        failures: how many polls or publications have failed.
        causes: how many failures of each cause. What is not a failure is counted beside them:
            resources that were gone, and turns that were left out.
        missed: how many windows it has skipped because it was late itself.
        clock_steps: how often the host's wall clock has stepped by more than ``ttl``.
        clock_step: by how many seconds it stepped last, negative where it was back.
        hanging: how many calls were given up and have not come back.
        set_aside: resources that are not polled for a while because a poll of them stopped an
            agent, and how often in a row each has.
        sources: how many polls have ended how, by group, source and outcome, and how many seconds
            the pollsters took together (``seconds``).
        publishers: what became of the samples, by publisher (secrets masked): how many were sent,
            wait in the spool, were dropped, and how many calls failed.
        spool: its size (``bytes``), its bound (``max_bytes``), and the wall-clock second of the
            oldest sample in it (``oldest_at``); ``None`` without a spool.
        overlaps: other agents that poll the same or not the same, in sentences.
    """

    member: str
    pid: int
    state: str
    view_id: str | None = None
    members: tuple[str, ...] = ()
    slots: int = 0
    resources: int = 0
    window: int | None = None
    lateness: float | None = None
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
    sources: Mapping[str, Mapping[str, Mapping[str, float]]] = dataclasses.field(
        default_factory=dict
    )
    publishers: Mapping[str, Mapping[str, int]] = dataclasses.field(default_factory=dict)
    spool: Mapping[str, float | None] | None = None
    overlaps: tuple[str, ...] = ()


def read_status(path: Path) -> Status | None:
    """Return the status in a file, or ``None`` before the first one is written.

    Fields that this release does not know are left out.
    """
    try:
        found = json.loads(path.read_text())
        groups = {
            name: GroupStatus(**{**_known(GroupStatus, group), "members": tuple(group["members"])})
            for name, group in found["groups"].items()
        }
        events = tuple(Event(**_known(Event, event)) for event in found.get("events", ()))
        texts = {name: tuple(found.get(name, ())) for name in ("members", "overlaps")}
        return Status(**{**_known(Status, found), **texts, "groups": groups, "events": events})
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def _known(kind: type[Any], found: Mapping[str, Any]) -> dict[str, Any]:
    names = {field.name for field in dataclasses.fields(kind)}
    return {name: value for name, value in found.items() if name in names}


class StatusFile:
    """Keeps a status file up to date from a thread of its own, for as long as the block runs.

    Args:
        path: the file.
        status: what to write, asked each time.
        every: seconds between two looks; the file is replaced if the status has changed, and
            every five seconds in any case.

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

    def __init__(self, path: Path, status: Callable[[], ProcessStatus], every: float = 0.2) -> None:
        self._path = path
        self._status = status
        self._looking = Repeating(self._look, every, name="status", once_more=True)
        self._failed = False
        self._last: ProcessStatus | None = None
        self._written = 0.0  # on the boottime clock

    def __enter__(self) -> StatusFile:
        self._looking.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._looking.__exit__(kind, error, trace)

    def _look(self) -> None:
        try:
            status, now = self._status(), clock.boottime()
            facts = status.without_what_always_changes()
            if facts != self._last or now - self._written >= _AT_LEAST:
                self._replace(status)
                self._last, self._written = facts, now
        except Exception as error:
            if not self._failed:
                log.warning("cannot keep the status file %s: %s", self._path, error)
            self._failed = True

    def _replace(self, status: ProcessStatus) -> None:
        fresh = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        try:
            fresh.write_text(json.dumps(to_json(status)))
            fresh.replace(self._path)
        except BaseException:
            with contextlib.suppress(OSError):
                fresh.unlink()
            raise
