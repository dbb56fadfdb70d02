"""A watch of a group's keys: a request whose answer goes on for as long as it is wanted.

It knows keys and revisions, and no lease.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import select
import socket
import threading

from hashring.clock import boottime

from .address import end_of
from .gateway import Connection, Gateway, text64

__all__ = ["Watch"]

_HEAD = 1.0  # seconds for the rest of an event that has begun to arrive


class Watch:
    """Hears of what changes below a prefix after a revision.

    Args:
        gateway: for a connection of its own.
        prefix: of the keys.
        revision: the last that is known.
        deadline: for the beginning, in seconds on the boot-time clock.

    Raises:
        OSError, http.client.HTTPException, ValueError: it was not begun.
    """

    def __init__(self, gateway: Gateway, prefix: str, revision: int, deadline: float) -> None:
        self.revision = revision
        self._woken = threading.Event()
        self._connection: Connection = gateway.connect(deadline)
        try:
            body = {
                "create_request": {
                    "key": text64(prefix),
                    "range_end": text64(end_of(prefix)),
                    "start_revision": str(revision + 1),
                }
            }
            headers = gateway.headers(self._connection, deadline)
            self._answer = self._connection.begin(
                "/watch", json.dumps(body).encode(), headers, deadline
            )
            self._check()
        except BaseException:
            self._connection.close()
            raise

    def _check(self) -> None:
        status = self._answer.status
        if status != 200 or "created" not in json.loads(self._answer.readline()).get("result", {}):
            raise OSError(f"the watch was refused with HTTP status {status}")

    def heard(self, until: float) -> bool:
        """Wait for an event or a moment; return whether something may have changed.

        It returns ``True`` as well where the watch ended or :meth:`wake` was called.
        """
        raw = self._connection.socket.raw
        try:
            if (
                not self._waiting()
                and not select.select([raw], [], [], max(0.0, until - boottime()))[0]
            ):
                return False
            self._connection.socket.deadline = boottime() + _HEAD
            return bool(self._answer.readline()) or True
        except (OSError, http.client.HTTPException, ValueError):
            return True

    def _waiting(self) -> bool:
        """Return whether something has come already, and is in a buffer."""
        pending = getattr(self._connection.socket.raw, "pending", None)
        return bool(pending is not None and pending())

    def wake(self) -> None:
        """Let :meth:`heard` in another thread return."""
        with contextlib.suppress(OSError):
            self._connection.socket.raw.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End the watch."""
        self._connection.close()
