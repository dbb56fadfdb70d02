"""The real Ceilometer polling agent on backends of tooz, ours among them: the same plan on each.

    python -m bench.ceilometer redis hashring+redis

starts a Redis for each, three agents with 1,000 resources and an interval of 5 s, and lets one more
join, one stop, one be killed and one be stopped for 20 s. With ``--rounds N`` N agents join and N
stop instead, one after the other. `make test` makes the environment.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from tests.servers.memcached import MemcachedServer
from tests.servers.redis import RedisServer
from tests.servers.zookeeper import ZooKeeperServer
from tests.tooz.ceilometer import Fleet, Gaps, play, play_planned

SERVERS = {"redis": RedisServer, "memcached": MemcachedServer, "zookeeper": ZooKeeperServer}


def main(backends: list[str], rounds: int) -> None:
    head = ["backend", "polls", "in turns", "after the pause", "longest cycle, 0.1 s"]
    head += [f"gaps: {kind}" for kind in Gaps._fields]
    print("|", " | ".join(head), "|")
    print("|---" * len(head) + "|")
    for backend in backends:
        with SERVERS[backend.rpartition("+")[2]]() as server, tempfile.TemporaryDirectory() as name:
            options = "?timeout=5" + ("&hold=2.5" if "+" in backend else "")
            url = f"{backend}://{server.address}{options}"
            fleet = Fleet(Path(name), url, resources=1000, interval=5)
            account = play_planned(fleet, rounds) if rounds else play(fleet, surely=False)
            figures = [*account[:-1], *account.gaps]
            print(f"| `{backend}` |", " | ".join(f"{one:,}" for one in figures), "|", flush=True)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    known = [f"{prefix}{name}" for name in SERVERS for prefix in ("", "hashring+")]
    arguments.add_argument("backends", nargs="*", metavar="BACKEND", help=", ".join(known))
    arguments.add_argument("--rounds", type=int, default=0, metavar="N")
    given = arguments.parse_args()
    backends = given.backends or ["redis", "hashring+redis"]
    if unknown := [backend for backend in backends if backend not in known]:
        arguments.error(f"no backend {unknown[0]!r}: one of {', '.join(known)}")
    main(backends, given.rounds)
