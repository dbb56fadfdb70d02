"""Status: what an evaluator says of itself while it runs, and the file that it keeps it in."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from hashring.telemetry.polling.repeating import Repeating

__all__ = ["Status", "StatusFile"]

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Status:
    """What an evaluator says of itself.

    Attributes:
        member, pid, state, members: as of the agents.
        slots: how many it holds.
        window: the number of the newest window that it has worked.
        alarms: how many were its own there; invalid: how many of these have a wrong definition.
        evaluated, changes, repeated, overtaken, unanswered, questions: see
            :class:`~hashring.alarms.evaluator.Counts`.
        delivered, failed, given_up: tries of notifications, since it started.
        missed: windows that it skipped because it was late itself.
    """

    member: str
    pid: int
    state: str
    members: tuple[str, ...]
    slots: int
    window: int | None
    alarms: int
    invalid: int
    evaluated: int
    changes: int
    repeated: int
    overtaken: int
    unanswered: int
    questions: int
    delivered: int
    failed: int
    given_up: int
    missed: int


class StatusFile:
    """Keeps a status file up to date for as long as the block runs; it is replaced as a whole.

    Args:
        path: the file; ``None``: there is none.
        status: what to write, asked each time.
        every: seconds between two looks.
    """

    def __init__(self, path: Path | None, status: Callable[[], Status], every: float = 0.2) -> None:
        self._path = path
        self._status = status
        self._looking = Repeating(self._look, every, name="status", once_more=True)
        self._failed = False
        self._last: Status | None = None

    def __enter__(self) -> Self:
        if self._path is not None:
            self._looking.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._path is not None:
            self._looking.__exit__(kind, error, trace)

    def _look(self) -> None:
        assert self._path is not None
        fresh = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        try:
            status = self._status()
            if status != self._last:
                fresh.write_text(json.dumps(dataclasses.asdict(status)))
                fresh.replace(self._path)
                self._last = status
        except Exception as error:
            with contextlib.suppress(OSError):
                fresh.unlink()
            if not self._failed:
                log.warning("cannot keep the status file %s: %s", self._path, error)
            self._failed = True
