"""What a reading that brings the acks of a whole group costs the Redis server.

    python -m bench.redis_reading --members 200

Each member has a driver of its own and publishes an ack: another view, and a claim on a few slots.
Then one reader, that knows what was there, reads what changed. Then all publish that they have
taken over everything, and it reads again. Bytes are the server's own count and exact. Its processor
time is shown as a multiple of a reading that brings nothing, in the same round, because the machine
may be busy.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import random
import statistics
import sys
import time

from hashring.driver import Driver, load
from hashring.protocol.claims import Claim
from hashring.protocol.record import Member
from hashring.ring.ring import HashRing, SlotSet
from tests.servers.redis import RedisServer

GROUP = "reading"
NOTHINGS = 50
"""Readings that bring nothing, for the mean of their time."""


def record(number: int, turn: int, *, settled: bool) -> bytes:
    """Return a member's record: an ack that claims what it lost, or the mark that follows it."""
    view = hashlib.sha256(b"%d" % turn).hexdigest()[:32]
    through = 1790000100.7 + number / 1000
    lost = SlotSet.of(random.Random(number * 1000 + turn).sample(range(65536), 2), 65536)
    return Member(
        f"m{number:04}",
        f"{number:032x}",
        1.0,
        HashRing({}).spec,
        10.0,
        applied=view,
        through=through,
        settled=view if settled else None,
        claims=() if settled else (Claim(through, lost),),
        founded=1790000000.123,
        since=1790000100.5,
    ).to_json()


class Bench:
    """A server, a driver for each member, and one that reads."""

    def __init__(self, server: RedisServer, members: int) -> None:
        self.client = server.client()
        self.drivers: list[Driver] = []
        for number in range(members):
            self.drivers.append(load(server.url, ttl=60.0))
            self.drivers[-1].open()
            first = record(number, 0, settled=True)
            self.drivers[-1].join(GROUP, f"m{number:04}", first)
        self.reader = load(server.url, ttl=60.0)
        self.reader.open()
        self.cursor = self.reader.read_since(GROUP, None).cursor

    def close(self) -> None:
        for driver in (*self.drivers, self.reader):
            driver.close()

    def spent(self) -> tuple[float, int]:
        """Return the server's processor time in microseconds, and the bytes sent so far."""
        times = self.client.info("cpu")
        seconds = times["used_cpu_user_main_thread"] + times["used_cpu_sys_main_thread"]
        return seconds * 1e6, self.client.info("stats")["total_net_output_bytes"]

    def publish(self, turn: int, *, settled: bool) -> None:
        for number, driver in enumerate(self.drivers):
            driver.publish(GROUP, f"m{number:04}", record(number, turn, settled=settled))

    def read(self, expected: int, times: int = 1) -> tuple[float, int]:
        """Read so many times; return microseconds and bytes of one time."""
        earlier, before = self.spent(), self.spent()
        for _ in range(times):
            changes = self.reader.read_since(GROUP, self.cursor)
            self.cursor = changes.cursor
            if len(changes.changed) != expected or changes.complete:
                raise SystemExit(f"{len(changes.changed)} of {expected} changes were read")
        after = self.spent()
        # What it costs to ask the server is taken off.
        took = after[0] - before[0] - (before[0] - earlier[0])
        sent = after[1] - before[1] - (before[1] - earlier[1])
        return took / times, sent // times


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.redis_reading", description=__doc__)
    parser.add_argument("--members", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    load_before = os.getloadavg()[0]
    rows: dict[str, list[tuple[float, int]]] = {"acks": [], "marks": []}
    with RedisServer() as server:
        bench = Bench(server, options.members)
        try:
            for turn in range(1, options.rounds + 1):
                nothing, _ = bench.read(0, NOTHINGS)
                for kind, found in rows.items():
                    bench.publish(turn, settled=kind == "marks")
                    took, sent = bench.read(options.members)
                    found.append((took / nothing, sent))
        finally:
            bench.close()
    print(
        f"redis, {options.members} members, {options.rounds} rounds; {os.cpu_count()} processors, "
        f"load {load_before:.1f} before and {os.getloadavg()[0]:.1f} after, Python "
        f"{platform.python_version()}, {time.strftime('%Y-%m-%d')}\n"
    )
    print("| a reading of | server's time, in readings of nothing | bytes for each member |")
    print("|---|---:|---:|")
    for kind, found in rows.items():
        ratios = [ratio for ratio, _ in found]
        each = statistics.median(sent for _, sent in found) / options.members
        print(f"| {kind} | {statistics.median(ratios):.1f} | {each:.1f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
