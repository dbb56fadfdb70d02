"""A way to a Redis server on which single connections fall silent."""

from __future__ import annotations

import contextlib
import select
import socket
import socketserver
import threading

from tests.servers.process import LOOPBACK
from tests.servers.redis import RedisServer


class Relay(socketserver.ThreadingTCPServer):
    """A way to a server on which chosen connections fall silent, as where a firewall forgot them.

    New connections pass: of the proxy's faults each takes all.
    """

    daemon_threads = True

    def __init__(self, server: RedisServer) -> None:
        super().__init__((LOOPBACK, 0), socketserver.BaseRequestHandler)
        self.url = f"redis://{LOOPBACK}:{self.server_address[1]}"
        self._target = (LOOPBACK, server.port)
        self._open: list[bytearray] = []  # what each connection has asked
        self._silent: list[bytearray] = []

    def silence(self, having_asked: bytes = b"") -> None:
        """Pass nothing any more of the connections that have sent these bytes at any time."""
        chosen = [asked for asked in self._open if having_asked in asked]
        assert chosen
        self._silent += chosen

    def finish_request(self, request: socket.socket, client_address: object) -> None:
        asked = bytearray()
        self._open.append(asked)
        with socket.create_connection(self._target) as server, contextlib.suppress(OSError):
            while True:
                for ready in select.select([request, server], [], [])[0]:
                    if not (data := ready.recv(65536)):
                        return
                    if ready is request:
                        asked += data
                    if not any(asked is silent for silent in self._silent):
                        (server if ready is request else request).sendall(data)

    def __enter__(self) -> Relay:
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()
