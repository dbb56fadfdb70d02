"""A small HTTP server that strangers cannot hold up: connections and time are bounded.

At most so many connections are open at once. Where one more comes, the oldest one that has not yet
sent its whole request is closed for it. A connection has one deadline, from its beginning to the
last byte of its answer. This module knows WSGI and sockets, nothing of what is served.

prometheus-client has a server of its own (``start_wsgi_server``). It starts a thread for each
connection, without a bound, and waits without end for a request that does not come: a few hundred
half-sent requests would hold as many threads of an agent. So the server is ours, and what it serves
is prometheus-client's WSGI application, which chooses the format and compresses.
"""

from __future__ import annotations

import contextlib
import io
import socket
import socketserver
import threading
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from hashring import clock

__all__ = ["MAX_CONNECTIONS", "REQUEST_TIMEOUT", "BoundedServer", "bind"]

REQUEST_TIMEOUT = 10.0
"""Seconds from a connection's beginning to the last byte of its answer: Prometheus's own
``scrape_timeout`` is 10 by default."""

MAX_CONNECTIONS = 16
"""Connections, and threads, at once."""

_BACKLOG = 64
"""Connections that the system holds until they are taken."""


class _Reader(io.RawIOBase):
    """Reads from a socket until a deadline, not until a silence of some length."""

    def __init__(self, connection: socket.socket, deadline: float) -> None:
        self._connection = connection
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left = self._deadline - clock.boottime()
        if left <= 0:
            raise TimeoutError("the request did not come in time")
        self._connection.settimeout(left)
        return self._connection.recv_into(buffer)


class _Handler(WSGIRequestHandler):
    server: BoundedServer

    def setup(self) -> None:
        super().setup()
        self.rfile.close()
        self._deadline = clock.boottime() + self.server.request_timeout
        self.rfile = io.BufferedReader(_Reader(self.connection, self._deadline))

    def parse_request(self) -> bool:
        """Parse the request, which has come as a whole; whoever sent it is served to the end."""
        found = super().parse_request()
        self.server.is_served(self.connection)
        # A bound on each of the few pieces that an answer is sent in: head and body.
        self.connection.settimeout(max(0.01, self._deadline - clock.boottime()))
        return found

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: a request is no event."""


class BoundedServer(socketserver.ThreadingMixIn, WSGIServer):
    """Serves a WSGI application, a thread a connection, none of them for long.

    Args:
        family: of the address.
        address: to listen on, as :func:`socket.getaddrinfo` tells it.

    Attributes:
        request_timeout: seconds that one connection may last.
        max_connections: how many may be open at once.
    """

    # Its threads end with it, each by the deadline of its request.
    daemon_threads = False
    block_on_close = True
    request_queue_size = _BACKLOG
    request_timeout = REQUEST_TIMEOUT
    max_connections = MAX_CONNECTIONS

    def __init__(self, family: socket.AddressFamily, address: tuple[Any, ...]) -> None:
        self.address_family = family
        self._guard = threading.Lock()
        # By connection, oldest first: whether its request has come and is being answered.
        self._open: dict[socket.socket, bool] = {}
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        """Bind, without asking the resolver for the address's name, which may take long."""
        if self.address_family == socket.AF_INET6:
            # A server for every address of IPv6 is one for IPv4 too.
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]
        self.setup_environ()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection in a thread of its own, or close it where there are too many."""
        if self._admit(request):
            super().process_request(request, client_address)
        else:
            super().shutdown_request(request)

    def _admit(self, connection: socket.socket) -> bool:
        with self._guard:
            if len(self._open) >= self.max_connections:
                waiting = next((one for one, served in self._open.items() if not served), None)
                if waiting is None:
                    return False
                del self._open[waiting]
                _cut(waiting)
            self._open[connection] = False
            return True

    def is_served(self, connection: socket.socket) -> None:
        """Take note that a connection has sent its request: it is not closed for another one."""
        with self._guard:
            if connection in self._open:
                self._open[connection] = True

    def shutdown_request(self, request: Any) -> None:
        """Close a connection that is over."""
        with self._guard:
            self._open.pop(request, None)
        super().shutdown_request(request)

    @property
    def connections(self) -> int:
        """How many connections are open now."""
        with self._guard:
            return len(self._open)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a client has gone, or took too long."""

    def server_close(self) -> None:
        """Stop listening, cut off who has not sent a request yet, and wait for the answers."""
        with self._guard:
            for connection, served in self._open.items():
                if not served:
                    _cut(connection)
        super().server_close()


def _cut(connection: socket.socket) -> None:
    """Wake up the thread that reads from a connection; it closes it."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def bind(host: str, port: int) -> BoundedServer:
    """Return a server that listens on an address.

    Args:
        host: a name or an address; ``"::"`` is every address, of IPv4 too.
        port: 0 for a free one.

    Raises:
        OSError: it cannot listen there.
    """
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    return BoundedServer(family, address)
