"""Which groups two agents poll in: with one prefix, and one meter in both, they must be the same.

A list of static resources that is one longer on one host is a group of another name there. Both
lists' members then poll what both have, each in its own group, and no meter's name tells. An
interval that differs tells as little. So agents announce their groups beside their meters.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from hashring.telemetry.errors import BadAnnouncement

__all__ = ["Groups", "check_groups", "differing", "group_entry", "groups_from_json"]

Groups = frozenset[str]
"""Entries of :func:`group_entry`."""

_MOST = 2000
_MAX_ENTRY = 300
_MAX_BYTES = 16 * 1024
"""Bytes of the entries as JSON: what is more is not announced, and then not compared."""


def group_entry(name: str, interval: float) -> str:
    """Return how a group that is polled every so many seconds is announced.

    >>> group_entry("discovery:http-targets", 60.0)
    'discovery:http-targets every 60 s'
    """
    return f"{name} every {interval:g} s"


def check_groups(groups: Iterable[str]) -> Groups | None:
    """Return entries as they can be announced; ``None`` where they are too many or too long."""
    found = frozenset(groups)
    if len(found) > _MOST or not all(_is_entry(one) for one in found):
        return None
    return found if len(json.dumps(sorted(found))) <= _MAX_BYTES else None


def groups_from_json(found: Any, scope: str) -> Groups | None:
    """Return what another agent has announced; ``None``: nothing, as an older release does.

    Raises:
        BadAnnouncement: it cannot be that.
    """
    if found is None:
        return None
    if not isinstance(found, list) or len(found) > _MOST or not all(map(_is_entry, found)):
        raise BadAnnouncement(f"its {scope!r} is not a list of at most {_MOST} groups")
    return frozenset(found)


def _is_entry(entry: object) -> bool:
    return isinstance(entry, str) and 0 < len(entry) <= _MAX_ENTRY and entry.isprintable()


def differing(
    mine: Groups | None, theirs: Groups | None, *, i_may_lack: bool, they_may_lack: bool
) -> tuple[Groups, Groups]:
    """Return the groups that only one of two agents of one prefix has.

    Args:
        mine: one's; ``None``: not announced.
        theirs: the other's.
        i_may_lack: the other has more namespaces than this one.
        they_may_lack: this one has more namespaces than the other.

    Example:
        >>> one, other = frozenset({"a every 60 s"}), frozenset({"a every 10 s"})
        >>> differing(one, other, i_may_lack=False, they_may_lack=False)
        (frozenset({'a every 60 s'}), frozenset({'a every 10 s'}))
    """
    if mine is None or theirs is None:
        return frozenset(), frozenset()
    return (
        frozenset() if they_may_lack else mine - theirs,
        frozenset() if i_may_lack else theirs - mine,
    )
