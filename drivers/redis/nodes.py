"""Redis servers as the driver sees them: connections on a deadline.

This module knows addresses. It knows nothing of Sentinels, clusters, groups, leases or records.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, cast

import redis
from redis.connection import Connection, SSLConnection, UnixDomainSocketConnection

from hashring.clock import boottime
from hashring.driver import Traffic

from .._net import DeadlineSocket, left
from .._waker import Waker

__all__ = [
    "Address",
    "Deadline",
    "Link",
    "Node",
    "NotVouched",
    "link",
]

Address = tuple[str, int]
Command = tuple[Any, ...]


class NotVouched(redis.RedisError):
    """Nobody confirms that the server which took a write is still the primary."""


class Deadline:
    """The end of one call, on the clock that runs on in suspend."""

    def __init__(self, seconds: float) -> None:
        self._at = boottime() + seconds

    def left(self) -> float:
        """Return the seconds that are left.

        Raises:
            redis.TimeoutError: none are.
        """
        left = self._at - boottime()
        if left <= 0:
            raise redis.TimeoutError("the time for the call is over")
        return left

    def comes_within(self, seconds: float) -> bool:
        """Return whether no time is left after so many seconds."""
        return self._at - boottime() <= seconds

    def share(self, parts: int) -> Deadline:
        """Return the deadline of the first of so many parts of what is left."""
        return Deadline(self.left() / parts)


class Link(Protocol):
    """What is used of a connection of redis-py: one whose waits end when the caller says."""

    def bound(self, seconds: float, to_connect: float) -> None:
        """Let all that is done from now on end after so many seconds."""

    def wake(self) -> None:
        """End a wait of another thread on this connection."""

    def arrives(self, seconds: float, waker: Waker) -> bool:
        """Wait for bytes on the socket; return whether there are any. ``waker`` ends the wait."""

    def connect(self) -> None:
        """Connect; nothing where it is connected."""

    def disconnect(self) -> None:
        """End the connection."""

    def can_read(self, timeout: float = 0) -> bool:
        """Return whether there is something to read within so many seconds."""

    def send_command(self, *arguments: Any) -> None:
        """Send one command."""

    def send_packed_command(self, command: Any) -> None:
        """Send what :meth:`pack_commands` made."""

    def pack_commands(self, commands: Sequence[Command]) -> Any:
        """Return commands as they are sent."""

    def read_response(self) -> Any:
        """Return the next reply, or raise the error that it is."""


class _Timed(DeadlineSocket):
    """A socket of redis-py's, whose own timeouts count where they end sooner than the deadline."""

    def limit(self) -> None:
        set_to = self.raw.gettimeout()
        if set_to == 0:  # only a look, which does not wait
            return
        seconds = left(self.deadline)
        if set_to is None or set_to > seconds:
            self.raw.settimeout(seconds)


class _Bounded:
    """Mixed into redis-py's connections, whose timeout is otherwise the same for every call."""

    traffic: Traffic | None = None
    _raw: Any = None
    _end = 0.0

    def _connect(self) -> Any:
        self._raw = _Timed(super()._connect(), self._end, self.traffic)  # type: ignore[misc]
        return self._raw

    def bound(self, seconds: float, to_connect: float) -> None:
        """Let all that is done from now on end after so many seconds."""
        self._end = boottime() + seconds
        self.socket_timeout = seconds
        self.socket_connect_timeout = min(seconds, to_connect)
        if self._raw is not None and self._raw.fileno() >= 0:
            self._raw.deadline = self._end
            self._raw.settimeout(seconds)

    def wake(self) -> None:
        """End a wait of another thread on this connection."""
        if self._raw is not None:
            # Where it is not connected any more, nobody waits.
            with contextlib.suppress(OSError):
                self._raw.shutdown(socket.SHUT_RDWR)

    def arrives(self, seconds: float, waker: Waker) -> bool:
        """Wait for bytes on the socket; return whether there are any. ``waker`` ends the wait."""
        return waker.wait(self._raw.fileno(), seconds)


