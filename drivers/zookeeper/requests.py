"""Requests of ZooKeeper's protocol that kazoo has not, in its manner.

They know bytes, and no connection.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

from kazoo.exceptions import EXCEPTIONS, ZookeeperError
from kazoo.protocol.serialization import (
    Create2,
    GetData,
    MultiHeader,
    int_struct,
    multiheader_struct,
    read_buffer,
    stat_struct,
    write_string,
)

__all__ = ["AddWatch", "CreateContainer", "MultiRead"]

_RECURSIVE = 1  # the mode of a watch that stays, and is on all nodes below as well


class CreateContainer(Create2):  # type: ignore[misc]
    """A node that the servers remove some time after its last child."""

    type = 19


@dataclasses.dataclass(frozen=True)
class AddWatch:
    """A watch on a node and all below it, which stays after it told of something (from 3.6 on)."""

    path: str

    type: ClassVar[int] = 106

    def serialize(self) -> bytes:
        """Return the request's body."""
        return bytes(write_string(self.path) + int_struct.pack(_RECURSIVE))


@dataclasses.dataclass(frozen=True)
class MultiRead:
    """Several nodes, read by one request (from 3.6 on); no watch is left on them.

    The answer has for each node, in order, its bytes, or the error.
    """

    paths: Sequence[str]

    type: ClassVar[int] = 22

    def serialize(self) -> bytes:
        """Return the request's body."""
        body = bytearray()
        for path in self.paths:
            body += MultiHeader(GetData.type, False, -1).serialize()
            body += GetData(path, None).serialize()
        return bytes(body + multiheader_struct.pack(-1, True, -1))

    @classmethod
    def deserialize(cls, data: bytes, offset: int) -> list[Any]:
        """Return what the answer's body says."""
        found: list[Any] = []
        while True:
            kind, done, _ = multiheader_struct.unpack_from(data, offset)
            offset += multiheader_struct.size
            if done:
                return found
            if kind == GetData.type:
                content, offset = read_buffer(data, offset)
                offset += stat_struct.size
                found.append(content or b"")
            else:
                (code,) = int_struct.unpack_from(data, offset)
                offset += int_struct.size
                known = EXCEPTIONS.get(code)
                found.append(known() if known is not None else ZookeeperError(f"error {code}"))
