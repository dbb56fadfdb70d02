"""Real OpenStack services on backends of tooz, ours among them: the same plan on each.

    python -m bench.openstack gnocchi redis hashring+redis
    python -m bench.openstack aodh none redis hashring+redis

Gnocchi: two gnocchi-metricd of two workers each, PostgreSQL, aggregates in files, 50 metrics that
get five measures a second each. Aodh: three aodh-evaluator, 300 alarms that go on and off, an
interval of 3 s; with ``none`` its database decides. Through a join, a SIGTERM, a join, a `kill -9`
and a pause of 20 s. The first errors of their logs go to stderr. `make test-long` makes the
environment.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.servers.memcached import MemcachedServer
from tests.servers.postgresql import PostgreSQLServer
from tests.servers.redis import RedisServer
from tests.servers.zookeeper import ZooKeeperServer
from tests.tooz import aodh, gnocchi

SERVERS = {"redis": RedisServer, "memcached": MemcachedServer, "zookeeper": ZooKeeperServer}
ACCOUNTS = {"gnocchi": gnocchi.Account, "aodh": aodh.Account}


def play(service: str, backend: str, folder: Path) -> Sequence[int]:
    """Return what became of a service on a backend."""
    with contextlib.ExitStack() as stack:
        database = stack.enter_context(PostgreSQLServer())
        url = ""
        if backend != "none":
            server = stack.enter_context(SERVERS[backend.rpartition("+")[2]]())
            url = f"{backend}://{server.address}?timeout=5"
        if service == "gnocchi":
            incoming = stack.enter_context(RedisServer())
            metricd = gnocchi.Metricd(folder, url, database, incoming, metrics=50)
            account: Sequence[int] = gnocchi.play(metricd)
            errors = metricd.errors
        else:
            evaluators = aodh.Evaluators(folder, url, database, alarms=300, interval=3)
            account = aodh.play(evaluators, surely=False)
            errors = evaluators.errors
        sys.stderr.writelines(f"{line}\n" for line in errors[:40])
        return account


def main(service: str, backends: list[str]) -> None:
    fields = [field.replace("_", " ") for field in ACCOUNTS[service]._fields]
    print("| backend |", " | ".join(fields), "|")
    print("|---" * (len(fields) + 1) + "|")
    for backend in backends:
        with tempfile.TemporaryDirectory() as folder:
            account = play(service, backend, Path(folder))
        print(f"| `{backend}` |", " | ".join(f"{one:,}" for one in account), "|", flush=True)


if __name__ == "__main__":
    known = ["none", *(f"{prefix}{name}" for name in SERVERS for prefix in ("", "hashring+"))]
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("service", choices=sorted(ACCOUNTS))
    arguments.add_argument("backends", nargs="*", metavar="BACKEND", help=", ".join(known))
    given = arguments.parse_args()
    backends = given.backends or ["redis", "hashring+redis"]
    if given.service == "gnocchi":
        known.remove("none")
    if unknown := [backend for backend in backends if backend not in known]:
        arguments.error(f"no backend {unknown[0]!r}: one of {', '.join(known)}")
    main(given.service, backends)
