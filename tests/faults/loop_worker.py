"""A member on an event loop, for the fault harness: the options and the log of the threads' one.

``python -m tests.faults.loop_worker --url URL --member ID --log FILE``. The keys are polled by
``cycle.map``, many at once; a poll is a number in the log.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys

import hashring
from hashring import clock
from hashring.driver import load
from hashring.errors import HashringError, MemberExists, StoreUnavailable, StoreUnusable
from hashring.testing.faults.calls import CallWatch
from hashring.testing.faults.log import Log, key_names
from hashring.testing.faults.worker import Watcher, read_options

_PIECE = 200
"""Polls that are logged in one line."""


class Window:
    """The polls of one cycle, as the log has them."""

    def __init__(self, cycle: hashring.AsyncCycle, log: Log, index: dict[str, int]) -> None:
        self.cycle = cycle
        self._log = log
        self._index = index
        self._polled: list[int] = []
        self._first = self._last = 0.0

    async def poll(self, key: str) -> None:
        # Before a look at the fence: so the key was held at this moment, whatever happens next.
        moment = clock.boottime()
        if not self.cycle.valid:
            return
        self._first = self._first if self._polled else moment
        self._last = moment
        self._polled.append(self._index[key])
        if len(self._polled) >= _PIECE:
            self.flush()
        await asyncio.sleep(0)

    def flush(self) -> None:
        if self._polled:
            self._log.write(
                "poll",
                t=self._first,
                until=self._last,
                window=self.cycle.window,
                keys=self._polled,
            )
            self._polled = []


async def work(partition: hashring.AsyncPartition, options: argparse.Namespace, log: Log) -> None:
    """Work windows until the partition stops: each takes so many seconds, mostly asleep."""
    index = {key: number for number, key in enumerate(key_names(options.keys))}
    keys = hashring.Keys(index)
    cycles = partition.cycles(options.interval, on_crash=options.on_crash)
    async for cycle in cycles:
        log.write(
            "begin",
            t=clock.boottime(),
            wall=clock.wall(),
            window=cycle.window,
            late=cycle.late,
            missed=cycles.missed,
            set=log.set_id(cycle.slots),
            view=cycle.token.view_id[:8],
        )
        window = Window(cycle, log, index)
        async for _ in cycle.map(window.poll, keys, ordered=False):
            pass
        window.flush()
        if not cycle.late:
            await asyncio.sleep(options.work)
        log.write("end", t=clock.boottime(), valid=cycle.valid)


async def join(
    options: argparse.Namespace, log: Log, stop: asyncio.Event, calls: CallWatch
) -> hashring.AsyncPartition | None:
    while not stop.is_set():
        try:
            driver = load(options.url, ttl=options.ttl)
            calls.watch(driver)
            return await hashring.ajoin(
                driver, options.group, options.member, ttl=options.ttl, handoff=options.handoff
            )
        except (StoreUnavailable, StoreUnusable, MemberExists) as error:
            log.write("error", text=f"{type(error).__name__}: {error}")
            await asyncio.sleep(0.2)
    return None


async def run(options: argparse.Namespace, log: Log, calls: CallWatch) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    partition = await join(options, log, stop, calls)
    if partition is None:
        return
    log.write("joined", incarnation=partition.incarnation)
    loop.add_signal_handler(signal.SIGTERM, partition.stop)
    if stop.is_set():
        partition.stop()
    watcher = Watcher(partition, log)
    watcher.start()
    try:
        await work(partition, options, log)
        log.write("left", drained=await partition.drain())
    finally:
        await partition.leave()
        watcher.stop()


def main() -> int:
    options = read_options(None)
    with Log(options.log) as log:
        log.write("start", member=options.member, url=str(options.url))
        calls = CallWatch(log, options.ttl)
        calls.start()
        try:
            asyncio.run(run(options, log, calls))
        except HashringError as error:
            log.write("error", text=f"{type(error).__name__}: {error}")
            return 3
        finally:
            calls.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
