"""A member that keeps a worker for each key, for the fault harness; logs who worked what, and when.

``python -m tests.faults.keep_worker --url URL --member ID --log FILE``. A line ``work`` says that a
key was worked from ``t`` to ``until``: its worker looked at both ends, and at most ``APART`` apart
between them.
"""

from __future__ import annotations

import functools
import signal
import sys
import threading

import hashring
from hashring import clock
from hashring.errors import HashringError
from hashring.testing.faults.calls import CallWatch
from hashring.testing.faults.log import Log, key_names
from hashring.testing.faults.worker import Watcher, join, read_options

APART = 0.2
"""Seconds: two looks further apart say nothing of the time between them."""

_STEP, _LINE, _END = 0.02, 0.1, 0.05
"""Seconds between two looks of a worker, for one line, and that a worker takes to end."""


def work(log: Log, key: str, stop: hashring.Stop) -> None:
    begun = last = clock.boottime()

    def tell() -> None:
        if last > begun:
            log.write("work", t=begun, until=last, key=key)

    while True:
        moment = clock.boottime()  # before the look: so the key was held then
        if stop.is_set():
            break
        if moment - last > APART:
            tell()
            begun = moment
        last = moment
        if last - begun > _LINE:
            tell()
            begun = last
        stop.wait(_STEP)
    tell()
    # Told to end: the key is still this worker's until it has, or until the fence.
    begun = last
    threading.Event().wait(_END)
    moment = clock.boottime()
    if stop.remaining > 0 and moment - begun <= APART:
        last = moment
        tell()


def main() -> int:
    options = read_options(None)
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
                with partition.keep(
                    functools.partial(work, log), key_names(options.keys)
                ) as workers:
                    workers.wait()
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
