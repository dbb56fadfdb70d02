"""The guided show of alarms: disks fill up, an evaluator is killed, and each alarm is told once.

Two real evaluators as processes of their own, on an embedded database in a folder that is gone
afterwards. What they ask, and whom they tell, is a server of this process. What the show says at
its end it counts from what that server was told alone.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

import yaml

from hashring import clock
from hashring.errors import HashringError, MissingDependency
from hashring.telemetry.agent.signals import Signals

try:
    from rich.console import Console
    from rich.table import Table
except ImportError as error:  # pragma: no cover - the tests of the wheel run without rich
    raise MissingDependency("the guided show", "rich", "telemetry") from error

__all__ = ["AlarmShow", "Interrupted", "Told", "verdict"]

ALARMS = 40
INTERVAL = 1.0
TTL = 3.0
_PATIENCE = 30.0
_LOOK = 0.1


class Interrupted(HashringError):
    """The audience has left."""


class _Stuck(HashringError):
    """The evaluators did not do what the show waits for; the message says what it was."""


class Told(NamedTuple):
    """One request that the sink has got.

    Attributes:
        at: when, on the boottime clock.
        key: its idempotency key.
        name: of the alarm.
        state: that it has entered.
    """

    at: float
    key: str
    name: str
    state: str


class _World:
    """Prometheus, for disks that are full or not, and the sink that is told; in this process."""

    def __init__(self) -> None:
        self.free_percent = 60.0
        self.told: list[Told] = []
        world = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 10  # seconds: a connection that says nothing ends

            def do_GET(self) -> None:
                [query] = parse_qs(urlsplit(self.path).query)["query"]
                series = {"metric": {"disk": query}, "value": [0, str(world.free_percent)]}
                data = {"resultType": "vector", "result": [series]}
                self._answer(json.dumps({"status": "success", "data": data}).encode())

            def do_POST(self) -> None:
                found = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                key = self.headers["Idempotency-Key"]
                name, state = found["alarm_name"], found["current"]
                world.told.append(Told(clock.boottime(), key, name, state))
                self._answer(b"")

            def _answer(self, body: bytes) -> None:
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """Say nothing: the show does."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    @contextlib.contextmanager
    def turning(self) -> Iterator[None]:
        """Serve while the block runs."""
        self._thread.start()
        try:
            yield
        finally:
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()


class _Stage:
    """Where the show takes place: a folder, and the evaluators in it. Leaves nothing behind."""

    def __init__(self, url: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="hashring-show-"))
        self.log = self.folder / "evaluators.log"
        definitions = self.folder / "alarms.d"
        definitions.mkdir()
        (definitions / "disks.yaml").write_text(yaml.safe_dump(_alarms(url)))
        self._options = ["--state-dir", str(self.folder), "--definitions", str(definitions)]
        self._options += ["--prometheus-url", url, "--interval", str(INTERVAL), "--ttl", str(TTL)]
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def enter(self, name: str) -> None:
        """Start an evaluator."""
        command = [sys.executable, "-m", "hashring", "alarm", "evaluator", "--member", name]
        command += ["--status-file", str(self.folder / f"{name}.json"), *self._options]
        with self.log.open("ab") as log:
            self.processes[name] = subprocess.Popen(  # noqa: S603 - our own command
                command, stdout=log, stderr=log, start_new_session=True
            )

    def status(self, name: str) -> dict[str, Any]:
        """Return what an evaluator says of itself; nothing before it has begun."""
        with contextlib.suppress(OSError, ValueError):
            return dict(json.loads((self.folder / f"{name}.json").read_text()))
        return {}

    def clear(self) -> None:
        """End every evaluator that is still there, at once, and remove the folder. Idempotent."""
        for process in self.processes.values():
            process.kill()
            process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


