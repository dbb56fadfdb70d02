"""Look names up within a time limit: the system's resolver has none of its own.

A name server that does not answer holds ``getaddrinfo`` for up to half a minute, which is longer
than most leases. Knows no store.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Any

from hashring.clock import boottime

__all__ = ["addresses"]

_guard = threading.Lock()
_under_way: dict[tuple[str, int], _Lookup] = {}


class _Lookup:
    """One question to the resolver, in a thread of its own, for all that ask it meanwhile."""

    def __init__(self, host: tuple[str, int]) -> None:
        self.done = threading.Event()
        self.found: list[Any] = []
        self.failure: OSError | UnicodeError | None = None
        self._host = host
        # It ends when the resolver gives up. Nothing is left of it but the answer.
        threading.Thread(target=self._ask, name=f"hashring-dns-{host[0]}", daemon=True).start()

    def _ask(self) -> None:
        try:
            self.found = socket.getaddrinfo(*self._host, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            self.failure = error
        finally:
            with _guard:
                _under_way.pop(self._host, None)
            self.done.set()


def addresses(host: tuple[str, int], deadline: float) -> list[Any]:
    """Return what ``socket.getaddrinfo`` says of a name and a port, for streams.

    At most one thread for each name waits for the resolver, however often it is asked.

    Args:
        host: a name or an address, and a port.
        deadline: in seconds on the boot-time clock.

    Raises:
        TimeoutError: the resolver has not answered by the deadline.
        OSError: it has no address for the name.

    Example:
        >>> [found[4] for found in addresses(("127.0.0.1", 80), boottime() + 1)]
        [('127.0.0.1', 80)]
    """
    with contextlib.suppress(OSError):
        return socket.getaddrinfo(*host, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    with _guard:
        lookup = _under_way.get(host)
        if lookup is None:
            lookup = _under_way[host] = _Lookup(host)
    if not lookup.done.wait(max(0.0, deadline - boottime())):
        raise TimeoutError(f"the name {host[0]} was not resolved in time")
    if lookup.failure is not None:
        if isinstance(lookup.failure, UnicodeError):
            raise OSError(f"{host[0]!r} is not a host name") from lookup.failure
        raise OSError(*lookup.failure.args) from lookup.failure
    return list(lookup.found)
