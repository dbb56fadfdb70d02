"""ListenAddress: where an agent serves its page and its metrics. A value: it opens nothing."""

from __future__ import annotations

import dataclasses
import re
from typing import Self

__all__ = ["ListenAddress"]

_FORMS = "HOST:PORT, [IPv6]:PORT, or unix:/PATH"

_LOOPBACK = "127.0.0.1"
"""What is listened on where no address is named: what an agent knows is not for everybody."""

_MAX_PATH = 100
"""Bytes of a socket's path: Linux takes 107, and a worker's number is put behind it."""


@dataclasses.dataclass(frozen=True, slots=True)
class ListenAddress:
    """An address to listen on: a host and a port, or the path of a Unix socket.

    Attributes:
        host: a name or an address; empty with a path.
        port: 0 for a free one.
        path: of the socket; empty with a host.

    Example:
        >>> print(ListenAddress.parse(":9465"), ListenAddress.parse("[::1]:9465").host)
        127.0.0.1:9465 ::1
        >>> ListenAddress.parse("9465")
        Traceback (most recent call last):
        ValueError: must be HOST:PORT, [IPv6]:PORT, or unix:/PATH
    """

    host: str = ""
    port: int = 0
    path: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return what a text says.

        Raises:
            ValueError: it is no address.
        """
        kind, _, path = text.strip().partition(":")
        if kind == "unix":
            if not path.startswith("/") or len(path.encode()) > _MAX_PATH or "\0" in path:
                raise ValueError(f"the path must begin with / and have at most {_MAX_PATH} bytes")
            return cls(path=path)
        found = re.fullmatch(r"(?:\[([0-9a-fA-F:.%]+)\]|([^\s\[\]/:]*)):(\d{1,5})", text.strip())
        if found is None or int(found[3]) > 65535:
            raise ValueError(f"must be {_FORMS}")
        return cls(host=found[1] or found[2] or _LOOPBACK, port=int(found[3]))

    def of_worker(self, number: int) -> Self:
        """Return the address of one of several agents of a supervisor.

        Args:
            number: from 1 on: the first one has the address itself, the others the ports after it,
                or the path with ``.2``, ``.3`` and so on behind.

        Example:
            >>> print(ListenAddress.parse("unix:/run/a").of_worker(2))
            unix:/run/a.2
        """
        if number == 1 or (not self.path and not self.port):
            return self
        if self.path:
            return dataclasses.replace(self, path=f"{self.path}.{number}")
        return dataclasses.replace(self, port=self.port + number - 1)

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
