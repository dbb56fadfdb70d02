"""How long no member may act on a slot that changes hands: on a leave, a join and a kill.

    python -m bench.handover --store sqlite --members 10 --rounds 20

Every member is a process that acts in plain ``partition.cycle()`` blocks, one every few
milliseconds. A hand-over lasts from the last act of the old owner to the first act of the new one,
for each pair of members between which slots moved. Needs nothing but the store; the machine's load
counts, so it is printed too.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import hashring
from hashring.clock import boottime
from hashring.testing.faults.faults import Group
from hashring.testing.faults.history import History, Log
from hashring.testing.faults.verdict import check
from tests.faults.stores import STORES

PAUSE = 0.004
"""Seconds between two cycles of a member."""


def act(options: argparse.Namespace) -> int:
    """Be a member: act in short cycles, and log which slots were acted on, from when to when."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    stop = threading.Event()

    def wait_for_the_signal() -> None:
        signal.sigwait({signal.SIGTERM})
        stop.set()

    threading.Thread(target=wait_for_the_signal, daemon=True).start()
    with Log(options.log) as log:
        log.write("start", member=options.member)
        partition = hashring.join(options.url, "handover", options.member, ttl=options.ttl)
        settled = False
        slots, first, last, acts = hashring.SlotSet.empty(), 0.0, 0.0, 0

        def told() -> None:
            if slots and acts:
                log.write("hold", t=first, until=last, set=log.set_id(slots), checks=acts)

        with partition:
            while not stop.is_set():
                with partition.cycle() as cycle:
                    now = boottime()
                    valid = cycle.valid
                if valid:
                    if cycle.slots != slots or now - first > 0.1:
                        told()
                        slots, first, acts = cycle.slots, now, 0
                    last = now
                    acts += 1
                if not settled and partition.state == "settled":
                    settled = True
                    log.write("state", state="settled")
                time.sleep(PAUSE)
            told()
        log.write("left", drained=True)
    return 0


def measure(url: str, folder: Path, members: int, rounds: int, kills: int, ttl: float) -> History:
    """Have members leave, join and be killed, one at a time."""
    command = (sys.executable, "-m", "bench.handover", "--worker")
    names = [f"m{number}" for number in range(members)]
    chance = random.Random(1)
    with Group(url, folder, ttl=ttl, keys=1, command=command) as group:
        group.start(*names)
        group.wait_ready(*names, within=120)
        for number in range(rounds + kills):
            time.sleep(chance.uniform(0.8, 1.2))
            one = chance.choice(names)
            over = group.event("leave" if number < rounds else "kill", one)
            if number < rounds:
                group.terminate(one)
                group.wait_gone(one)
            else:
                group.kill(one)
                time.sleep(ttl + 2)
            over()
            time.sleep(chance.uniform(0.8, 1.2))
            over = group.event("join", one)
            group.start(one)
            group.wait_ready(one)
            over()
        time.sleep(0.5)
        group.finish()
    return History.load(folder)


def durations(history: History) -> dict[str, list[float]]:
    """Return for each kind of change how long each pair's hand-over took, in seconds."""
    found: dict[str, list[float]] = {"leave": [], "join": [], "kill": []}
    handovers = check(history).handovers
    for event in history.events:
        (one,) = event.members
        for move in handovers:
            # Slots came from whoever leaves, or go to whoever joins.
            concerned = move.taker if event.kind == "join" else move.giver
            if concerned == one and event.begin - 0.2 <= move.end <= event.end + 0.7:
                # A killed member acts until it is killed, and no log can say it better.
                begin = event.begin if event.kind == "kill" else move.begin
                found[event.kind].append(move.end - begin)
    return found


def row(kind: str, seconds: Sequence[float]) -> str:
    if len(seconds) < 2:
        return f"| {kind} | {len(seconds)} | | | | | |"
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    shown = [min(seconds), cuts[9], cuts[49], cuts[89], cuts[98], max(seconds)]
    cells = " | ".join(f"{1000 * value:,.0f} ms" for value in shown)
    return f"| {kind} | {len(seconds)} | {cells} |"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.handover", description=__doc__)
    parser.add_argument("--store", default="sqlite", choices=sorted(STORES))
    parser.add_argument("--url", help="a store that runs already, instead")
    parser.add_argument("--members", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=20, help="leaves, each followed by a join")
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--ttl", type=float, default=3.0)
    # What follows is for the members' processes.
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    for name in ("--member", "--interval", "--keys", "--on-crash", "--work"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    parser.add_argument("--log", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        return act(options)
    arguments = (options.members, options.rounds, options.kills, options.ttl)
    with tempfile.TemporaryDirectory(prefix="hashring-handover-") as folder:
        load = os.getloadavg()[0]
        if options.url:
            history = measure(options.url, Path(folder), *arguments)
        else:
            with STORES[options.store]() as store:
                history = measure(store.direct_url, Path(folder), *arguments)
        found = durations(history)
    name = options.url or options.store
    print(
        f"{name}, {options.members} members, ttl {options.ttl:g} s; {os.cpu_count()} processors, "
        f"load {load:.1f} before and {os.getloadavg()[0]:.1f} after, Python "
        f"{platform.python_version()}, {time.strftime('%Y-%m-%d')}\n"
    )
    print("| change | hand-overs | least | 10% | median | 90% | 99% | most |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    for kind, seconds in found.items():
        print(row({"kill": "takeover after `kill -9`"}.get(kind, kind), seconds))
    return 0


if __name__ == "__main__":
    sys.exit(main())
