"""Real OpenStack services on backends of tooz, ours among them: the same plan on each.

    python -m bench.openstack gnocchi redis hashring+redis
    python -m bench.openstack gnocchi --store zookeeper       (tooz's own driver and ours)
    python -m bench.openstack gnocchi --stops 9 redis hashring+redis
    python -m bench.openstack aodh none redis hashring+redis

Gnocchi: two gnocchi-metricd of two workers each, PostgreSQL, aggregates in files, 50 metrics that
get five measures a second each. Aodh: three aodh-evaluator, 300 alarms that go on and off, an
interval of 3 s; with ``none`` its database decides. Through a join, a SIGTERM, a join, a `kill -9`
and a pause of 20 s. With ``--stops N`` a worker of Gnocchi's is stopped N times instead, each time
with a sack in hand, for ten seconds. All that their logs complain of goes to stderr; with
``--keep`` their folders stay. The command makes the environment.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.tooz_stores import BACKENDS, SERVERS, backends_of, told
from tests.servers import openstack
from tests.servers.postgresql import PostgreSQLServer
from tests.servers.redis import RedisServer
from tests.tooz import aodh, gnocchi

ACCOUNTS: dict[str, Any] = {"gnocchi": gnocchi.Account, "aodh": aodh.Account}


def play(
    given: argparse.Namespace, backend: str, folder: Path, database: PostgreSQLServer
) -> Sequence[int]:
    """Return what became of a service on a backend."""
    with contextlib.ExitStack() as stack:
        url = ""
        if backend != "none":
            server = stack.enter_context(SERVERS[backend.rpartition("+")[2]]())
            url = f"{backend}://{server.address}?{given.options}"
        if given.service == "gnocchi":
            incoming = stack.enter_context(RedisServer())
            metricd = gnocchi.Metricd(folder, url, database, incoming, metrics=50)
            stack.enter_context(told(metricd))
            if given.stops:
                return gnocchi.play_stops(metricd, given.stops, 10.0)
            return gnocchi.play(metricd)
        evaluators = aodh.Evaluators(folder, url, database, alarms=300, interval=3)
        stack.enter_context(told(evaluators))
        return aodh.play(evaluators, surely=False)


def main(given: argparse.Namespace, backends: list[str]) -> None:
    account = gnocchi.Stops if given.stops else ACCOUNTS[given.service]
    fields = [field.replace("_", " ") for field in account._fields]
    print("| backend |", " | ".join(fields), "|")
    print("|---" * (len(fields) + 1) + "|", flush=True)
    with PostgreSQLServer() as database:
        for backend, _ in itertools.product(backends, range(given.times)):
            with contextlib.ExitStack() as stack:
                folder = given.keep and tempfile.mkdtemp(prefix=f"{backend}-", dir=given.keep)
                folder = folder or stack.enter_context(tempfile.TemporaryDirectory())
                found = play(given, backend, Path(folder), database)
            print(f"| `{backend}` |", " | ".join(f"{one:,}" for one in found), "|", flush=True)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("service", choices=sorted(ACCOUNTS))
    arguments.add_argument("backends", nargs="*", metavar="BACKEND", help=", ".join(BACKENDS))
    arguments.add_argument("--store", choices=sorted(SERVERS), help="tooz's driver of it, and ours")
    arguments.add_argument("--options", default="timeout=5", help="those of the URL: %(default)s")
    arguments.add_argument("--times", type=int, default=1, help="how often each")
    arguments.add_argument("--stops", type=int, default=0, help="of Gnocchi's workers")
    arguments.add_argument("--keep", type=Path, help="a folder in which logs and records stay")
    given = arguments.parse_args()
    known = ["none", *BACKENDS] if given.service == "aodh" else BACKENDS
    backends = backends_of(arguments, given.backends, given.store, known)
    if given.stops and given.service != "gnocchi":
        arguments.error("--stops is for gnocchi")
    if given.keep:
        given.keep.mkdir(parents=True, exist_ok=True)
    openstack.add_stores()
    main(given, backends)
