"""Listener: serves a WSGI application on an address or a Unix socket, until the block ends.

The server is the one that exporters have: connections and time are bounded, so that no stranger
holds up an agent. This module knows nothing of what is served.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
import socketserver
import stat
import threading
from pathlib import Path
from typing import Any, Self

from hashring.telemetry.errors import CannotListen
from hashring.telemetry.model.listen import ListenAddress
from hashring.telemetry.publishers.serving import BoundedServer, bind

__all__ = ["Listener"]

log = logging.getLogger(__name__)

_MODE = 0o660
"""Of a socket: its user and group may connect. The folder's mode counts as well."""


class Listener:
    """Serves an application for as long as the block runs.

    Args:
        address: where.
        app: a WSGI application.

    Raises:
        CannotListen: the address is taken, or not this host's.

    Attributes:
        address: where it listens; with the port that it was given where 0 was asked for.
    """

    def __init__(self, address: ListenAddress, app: Any) -> None:
        self._path = Path(address.path) if address.path else None
        try:
            self._server = _unix(self._path) if self._path else bind(address.host, address.port)
        except OSError as error:
            why = error.strerror or error
            raise CannotListen(
                f"[hashring] listen = {address}: cannot listen there: {why}; name another address "
                "(each agent of a host needs its own), or leave the option out"
            ) from error
        self._server.set_app(app)
        port = 0 if self._path else self._server.server_port
        self.address = ListenAddress(address.host, port, address.path)
        self._thread = threading.Thread(
            target=self._server.serve_forever,
            kwargs={"poll_interval": 0.1},
            name="listener",
            daemon=True,
        )

    def __enter__(self) -> Self:
        self._thread.start()
        log.info("the page and the metrics are at %s", self.address)
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        if self._path is not None:
            with contextlib.suppress(OSError):
                self._path.unlink()


class _UnixServer(BoundedServer):
    """The same server on a Unix socket, whose clients have no address."""

    def server_bind(self) -> None:
        """Bind; the application is told that it is on this host."""
        socketserver.TCPServer.server_bind(self)
        os.chmod(str(self.server_address), _MODE)  # noqa: PTH101
        self.server_name, self.server_port = "localhost", 0
        self.setup_environ()

    def get_request(self) -> tuple[Any, Any]:
        """Take a connection; its address is what a client on this host would have."""
        request, _ = super().get_request()
        return request, ("localhost", 0)


def _unix(path: Path) -> BoundedServer:
    _remove_abandoned(path)
    return _UnixServer(socket.AF_UNIX, str(path))  # type: ignore[arg-type]


def _remove_abandoned(path: Path) -> None:
    """Remove a socket that nobody listens on: its agent was killed.

    Raises:
        OSError: there is something else, or somebody listens.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise OSError(errno.EEXIST, "there is a file that is no socket")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise OSError(errno.EADDRINUSE, "another process listens there")
