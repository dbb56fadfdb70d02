"""Connections to one memcached: each wait on a deadline, a login, TLS, and tries that are repeated.

It knows no key and no lease.
"""

from __future__ import annotations

import math
import os
import random
import secrets
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from hashring.clock import boottime
from hashring.driver import Driver
from hashring.errors import HashringError, LeaseLost, MemberExists, MissingDependency

from .._net import DeadlineSocket, addresses, connected, dialled, left, tls_context
from .keys import PREFIX

try:
    import pymemcache
    from pymemcache.exceptions import MemcacheClientError, MemcacheError, MemcacheServerError
except ImportError as error:
    raise MissingDependency("the memcached:// driver", "pymemcache", "memcached") from error

__all__ = ["Beaten", "Connection", "Connections", "Refused", "pause"]

_Result = TypeVar("_Result")

_CONTENTION = 0.002  # seconds between two tries of a swap that another one beat


class Beaten(Exception):
    """Another swap came first: look again."""


class Refused(Exception):
    """The server wants a user and password, and did not get the right ones."""


class Connection:
    """A connection for one operation, whose every wait ends at the operation's deadline."""

    def __init__(self, client: Any, deadline: float) -> None:
        self._client = client
        self.deadline = client.sock.deadline = deadline

    def get(self, keys: Iterable[str]) -> dict[str, tuple[bytes, bytes]]:
        """Return the values and numbers of the keys that there are."""
        return dict(self._client.gets_many(list(keys)))

    def uptime(self) -> int:
        """Return the server's uptime in whole seconds."""
        return int(self._client.stats()[b"uptime"])

    def add(self, key: str, value: bytes, keeps: int) -> None:
        """Store a key that is missing.

        Raises:
            Beaten: it is there.
        """
        if not self._client.add(key, value, keeps):
            raise Beaten

    def swap(self, key: str, value: bytes, number: bytes, keeps: int) -> None:
        """Replace a value that is still the one of this number.

        Raises:
            Beaten: it is not.
        """
        if not self._client.cas(key, value, number, keeps):
            raise Beaten

    def count(self, key: str) -> None:
        """Change a counter; where it is missing, start it at a number it never had."""
        client = self._client
        if client.incr(key, 1) is None:
            client.add(key, str(secrets.randbits(48)))

    def number(self, key: str) -> int:
        """Return a number that nobody had from this key before.

        Where the key is missing it begins with the server's wall clock in microseconds: greater
        than what it had before, as long as that lived for a second and less than a million a
        second were drawn.

        Raises:
            Beaten: the server drops keys as they are made.
        """
        client = self._client
        found = client.incr(key, 1)
        if found is None:
            client.add(key, str(int(client.stats()[b"time"]) * 1_000_000))
            found = client.incr(key, 1)
        if found is None:
            raise Beaten
        return int(found)

    def settings(self) -> dict[bytes, Any]:
        """Return how the server is set up."""
        return dict(self._client.stats("settings"))


