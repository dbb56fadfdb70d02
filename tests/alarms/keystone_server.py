"""Run with Keystone installed: makes its keys and its database, then serves its API.

    python keystone_server.py KEYSTONE.CONF PORT PASSWORD

The keys and the database are made once; PASSWORD is the administrator's.
"""

from __future__ import annotations

import grp
import os
import pwd
import sys
from pathlib import Path
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server


class Server(ThreadingMixIn, WSGIServer):
    """One that serves several at once."""

    daemon_threads = True


class Quiet(WSGIRequestHandler):
    """One that does not tell of each request."""

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


def manage(config: str, *words: str) -> None:
    from keystone.cmd import manage

    sys.argv = ["keystone-manage", "--config-file", config, *words]
    manage.main()


def made(config: str, url: str, password: str) -> None:
    """Make what a Keystone needs, each in a process of its own: each reads the options anew."""
    first = ["bootstrap", "--bootstrap-password", password, "--bootstrap-region-id", "R"]
    for interface in ("public", "internal", "admin"):
        first += [f"--bootstrap-{interface}-url", url]
    user, group = pwd.getpwuid(os.getuid()).pw_name, grp.getgrgid(os.getgid()).gr_name
    keys = ["--keystone-user", user, "--keystone-group", group]
    for words in (["db_sync"], ["fernet_setup", *keys], ["receipt_setup", *keys], first):
        if (child := os.fork()) == 0:
            try:
                manage(config, *words)
            except SystemExit as error:
                os._exit(int(error.code or 0))
            except BaseException:
                import traceback

                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if status:
            raise SystemExit(f"keystone-manage {words[0]} failed")


def main() -> None:
    config, port, password = sys.argv[1:]
    is_made = Path(config).with_name("made")
    if not is_made.exists():
        made(config, f"http://127.0.0.1:{port}/v3", password)
        is_made.touch()
    os.environ["OS_KEYSTONE_CONFIG_FILES"] = config
    sys.argv = ["keystone"]
    from keystone.server.wsgi import initialize_public_application

    application = initialize_public_application()
    with make_server("127.0.0.1", int(port), application, Server, Quiet) as server:
        server.serve_forever()


if __name__ == "__main__":
    main()
