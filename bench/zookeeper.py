"""The ZooKeeper driver's readings: what they cost, whether they are of now, and whether they stall.

    python -m bench.zookeeper cost --members 200
    python -m bench.zookeeper now --seconds 240 --ensembles 4

``cost`` times the driver's calls in a large group on one server, and tooz's reading of one as
large. ``now`` starts ensembles of three, publishes through each server, and reads through each what
has just been published: with the driver, and with kazoo's ``sync`` and ``get``. A reading that
misses a publish which had returned is rare, and rarer on an idle machine: so, several ensembles.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import dataclasses
import itertools
import json
import os
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

from tooz import coordination

from bench.driver_latency import timed
from hashring.driver import Driver, load
from tests.servers.zookeeper import Ensemble, ZooKeeperServer, kazoo

SIZE = 236  # bytes of a record


def record(turn: int) -> bytes:
    """Return a record of ``SIZE`` bytes."""
    text = json.dumps({"v": 1, "incarnation": "1", "turn": turn, "pad": ""})
    return json.dumps(json.loads(text) | {"pad": "x" * (SIZE - len(text))}).encode()


@contextlib.contextmanager
def opened(url: str) -> Iterator[Driver]:
    """Yield a driver that no timeout of this machine's disturbs."""
    driver = load(f"{url}?timeout=20", ttl=60.0)
    driver.open()
    try:
        yield driver
    finally:
        driver.close()


def show(what: str, milliseconds: list[float]) -> None:
    """Print one row of the table."""
    print(f"| {what} | {statistics.median(milliseconds):.2f} ms |", flush=True)


def cost(members: int) -> None:
    """Print the medians of the calls, in a group of so many members."""
    print("| | time, median |\n|---|---|")
    with ZooKeeperServer() as server:
        with opened(server.url) as crowd, opened(server.url) as one, opened(server.url) as reader:
            for number in range(members - 1):
                crowd.join("group", f"member-{number}", record(0))
            one.join("group", "one", record(0))

            first = []
            for _ in range(20):
                with opened(server.url) as newcomer:
                    first += timed(lambda newcomer=newcomer: newcomer.read("group"), 1)
            show("first reading of the group", first)

            reader.read("group")
            show("reading it where nothing changed", timed(lambda: reader.read("group"), 1000))

            turns = iter(range(1, 10_000))

            def change() -> None:
                data = record(next(turns))
                one.publish("group", "one", data)
                assert reader.read("group").records["one"] == data

            show("a publish, and a reading that shows it", timed(change, 1000))
            show("heartbeat of one lease", timed(one.heartbeat, 500))
            publish = timed(lambda: one.publish("group", "one", record(next(turns))), 1000)
            show("publish", publish)
        with kazoo(server) as client:
            path = "/hashring/group"
            client.ensure_path(path)

            def sync() -> None:
                client.sync(path)

            show("kazoo: sync", timed(sync, 1000))
    with ZooKeeperServer() as server, contextlib.ExitStack() as stack:
        coordinators = []
        for number in range(members):
            name = f"member-{number}".encode()
            coordinator = coordination.get_coordinator(f"kazoo://{server.address}?timeout=30", name)
            coordinator.start()
            stack.callback(coordinator.stop)
            if not coordinators:
                coordinator.create_group(b"group").get()
            coordinator.join_group(b"group", capabilities=record(0)).get()
            coordinators.append(coordinator)
        look = coordinators[0]

        def read_all() -> None:
            names = look.get_members(b"group").get()
            answers = [look.get_member_capabilities(b"group", name) for name in names]
            assert all(answer.get() for answer in answers)

        show("tooz: `get_members`, then all `get_member_capabilities`", timed(read_all, 20))


@dataclasses.dataclass
class Seen:
    """What was read through the servers of ensembles, by client and by the server's role."""

    readings: collections.Counter[tuple[str, str]]
    misses: collections.Counter[tuple[str, str]]
    longest: float  # milliseconds of a publish


def look(seconds: float) -> Seen:
    """Publish and read through an ensemble of three for so long."""
    seen = Seen(collections.Counter(), collections.Counter(), 0.0)
    with Ensemble() as ensemble, contextlib.ExitStack() as stack:
        leader = ensemble.leader
        drivers = {server: stack.enter_context(opened(server.url)) for server in ensemble.servers}
        clients = {server: stack.enter_context(kazoo(server)) for server in ensemble.servers}
        for server, driver in drivers.items():
            driver.join("group", str(server.port), record(0))

        def with_ours(server: ZooKeeperServer, member: str) -> bytes:
            return drivers[server].read("group").records[member]

        def with_kazoo(server: ZooKeeperServer, member: str) -> bytes:
            path = f"/hashring/group/{member}"
            clients[server].sync_async(path)  # both are sent before the first answer is awaited
            return clients[server].get_async(path).get()[0]

        turns = itertools.count(1)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for (server, driver), (name, read) in itertools.product(
                drivers.items(), (("this driver", with_ours), ("kazoo's sync and get", with_kazoo))
            ):
                member, data = str(server.port), record(next(turns))
                driver.heartbeat()
                began = time.perf_counter()
                driver.publish("group", member, data)
                seen.longest = max(seen.longest, (time.perf_counter() - began) * 1000)
                # At once through the leader, which applies a commit no sooner than its followers.
                for through in sorted(ensemble.servers, key=lambda s: s is not leader):
                    way = (name, "the leader" if through is leader else "a follower")
                    seen.readings[way] += 1
                    seen.misses[way] += read(through, member) != data
    return seen


def now(seconds: float, ensembles: int) -> None:
    """Print how many readings, through which servers, missed a publish that had returned."""
    with ProcessPoolExecutor(ensembles) as pool:
        found = list(pool.map(look, [seconds] * ensembles))
    print("| | through | readings | of them missed a publish |\n|---|---|---:|---:|")
    for way in sorted(found[0].readings):
        readings, misses = (
            sum(c[way] for c in counts)
            for counts in ([seen.readings for seen in found], [seen.misses for seen in found])
        )
        print(f"| {' | '.join(way)} | {readings:,} | {misses} |")
    load_now = os.getloadavg()[0]
    longest = max(seen.longest for seen in found)
    print(f"load {load_now:.1f}; the longest publish took {longest:.0f} ms")


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m bench.zookeeper", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("cost").add_argument("--members", type=int, default=200)
    asked = commands.add_parser("now")
    asked.add_argument("--seconds", type=float, default=240.0)
    asked.add_argument("--ensembles", type=int, default=4, help="side by side, to keep them busy")
    options = parser.parse_args()
    if options.command == "cost":
        cost(options.members)
    else:
        now(options.seconds, options.ensembles)


if __name__ == "__main__":
    main()
