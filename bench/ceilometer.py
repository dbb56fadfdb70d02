"""The real Ceilometer polling agent on backends of tooz, ours among them: the same plan on each.

    python -m bench.ceilometer redis hashring+redis

starts a Redis for each, three agents with 1,000 resources and an interval of 4 s, and lets one more
join, one stop, one be killed and one be stopped for 20 s. `make test` makes the environment.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from tests.servers.memcached import MemcachedServer
from tests.servers.redis import RedisServer
from tests.servers.zookeeper import ZooKeeperServer
from tests.tooz.ceilometer import Fleet, play

SERVERS = {"redis": RedisServer, "memcached": MemcachedServer, "zookeeper": ZooKeeperServer}


def main(backends: list[str]) -> None:
    print("| backend | polls | in turns | after the pause | gaps in planned changes |")
    print("|---|---|---|---|---|")
    for backend in backends:
        with SERVERS[backend.rpartition("+")[2]]() as server, tempfile.TemporaryDirectory() as name:
            options = "?timeout=5" + ("&hold=3" if "+" in backend else "")
            url = f"{backend}://{server.address}{options}"
            fleet = Fleet(Path(name), url, resources=1000, interval=4)
            account = play(fleet, surely=False)
            print(
                f"| `{backend}` |", " | ".join(f"{figure:,}" for figure in account), "|", flush=True
            )


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    known = [f"{prefix}{name}" for name in SERVERS for prefix in ("", "hashring+")]
    arguments.add_argument("backends", nargs="*", metavar="BACKEND", help=", ".join(known))
    backends = arguments.parse_args().backends or ["redis", "hashring+redis"]
    if unknown := [backend for backend in backends if backend not in known]:
        arguments.error(f"no backend {unknown[0]!r}: one of {', '.join(known)}")
    main(backends)
