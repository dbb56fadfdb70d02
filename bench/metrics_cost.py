"""What it costs to be looked at: metrics and the page, on and off, side by side.

    python -m bench.metrics_cost --members 50 --polls 20000

The same polls run once with an agent's counting taken out and once with it, in turns, and the
quicker of the rounds counts. Then what a scrape, a look of the page's thread, and an answer of the
page cost in a group of many members. Times are processor time of one core.
"""

from __future__ import annotations

import argparse
import json
import threading
import time
import uuid

import prometheus_client

import hashring
import hashring.metrics
import hashring.page
from hashring.driver import Traffic
from hashring.page.history import glance
from hashring.page.status import to_json
from hashring.page.watcher import Watcher
from hashring.telemetry.polling.counts import PollCounts
from hashring.telemetry.polling.pool import Pool


class Uncounted:
    """Counts nothing."""

    def add(self, *_):
        pass

    def took(self, *_):
        pass


def polls_cost(counts, polls):
    """Return the processor seconds of so many polls that cost nothing, through a pool."""

    def poll(call):
        began = time.perf_counter()
        counts.took("group", "source", time.perf_counter() - began)
        return call.claim()

    with Pool(8) as pool:
        began = time.process_time()
        for number in range(polls):
            call = pool.submit(number, poll, lambda: 60.0)
            if number % 8 == 7:
                call.result()
            counts.add("group", "source", "ok")
        call.result()
        return time.process_time() - began


def counting_cost(times):
    """Return the processor seconds that counting one poll takes, by itself."""
    counts = PollCounts()
    began = time.process_time()
    for _ in range(times):
        start = time.perf_counter()
        counts.took("group", "source", time.perf_counter() - start)
        counts.add("group", "source", "ok")
    return (time.process_time() - began) / times


def bytes_cost(times):
    """Return the processor seconds that counting the bytes of one request and its answer takes."""
    traffic = Traffic()
    began = time.process_time()
    for _ in range(times):
        traffic.sends(200)
        traffic.receives(1000)
    return (time.process_time() - began) / times


def cost(act, times):
    """Return the processor seconds of one call."""
    act()
    began = time.thread_time()
    for _ in range(times):
        act()
    return (time.thread_time() - began) / times


def looking_cost(members):
    """Return what it costs to look at a group of so many members."""
    url = f"memory://{uuid.uuid4().hex}"
    partitions = [hashring.join(url, "many", f"m{n:03}", ttl=600.0) for n in range(members)]
    for one in partitions:
        one.wait_settled(120)
    first = partitions[0]
    registry = prometheus_client.CollectorRegistry()
    hashring.metrics.register(first, registry)
    watcher = Watcher(lambda: [first])

    def describe():
        watcher._of(first).described = None  # as if a second had passed
        return watcher.status()

    found = {
        "a scrape": cost(lambda: prometheus_client.generate_latest(registry), 50),
        "a look of the page's thread, 4 a second": cost(lambda: glance(first), 200),
        "a description of the group, 1 a second": cost(describe, 20),
        "an answer of /ring as JSON": cost(lambda: json.dumps(to_json(watcher.status())), 20),
    }
    threads = [threading.Thread(target=one.leave) for one in partitions]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--members", type=int, default=50)
    parser.add_argument("--polls", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()

    off = on = float("inf")
    for _ in range(asked.rounds):
        off = min(off, polls_cost(Uncounted(), asked.polls))
        on = min(on, polls_cost(PollCounts(), asked.polls))
    alone = counting_cost(100_000)
    print(f"| {asked.polls} polls that measure nothing | processor time a poll |")
    print("|---|---:|")
    print(f"| metrics off | {1e6 * off / asked.polls:.1f} µs |")
    print(f"| metrics on | {1e6 * on / asked.polls:.1f} µs |")
    print(f"| counting alone | {1e6 * alone:.2f} µs |")
    print(f"| counting, of a poll that takes 1 ms | {100 * alone / 1e-3:.2f} % |")
    print(f"| counting the bytes of a request to the store | {1e6 * bytes_cost(100_000):.2f} µs |")
    print()
    print(f"| to look at a group of {asked.members} members | processor time |")
    print("|---|---:|")
    for name, seconds in looking_cost(asked.members).items():
        print(f"| {name} | {1e3 * seconds:.2f} ms |")


if __name__ == "__main__":
    main()
