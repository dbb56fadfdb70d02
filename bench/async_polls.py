"""What 10,000 polls a second on one event loop cost beside the polls themselves.

    python -m bench.async_polls --keys 10000 --windows 5

A poll gives up the loop once and does nothing else. Measured is the processor time of the whole
process, this member's two threads included, less that of the same polls in a loop without us, for
each poll. Three ways to write the program: ``async for`` and a task for each poll; ``async for``
that awaits each poll itself; and ``cycle.map``. The store is in memory. The machine's load counts
little, since no wall clock is measured, but it is printed.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import statistics
import time
import uuid
from collections.abc import Awaitable, Callable

import hashring


async def poll(key: str) -> None:
    await asyncio.sleep(0)


async def in_tasks(cycle: hashring.AsyncCycle, keys: hashring.Keys[str]) -> None:
    async with asyncio.TaskGroup() as tasks:
        async for key in cycle.owned(keys, spread=0.8):
            tasks.create_task(poll(key))


async def one_by_one(cycle: hashring.AsyncCycle, keys: hashring.Keys[str]) -> None:
    async for key in cycle.owned(keys, spread=0.8):
        await poll(key)


async def mapped(cycle: hashring.AsyncCycle, keys: hashring.Keys[str]) -> None:
    async for _ in cycle.map(poll, keys, spread=0.8):
        pass


async def bare_tasks(keys: hashring.Keys[str]) -> None:
    async with asyncio.TaskGroup() as tasks:
        for key in keys:
            tasks.create_task(poll(key))


async def bare(keys: hashring.Keys[str]) -> None:
    for key in keys:
        await poll(key)


WAYS = {
    "async for, a task each": (in_tasks, bare_tasks),
    "async for, awaited": (one_by_one, bare),
    "cycle.map": (mapped, bare),
}


async def measure(
    work: Callable[[hashring.AsyncCycle, hashring.Keys[str]], Awaitable[None]],
    keys: hashring.Keys[str],
    windows: int,
) -> tuple[list[float], int]:
    """Return the processor seconds of each window, and how many windows were missed."""
    spent: list[float] = []
    async with await hashring.ajoin(f"memory://{uuid.uuid4().hex}", "bench", ttl=10) as partition:
        await partition.wait_settled(60)
        cycles = partition.cycles(interval=1.0)
        before = None
        async for cycle in cycles:
            # From the beginning of one window's work to that of the next: with the waits between.
            now = time.process_time()
            if before is not None:
                spent.append(now - before)
            if len(spent) == windows:
                break
            before = now
            await work(cycle, keys)
        return spent, cycles.missed


async def floor(work: Callable[[hashring.Keys[str]], Awaitable[None]], keys, windows) -> float:
    spent = []
    for _ in range(windows):
        before = time.process_time()
        await work(keys)
        spent.append(time.process_time() - before)
    return statistics.median(spent)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, default=10_000)
    parser.add_argument("--windows", type=int, default=5)
    options = parser.parse_args()
    keys = hashring.Keys(f"resource-{number}" for number in range(options.keys))
    print(
        f"Python {platform.python_version()}, {os.cpu_count()} cores, "
        f"load {os.getloadavg()[0]:.1f}; {options.keys:,} polls a second, "
        f"{options.windows} windows; processor time a poll"
    )
    for name, (ours, theirs) in WAYS.items():
        least = asyncio.run(floor(theirs, keys, options.windows))
        spent, missed = asyncio.run(measure(ours, keys, options.windows))
        whole = statistics.median(spent)
        print(
            f"{name:24} {(whole - least) / options.keys * 1e6:5.1f} us of ours "
            f"(whole {whole / options.keys * 1e6:5.1f}, polls alone "
            f"{least / options.keys * 1e6:5.1f}); {missed} windows missed"
        )


if __name__ == "__main__":
    main()