# Made by call: to a type checker, redis-py's own classes have abstract parts.
_Plain: Any = type("_Plain", (_Bounded, Connection), {})
_TLS: Any = type("_TLS", (_Bounded, SSLConnection), {})
_Unix: Any = type("_Unix", (_Bounded, UnixDomainSocketConnection), {})


def link(
    options: Mapping[str, Any], *, tls: bool, traffic: Traffic | None = None
) -> Callable[[Address], Link]:
    """Return a factory of connections: to ``(host, port)``, or to ``(path, 0)``.

    Args:
        options: keyword arguments of redis-py's connections.
        tls: speak TLS to hosts.
        traffic: counts what they send and receive.
    """

    def make(address: Address) -> Link:
        host, port = address
        if host.startswith("/"):
            made = _Unix(path=host, protocol=2, **options)
        else:
            made = (_TLS if tls else _Plain)(host=host, port=port, protocol=2, **options)
        made.traffic = traffic
        return cast(Link, made)

    return make


class Node:
    """One server and its idle connections. Threads may share it."""

    def __init__(
        self, address: Address, make: Callable[[Address], Link], connect_timeout: float
    ) -> None:
        self.address = address
        self.replicas = 0  # how many the server listed last
        self.most = 0  # how many it, or one that it replaced, ever listed
        self._make = make
        self._connect_timeout = connect_timeout
        self._lock = threading.Lock()
        self._idle: list[Link] = []
        self._closed = False
        self._pid = os.getpid()

    def __str__(self) -> str:
        host, port = self.address
        return f"{host}:{port}" if port else host

    def connect(self, deadline: Deadline) -> Link:
        """Return a new connection."""
        made = self._make(self.address)
        made.bound(deadline.left(), self._connect_timeout)
        made.connect()
        return made

    def _pooled(self, deadline: Deadline) -> Link | None:
        """Return an idle connection, unless the server is known to have closed it."""
        with self._lock:
            if self._pid != os.getpid():
                # A parent's connections: the two would read each other's answers.
                self._idle, self._pid = [], os.getpid()
            found = self._idle.pop() if self._idle else None
        if found is None:
            return None
        found.bound(deadline.left(), self._connect_timeout)
        try:
            # Nothing was asked, so what there is to read is the end of the connection.
            if not found.can_read(0):
                return found
        except redis.RedisError:
            pass
        found.disconnect()
        return None

    def release(self, used: Link) -> None:
        """Take a connection back whose answers were all read."""
        with self._lock:
            if not self._closed and len(self._idle) < 4:
                self._idle.append(used)
                return
        used.disconnect()

    def ask(self, commands: Sequence[Command], deadline: Deadline) -> list[Any]:
        """Send commands at once, on one connection, and return the replies.

        A reply that is an error of the server's stands in its place. The commands may be sent
        twice: one connection that fell silent, as where a firewall forgot it, must not cost the
        whole time.

        Raises:
            redis.ConnectionError, redis.TimeoutError: the outcome is unknown.
        """
        pooled = self._pooled(deadline)
        if pooled is not None:
            try:
                return self._ask(pooled, commands, deadline.share(3), deadline)
            except (redis.ConnectionError, redis.TimeoutError, OSError):
                if deadline.comes_within(0):
                    raise
                self._drop_idle()  # they are as old
        return self._ask(self.connect(deadline), commands, deadline, deadline)

    def _ask(
        self, used: Link, commands: Sequence[Command], first: Deadline, deadline: Deadline
    ) -> list[Any]:
        """Send and receive; the first reply, at least, must come before ``first``."""
        replies: list[Any] = []
        try:
            used.bound(first.left(), self._connect_timeout)
            used.send_packed_command(used.pack_commands(commands))
            for _ in commands:
                used.bound((deadline if replies else first).left(), self._connect_timeout)
                try:
                    replies.append(used.read_response())
                except redis.ResponseError as error:
                    replies.append(error)
        except BaseException:
            used.disconnect()
            raise
        self.release(used)
        return replies

    def _drop_idle(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for unused in idle:
            unused.disconnect()

    def close(self) -> None:
        """Close the idle connections; those in use close when they are released."""
        with self._lock:
            self._closed = True
        self._drop_idle()
