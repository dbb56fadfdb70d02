"""What the spool costs: samples put and delivered, at full speed and at a steady rate.

    python -m bench.spool

Rates are of one process with nothing else to do; the machine's load counts, so it is printed too.
CPU time is the process's own, of all its threads, and is what to compare. The folder should be on
a real disk: ``--folder``.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import platform
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from hashring.telemetry.delivery.delivery import Delivery
from hashring.telemetry.delivery.spool import Spool
from hashring.telemetry.model.batch import Batch, batches_of
from hashring.telemetry.model.sample import Meter, MeterType, Sample
from hashring.telemetry.model.settings import Settings
from hashring.telemetry.plugin import Publisher

METER = Meter("hardware.network.incoming.bytes", MeterType.CUMULATIVE, "B")
TOKEN = ("3f1c0a9b7d24e658", "9a61c0de-5d0e-4c55-9c55-3b8f5a1d2e64", 29_640_000)
SETTINGS = Settings(backend_url="memory://", member="bench", host="bench")


class Nowhere(Publisher):
    """A sink that takes everything at once: what is left is our own cost."""

    def publish(self, samples):
        pass

    def publish_batches(self, batches):
        pass

    def close(self):
        pass


def sample(n: int, poll: int) -> Sample:
    return Sample(
        meter=METER,
        volume=123_456_789 + n,
        resource_id=f"web{n}.example:interface:eth0",
        timestamp=1_778_400_000.25 + poll,
        window=29_640_000,
        interval=60.0,
        member="agent-1",
        token=TOKEN,
    )


def batches(count: int, size: int) -> Iterator[Batch]:
    """Polls of so many samples: of ten targets in turn, each with the same series every time."""
    polls = [batches_of([sample(10 * n + k, k) for n in range(size)])[0] for k in range(10)]
    for start in range(0, count, size):
        batch = polls[start // size % 10]
        yield dataclasses.replace(batch, window=start // size // 10)[: count - start]


def timed(act) -> tuple[float, float]:
    """Return the wall-clock and the CPU seconds that a call takes."""
    wall, cpu = time.perf_counter(), time.process_time()
    act()
    return time.perf_counter() - wall, time.process_time() - cpu


def at_full_speed(options, size: int, publishers: int, *, power_safe: bool = False) -> None:
    urls = tuple(f"nowhere://{number}" for number in range(publishers))
    samples = list(batches(options.count, size))
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        spool = Spool(Path(folder), max_bytes=2**34, power_safe=power_safe)

        def put() -> None:
            for batch in samples:
                spool.put([(batch, urls)])

        def take() -> None:
            for url in urls:
                while (parcel := spool.take(url, 5000)) is not None:
                    spool.done(parcel)

        putting = timed(put)
        payload = spool.bytes / options.count
        disk = sum(path.stat().st_size for path in Path(folder).iterdir()) / options.count
        taking = timed(take)
        rest = sum(path.stat().st_size for path in Path(folder).iterdir())
        spool.close()
    taken = options.count * publishers
    print(
        f"| {size} | {publishers} | {'yes' if power_safe else 'no'} "
        f"| {options.count / putting[0]:,.0f} | {putting[1] / options.count * 1e6:.2f} "
        f"| {taken / taking[0]:,.0f} | {taking[1] / taken * 1e6:.2f} "
        f"| {(putting[1] + taking[1]) / options.count * 1e6:.2f} "
        f"| {payload:.0f} | {disk:.0f} | {rest / 2**20:.1f} |"
    )


def steadily(options, publishers: int) -> None:
    """Put a fixed rate for a while, delivered all along: how much of a core is that?"""
    urls = tuple(f"nowhere://{number}" for number in range(publishers))
    samples = list(batches(options.rate // 10, 100))  # what comes every 100 ms
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        spool = Spool(Path(folder), max_bytes=2**34)
        most = 0
        with Delivery(spool, lambda url: Nowhere(url, SETTINGS)) as delivery:
            wall, cpu = time.perf_counter(), time.process_time()
            for step in range(round(options.seconds * 10)):
                for batch in samples:
                    delivery.put([(batch, urls)])
                most = max(most, spool.bytes)
                time.sleep(max(0.0, wall + (step + 1) / 10 - time.perf_counter()))
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            assert delivery.flush(60)
    count = len(samples) * 100 * round(options.seconds * 10)
    print(f"| {publishers} | {count / wall:,.0f} | {cpu / wall:.0%} | {most / 2**20:.1f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=100_000, help="samples at full speed")
    parser.add_argument("--rate", type=int, default=10_000, help="samples a second, steadily")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long steadily")
    parser.add_argument("--folder", type=Path, default=Path(), help="where the spool is made")
    options = parser.parse_args()
    print(
        f"Python {platform.python_version()}, {os.cpu_count()} cores, "
        f"load {os.getloadavg()[0]:.1f}\n"
    )
    print("| batch | publishers | synced | put/s | us/put | taken/s | us/taken "
          "| us in and out | bytes of a sample | on disk | MiB left |")  # fmt: skip
    print("|" + "---|" * 11)
    for size, publishers in [(1, 1), (50, 1), (50, 2), (2000, 1), (2000, 2)]:
        at_full_speed(options, size, publishers)
    at_full_speed(options, 2000, 1, power_safe=True)
    print("\n| publishers | samples/s | of a core | MiB waiting at most |\n|---|---|---|---|")
    for publishers in (1, 2):
        steadily(options, publishers)


if __name__ == "__main__":
    main()