class AlarmShow:
    """The guided show, from the first evaluator to the account.

    Args:
        console: where it is printed.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console if console is not None else Console()
        self._interrupted = threading.Event()

    def run(self) -> int:
        """Perform the show; return the exit code: 0 if all came out as it should.

        Raises:
            Interrupted: on Ctrl-C or SIGTERM; nothing is left behind.
        """
        world = _World()
        stage = _Stage(world.url)

        def abort() -> None:
            stage.clear()
            os._exit(128 + signal.SIGINT)

        try:
            with world.turning(), Signals(self._interrupted.set, abort=abort):
                try:
                    killed, owned = self._perform(stage, world)
                except _Stuck as error:
                    self._console.print(f"[red]{error}[/red]")
                    self._console.print(stage.log.read_text(errors="replace"), markup=False)
                    return 1
                return self._account(world.told, killed, owned)
        finally:
            stage.clear()

    def _perform(self, stage: _Stage, world: _World) -> tuple[float, int]:
        """Perform it; return when the evaluator was killed, and how many alarms it had."""
        self._say(
            f"{ALARMS} alarms on disks, each evaluated once every {INTERVAL:g} s. Two evaluators "
            "start: [bold]one[/bold] and [bold]two[/bold]"
        )
        for name in ("one", "two"):
            stage.enter(name)
        self._until(stage, lambda: _share(stage, "one", "two"), "both share the alarms")
        self._until(stage, lambda: _have_told(world, "ok") == ALARMS, "all are told to be well")
        counted = self._counted(stage)

        self._say(
            "The disks fill up: [red]5 percent are free[/red], and at that moment "
            "[bold]one[/bold] is killed with [red]kill -9[/red]"
        )
        world.free_percent = 5.0
        stage.processes["one"].kill()
        killed = clock.boottime()
        stage.processes["one"].wait()
        self._until(stage, lambda: _have_told(world, "alarm") == ALARMS, "each alarm is told")

        self._say("All are told. The disks are emptied")
        world.free_percent = 60.0
        self._until(
            stage, lambda: _have_told(world, "ok", after=killed) == ALARMS, "that each is well"
        )
        self._say("All are told. The show ends: [bold]two[/bold] is stopped")
        stage.processes["two"].terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            stage.processes["two"].wait(_PATIENCE)
        return killed, counted

    def _counted(self, stage: _Stage) -> int:
        """Say who has how many alarms; return how many the first one has."""

        def owned(name: str) -> int:
            return int(stage.status(name).get("alarms", {}).get("owned", 0))

        self._until(stage, lambda: owned("one") + owned("two") == ALARMS, "who has which is known")
        one, two = owned("one"), owned("two")
        self._say(f"All is well. [bold]one[/bold] has {one} alarms, [bold]two[/bold] has {two}")
        return one

    # ---- waiting, and what the audience sees

    def _say(self, line: str) -> None:
        stamp = datetime.now().strftime("%H:%M:%S")
        self._console.print(f"[dim]{stamp}[/dim]  {line}", highlight=False)

    def _until(self, stage: _Stage, reached: Callable[[], bool], what: str) -> None:
        deadline = clock.boottime() + _PATIENCE
        while not reached():
            for name, process in stage.processes.items():
                if process.poll() not in (None, -signal.SIGKILL):
                    raise _Stuck(f"evaluator {name} ended by itself; its log:")
            if clock.boottime() > deadline:
                raise _Stuck(f"waited {_PATIENCE:g} s in vain until {what}; the log:")
            if self._interrupted.wait(_LOOK):
                raise Interrupted("the show was interrupted")

    # ---- the account

    def _account(self, told: list[Told], killed: float, owned: int) -> int:
        table = Table(title=f"What the sink was told of {ALARMS} alarms")
        table.add_column("state")
        for column in ("alarms", "requests", "repeated", "longest delay"):
            table.add_column(column, justify="right")
        for state, found in (
            ("ok, at the start", [one for one in told if one.state == "ok" and one.at < killed]),
            ("alarm", [one for one in told if one.state == "alarm"]),
            ("ok again", [one for one in told if one.state == "ok" and one.at >= killed]),
        ):
            keys = {one.key for one in found}
            delay = f"{max(one.at for one in found) - killed:.1f} s" if state == "alarm" else "-"
            table.add_row(
                state, str(len({one.name for one in found})), str(len(found)),
                str(len(found) - len(keys)), delay,
            )  # fmt: skip
        self._console.print(table)
        broken = verdict(told)
        for line in broken:
            self._console.print(f"[red]BROKEN[/red]  {line}", highlight=False)
        if broken:
            return 1
        again = len(told) - len({one.key for one in told})
        repeated = f" {again} requests came twice, under the same key." if again else ""
        self._console.print(
            "[green]As promised[/green]: each alarm was told once to fire and once to clear, in "
            f"that order, the {owned} of the killed evaluator too. Theirs had to wait for its "
            f"lease ({TTL:g} s) and a window ({INTERVAL:g} s).{repeated}",
            highlight=False,
        )
        return 0


def verdict(told: list[Told]) -> list[str]:
    """Return what of the promise was broken, as sentences; empty if all of it was kept.

    The promise: of each alarm the sink is told ``ok``, ``alarm``, ``ok``: each once, in this order.
    A request may come twice only with the same key.
    """
    broken = []
    seen: dict[str, list[str]] = {}
    keys: set[str] = set()
    for one in told:
        if one.key not in keys:
            keys.add(one.key)
            seen.setdefault(one.name, []).append(one.state)
    for number in range(ALARMS):
        name = _name(number)
        if seen.get(name, []) != ["ok", "alarm", "ok"]:
            broken.append(f"{name}: {', '.join(seen.get(name, ['nothing']))} was told")
    return broken


def _name(number: int) -> str:
    return f"disk {number} almost full"


def _alarms(url: str) -> list[dict[str, Any]]:
    return [
        {
            "name": _name(number),
            "type": "prometheus",
            "rule": {
                "query": f"free_percent_{number}",
                "comparison_operator": "lt",
                "threshold": 10,
            },
            "alarm_actions": [f"{url}/hook"],
            "ok_actions": [f"{url}/hook"],
        }
        for number in range(ALARMS)
    ]


def _share(stage: _Stage, *names: str) -> bool:
    return all(
        found.get("state") == "settled" and found.get("members") == sorted(names)
        for found in map(stage.status, names)
    )


def _have_told(world: _World, state: str, after: float = 0.0) -> int:
    return len({one.name for one in list(world.told) if one.state == state and one.at > after})
