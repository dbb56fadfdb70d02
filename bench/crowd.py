"""What one join and one leave cost in a group of hundreds, beside tooz's reading of such a group.

    python -m bench.crowd --store redis --members 200

Members are threads in a few processes, on a server that this script starts and stops. When all are
settled, one more joins, and then drains: how long until every member is settled under the new view,
what the server was asked and sent, and the processor time of both sides. The cost of an idle
interval of the same length (heartbeats, looks for expired members) is taken off.

Beside it tooz, with as many members on the same server and capabilities of the size of our records:
after a join, one member, and then all of them at once, call ``get_members`` and
``get_member_capabilities`` for each. tooz's members are told when to look (which costs them
nothing) and do not agree on anything.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import platform
import signal
import statistics
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from multiprocessing.connection import Connection
from typing import Any

from tooz import coordination

import hashring
from bench.crowd_stores import STORES, Counts, Store
from hashring.clock import boottime
from hashring.driver import load
from hashring.ring.ring import HashRing

GROUP = "crowd"
WITHIN = 240.0
"""Seconds after which a group that has not settled is given up."""


# -- the members' processes ------------------------------------------------------------------------


def members_of_ours(pipe: Connection, url: str, ttl: float) -> None:
    """Run some members; do what the pipe says, and answer each time."""
    partitions: dict[str, hashring.Partition] = {}
    while True:
        what, argument = pipe.recv()
        began = boottime()
        if what == "join":
            failures = 0
            for name in argument:
                while name not in partitions:
                    try:
                        partitions[name] = hashring.join(url, GROUP, name, ttl=ttl)
                    except hashring.StoreUnavailable as error:
                        failures += 1
                        if failures > 20:
                            raise
                        print(f"{name} tries again: {error}", file=sys.stderr)
            pipe.send((began, boottime(), failures))
        elif what == "drain":
            drained = partitions.pop(argument).drain(WITHIN)
            pipe.send((began, boottime(), drained))
        elif what == "settle":
            pipe.send(settle(partitions, argument))
        elif what == "held":
            slots = [list(partition.held) for partition in partitions.values()]
            views = {partition.view_id for partition in partitions.values()}
            pipe.send((slots, views))
        elif what == "processor":
            pipe.send(time.process_time())


def settle(partitions: dict[str, hashring.Partition], size: int) -> tuple[list[float], str]:
    """Wait until every member is settled in a view of ``size`` members; return when each was."""
    waiting = dict(partitions)
    times = []
    sizes: dict[str | None, int] = {}  # by view: to count the members takes long in a crowd
    deadline = boottime() + WITHIN
    while waiting and boottime() < deadline:
        for name, partition in list(waiting.items()):
            if partition.state != "settled":
                continue
            view = partition.view_id
            if view not in sizes:
                members = len(partition.members)
                if partition.view_id != view:
                    continue
                sizes[view] = members
            if sizes[view] == size:
                times.append(boottime())
                del waiting[name]
        time.sleep(0.05)
    trouble = ", ".join(
        f"{name}: {partition.state}, {len(partition.members)} members"
        for name, partition in list(waiting.items())[:5]
    )
    return times, trouble


def members_of_tooz(pipe: Connection, url: str, capabilities: str) -> None:
    """Run some of tooz's members, likewise."""
    coordinators: dict[str, Any] = {}
    while True:
        what, argument = pipe.recv()
        began = boottime()
        if what == "join":
            for name in argument:
                coordinator = coordination.get_coordinator(url, name.encode())
                coordinator.start(start_heart=False)
                with contextlib.suppress(coordination.GroupAlreadyExist):
                    coordinator.create_group(GROUP.encode()).get()
                coordinator.join_group(GROUP.encode(), capabilities).get()
                coordinators[name] = coordinator
            pipe.send((began, boottime()))
        elif what == "leave":
            coordinator = coordinators.pop(argument)
            coordinator.leave_group(GROUP.encode()).get()
            coordinator.stop()
            pipe.send((began, boottime()))
        elif what == "look":
            names, size = argument
            chosen = [coordinators[name] for name in names or coordinators if name in coordinators]
            with ThreadPoolExecutor(max(1, len(chosen))) as threads:
                found = list(threads.map(look, chosen))
            pipe.send((began, boottime(), found == [size] * len(chosen)))
        elif what == "processor":
            pipe.send(time.process_time())


def look(coordinator: Any) -> int:
    """Read the group as tooz's user does, all requests before the first answer."""
    group = GROUP.encode()
    members = coordinator.get_members(group).get()
    answers = [coordinator.get_member_capabilities(group, member) for member in members]
    return sum(answer.get() is not None for answer in answers)


