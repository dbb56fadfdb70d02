"""Partitions that nobody left: the interpreter exits, or the last reference to one is gone.

A lease that is not given back keeps its slots from everybody for as long as it runs. So what still
is a member when the interpreter exits hands over, or at least leaves; and one that was dropped says
so. What leaving is, is the partition's to say.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from hashring import clock

if TYPE_CHECKING:
    from hashring.partition.membership import Membership

__all__ = ["AT_EXIT", "caller", "expect", "forget", "warn_of_drop"]

log = logging.getLogger("hashring")

AT_EXIT = 2.0
"""Seconds that all partitions of a process together get to hand over when Python exits. What is not
handed over by then is left all the same: the others gain it as after a crash, but at once."""

_PACKAGE = str(Path(__file__).parent)


class _Leaver(Protocol):
    """What the interpreter's exit needs of a member that nobody has left for."""

    @property
    def member(self) -> Membership: ...
    def begin_drain(self) -> None: ...
    def wait_for_end(self, seconds: float) -> None: ...
    def finish(self) -> None: ...


_leavers: dict[int, _Leaver] = {}
_registered_in: int | None = None


def expect(leaver: _Leaver) -> None:
    """Leave for this one at the interpreter's exit, unless it has left by then."""
    global _registered_in
    if _registered_in != os.getpid():
        # Again in each forked child: some ways of forking forget what was registered.
        atexit.unregister(_leave_all)
        atexit.register(_leave_all)
        _registered_in = os.getpid()
    _leavers[id(leaver)] = leaver


def forget(leaver: _Leaver) -> None:
    """This one has left."""
    _leavers.pop(id(leaver), None)


def _leave_all() -> None:
    deadline = clock.boottime() + AT_EXIT
    leavers = [leaver for leaver in list(_leavers.values()) if not leaver.member.is_child]
    for leaver in leavers:
        leaver.member.stopping = True
        leaver.begin_drain()
    for leaver in leavers:
        log.info(
            "%s: %s leaves at the interpreter's exit: nobody has left for it",
            leaver.member.group,
            leaver.member.member,
        )
        try:
            leaver.wait_for_end(max(0.0, deadline - clock.boottime()))
        finally:
            leaver.finish()
            # Another thread may have begun to leave, and ends with the interpreter.
            leaver.member.gone.wait(AT_EXIT)


def caller() -> str:
    """Return the file and line, outside this package, of the call that led here."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


def warn_of_drop(group: str, member: str, joined_at: str) -> None:
    """Say that a partition was dropped while it was a member.

    Raises:
        ResourceWarning: the filters make warnings errors; raised in a thread it is shown as such.
    """
    message = (
        f"{group}: {member} was dropped without leaving, and ends by itself: use "
        f"`with hashring.join(...)`, or call drain() or leave(); it joined at {joined_at}"
    )
    log.warning("%s", message)
    file, _, line = joined_at.rpartition(":")
    warnings.warn_explicit(message, ResourceWarning, file, int(line))
