"""What the drivers share of a network: time limits, deadlines, names, connections and TLS.

The system's resolver has no time limit of its own: a name server that does not answer holds
``getaddrinfo`` for up to half a minute, which is longer than most leases. Nor has a socket: its
timeout begins anew with each byte that comes. Here each call has a deadline, in seconds on the
boot-time clock, and all that it does ends by then. Knows no store.
"""

from __future__ import annotations

import contextlib
import logging
import math
import socket
import ssl
import threading
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from hashring.clock import boottime
from hashring.driver import Driver, Traffic
from hashring.errors import StoreUnusable

__all__ = [
    "CALL_SHARE",
    "DeadlineSocket",
    "addresses",
    "connected",
    "dialled",
    "left",
    "longest_call",
    "tell_limits",
    "tls_context",
    "within_the_lease",
]

_log = logging.getLogger(__name__)

# -- time limits

CALL_SHARE = 1 / 3
"""Of a lease: the longest that one call may take. Members heartbeat each third of the ttl. One that
is confirmed, one that fails and another try must fit in before the fence, at 0.9 of the ttl."""

_SHORTEST = 1.0
"""Seconds that a call may take even where that is more than the share of a short lease, but never
more than half of it: the fence still leaves time for another try."""


_said: set[tuple[str, float]] = set()


def within_the_lease(driver: Driver) -> Mapping[str, Any]:
    """Return a driver's settings with ``timeout`` limited to what a lease leaves for a call.

    Args:
        driver: one whose URL is parsed; its ``settings`` are not changed.

    Example:
        >>> from hashring.driver import load
        >>> within_the_lease(load("memory://", ttl=6.0))["timeout"]
        2.0
    """
    timeout = min(driver.settings["timeout"], longest_call(driver.ttl))
    return MappingProxyType({**driver.settings, "timeout": timeout})


def longest_call(ttl: float) -> float:
    """Return the seconds that one call may take on a lease of ``ttl`` seconds.

    Example:
        >>> longest_call(30.0), longest_call(2.4), longest_call(1.0)
        (10.0, 1.0, 0.5)
    """
    return max(ttl * CALL_SHARE, min(_SHORTEST, ttl / 2))


def tell_limits(driver: Driver) -> None:
    """Log, once in a process for each URL and lease, that the URL's ``timeout`` is too long.

    For a driver's ``open()``: what is only made, to look at its options, has nothing to tell.
    """
    named, limited = driver.url.options.get("timeout"), driver.settings["timeout"]
    if named is None or float(named) <= limited or (str(driver.url), driver.ttl) in _said:
        return
    _said.add((str(driver.url), driver.ttl))
    _log.warning(
        "%s: timeout=%s is limited to %.3g s, as the ttl is %g s: a call that takes longer "
        "costs the lease. Write a smaller timeout, or a longer ttl",
        driver.url,
        named,
        limited,
        driver.ttl,
    )


# -- deadlines and connections


def left(deadline: float) -> float:
    """Return the seconds until a deadline.

    Raises:
        TimeoutError: there are none.

    >>> 0 < left(boottime() + 5) <= 5
    True
    """
    seconds = deadline - boottime()
    if seconds <= 0:
        raise TimeoutError("no answer in time")
    return seconds


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
            raise OSError(f"{host[0]!r} is no host name") from lookup.failure
        raise OSError(*lookup.failure.args) from lookup.failure
    return list(lookup.found)


def dialled(address: tuple[Any, ...], within: float) -> socket.socket:
    """Return a socket that is connected to an address.

    Args:
        address: as :func:`addresses` has it.
        within: seconds for the attempt.

    Raises:
        OSError: it is not reached, or not in time.
    """
    family, kind, protocol, _, where = address
    made = socket.socket(family, kind, protocol)
    try:
        made.settimeout(within)
        made.connect(where)
    except BaseException:
        made.close()
        raise
    return made


def connected(
    found: list[Any], deadline: float, *, tls: ssl.SSLContext | None = None, name: str = ""
) -> socket.socket:
    """Connect to the first of a host's addresses that lets us; they share the time there is.

    Args:
        found: as :func:`addresses` returns them.
        deadline: in seconds on the boot-time clock.
        tls: shake hands by it, or ``None`` for plain text.
        name: the host's, for the check of its certificate.

    Raises:
        OSError: as of the last address; none is reached in time.
    """
    failure: OSError = OSError("the host has no address")
    for index, address in enumerate(found):
        try:
            made = dialled(address, left(deadline) / (len(found) - index))
        except OSError as error:
            failure = error
            continue
        try:
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            made.settimeout(left(deadline))
            return made if tls is None else tls.wrap_socket(made, server_hostname=name)
        except OSError as error:
            made.close()
            failure = error
        except BaseException:
            made.close()
            raise
    raise failure


class DeadlineSocket:
    """A socket whose every read and write ends at a deadline, however many pieces there are.

    For client libraries that read until they have an answer.

    Args:
        raw: the socket; what is not here is asked of it.
        deadline: in seconds on the boot-time clock; it may be changed.
        traffic: counts what is sent and received: with TLS, what is in the encryption.
    """

    def __init__(self, raw: Any, deadline: float, traffic: Traffic | None = None) -> None:
        self.raw = raw
        self.traffic = Traffic() if traffic is None else traffic
        self.deadline = deadline
        self.patience = math.inf
        """Seconds to wait for the next bytes."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.raw, name)

    def limit(self) -> None:
        """Let what is read next end in time."""
        self.raw.settimeout(min(left(self.deadline), self.patience))

    def recv(self, *arguments: Any) -> Any:
        """See :meth:`socket.socket.recv`."""
        self.limit()
        found = self.raw.recv(*arguments)
        self.traffic.receives(len(found))
        return found

    def recv_into(self, *arguments: Any) -> Any:
        """See :meth:`socket.socket.recv_into`."""
        self.limit()
        count = self.raw.recv_into(*arguments)
        self.traffic.receives(count)
        return count

    def sendall(self, data: bytes) -> None:
        """See :meth:`socket.socket.sendall`."""
        rest = memoryview(data)
        while rest:  # TLS has a timeout for each of its writes
            self.raw.settimeout(left(self.deadline))
            count = self.raw.send(rest)
            self.traffic.sends(count)
            rest = rest[count:]


def tls_context(driver: Driver, *, password: str | None = None) -> ssl.SSLContext:
    """Return what a driver's options ``ca``, ``cert`` and ``key`` make of TLS.

    Args:
        driver: for its settings, and for its URL in an error.
        password: of the key, or ``None``: a key that needs one is an error, and not a question at
            the terminal.

    Raises:
        StoreUnusable: a file is missing, or is not what it should be.
    """
    settings = driver.settings
    for option in ("ca", "cert", "key"):
        path = settings[option]
        if path is not None and not Path(path).is_file():
            raise StoreUnusable(f"{driver.url}: there is no file {path}, given as {option}")
    try:
        context = ssl.create_default_context(cafile=settings["ca"])
        if settings["cert"] is not None:
            context.load_cert_chain(settings["cert"], settings["key"], password or "")
    except OSError as error:
        raise StoreUnusable(
            f"{driver.url}: the TLS files cannot be used (ca={settings['ca']}, "
            f"cert={settings['cert']}, key={settings['key']}): {error.strerror or error}"
        ) from error
    return context
