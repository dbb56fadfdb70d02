"""How nodes are made and overwritten, and how one changes hands without ever being gone.

Any session may write to any node, whoever made it. What keeps a member from writing over a lease
that was seized from it is the version that each of its writes expects: the one it knows, or, where
the answer to its last write was lost, the one before. So a node that takes another's place never
shows either of them. It knows requests and answers, and neither sessions nor records.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kazoo.exceptions import (
    NoNodeError,
    RolledBackError,
    RuntimeInconsistency,
    UnimplementedError,
    ZookeeperError,
)
from kazoo.protocol.serialization import Create, Delete, Exists, SetData, Transaction
from kazoo.security import ACL

from .requests import CreateContainer

__all__ = ["answer_of", "made_group", "overwriting", "replacing", "version_after"]

_PERSISTENT, _EPHEMERAL, _CONTAINER = 0, 1, 4

_EXPECTED = 2
"""Versions that whose node it was may expect: the last one, and the one before."""


def made_group(write: Callable[[Any], Any], root: str, path: str, acl: list[ACL]) -> None:
    """Make a group's node, and the path that leads to it where somebody tidied it away.

    Args:
        write: sends a request and returns the answer.
        root: the node under which all groups are.
        path: of the group.
        acl: the rights on what is made.
    """
    made = write(CreateContainer(path, b"", acl, _CONTAINER))
    if isinstance(made, UnimplementedError):  # ZooKeeper before 3.5
        made = write(Create(path, b"", acl, _PERSISTENT))
    if isinstance(made, NoNodeError):
        parts = root.split("/")
        for length in range(2, len(parts) + 1):
            parent = "/".join(parts[:length])
            if write(Exists(parent, None)) is None:
                write(Create(parent, b"", acl, _PERSISTENT))


def replacing(path: str, record: bytes, acl: list[ACL], version: int) -> Transaction:
    """Return the request that puts a node of the asking session in the place of another's.

    Args:
        path: of the node.
        record: what it is to carry.
        acl: the rights on it.
        version: of the node that is there; the request fails where it has changed meanwhile.

    >>> [type(one).__name__ for one in replacing("/g/a", b"{}", [], 7).operations]
    ['Delete', 'Create']
    >>> [one.version for one in replacing("/g/a", b"{}", [], 1).operations[2:]]
    [0, 1]
    """
    more = version_after(version)
    first = Create(path, b"" if more else record, acl, _EPHEMERAL)
    return Transaction([Delete(path, version), first, *_writes(path, record, 0, more)])


def version_after(version: int) -> int:
    """Return the version that a node has once it has taken the place of one of this version.

    >>> version_after(0), version_after(1), version_after(2), version_after(900)
    (2, 2, 0, 0)
    """
    return _EXPECTED if version < _EXPECTED else 0


def overwriting(
    path: str, record: bytes, version: int, former: int | None
) -> SetData | Transaction:
    """Return the request that overwrites a node of ours.

    Args:
        path: of the node.
        record: what it is to carry.
        version: that it has.
        former: the version of the node whose place it took, if it did: it and the one before are
            left out.

    >>> overwriting("/g/a", b"{}", 3, None).version
    3
    >>> [one.version for one in overwriting("/g/a", b"{}", 3, 5).operations]  # then it is at 6
    [3, 4, 5]
    """
    if former is None or not former - _EXPECTED <= version < former:
        return SetData(path, record, version)
    return Transaction(_writes(path, record, version, former + 1 - version))


def _writes(path: str, record: bytes, version: int, times: int) -> list[SetData]:
    """Return writes in a row, of which only the last carries the record."""
    last = version + times - 1
    return [
        SetData(path, record if at == last else b"", at) for at in range(version, version + times)
    ]


def answer_of(answer: Any) -> Any:
    """Return what a request came to: of a transaction the error that ended it, or the last result.

    >>> answer_of([RolledBackError(), NoNodeError(), RuntimeInconsistency()])
    NoNodeError()
    """
    if not isinstance(answer, list):
        return answer
    others = (RolledBackError, RuntimeInconsistency)
    errors = [one for one in answer if isinstance(one, ZookeeperError)]
    return next((one for one in errors if not isinstance(one, others)), [*answer, *errors][-1])
