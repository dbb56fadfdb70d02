"""Evaluators as processes, a Prometheus that a test makes up, and what a sink was told."""

from __future__ import annotations

import json
import math
import signal
import subprocess
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import sqlalchemy as sa
import yaml

from hashring.alarms.database.engine import Database
from hashring.alarms.database.tables import HISTORY
from tests.begun import Begun
from tests.servers.http import Answer, Asked, HTTPServer
from tests.servers.process import wait_until


def vector(*values: float, at: float = 0.0) -> dict[str, Any]:
    """Return what Prometheus answers: one series for each value."""
    result = [
        {"metric": {"series": str(number)}, "value": [at, str(value)]}
        for number, value in enumerate(values)
    ]
    return {"status": "success", "data": {"resultType": "vector", "result": result}}


class Squares:
    """A Prometheus whose series ``square_N`` are square waves: functions of the time asked for.

    Args:
        server: that answers as it.
        interval: the length of a window in seconds.
    """

    def __init__(self, server: HTTPServer, interval: float) -> None:
        self.server, self.interval = server, interval
        server.answer_with("/api/v1/query", self._answer)

    def value(self, number: int, at: float) -> float:
        window = math.floor(at / self.interval + 1e-6)
        return float((window + number) // (2 + number % 3) % 2)

    def _answer(self, asked: Asked) -> Answer:
        query, at = _question(asked)
        return Answer(vector(self.value(int(query.removeprefix("square_")), at), at=at))

    def asked(self) -> Counter[tuple[int, int]]:
        """Return how often each alarm was asked about in each window, as the log has it."""
        found: Counter[tuple[int, int]] = Counter()
        for asked in self.server.log:
            if asked.path.startswith("/api/v1/query"):
                query, at = _question(asked)
                number = int(query.removeprefix("square_"))
                found[number, math.floor(at / self.interval + 1e-6)] += 1
        return found


def _question(asked: Asked) -> tuple[str, float]:
    form = parse_qs(urlsplit(asked.path).query)
    return form["query"][0], float(form["time"][0])


def told(sink: HTTPServer, path: str = "/in") -> list[tuple[str, dict[str, Any]]]:
    """Return what a sink was told: key and body, in order."""
    return [
        (asked.headers["idempotency-key"].strip('"'), json.loads(asked.body))
        for asked in sink.log
        if asked.path == path
    ]


def square_alarms(number: int, sink: str) -> list[dict[str, Any]]:
    """Return so many alarms on square waves, which tell a sink of every state."""
    return [
        {
            "name": f"alarm {one}",
            "type": "prometheus",
            "rule": {"query": f"square_{one}", "comparison_operator": "gt", "threshold": 0.5},
            "ok_actions": [sink],
            "alarm_actions": [sink],
            "insufficient_data_actions": [sink],
        }
        for one in range(number)
    ]


def changes_in(database: Database) -> dict[str, list[str]]:
    """Return the states that each alarm entered, in order."""
    found: dict[str, list[str]] = defaultdict(list)
    with database.reading() as connection:
        rows = connection.execute(
            sa.select(HISTORY.c.alarm_id, HISTORY.c.detail)
            .where(HISTORY.c.type == "state transition")
            .order_by(HISTORY.c.timestamp)
        )
        for alarm_id, detail in rows:
            found[alarm_id].append(json.loads(detail)["state"])
    return found


class Evaluators:
    """Evaluators of one configuration; none of them outlives the test.

    Args:
        folder: for their files.
        options: of every one, on the command line.
    """

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self.definitions = folder / "alarms.d"
        self.definitions.mkdir()
        self._options = ["--state-dir", str(folder / "state")]
        self._options += ["--definitions", str(self.definitions), *options]
        self._started: list[subprocess.Popen[bytes]] = []
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def write(self, alarms: list[dict[str, Any]], name: str = "all.yaml") -> None:
        fresh = self.folder / "fresh"
        fresh.write_text(yaml.safe_dump(alarms))
        fresh.replace(self.definitions / name)

    def start(self, name: str, *options: str) -> None:
        command = ["alarm", "evaluator", "--member", name]
        command += ["--status-file", str(self.folder / f"{name}.json"), "--log-level", "info"]
        with (self.folder / f"{name}.log").open("ab") as log:
            process = Begun(
                [*command, *self._options, *options], stderr=log, start_new_session=True
            )
        self._started.append(process)
        self.processes[name] = process

    def stop(self, name: str) -> None:
        """Tell one to hand over, and wait for its end."""
        self.processes[name].send_signal(signal.SIGTERM)
        assert self.processes[name].wait(60) == 0, self.said(name)

    def kill(self, name: str) -> None:
        self.processes[name].kill()
        self.processes[name].wait()

    def said(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()

    def status(self, name: str) -> dict[str, Any]:
        try:
            return dict(json.loads((self.folder / f"{name}.json").read_text()))
        except FileNotFoundError:
            return {}

    def settle(self, *names: str) -> None:
        """Wait until these, and no others, share the alarms."""

        def settled() -> bool:
            return all(
                found.get("state") == "settled"
                and found["members"] == sorted(names)
                and found["pid"] == self.processes[name].pid
                for name in names
                for found in [self.status(name)]
            )

        try:
            wait_until(settled, what=f"{', '.join(names)} share the alarms")
        except AssertionError as error:
            for name in names:
                error.add_note(f"{name}: {self.status(name)}\n{self.said(name)[-3000:]}")
            raise

    def end(self) -> None:
        for process in self._started:
            if process.poll() is None:
                process.kill()
            process.wait()


@contextmanager
def evaluators(folder: Path, *options: str) -> Iterator[Evaluators]:
    found = Evaluators(folder, *options)
    try:
        yield found
    finally:
        found.end()