class Crowd:
    """The processes of all members of one kind, and the counters around them."""

    def __init__(self, store: Store, target: Any, processes: int, *arguments: Any) -> None:
        self.store = store
        self.ours = target is members_of_ours
        context = multiprocessing.get_context("spawn")
        self.pipes: list[Connection] = []
        self._processes = []
        for _ in range(processes):
            here, there = context.Pipe()
            process = context.Process(target=target, args=(there, *arguments), daemon=True)
            process.start()
            there.close()
            self.pipes.append(here)
            self._processes.append(process)

    def close(self) -> None:
        # The store is thrown away, so nobody need leave in good order.
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.join()

    def tell(self, number: int, what: str, argument: Any = None) -> None:
        self.pipes[number].send((what, argument))

    def heard(self, number: int) -> Any:
        if not self.pipes[number].poll(WITHIN + 60):
            raise SystemExit("a process of members did not answer")
        return self.pipes[number].recv()

    def ask(self, number: int, what: str, argument: Any = None) -> Any:
        self.tell(number, what, argument)
        return self.heard(number)

    def ask_all(self, what: str, argument: Any = None) -> list[Any]:
        for number in range(len(self.pipes)):
            self.tell(number, what, argument)
        return [self.heard(number) for number in range(len(self.pipes))]

    def join(self, names: list[str]) -> None:
        """Have these members join, each process its share."""
        count = len(self.pipes)
        for number in range(count):
            self.tell(number, "join", names[number::count])
        for number in range(count):
            self.heard(number)

    def counts(self) -> Counts:
        members = sum(self.ask_all("processor"))
        return Counts(**self.store.count(self.ours), server=self.store.processor(), members=members)

    @contextlib.contextmanager
    def measured(self, background: Counts) -> Iterator[Measurement]:
        """Count what happens in the block, less the background of as many seconds."""
        measurement = Measurement()
        before, began = self.counts(), boottime()
        yield measurement
        after, ended = self.counts(), boottime()
        measurement.gross = after - before
        measurement.lasted = ended - began
        measurement.counts = measurement.gross - background.scaled(measurement.lasted)

    def background(self, seconds: float) -> Counts:
        """Return what one second without any change costs."""
        before, began = self.counts(), boottime()
        time.sleep(seconds)
        return (self.counts() - before).scaled(1 / (boottime() - began))


