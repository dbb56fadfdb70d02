"""What a join and a leave cost the others while one member is in a cycle of a minute, or stopped.

    python -m bench.slow_member --store redis --members 10

One of the members, a process of its own, is *in a cycle* that lasts until all the others have what
they can have, or is *stopped* by SIGSTOP for less than its lease. Another one joins meanwhile, and
leaves. The time runs until each of the others is settled, or waits for the slow one alone. Then the
slow one goes on, and all must settle. After each change no slot may be held twice.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import time

from tests.faults.slow_member import KINDS, Group, measure
from tests.faults.stores import STORES


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.slow_member", description=__doc__)
    parser.add_argument("--store", default="redis", choices=sorted(STORES))
    parser.add_argument("--members", type=int, default=10, help="the slow one included")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--ttl", type=float, default=60.0)
    options = parser.parse_args()
    load = os.getloadavg()[0]
    lines = []
    with STORES[options.store]() as store:
        group = Group(store.direct_url, options.members, options.ttl)
        try:
            for kind in KINDS:
                times = [measure(group, kind)[0] for _ in range(options.rounds)]
                for change in ("join", "leave"):
                    seconds = [each[change] for each in times]
                    middle, worst = statistics.median(seconds), max(seconds)
                    lines.append(f"| {change}, one {kind} | {middle:.2f} s | {worst:.2f} s |")
        finally:
            group.close()
    print(
        f"{options.store}, {options.members} members, ttl {options.ttl:g} s, {options.rounds} "
        f"rounds; {os.cpu_count()} processors, load {load:.1f} before and {os.getloadavg()[0]:.1f} "
        f"after, Python {platform.python_version()}, {time.strftime('%Y-%m-%d')}\n"
    )
    print("| the others settled | median | most |\n|---|---:|---:|")
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
