"""tooz itself: which of its backends serve, their coordinators, and a deadline for each request.

It knows no member and no lease.
"""

from __future__ import annotations

import contextlib
import math
import socket
import threading
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import quote, unquote

from hashring.clock import boottime
from hashring.driver import COMMON_OPTIONS, Driver, DriverURL, check_node_path
from hashring.errors import BadURL, MissingDependency

from .._net import left
from .board import LINGER

try:
    from tooz import ToozError, coordination
except ImportError as error:
    raise MissingDependency("a tooz+…:// driver", "tooz", "tooz") from error

__all__ = ["Backend", "as_tooz_errors", "check_backend", "group_id", "group_of"]

_T = TypeVar("_T")

_FOREVER = 10 * 365 * 86_400  # seconds: for the file backend, whose timeout is on the wall clock
_LONGEST = 20.0  # seconds: half of ZooKeeper's default maxSessionTimeout
_OURS = frozenset({"poll", *(option.name for option in COMMON_OPTIONS)})

_FORGETS = {
    "redis": "redis://",
    "memcached": "memcached://",
    "ipc": "memory:// or sqlite://",
}
_NO_GROUPS = ("kubernetes", "mysql", "postgresql")
_DURABLE = ("etcd3+http", "etcd3+https", "file", "kazoo", "zookeeper")


def check_backend(url: DriverURL, ttl: float) -> str:
    """Return the name of a URL's backend.

    Args:
        url: the store's.
        ttl: the lease in seconds.

    Raises:
        BadURL: it has no groups, can forget them, or may end a session within the lease.
    """
    backend = url.scheme.partition("+")[2]
    if backend in _FORGETS:
        raise BadURL(
            f"{url}: tooz's {backend} backend can forget its members and does not say "
            f"so; use our own driver: {_FORGETS[backend]}"
        )
    if backend in _NO_GROUPS:
        raise BadURL(
            f"{url}: tooz's {backend} backend has locks, but no groups and no members; "
            f"of tooz's backends these have what we need: {', '.join(_DURABLE)}"
        )
    if backend not in _DURABLE:
        raise BadURL(
            f"{url}: not known to keep what it is given; of tooz's backends these do: "
            f"{', '.join(f'tooz+{name}' for name in _DURABLE)}"
        )
    if backend != "file":
        check_node_path(url)
    if backend in {"kazoo", "zookeeper"} and ttl > _LONGEST:
        raise BadURL(
            f"{url}: a ttl of {ttl:g} s is too long: tooz does not tell how long a "
            f"session the servers grant, and by default that is at most {2 * _LONGEST:g} s; "
            "use zookeeper://"
        )
    return backend


