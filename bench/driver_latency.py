"""What a store costs: its calls, how soon a change wakes the waiting, and what waiting costs.

    python bench/driver_latency.py sqlite:///tmp/latency/group.db --processes 9

Prints one line a figure. The processes that wait are real ones; a change carries the time at which
it was published, on the clock that all processes of a host share.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import time
import uuid

from hashring.clock import boottime
from hashring.driver import load

RECORD = b'{"incarnation": "1", "pad": "%s"}' % (b"x" * 300)


def timed(call, count):
    """Return the durations of ``count`` calls in milliseconds."""
    durations = []
    for _ in range(count):
        began = time.perf_counter()
        call()
        durations.append((time.perf_counter() - began) * 1000)
    return durations


def watch(url, group, count, results):
    """Wait for changes; report how old each was when it was read, in milliseconds."""
    driver = load(url, ttl=60)
    driver.open()
    ages, last = [], None
    while len(ages) < count:
        record = driver.read(group).records.get("writer")
        if record is not None and record != last:
            if last is not None:
                ages.append((boottime() - float(record)) * 1000)
            last = record
        driver.wait(group, 5)
    results.put(ages)
    driver.close()


def show(what, milliseconds):
    """Print median, 99th percentile and maximum."""
    ordered = sorted(milliseconds)
    late = ordered[int(len(ordered) * 0.99)]
    median = statistics.median(ordered)
    print(f"{what:<34}{median:8.2f} ms median{late:9.2f} p99{ordered[-1]:9.2f} max")


def main():
    """Measure one store."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("url")
    parser.add_argument("--processes", type=int, default=9, help="how many wait (0 for memory://)")
    parser.add_argument("--changes", type=int, default=100)
    arguments = parser.parse_args()
    group = f"latency-{uuid.uuid4().hex}"
    driver = load(arguments.url, ttl=600)
    driver.open()
    load_now = os.getloadavg()[0]
    print(f"{driver.url}, {os.cpu_count()} processors, load {load_now:.1f}")

    driver.join(group, "a", RECORD)
    show("heartbeat", timed(driver.heartbeat, 300))
    show("publish", timed(lambda: driver.publish(group, "a", RECORD), 300))
    show("read of 1 member", timed(lambda: driver.read(group), 300))
    for index in range(99):
        driver.join(group, f"m{index}", RECORD)
    show("read of 100 members", timed(lambda: driver.read(group), 100))
    for member in ("a", *(f"m{index}" for index in range(99))):
        driver.leave(group, member)

    driver.join(group, "writer", b"0")
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    waiting = [
        context.Process(target=watch, args=(arguments.url, group, arguments.changes, results))
        for _ in range(arguments.processes)
    ]
    for process in waiting:
        process.start()
    ages = []
    while len(ages) < arguments.processes * arguments.changes:
        driver.publish(group, "writer", repr(boottime()).encode())
        time.sleep(0.03)
        while not results.empty():
            ages += results.get()
    for process in waiting:
        process.join()
    if ages:
        show(f"change seen by {arguments.processes} processes", ages)

    driver.read(group)
    began, used = time.monotonic(), time.process_time()
    while time.monotonic() - began < 10:
        driver.wait(group, 5)
    share = (time.process_time() - used) / (time.monotonic() - began)
    print(f"{'waiting where nothing changes':<34}{share:8.3%} of a processor")
    driver.leave(group, "writer")
    driver.close()


if __name__ == "__main__":
    main()
