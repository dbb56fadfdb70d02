"""Run with Aodh installed: its API's server, on tables that its own dbsync makes.

    python aodh_server.py AODH.CONF PORT COPY

A database that is a file is copied to COPY before it is served.
"""

from __future__ import annotations

import gc
import shutil
import sys
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server


class _Silent(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


def main() -> None:
    config, port, copy = sys.argv[1:]
    from aodh import service, storage
    from aodh.api import app

    conf = service.prepare_service(["--config-file", config], with_gmr=False)
    storage.get_connection_from_config(conf).upgrade()
    url = conf.database.connection
    if url.startswith("sqlite:///"):
        shutil.copy(Path(url.removeprefix("sqlite:///")), copy)
    served = app.load_app(conf)

    def application(*request: Any) -> Any:
        yield from served(*request)
        # A complex query leaves its session open until it is collected, and the file locked.
        gc.collect()

    gc.collect()
    gc.freeze()
    server = make_server("127.0.0.1", int(port), application, handler_class=_Silent)
    server.serve_forever()


if __name__ == "__main__":
    main()
