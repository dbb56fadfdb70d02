"""The plan of the alarms beside Aodh's own evaluators: what is missed, repeated and lost.

    python -m bench.alarms_beside_aodh hashring aodh aodh+redis aodh+hashring+redis

Three evaluators on PostgreSQL, 500 alarms on square waves of a real Prometheus, windows of 5 s.
Through a join, a SIGTERM, a rolling restart, a `kill -9`, and half a minute in which the sink
answers 503. ``hashring``: ours on Redis. ``aodh``: three aodh-evaluator, whose database decides;
``aodh+redis``: on tooz's Redis; ``aodh+hashring+redis``: on our backend of tooz. Between Aodh's
evaluators and the sink stands its own plug-in for http, and no queue. A proxy before Prometheus
counts who was asked about, the sink what it was told. `make test-long` makes Aodh's environment.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import signal
import subprocess
import tempfile
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from hashring.alarms.database import migrations
from hashring.alarms.database.engine import Database
from tests.alarms.fleet import Evaluators
from tests.alarms.plan import ALARMS, INTERVAL, LAG, TTL, pass_windows, squares
from tests.alarms.waves import Question, Standstill, Waves
from tests.servers import openstack
from tests.servers.http import Answer, Asked, HTTPServer
from tests.servers.postgresql import PostgreSQLServer
from tests.servers.redis import RedisServer
from tests.tooz.service import Services


class Fleet(Protocol):
    """Evaluators by name."""

    def start(self, name: str) -> None: ...
    def stop(self, name: str) -> None: ...
    def kill(self, name: str) -> None: ...


class Aodh:
    """Aodh's evaluators on a database of their own in a server."""

    def __init__(
        self, folder: Path, server: PostgreSQLServer, prometheus: str, backend: str, sink: str
    ) -> None:
        self._services = Services(folder, openstack.python_with_services())
        self._services.install("hashring_aodh_plan")
        self._named = ("--config-file", str(folder / "aodh.conf"))
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        server.run("CREATE DATABASE aodh")
        (folder / "aodh.conf").write_text(
            "[DEFAULT]\ntransport_url = fake://\nrecord_history = false\n"
            "enable_evaluation_results_metrics = false\n"
            f"[database]\nconnection = {server.url.rpartition('/')[0]}/aodh\n"
            f"[evaluator]\nworkers = 1\nevaluation_interval = {INTERVAL:.0f}\n"
            f"[service_credentials]\nauth_type = none\nendpoint = {prometheus}\n"
            "[coordination]\n" + (f"backend_url = {backend}\n" if backend else "")
        )
        alarms = folder / "alarms.json"
        alarms.write_text(json.dumps(squares(sink)))
        self._services.run("aodh.cmd.storage:dbsync", "aodh-dbsync", *self._named)
        self._services.run("hashring_aodh_plan:fill", "fill", self._named[1], str(alarms))

    def start(self, name: str) -> None:
        self._running[name] = self._services.launch(
            self._services.command(
                *("aodh.cmd.alarm:evaluator", "aodh-evaluator", *self._named),
                first=["hashring_aodh_plan"],
            )
        )

    def stop(self, name: str) -> None:
        self._services.tell_to_stop(self._running[name])  # it ends in its own time

    def kill(self, name: str) -> None:
        self._services.signal(self._running[name], signal.SIGKILL)

    def end(self) -> None:
        self._services.stop()


class Sink:
    """What was told, and whether it was taken.

    Attributes:
        is_away: answer 503.
    """

    def __init__(self, server: HTTPServer) -> None:
        self.is_away = False
        self._lock = threading.Lock()
        self._taken: list[tuple[str, str, str]] = []  # id of the request, alarm, state
        self._refused: dict[str, None] = {}
        self.url = f"{server.url}/in"
        server.answer_with("/in", self._answer)

    def _answer(self, asked: Asked) -> Answer:
        body, request = json.loads(asked.body), asked.headers["x-openstack-request-id"]
        with self._lock:
            if self.is_away:
                self._refused[request] = None
                return Answer(b"", 503)
            self._taken.append((request, body["alarm_name"], body["current"]))
        return Answer(b"")

    def account(self) -> tuple[int, int, int, int]:
        """Return how many were taken, came again, repeated the one before, and were lost."""
        with self._lock:
            taken, refused = list(self._taken), set(self._refused)
        states: dict[str, str] = {}
        seen: set[str] = set()
        again = repeats = 0
        for request, alarm, state in taken:
            if request in seen:
                again += 1
                continue
            seen.add(request)
            repeats += states.get(alarm) == state
            states[alarm] = state
        return len(taken), again, repeats, len(refused - seen)


class Evaluated(NamedTuple):
    """Evaluations in a time: how many, how many too many, how many too few."""

    number: int
    twice: int
    missed: int


