"""Descriptors: how many polls may be in flight, for each has a connection and that is an open file.

Systems give a process 1,024 files where nobody says otherwise, for the sake of programs that use
``select()``; it may raise that itself, up to a limit of the administrator's. This module knows the
system alone.
"""

from __future__ import annotations

import contextlib
import logging
import resource

__all__ = ["raise_limit", "room_for"]

log = logging.getLogger(__name__)

_EACH = 2
"""Files of a poll: its connection, and one that a poll before it has left to be used again."""

_OTHERS = 600
"""Files for all else: connections that wait to be used again, the store, the spool, publishers."""


def raise_limit(polls: int) -> None:
    """Let this process have files enough for so many polls in flight, as far as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _EACH * polls + _OTHERS
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):  # a system with a limit of its own
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def room_for(polls: int) -> int:
    """Return how many polls may be in flight, of so many; say so where it is fewer.

    Example:
        >>> room_for(8)
        8
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= _EACH * polls + _OTHERS:
        return polls
    found = min(polls, max(soft // 4, (soft - _OTHERS) // _EACH))
    if found < polls:
        log.warning(
            "%d polls may be in flight instead of %d: this process may open %d files "
            "(RLIMIT_NOFILE; of systemd, LimitNOFILE=)",
            found,
            polls,
            soft,
        )
    return found
