"""The real Ceilometer polling agent on backends of tooz, ours among them: the same plan on each.

    python -m bench.ceilometer redis hashring+redis
    python -m bench.ceilometer --store zookeeper       (tooz's own driver and ours)

starts a server for each, three agents with 1,000 resources and an interval of 5 s, and lets one
more join, one stop, one be killed and one be stopped for 20 s. With ``--rounds N`` N agents join
and N stop instead, one after the other. What their logs complain of goes to stderr. The command
makes the environment.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from bench.tooz_stores import BACKENDS, SERVERS, backends_of, told
from tests.servers import openstack
from tests.tooz.ceilometer import Fleet, Gaps, play, play_planned


def main(backends: list[str], rounds: int) -> None:
    head = ["backend", "polls", "in turns", "after the pause", "longest cycle, 0.1 s"]
    head += [*(f"gaps: {kind}" for kind in Gaps._fields), "errors"]
    print("|", " | ".join(head), "|")
    print("|---" * len(head) + "|")
    for backend in backends:
        with SERVERS[backend.rpartition("+")[2]]() as server, tempfile.TemporaryDirectory() as name:
            options = "?timeout=5" + ("&hold=2.5" if "+" in backend else "")
            url = f"{backend}://{server.address}{options}"
            fleet = Fleet(Path(name), url, resources=1000, interval=5)
            with told(fleet):
                account = play_planned(fleet, rounds) if rounds else play(fleet, surely=False)
            figures = [*account[:-1], *account.gaps, len(fleet.errors)]
            print(f"| `{backend}` |", " | ".join(f"{one:,}" for one in figures), "|", flush=True)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("backends", nargs="*", metavar="BACKEND", help=", ".join(BACKENDS))
    arguments.add_argument("--store", choices=sorted(SERVERS), help="tooz's driver of it, and ours")
    arguments.add_argument("--rounds", type=int, default=0, metavar="N")
    given = arguments.parse_args()
    backends = backends_of(arguments, given.backends, given.store)
    openstack.add_stores()
    main(backends, given.rounds)
