"""The ensemble's servers: where they are, how to connect to one, and what to say of who we are.

It knows sockets and credentials, and no session.
"""

from __future__ import annotations

import importlib
import socket
import ssl
from collections.abc import Callable, Sequence
from typing import Any

from hashring.clock import boottime
from hashring.errors import MissingDependency

from .._net import addresses, connected

__all__ = ["Credentials", "Failed", "Refused", "Servers"]


class Failed(OSError):
    """The connection failed, or no server answered; a request on its way may have been applied."""


class Refused(Exception):
    """The servers answer, but will not have us: credentials, certificates or the protocol."""


class Credentials:
    """What is said after each connect: nothing, a ``digest`` pair, or a SASL exchange.

    Args:
        user: the user's name, or ``None``.
        secret: the password, or ``None``.
        mechanism: a SASL mechanism (``DIGEST-MD5``, ``PLAIN``, ``GSSAPI``); empty for ``digest``.
        service: the first part of the server's Kerberos principal.
    """

    def __init__(self, user: str | None, secret: str | None, mechanism: str, service: str) -> None:
        self.user = user
        self.secret = secret
        self.mechanism = mechanism
        self.service = service
        if mechanism:
            try:
                importlib.import_module("puresasl.client")
            except ImportError as error:
                raise MissingDependency(
                    f"zookeeper:// with sasl={mechanism}", "pure-sasl", "zookeeper"
                ) from error

    @property
    def given(self) -> bool:
        """There is something to authenticate with."""
        return bool(self.mechanism) or self.user is not None

    def sasl_client(self, host: str) -> Any:
        """Return a new SASL conversation with one server."""
        library = importlib.import_module("puresasl.client")
        if self.mechanism == "DIGEST-MD5":
            host = "zk-sasl-md5"  # ZooKeeper's servers all answer to this one name
        names = {}
        if self.user is not None:
            names = {"username": self.user, "password": self.secret or ""}
        return library.SASLClient(host, service=self.service, mechanism=self.mechanism, **names)


class Servers:
    """The ensemble's addresses, and how to open a connection to one of them.

    A name is resolved once and again only where none of its addresses answers: a heartbeat must
    not depend on the name service. The address that answered last is tried first.

    Args:
        hosts: names and ports, in the order in which to try them.
        connect_timeout: seconds for one server, at most.
        tls: the context of TLS connections, or ``None`` for plain ones.
    """

    def __init__(
        self,
        hosts: Sequence[tuple[str, int]],
        connect_timeout: float,
        tls: ssl.SSLContext | None,
    ) -> None:
        self.hosts = tuple(hosts)
        self.connect_timeout = connect_timeout
        self.tls = tls
        self._resolved: dict[tuple[str, int], list[Any]] = {}
        self._last: tuple[str, int] | None = None

    def connect(
        self, deadline: float, greet: Callable[[socket.socket, str, float], None]
    ) -> socket.socket:
        """Return a connection to the first server that accepts and passes ``greet``.

        Args:
            deadline: on the boot-time clock.
            greet: shakes hands on a new socket, given the server's name and a deadline.

        Raises:
            Failed: no server did; the message says why, for each.
            Refused, SessionGone: from ``greet``.
        """
        failures: list[str] = []
        refused: Refused | None = None
        # One server that swallows packets must not eat the time of those after it.
        order = sorted(self.hosts, key=lambda host: host != self._last)
        for index, host in enumerate(order):
            left = deadline - boottime()
            until = boottime() + min(self.connect_timeout, left / (len(order) - index))
            connection: socket.socket | None = None
            try:
                connection = self._open(host, until)
                greet(connection, host[0], until)
            except OSError as error:
                if isinstance(error, ssl.SSLCertVerificationError):
                    refused = Refused(f"{host[0]}:{host[1]}: {error.verify_message or error}")
                failures.append(f"{host[0]}:{host[1]}: {_reason(error)}")
                if connection is not None:
                    connection.close()
                continue
            except BaseException:
                if connection is not None:
                    connection.close()
                raise
            self._last = host
            return connection
        if refused is not None:
            raise refused
        raise Failed("; ".join(failures))

    def _open(self, host: tuple[str, int], deadline: float) -> socket.socket:
        if host not in self._resolved:
            self._resolved[host] = addresses(host, deadline)
        try:
            return connected(self._resolved[host], deadline, tls=self.tls, name=host[0])
        except OSError:
            del self._resolved[host]  # the name may have moved: ask again next time
            raise


def _reason(error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return error.strerror or str(error)
