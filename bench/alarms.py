"""How long evaluators take for a window of many alarms, while Prometheus answers in 5 ms.

    python -m bench.alarms --alarms 20000 --evaluators 2 --windows 3

A stub answers as Prometheus does, each query after the delay, from a process of its own. The
alarms are in the database before the evaluators start. In each window a part of them changes, and
each change is told to a sink, which is the stub as well. Printed are, for each window, the seconds
from its start until the last evaluator had evaluated it, how many questions were asked, and the
processor seconds that the evaluators took together. With ``--database postgresql`` a server is
started for it (Debian's postgresql).

    python -m bench.alarms --one --alarms 2000

has one evaluator, in this process, work windows one after the other, and prints the processor time
for each alarm: the machine's load counts little there.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import math
import multiprocessing
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psutil

import hashring
from hashring.alarms.actions.catalogue import Catalogue
from hashring.alarms.database import migrations
from hashring.alarms.database.definitions import sync
from hashring.alarms.database.engine import Database, default_url
from hashring.alarms.database.notifications import Notifications
from hashring.alarms.evaluator import Evaluator
from hashring.alarms.model import alarm_of
from hashring.alarms.settings import Settings
from hashring.alarms.sources.prometheus import PrometheusSource


class Stub(asyncio.Protocol):
    """Prometheus, and a sink: a connection of theirs."""

    def __init__(
        self, delay: float, interval: float, changing: int, asked: Synchronized[int]
    ) -> None:
        self._delay, self._interval, self._changing = delay, interval, changing
        self._asked = asked
        self._received = b""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            head = self._received[:end].decode("latin-1")
            fields = dict(
                line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line
            )
            whole = end + 4 + int(fields.get("content-length", 0))
            if len(self._received) < whole:
                return
            self._received = self._received[whole:]
            method, path, _ = head.split(" ", 2)
            body = b"" if method == "POST" else self._answer(path)
            asyncio.get_running_loop().call_later(self._delay, self._send, body)

    def _answer(self, path: str) -> bytes:
        self._asked.value += 1
        form = parse_qs(urlsplit(path).query)
        number, at = int(form["query"][0].removeprefix("series_")), float(form["time"][0])
        window = math.floor(at / self._interval + 1e-6)
        value = (window if number % 100 < self._changing else number) % 2
        series = [{"metric": {"series": str(number)}, "value": [at, str(value)]}]
        found = {"status": "success", "data": {"resultType": "vector", "result": series}}
        return json.dumps(found).encode()

    def _send(self, body: bytes) -> None:
        if not self._transport.is_closing():
            head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n"
            self._transport.write(head.encode() + body)


def serve(
    delay: float, interval: float, changing: int, asked: Synchronized[int], port: Synchronized[int]
) -> None:
    """Serve until the process is ended."""

    async def run() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(
            lambda: Stub(delay, interval, changing, asked), "127.0.0.1", 0, backlog=1024
        )
        port.value = server.sockets[0].getsockname()[1]
        await server.serve_forever()

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asyncio.run(run())


@contextlib.contextmanager
def stub(delay: float, interval: float, changing: int) -> Iterator[tuple[str, Synchronized[int]]]:
    """Give the stub's URL, and the number of questions that it was asked."""
    context = multiprocessing.get_context("spawn")
    asked, port = context.Value("q", 0, lock=False), context.Value("q", 0, lock=False)
    process = context.Process(
        target=serve, args=(delay, interval, changing, asked, port), daemon=True
    )
    process.start()
    try:
        while not port.value:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{port.value}", asked
    finally:
        process.kill()
        process.join()


@contextlib.contextmanager
def server(kind: str, folder: Path) -> Iterator[str]:
    """Give the URL of an empty database."""
    if kind == "sqlite":
        yield default_url(folder)
        return
    from tests.servers.postgresql import PostgreSQLServer

    with PostgreSQLServer() as found:
        yield found.url


def define(url: str, number: int, queries: int, changing: int, sink: str) -> float:
    """Make the alarms; return how many seconds that took."""
    database = Database(url)
    migrations.migrate(database)
    alarms = [
        alarm_of(
            {
                "name": f"alarm {one}",
                "type": "prometheus",
                "rule": {
                    **{"query": f"series_{one % queries}", "comparison_operator": "gt"},
                    "threshold": 0.5,
                },
                "alarm_actions": [sink] if one % 100 < changing else [],
                "ok_actions": [sink] if one % 100 < changing else [],
            }
        )
        for one in range(number)
    ]
    started = time.monotonic()
    sync(database, alarms, time.time())
    database.close()
    return time.monotonic() - started


