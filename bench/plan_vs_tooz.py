"""The reference plan of the fault tests, run by our members and by tooz's, on the same store.

    python -m bench.plan_vs_tooz --store redis --seed 1 --docs docs/faults

The tooz member does what Ceilometer's polling manager does: it joins a partitioned group, has the
coordinator's own thread heartbeat, and at the start of each interval runs the watchers and polls
the keys that ``belongs_to_self``. Its intervals begin at a moment of its own, as Ceilometer's
timers do, but never near the edge of a window, where a late timer alone would count. A third run
gives tooz a help that Ceilometer does not: all members' intervals begin with the window, so that
all look at the group in the same few milliseconds. tooz's timeout is our ttl.
"""

from __future__ import annotations

import argparse
import logging
import random
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

from tooz import coordination

from hashring.clock import boottime
from hashring.testing.faults.faults import WORKER, reference_plan, run_plan
from hashring.testing.faults.history import Log, key_names
from hashring.testing.faults.report import figures, svg, table
from hashring.testing.faults.verdict import check
from tests.faults.stores import STORES


def tooz_url(url: str, ttl: float) -> str:
    """Return tooz's URL for the store that ours names, with the same lease."""
    scheme, _, rest = url.partition("://")
    address = rest.partition("?")[0].rstrip("/")
    options = {
        "redis": f"timeout={ttl:g}&membership_timeout={ttl:g}",
        "memcached": f"timeout=1&membership_timeout={ttl:g}",
        "zookeeper": f"timeout={ttl:g}",
    }
    if scheme not in options:
        raise SystemExit(f"tooz has no driver for {scheme}://, or this script does not know it")
    return f"{scheme}://{address}?{options[scheme]}"


def work(options: argparse.Namespace) -> int:
    """Be a member, on tooz."""
    logging.disable(logging.CRITICAL)
    stop = threading.Event()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

    def wait_for_the_signal() -> None:
        signal.sigwait({signal.SIGTERM})
        stop.set()

    threading.Thread(target=wait_for_the_signal, daemon=True).start()
    keys = key_names(options.keys)
    interval = options.interval
    with Log(options.log) as log:
        log.write("start", member=options.member)
        coordinator = coordination.get_coordinator(
            tooz_url(options.url, options.ttl), options.member.encode()
        )
        coordinator.start(start_heart=True)
        partitioner = coordinator.join_partitioned_group(b"faults")
        log.write("state", state="settled")
        phase = 0.0 if options.aligned else random.uniform(0.1, 0.8) * interval
        window = int(time.time() // interval)
        while True:
            window += 1
            if stop.wait(max(0.0, window * interval + phase - time.time())):
                break
            present = int(time.time() // interval)
            missed, window = present - window, max(window, present)
            try:
                coordinator.run_watchers()
            except Exception as error:
                # Ceilometer's periodic tasks log it and go on with the ring that there is.
                log.write("error", text=f"{type(error).__name__}: {error}")
            log.write("begin", window=window, late=False, missed=missed)
            try:
                mine = [
                    number for number, key in enumerate(keys) if partitioner.belongs_to_self(key)
                ]
            except Exception as error:
                log.write("error", text=f"{type(error).__name__}: {error}")
                mine = []
            size = max(1, -(-len(mine) // 10))
            for start in range(0, len(mine), size):
                now = boottime()
                part = mine[start : start + size]
                log.write("poll", t=now, until=now, window=window, keys=part)
                time.sleep(options.work / 10)
            log.write("end", valid=True)
        coordinator.stop()
        log.write("left", drained=True)
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.plan_vs_tooz", description=__doc__)
    parser.add_argument("--store", default="redis", choices=["redis", "memcached", "zookeeper"])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--docs", type=Path, help="write the drawings and the tables here")
    # What follows is for the members' processes.
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    for name, kind in (("url", str), ("member", str), ("log", Path), ("on-crash", str)):
        parser.add_argument(f"--{name}", type=kind, help=argparse.SUPPRESS)
    for name, kind in (("ttl", float), ("interval", float), ("keys", int), ("work", float)):
        parser.add_argument(f"--{name}", type=kind, help=argparse.SUPPRESS)
    parser.add_argument("--aligned", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        return work(options)
    theirs = (sys.executable, "-m", "bench.plan_vs_tooz", "--worker")
    runs = [
        ("hashring", WORKER, None),
        ("tooz", theirs, 0),
        ("tooz, aligned", (*theirs, "--aligned"), 0),
    ]
    for name, command, slots in runs:
        with (
            tempfile.TemporaryDirectory(prefix="plan-vs-tooz-") as folder,
            STORES[options.store]() as store,
        ):
            plan = reference_plan(options.seed)
            history = run_plan(plan, store, Path(folder), command=command, slots=slots)
        verdict = check(history)
        title = f"{name} on {options.store}: the reference plan, seed {options.seed}"
        print(f"{title}\n\n{figures(history, verdict)}\n\n{table(history, verdict)}\n")
        if options.docs is not None:
            drawing = options.docs / f"{name.replace(', ', '-')}-{options.store}.svg"
            drawing.write_text(svg(history, verdict, title=title))
            drawing.with_suffix(".inc").write_text(table(history, verdict) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