class Connections:
    """The connections of one driver.

    Args:
        driver: for its URL, its settings and the words of its errors.
        host: a name and a port, or the path of a socket.
    """

    def __init__(self, driver: Driver, host: tuple[str, int] | str) -> None:
        self._driver = driver
        self._host = host
        self._lock = threading.Lock()
        self._context: ssl.SSLContext | None = None
        self._idle: list[Any] | None = None
        self._pid = os.getpid()
        self.closing = threading.Event()
        """Set once the driver is closed, until it is opened again."""
        self._wants_login = False

    def open(self) -> bool:
        """Make connections possible; return False where they were already.

        Raises:
            StoreUnusable: a file for TLS cannot be used.
        """
        with self._lock:
            if self._idle is not None:
                return False
            self._context = self._new_context()
            self._idle = []
            self.closing.clear()
            return True

    def close(self) -> None:
        """Close all that are idle, and make no more."""
        self.closing.set()
        with self._lock:
            idle, self._idle = self._idle, None
        for client in idle or []:
            client.close()

    def check_open(self) -> None:
        """Raise what a method of a closed driver raises.

        Raises:
            StoreUnavailable: the driver is not open.
        """
        with self._lock:
            self._clients()

    def run(self, doing: str, act: Callable[[Connection], _Result]) -> _Result:
        """Run an operation, again where it was beaten or cut off, until it is done or too late.

        Every operation may run twice: the second run finds what the first one did.
        """
        deadline = boottime() + self._driver.settings["timeout"]
        delays, is_first = self._driver.delays(), True
        while True:
            try:
                return self._attempt(act, deadline, first=is_first)
            except Beaten:
                if boottime() >= deadline:
                    late = TimeoutError("others changed the group all the time")
                    raise self._driver.unavailable(doing, late) from None
                pause()
            except HashringError:
                raise
            except (Refused, MemcacheError, OSError, ValueError, TypeError, KeyError) as error:
                # The last three are an answer, or a value, that is not of memcached or of ours.
                passing = isinstance(error, OSError | MemcacheServerError)
                passing = passing and not isinstance(error, ssl.SSLCertVerificationError)
                delay = next(delays, None)
                if not passing or delay is None or boottime() + delay >= deadline:
                    raise self._driver.unavailable(doing, error) from error
                is_first = False
                self.closing.wait(delay)

    def _attempt(
        self, act: Callable[[Connection], _Result], deadline: float, *, first: bool
    ) -> _Result:
        with self._lock:
            idle = self._clients()
            if not first:
                # Where one connection broke, those that were idle with it will have, too.
                while idle:
                    idle.pop().close()
            client = idle.pop() if idle else None
        if client is None:
            client = self._connected(deadline)
        elif self._driver.settings["retries"]:
            # It may have fallen silent since it was used; then a new one gets the rest of the time.
            client.sock.patience = self._driver.settings["timeout"] / 3
        try:
            result = act(Connection(client, deadline))
        except (Beaten, LeaseLost, MemberExists):
            self._release(client)
            raise
        except BaseException:
            client.close()
            raise
        self._release(client)
        return result

    def _clients(self) -> list[Any]:
        if self._idle is None:
            raise self._driver.not_open()
        if self._pid != os.getpid():
            # A parent's connections: the two would read each other's answers.
            self._idle, self._pid = [], os.getpid()
        return self._idle

    def _release(self, client: Any) -> None:
        with self._lock:
            if self._idle is not None and len(self._idle) < 4:
                client.sock.patience = math.inf
                self._idle.append(client)
                return
        client.close()

    def _connected(self, deadline: float) -> Any:
        client = self._client(deadline)
        try:
            if not self._wants_login:
                # A server that wants no password would store it: ask first.
                try:
                    client.get(PREFIX)
                except MemcacheClientError as error:
                    if "unauthenticated" not in str(error):
                        raise
                    self._wants_login = True
                    client = self._client(deadline)
            if self._wants_login:
                self._log_in(client)
        except BaseException:
            client.close()
            raise
        return client

    def _log_in(self, client: Any) -> None:
        if self._driver.url.secret is None:
            raise Refused("the server wants a user and password, and the URL has none")
        try:
            client.set("login", f"{self._driver.url.user} {self._driver.url.secret}")
        except MemcacheClientError:
            raise Refused("the server refused the user or password") from None

    def _client(self, deadline: float) -> Any:
        within = min(self._driver.settings["connect_timeout"], deadline - boottime())
        until = boottime() + within
        # pymemcache's own way to connect tries but one of a host's addresses.
        if isinstance(self._host, str):
            made = dialled((socket.AF_UNIX, socket.SOCK_STREAM, 0, "", self._host), left(until))
        else:
            found = addresses(self._host, until)
            made = connected(found, until, tls=self._context, name=self._host[0])
        client = pymemcache.Client(self._host, default_noreply=False)
        client.sock = DeadlineSocket(made, until, self._driver.traffic)
        return client

    def _new_context(self) -> ssl.SSLContext | None:
        settings = self._driver.settings
        if not settings["tls"]:
            return None
        context = tls_context(self._driver)
        if not settings["verify"]:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


def pause() -> None:
    """Wait a moment before a swap is tried again that another one beat."""
    time.sleep(_CONTENTION * random.random())  # noqa: S311
