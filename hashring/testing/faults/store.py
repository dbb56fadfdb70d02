"""What a run of faults needs of a store: where it is, and what can be done to it.

This module starts and stops servers through their owner; it knows no members.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Protocol, Self

from hashring.testing.proxy import FaultProxy

__all__ = ["BACK_IN_TIME", "FROZEN", "Fault", "Server", "ServerStore", "Store", "nothing"]

FROZEN = "store paused"
"""The fault of a server that is there and silent: calls without a time limit hang."""

BACK_IN_TIME = "store goes back in time"
"""The fault of a :class:`Store` that can do it: a copy is kept, and some seconds later restored."""


FROZEN = "store paused"
"""The fault of a server that is there and silent: calls without a time limit hang."""


def nothing() -> None:
    """End a fault that is over at once."""


@dataclasses.dataclass(frozen=True)
class Fault:
    """One way to break a store.

    Attributes:
        begin: break it.
        end: mend it; nothing for what is over at once.
        seconds: the least and the most time between the two, for a plan drawn at random.
    """

    begin: Callable[[], None]
    end: Callable[[], None] = nothing
    seconds: tuple[float, float] = (0.0, 0.0)


class Store(abc.ABC):
    """A real store for one run: a context manager that starts it, and ends it with all it made.

    A subclass gives :attr:`url` and what can be done to the store, by name, in :meth:`faults`.

    Attributes:
        name: for the report.
        memory_lateness: seconds by which the group may stand still for longer than a ttl after the
            store may have forgotten something: of one that counts whole seconds. The judge excuses
            so much more after a fault of the store.
    """

    name = "store"
    memory_lateness = 0.0

    @property
    @abc.abstractmethod
    def url(self) -> str:
        """Where the members find it, while :meth:`__enter__` has been called."""

    @property
    def direct_url(self) -> str:
        """The same without anything of ours between, for measuring times."""
        return self.url

    @abc.abstractmethod
    def start(self) -> None:
        """Start it, and wait until it serves."""

    @abc.abstractmethod
    def stop(self) -> None:
        """Stop it and remove what it left. Called once, whatever state the faults left it in."""

    def faults(self) -> Mapping[str, Fault]:
        """Return what can be done to it here and now, by a name that the report shows."""
        return {}

    def keep_copy(self) -> None:  # noqa: B027 - a store that nobody can copy needs none
        """Keep a copy of the data for :meth:`go_back_in_time`, while the store serves."""

    def go_back_in_time(self) -> None:
        """Put an older copy of the data in the place of the present one, and serve again.

        As an operator does who restores a backup, or a machine that comes up from a snapshot: what
        was confirmed since :meth:`keep_copy` is forgotten, and what was removed since is back. A
        store that cannot be restored loses everything.
        """
        raise NotImplementedError

    def back_in_time(self) -> Mapping[str, Fault]:
        """Return the fault in which the store goes back to what it was a few seconds before.

        It is for :meth:`faults` to include, where the store has a :meth:`go_back_in_time`.
        """
        if type(self).go_back_in_time is Store.go_back_in_time:
            return {}
        return {BACK_IN_TIME: Fault(self.keep_copy, self.go_back_in_time, (0.5, 6.0))}

    def missing(self) -> Mapping[str, str]:
        """Return the faults that this machine does not allow, and why."""
        return {}

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


class Server(Protocol):
    """What :class:`ServerStore` needs of a server that listens on one TCP port of the loopback."""

    port: int

    def start(self) -> None:
        """Start the process and wait until it serves; the same port every time."""

    def stop(self) -> None:
        """Stop the process in good order."""

    def kill(self) -> None:
        """``kill -9``."""

    def pause(self) -> None:
        """``kill -STOP``."""

    def resume(self) -> None:
        """``kill -CONT``."""


class ServerStore(Store):
    """A store with one server, reached through a :class:`~hashring.testing.FaultProxy`.

    Args:
        name: for the report.
        server: not yet started.
        url: the members' URL, with ``{address}`` where host and port belong.
    """

    def __init__(self, name: str, server: Server, url: str) -> None:
        self.name = name
        self.server = server
        self._url = url
        self._proxy: FaultProxy | None = None

    @property
    def proxy(self) -> FaultProxy:
        """The proxy between the members and the server."""
        assert self._proxy is not None, "the store has not been started"
        return self._proxy

    @property
    def url(self) -> str:
        """See :attr:`Store.url`."""
        host, port = self.proxy.address
        return self._url.format(address=f"{host}:{port}")

    @property
    def direct_url(self) -> str:
        """See :attr:`Store.direct_url`."""
        return self._url.format(address=f"127.0.0.1:{self.server.port}")

    def start(self) -> None:
        """See :meth:`Store.start`."""
        self.server.start()
        self._proxy = FaultProxy("127.0.0.1", self.server.port)
        self._proxy.start()

    def stop(self) -> None:
        """See :meth:`Store.stop`."""
        if self._proxy is not None:
            self._proxy.close()
        self.server.resume()
        self.server.stop()

    def restart(self) -> None:
        """Kill the server and start it again at once."""
        self.server.kill()
        self.server.start()

    def faults(self) -> Mapping[str, Fault]:
        """See :meth:`Store.faults`."""
        proxy, server = self.proxy, self.server
        return {
            "store restarted": Fault(self.restart),
            "store stopped": Fault(server.stop, server.start, (0.5, 6.0)),
            FROZEN: Fault(server.pause, server.resume, (0.5, 6.0)),
            "connections cut": Fault(proxy.cut),
            "connections refused": Fault(proxy.refuse, proxy.restore, (0.5, 5.0)),
            "half-open": Fault(proxy.half_open, proxy.restore, (0.5, 5.0)),
            "answers lost": Fault(lambda: proxy.blackhole("down"), proxy.restore, (0.5, 5.0)),
            "store delayed": Fault(lambda: proxy.delay(0.1, 0.1), proxy.restore, (1.0, 6.0)),
            "store slow": Fault(lambda: proxy.throttle(50_000), proxy.restore, (1.0, 6.0)),
            **self.back_in_time(),
        }