class Measurement:
    """Seconds and counts of one change.

    Attributes:
        seconds: until the last member had settled.
        half: until half of them had.
        counts: what it cost beside an idle interval of the same length.
        gross: what was counted in all.
        lasted: for how many seconds that was counted.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self.half = 0.0
        self.lasted = 0.0
        self.counts = self.gross = Counts(0, 0, 0, 0, 0, 0, 0)


# -- the runs --------------------------------------------------------------------------------------


def settled(crowd: Crowd, size: int, since: float) -> tuple[float, float]:
    """Wait for all; return after how many seconds half of them and the last were settled."""
    answers = crowd.ask_all("settle", size)
    trouble = "; ".join(text for _, text in answers if text)
    if trouble:
        raise SystemExit(f"not settled within {WITHIN:g} s: {trouble}")
    times = sorted(time for times, _ in answers for time in times)
    return times[len(times) // 2] - since, times[-1] - since


def check_exclusive(crowd: Crowd) -> None:
    """Fail unless all share one view, and every slot is held exactly once."""
    answers = crowd.ask_all("held")
    views = set().union(*(views for _, views in answers))
    slots = [slot for sets, _ in answers for held in sets for slot in held]
    total = HashRing({"one": 1}).slots("one")
    if len(views) != 1 or len(slots) != len(set(slots)) or len(slots) != len(total):
        raise SystemExit(f"{len(views)} views; {len(slots)} of {len(total)} slots held")


def run_ours(store: Store, options: argparse.Namespace) -> dict[str, list[Measurement]]:
    found: dict[str, list[Measurement]] = {"join": [], "leave": []}
    url = store.ours()
    if options.timeout:
        url += f"?timeout={options.timeout:g}&connect_timeout={options.timeout:g}"
    crowd = Crowd(store, members_of_ours, options.processes, url, options.ttl)
    try:
        names = [f"m{number:04}" for number in range(options.members)]
        for start in range(0, options.members, options.wave):
            wave = names[start : start + options.wave]
            began = boottime()
            crowd.join(wave)
            joined = boottime() - began
            _, last = settled(crowd, start + len(wave), began)
            print(
                f"{len(wave)} members joined {start} in {joined:.1f} s, settled after {last:.1f} s",
                file=sys.stderr,
            )
        check_exclusive(crowd)
        background = crowd.background(options.idle)
        found["background, each second"] = [Measurement()]
        found["background, each second"][0].counts = background
        for _ in range(options.rounds):
            # The pause is measured, too: what all are sent after all have settled.
            with crowd.measured(background) as one:
                began, *_ = crowd.ask(0, "join", ["newcomer"])
                one.half, one.seconds = settled(crowd, options.members + 1, began)
                time.sleep(options.pause)
            check_exclusive(crowd)
            found["join"].append(one)
            with crowd.measured(background) as one:
                began, ended, drained = crowd.ask(0, "drain", "newcomer")
                one.half, one.seconds = settled(crowd, options.members, began)
                time.sleep(options.pause)
            if not drained:
                print(f"the drain gave up after {ended - began:.1f} s", file=sys.stderr)
            check_exclusive(crowd)
            found["leave"].append(one)
            print(
                f"join {found['join'][-1].seconds:.2f} s, leave {one.seconds:.2f} s "
                f"(drain {ended - began:.2f} s)",
                file=sys.stderr,
            )
    finally:
        crowd.close()
    return found


def run_tooz(
    store: Store, options: argparse.Namespace, record: int
) -> dict[str, list[Measurement]]:
    found: dict[str, list[Measurement]] = {"tooz, one member": [], "tooz, all members": []}
    crowd = Crowd(store, members_of_tooz, options.processes, store.theirs(), "x" * record)
    try:
        crowd.join([f"m{number:04}" for number in range(options.members)])
        background = crowd.background(options.idle)
        for _ in range(options.rounds):
            crowd.ask(0, "join", ["newcomer"])
            for who, names in (("one member", ["m0000"]), ("all members", None)):
                with crowd.measured(background) as one:
                    answers = crowd.ask_all("look", (names, options.members + 1))
                    one.seconds = max(a[1] for a in answers) - min(a[0] for a in answers)
                if not all(answer[2] for answer in answers):
                    raise SystemExit("tooz's members did not see all of the group")
                found[f"tooz, {who}"].append(one)
                time.sleep(options.pause)
            crowd.ask(0, "leave", "newcomer")
    finally:
        crowd.close()
    return found


def median(counts: list[Counts]) -> Counts:
    """Return the median of each of them; where less than nothing is left, nothing."""
    return Counts(
        *(
            max(0.0, statistics.median(getattr(one, each.name) for one in counts))
            for each in fields(Counts)
        )
    )


def table(found: dict[str, list[Measurement]], inside: str) -> str:
    """Return the medians as a table."""

    def number(value: float) -> str:
        return f"{value:,.0f}" if value >= 10 or value <= 0.05 else f"{value:.1f}"

    def seconds(value: float) -> str:
        return f"{value:.2f} s" if value >= 0.1 else f"{1000 * value:.0f} ms"

    lines = [
        f"| | half settled | all settled | requests | {inside} | pushed | bytes to the server | "
        "bytes from it | server's CPU | members' CPU | with an idle group's: requests | "
        "bytes from the server | in |",
        "|---" + 12 * "|---:" + "|",
    ]
    for name, measurements in found.items():
        times = sorted(one.seconds for one in measurements)
        halves = [one.half for one in measurements if one.half]
        middle = median([one.counts for one in measurements])
        gross = median([one.gross for one in measurements])
        lasted = statistics.median(one.lasted for one in measurements)
        cells = [
            name,
            seconds(statistics.median(halves)) if halves else "",
            f"{seconds(statistics.median(times))} ({seconds(times[0])} to {seconds(times[-1])})"
            if times[-1]
            else "",
            number(middle.requests),
            number(middle.inside),
            number(middle.pushed),
            f"{middle.received / 1000:,.0f} kB",
            f"{middle.sent / 1000:,.0f} kB",
            seconds(middle.server),
            seconds(middle.members),
            *(
                (number(gross.requests), f"{gross.sent / 1000:,.0f} kB", f"{lasted:.1f} s")
                if lasted
                else ("", "", "")
            ),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def record_size(url: str) -> int:
    """Return the median size of the records in the group, in bytes."""
    driver = load(url, ttl=10)
    driver.open()
    try:
        records = driver.read(GROUP).records.values()
        return int(statistics.median(map(len, records)))
    finally:
        driver.close()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.crowd", description=__doc__)
    parser.add_argument("--store", default="redis", choices=sorted(STORES))
    parser.add_argument("--members", type=int, default=200)
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--ttl", type=float, default=10.0)
    parser.add_argument(
        "--timeout", type=float, help="seconds for a call of ours, for a busy machine"
    )
    parser.add_argument("--rounds", type=int, default=3, help="joins, each followed by a leave")
    parser.add_argument("--idle", type=float, default=10.0, help="seconds of background measured")
    parser.add_argument(
        "--pause", type=float, default=2.0, help="seconds measured after all settled"
    )
    parser.add_argument("--wave", type=int, default=25, help="members that start at once")
    parser.add_argument("--no-tooz", action="store_true", help="measure ours alone")
    options = parser.parse_args()
    # Whoever ends this script early ends its server and its members, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))
    store = STORES[options.store]()
    before = os.getloadavg()[0]
    with store.server:
        found = run_ours(store, options)
        record = record_size(store.ours())
        if not options.no_tooz:
            time.sleep(options.ttl + 1)  # until the store has dropped our members
            found |= run_tooz(store, options, record)
    print(
        f"{options.store}, {options.members} members in {options.processes} processes, ttl "
        f"{options.ttl:g} s, records of {record} bytes; median of {options.rounds} rounds; "
        f"{os.cpu_count()} processors, load {before:.1f} before and {os.getloadavg()[0]:.1f} "
        f"after, Python {platform.python_version()}, {time.strftime('%Y-%m-%d')}\n"
    )
    print(table(found, store.inside))
    return 0


if __name__ == "__main__":
    sys.exit(main())
