"""Run with Gnocchi installed: serves its API on a port, with the files and the index of a file.

python gnocchi_server.py GNOCCHI.CONF PORT
"""

from __future__ import annotations

import sys
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server


class Server(ThreadingMixIn, WSGIServer):
    """One that serves several at once."""

    daemon_threads = True


class Quiet(WSGIRequestHandler):
    """One that does not tell of each request."""

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


def main() -> None:
    from gnocchi import opts, service
    from gnocchi.rest.app import load_app

    opts.set_defaults()
    application = load_app(service.prepare_service(["--config-file", sys.argv[1]]))
    with make_server("127.0.0.1", int(sys.argv[2]), application, Server, Quiet) as server:
        server.serve_forever()


if __name__ == "__main__":
    main()