def evaluated(questions: list[Question], begin: float, end: float) -> Evaluated:
    """Return what became of a time.

    Ours ask about a window: another question about it is too many, and none too few. Aodh's ask
    about now: a question within half an interval is too many, and none for 1.75 intervals too few.
    """
    found = [one for one in questions if begin <= one.at < end]
    if found and found[0].window is not None:
        first, last = int(begin // INTERVAL) + 1, int(end // INTERVAL) - 1
        counts = defaultdict[tuple[int, int | None], int](int)
        for one in questions:
            counts[one.number, one.window] += 1
        due = [counts[n, window] for n in range(ALARMS) for window in range(first, last + 1)]
        return Evaluated(len(due), sum(one > 1 for one in due), due.count(0))
    times = defaultdict[int, list[float]](list)
    for one in found:
        times[one.number].append(one.at)
    gaps = [b - a for of in times.values() for a, b in itertools.pairwise(sorted(of))]
    return Evaluated(
        len(found),
        sum(gap < INTERVAL / 2 for gap in gaps),
        sum(gap > 1.75 * INTERVAL for gap in gaps) + ALARMS - len(times),
    )


def carried_out(fleet: Fleet, waves: Waves, sink: Sink) -> list[tuple[str, Any]]:
    """Let evaluators go through all of it; return what came of it, by name."""
    for name in "abc":
        fleet.start(name)
    pass_windows(4)
    begin = time.time()
    fleet.start("d")
    pass_windows(2)
    fleet.stop("a")
    pass_windows(2)
    for old, new in zip("bcd", "efg", strict=True):
        fleet.start(new)
        pass_windows(1)
        fleet.stop(old)
    pass_windows(2)
    planned = time.time()
    fleet.kill("e")
    pass_windows(4)
    after = time.time()
    sink.is_away = True
    pass_windows(5)
    sink.is_away = False
    pass_windows(7)
    fleet.kill("f")
    fleet.kill("g")
    calm = evaluated(waves.questions, begin, planned)
    killed = evaluated(waves.questions, planned, after)
    taken, again, repeats, lost = sink.account()
    return [
        *(("evaluations", calm.number), ("twice", calm.twice), ("missed", calm.missed)),
        *(("twice after the kill", killed.twice), ("missed after it", killed.missed)),
        *(("notifications", taken), ("with a key again", again), ("repeats", repeats)),
        ("lost", lost),
    ]


def play(kind: str, folder: Path) -> list[tuple[str, Any]]:
    """Return what came of evaluators of a kind."""
    with contextlib.ExitStack() as stack:
        sink = Sink(stack.enter_context(HTTPServer()))
        waves = Waves(stack, ALARMS, INTERVAL, LAG)
        server = stack.enter_context(PostgreSQLServer())
        redis = stack.enter_context(RedisServer(persist=True)) if kind != "aodh" else None
        if kind == "hashring":
            assert redis is not None
            database = Database(server.url)
            migrations.migrate(database)
            database.close()
            path = folder / "aodh.conf"
            path.write_text(f"[DEFAULT]\nadditional_ingestion_lag = {LAG}\n")
            ours = Evaluators(
                folder,
                *("--config-file", str(path), "--prometheus-url", waves.proxy.url),
                *("--interval", str(INTERVAL), "--ttl", str(TTL)),
                *("--database", server.url, "--backend-url", redis.url),
            )
            stack.callback(ours.end)
            ours.write(squares(sink.url))
            return carried_out(ours, waves, sink)
        backend = ""
        if redis is not None:
            ours_or_tooz = kind.removeprefix("aodh+").removesuffix("redis")
            backend = f"{ours_or_tooz}{redis.url}?timeout={TTL:.0f}"
        theirs = Aodh(folder, server, waves.proxy.url, backend, sink.url)
        stack.callback(theirs.end)
        return carried_out(theirs, waves, sink)


def main() -> None:
    kinds = ("hashring", "aodh", "aodh+redis", "aodh+hashring+redis")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=", ".join(kinds))
    given = parser.parse_args().kinds or list(kinds)
    if unknown := [kind for kind in given if kind not in kinds]:
        parser.error(f"no evaluators {unknown[0]!r}: one of {', '.join(kinds)}")
    for number, kind in enumerate(given):
        still = Standstill()
        with tempfile.TemporaryDirectory() as folder, still:
            found = play(kind, Path(folder))
        if not number:
            print("| evaluators |", " | ".join(name for name, _ in found), "|")
            print("|---" * (len(found) + 1) + "|")
        print(f"| `{kind}` |", " | ".join(f"{value:,}" for _, value in found), "|", flush=True)
        if still.longest:
            print(f"({kind}: the machine stood still for {still.longest:.1f} s)", flush=True)


if __name__ == "__main__":
    main()