class Process:
    """An evaluator as a process."""

    def __init__(self, name: str, folder: Path, *options: str) -> None:
        self._status = folder / f"{name}.json"
        command = [sys.executable, "-m", "hashring", "alarm", "evaluator", "--member", name]
        command += ["--status-file", str(self._status), "--state-dir", str(folder), *options]
        self._log = folder / f"{name}.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(command, stderr=log)

    def status(self) -> dict[str, Any]:
        if self._process.poll() is not None:
            raise SystemExit(f"an evaluator has ended:\n{self._log.read_text()[-2000:]}")
        with contextlib.suppress(FileNotFoundError):
            return dict(json.loads(self._status.read_text()))
        return {}

    def cpu(self) -> float:
        return sum(psutil.Process(self._process.pid).cpu_times()[:2])

    def end(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()


def measure(options: argparse.Namespace, folder: Path, database: str) -> None:
    with stub(options.delay, options.interval, options.changing) as (place, asked):
        queries = options.queries or options.alarms
        took = define(database, options.alarms, queries, options.changing, f"{place}/in")
        print(f"{options.alarms:,} alarms were written in {took:.1f} s")
        more = ["--database", database, "--prometheus-url", place]
        more += ["--interval", str(options.interval), "--workers", str(options.workers)]
        fleet = [Process(f"e{number}", folder, *more) for number in range(options.evaluators)]
        outbox = Database(database)
        try:
            watch(options, fleet, asked, Notifications(outbox))
        finally:
            outbox.close()
            for one in fleet:
                one.end()


def watch(
    options: argparse.Namespace,
    fleet: list[Process],
    asked: Synchronized[int],
    outbox: Notifications,
) -> None:
    while not all(one.status().get("state") == "settled" for one in fleet):
        time.sleep(0.1)
    # In the window in which they join, each alarm leaves "insufficient data": it is not shown.
    while not all(one.status().get("window") for one in fleet) or outbox.waiting().pending:
        time.sleep(0.5)
    before, spent = asked.value, sum(one.cpu() for one in fleet)
    # A window that all of them begin together counts, not the one in which they joined.
    first = math.floor(time.time() / options.interval) + 1
    for window in range(first, first + options.windows):
        while not all((one.status().get("window") or 0) >= window for one in fleet):
            time.sleep(0.05)
        took = time.time() - window * options.interval
        questions, cpu = asked.value, sum(one.cpu() for one in fleet)
        waiting = outbox.waiting()
        while waiting.pending:
            time.sleep(0.1)
            waiting = outbox.waiting()
        told = time.time() - window * options.interval
        print(
            f"window {window}: evaluated {took:5.1f} s after its start, "
            f"{questions - before:,} questions, {cpu - spent:.1f} s of processor time; "
            f"all was told {told:.1f} s after its start ({waiting.delivered:,} so far)",
            flush=True,
        )
        before, spent = asked.value, sum(one.cpu() for one in fleet)
    missed = sum(one.status()["missed"] for one in fleet)
    print(f"windows missed: {missed}")


def measure_one(options: argparse.Namespace, folder: Path, database: str) -> None:
    """Work windows of one evaluator, whatever the time; print what an alarm costs."""
    interval, start = 60.0, 1_700_000_040.0
    settings = Settings(
        database="", backend_url="", member="a", interval=interval, threads=options.workers
    )
    with contextlib.ExitStack() as stack:
        place, _ = stack.enter_context(stub(options.delay, interval, options.changing))
        define(database, options.alarms, options.queries or options.alarms, 0, "log://")
        opened = stack.enter_context(contextlib.closing(Database(database)))
        source = stack.enter_context(contextlib.closing(PrometheusSource(place, options.workers)))
        actions = stack.enter_context(contextlib.closing(Catalogue(settings)))
        partition = stack.enter_context(hashring.join("memory://", "alarms", "a", ttl=60.0))
        partition.wait_settled(60)
        evaluator = Evaluator(opened, {"prometheus": source}, actions, settings)
        stack.enter_context(evaluator)
        for _ in range(options.windows + 1):
            start += interval
            cpu, wall, before = time.process_time(), time.monotonic(), evaluator.counts.changes
            with partition.cycle() as cycle:
                cycle.window, cycle.start, cycle.late = int(start // interval), start, False
                evaluator.work(cycle)
            spent = 1000 * (time.process_time() - cpu) / options.alarms
            print(
                f"{evaluator.counts.changes - before:,} of {options.alarms:,} changed: "
                f"{spent:.2f} ms of processor time an alarm, {time.monotonic() - wall:.1f} s"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--alarms", type=int, default=20_000)
    parser.add_argument("--queries", type=int, help="of how many different ones; default: all")
    parser.add_argument("--evaluators", type=int, default=2)
    parser.add_argument("--workers", type=int, default=16, help="queries at once, of each")
    parser.add_argument("--interval", type=float, default=60.0, help="seconds of a window")
    parser.add_argument("--windows", type=int, default=2)
    parser.add_argument("--delay", type=float, default=0.005, help="seconds of an answer")
    parser.add_argument("--changing", type=int, default=10, help="percent of the alarms a window")
    parser.add_argument("--one", action="store_true", help="one evaluator, in this process")
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    options = parser.parse_args()
    print(
        f"Python {platform.python_version()}, {os.cpu_count()} processors, load "
        f"{os.getloadavg()[0]:.1f}; {options.evaluators} evaluators of {options.workers} workers, "
        f"windows of {options.interval:g} s, answers after {1000 * options.delay:g} ms, "
        f"{options.database}"
    )
    with tempfile.TemporaryDirectory() as name, server(options.database, Path(name)) as url:
        (measure_one if options.one else measure)(options, Path(name), url)


if __name__ == "__main__":
    main()
