"""A member in a process of its own, for the fault harness: works its windows, logs what it holds.

``python -m hashring.testing.faults.worker --url URL --member ID --log FILE``. A poll is a line in
the log and nothing else, so that a small machine can run many. SIGTERM drains. This module knows
the public interface of :mod:`hashring` alone, and no fault.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import hashring
from hashring import clock
from hashring.driver import load
from hashring.errors import HashringError, MemberExists, StoreUnavailable, StoreUnusable
from hashring.partition.cycle import Cycles
from hashring.testing.faults import host_clock
from hashring.testing.faults.calls import CallWatch
from hashring.testing.faults.history import Log, key_names

_LOOK = 0.02
"""Seconds between two looks at what is held."""

_APART = 3 * _LOOK
"""Two looks further apart than this say nothing of the time between them."""

_LINE = 0.1
"""A hold goes on in a new line after so many seconds: what a killed process knew is not lost."""

_PIECES = 10
"""In how many bursts a window's work is done."""


class Watcher(threading.Thread):
    """Logs what a partition holds, from look to look, and each state."""

    def __init__(self, partition: hashring.Partition, log: Log) -> None:
        super().__init__(name="watcher", daemon=True)
        self._partition = partition
        self._log = log
        self._done = threading.Event()
        self._held = partition.held
        self._incarnation = partition.incarnation
        self._begin = self._until = clock.boottime()
        self._checks = 0

    def run(self) -> None:
        """Look until :meth:`stop`."""
        state = ""
        while not self._done.wait(_LOOK):
            self._look()
            if self._partition.state != state:
                state = self._partition.state
                self._log.write("state", state=state, members=len(self._partition.members))
        self._flush()

    def _look(self) -> None:
        # What is seen was held at some instant between these two moments: a hold runs from the
        # later moment of one look to the earlier one of another.
        before = clock.boottime()
        seen, incarnation = self._partition.held, self._partition.incarnation
        after = clock.boottime()
        if (
            before - self._until > _APART
            or incarnation != self._incarnation
            or (seen is not self._held and seen != self._held)
        ):
            self._flush()
            self._held, self._incarnation = seen, incarnation
            self._begin = self._until = after
        else:
            self._until = max(before, self._begin)
            if self._until - self._begin > _LINE:
                self._flush()
        self._checks += 1

    def _flush(self) -> None:
        if self._held and self._until > self._begin:
            self._log.write(
                "hold",
                t=self._begin,
                until=self._until,
                set=self._log.set_id(self._held),
                checks=self._checks,
            )
        self._begin, self._checks = self._until, 0

    def stop(self) -> None:
        """Write what is left, and end."""
        self._done.set()
        self.join()


def work(cycles: Cycles, keys: hashring.Keys[str], log: Log, seconds: float) -> None:
    """Work windows until the partition stops: each takes so many seconds, mostly asleep."""
    index = {key: number for number, key in enumerate(keys)}
    asleep = threading.Event()
    for cycle in cycles:
        begun = clock.boottime()
        owned = cycle.owned(keys)
        log.write(
            "begin",
            t=begun,
            wall=clock.wall(),
            window=cycle.window,
            late=cycle.late,
            missed=cycles.missed,
            set=log.set_id(cycle.slots),
            view=cycle.token.view_id[:8],
        )
        handed_out = iter(owned)
        size = max(1, -(-len(owned) // _PIECES))
        while True:
            polled: list[int] = []
            first = last = clock.boottime()
            for _ in range(size):
                # Before the look at the fence that comes with the next key: so the key was held
                # at this moment, whatever happens to this process afterwards.
                moment = clock.boottime()
                key = next(handed_out, None)
                if key is None:
                    break
                polled.append(index[key])
                last = moment
            if not polled:
                break
            log.write("poll", t=first, until=last, window=cycle.window, keys=polled)
            if not cycle.late:
                asleep.wait(seconds / _PIECES)
        now = clock.boottime()
        log.write("end", t=now, valid=cycle.valid)


def join(
    options: argparse.Namespace, log: Log, stop: threading.Event, calls: CallWatch
) -> hashring.Partition | None:
    """Join as a supervised agent would: try again where the store is away."""
    while not stop.is_set():
        try:
            driver = load(options.url, ttl=options.ttl)
            calls.watch(driver)
            return hashring.join(
                driver,
                options.group,
                options.member,
                ttl=options.ttl,
                handoff=options.handoff,
            )
        except (StoreUnavailable, StoreUnusable, MemberExists) as error:
            log.write("error", text=f"{type(error).__name__}: {error}")
            stop.wait(0.2)
    return None


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m hashring.testing.faults.worker", description=__doc__
    )
    parser.add_argument("--url", required=True)
    parser.add_argument("--group", default="faults")
    parser.add_argument("--member", required=True)
    parser.add_argument("--log", required=True, type=Path)
    parser.add_argument("--ttl", type=float, default=3.0)
    parser.add_argument("--interval", type=float, default=1.0)
    parser.add_argument("--keys", type=int, default=2000)
    parser.add_argument(
        "--work", type=float, default=0.1, help="seconds that a window's work takes"
    )
    parser.add_argument("--on-crash", default="skip", choices=["skip", "repeat"])
    parser.add_argument("--handoff", default="exclusive", choices=["exclusive", "eager"])
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one member; return the exit status."""
    options = _options(arguments)

    if host_clock.VARIABLE in os.environ:
        host_clock.follow(Path(os.environ[host_clock.VARIABLE]))

    # A thread waits for the signal, so that no handler runs in the middle of anything. Blocked
    # before any other thread begins: they all inherit it.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    stop = threading.Event()
    partition: hashring.Partition | None = None

    def wait_for_the_signal() -> None:
        signal.sigwait({signal.SIGTERM})
        stop.set()
        if partition is not None:
            partition.stop()

    with Log(options.log) as log:
        log.write("start", member=options.member, url=str(options.url))
        threading.Thread(target=wait_for_the_signal, name="signals", daemon=True).start()
        calls = CallWatch(log, options.ttl)
        calls.start()
        try:
            partition = join(options, log, stop, calls)
            if partition is None:
                return 0
            log.write("joined", incarnation=partition.incarnation)
            watcher = Watcher(partition, log)
            watcher.start()
            if stop.is_set():
                partition.stop()
            try:
                keys = hashring.Keys(key_names(options.keys))
                with partition.cycles(options.interval, on_crash=options.on_crash) as cycles:
                    work(cycles, keys, log, options.work)
                log.write("left", drained=partition.drain())
            finally:
                partition.leave()
                watcher.stop()
        except HashringError as error:
            log.write("error", text=f"{type(error).__name__}: {error}")
            return 3
        finally:
            calls.stop()
        return 0


if __name__ == "__main__":
    sys.exit(main())