class Backend:
    """One driver's way to tooz.

    Args:
        driver: for its URL, its settings and its lease.
        name: of tooz's backend; see :func:`check_backend`.
    """

    def __init__(self, driver: Driver, name: str) -> None:
        self._driver = driver
        self.name = name
        self._threaded = name in {"kazoo", "zookeeper"}  # it has threads of its own

    def coordinator(self, name: str, deadline: float) -> Any:
        """Return a started coordinator of tooz under a name."""
        options = {
            option: value
            for option, value in self._driver.settings.items()
            if option not in _OURS and value is not None
        } | self._timeouts()

        def start() -> Any:
            try:
                coordinator = coordination.get_coordinator(
                    self._tooz_url(), name.encode("ascii"), **options
                )
            except ImportError as error:
                raise MissingDependency(f"tooz+{self.name}://", str(error.name), "tooz") from error
            try:
                as_tooz_errors(coordinator.start)
            except BaseException:
                _disconnect(coordinator)
                raise
            return coordinator

        return self._bounded(start, deadline, late=self.abandon)

    def _timeouts(self) -> dict[str, Any]:
        if self.name == "file":
            # Threads are our own: those of tooz take a second to end.
            return {"executor": "synchronous", "timeout": _FOREVER}
        linger = math.ceil(self._driver.ttl * LINGER)
        if self.name.startswith("etcd3"):
            seconds = math.ceil(self._driver.settings["timeout"])
            return {
                "executor": "synchronous",
                "timeout": seconds,
                "membership_timeout": linger,
            }
        return {"timeout": linger}

    def _tooz_url(self) -> str:
        url = self._driver.url
        user = "" if url.user is None else f"{quote(url.user, safe='')}"
        user += "" if url.secret is None else f":{quote(url.secret, safe='')}"
        hosts = ",".join(host if port is None else f"{host}:{port}" for host, port in url.hosts)
        return f"{self.name}://{user + '@' if user else ''}{hosts}{url.path}"

    def abandon(self, coordinator: Any, deadline: float = math.inf) -> None:
        """End a coordinator's connections and threads, and leave its entry where it is.

        tooz's own ``stop()`` takes a member out of all groups, and kazoo's ends the session;
        neither has a public way not to. What has not ended by the deadline ends later, alone.
        """

        def stop() -> None:
            coordinator._joined_groups.clear()
            client = getattr(coordinator, "_coord", None)
            if client is not None:
                _cut(client)
            else:
                coordinator.stop()
                _disconnect(coordinator)

        with contextlib.suppress(ToozError, OSError):
            soon = boottime() + min(2.0, self._driver.settings["timeout"])
            self._bounded(stop, min(soon, deadline))

    def _bounded(
        self, act: Callable[[], _T], deadline: float, late: Callable[[_T], None] | None = None
    ) -> _T:
        """Run what tooz has no timeout for; where it is late, it goes on alone until it ends."""
        done: list[_T] = []
        failed: list[BaseException] = []
        guard = threading.Lock()
        given_up = False

        def run() -> None:
            try:
                result = act()
            except BaseException as error:
                failed.append(error)
                return
            with guard:
                done.append(result)
            if given_up and late is not None:
                late(result)

        thread = threading.Thread(target=run, name="hashring-tooz", daemon=True)
        thread.start()
        thread.join(max(0.0, deadline - boottime()))
        with guard:
            given_up = not done and not failed
        if given_up:
            raise TimeoutError("no answer in time")
        if failed:
            raise failed[0]
        return done[0]

    def done(self, deadline: float, ask: Callable[..., Any], *arguments: Any) -> Any:
        """Ask tooz for something and return the result."""
        seconds = left(deadline)
        if not self._threaded:
            return self._bounded(lambda: ask(*arguments).get(), deadline)
        try:
            return ask(*arguments).get(timeout=seconds)
        except coordination.OperationTimedOut as error:
            raise TimeoutError("no answer in time") from error


def group_id(group: str) -> bytes:
    """Return a group's name at tooz."""
    # A prefix keeps us apart from the groups that tooz's own users make, and from "." and "..".
    return f"hashring:{quote(group, safe='')}".encode("ascii")


def group_of(name: bytes) -> str | None:
    """Return the group that has this name at tooz; ``None``: it is another program's."""
    prefix, _, quoted = name.decode("utf-8", "replace").partition(":")
    return unquote(quoted) if prefix == "hashring" and quoted else None


def as_tooz_errors(act: Callable[[], object]) -> None:
    """Call what tooz does not wrap: some of its drivers let their library's errors through."""
    try:
        act()
    except ToozError:
        raise
    except Exception as error:
        raise ToozError(f"{type(error).__name__}: {error}") from error


def _disconnect(coordinator: Any) -> None:
    """Close what tooz leaves open: etcd's connections, and kazoo's pipe."""
    if (client := getattr(coordinator, "client", None)) is not None:
        client.session.close()
    if (client := getattr(coordinator, "_coord", None)) is not None:
        with contextlib.suppress(Exception):
            client.stop()
            client.close()


def _cut(client: Any) -> None:
    """Stop a kazoo client without ending its session, as if the process had died."""
    client._stopped.set()
    connection = client._connection
    with contextlib.suppress(OSError):
        if connection._socket is not None:
            connection._socket.shutdown(socket.SHUT_RDWR)
    with contextlib.suppress(OSError):
        if connection._write_sock is not None:
            connection._write_sock.send(b"\0")  # wakes the client's thread
    client._safe_close()
    client.close()
