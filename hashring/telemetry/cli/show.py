"""The guided show: agents share this machine, one is killed, one joins, one is stopped.

Real agents, as processes of their own, on an embedded store in a folder that is gone afterwards.
What the show says at its end it counts from the samples alone
(:mod:`hashring.telemetry.cli.audit`). Knows the script of the show and how to print it; whatever it
shows the agents do by themselves.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from datetime import datetime
from multiprocessing.context import SpawnProcess
from pathlib import Path
from urllib.parse import quote

import click

from hashring import clock
from hashring.errors import HashringError, MissingDependency
from hashring.telemetry.agent.launch import Launch
from hashring.telemetry.agent.signals import Signals
from hashring.telemetry.agent.status import Status, read_status
from hashring.telemetry.agent.supervisor import start_worker
from hashring.telemetry.cli.audit import Event, Period, audit, read_samples
from hashring.telemetry.config.command_line import agent_settings
from hashring.telemetry.model.resource import Resource
from hashring.telemetry.model.settings import Settings
from hashring.telemetry.sources.host import machine
from hashring.telemetry.sources.host.discovery import (
    Discovery,
    DiskDiscovery,
    FilesystemDiscovery,
    HostDiscovery,
    InterfaceDiscovery,
    ProcessDiscovery,
    ProcessorDiscovery,
)

try:
    from rich.console import Console
    from rich.live import Live
    from rich.table import Table
except ImportError as error:  # pragma: no cover - the tests of the wheel run without rich
    raise MissingDependency("the guided show", "rich", "telemetry") from error

__all__ = ["Interrupted", "Show", "show", "verdict"]

INTERVAL = 2.0
TTL = 3.0
_REFRESH = 0.25
_MOST_PROCESSES = 200
_SECONDS_TO_SETTLE = 20.0
_CALM_WINDOWS = 2

_START, _KILL, _JOIN, _STOP = "start", "kill -9", "join", "stop"


class Interrupted(HashringError):
    """The audience has left."""


class _Stuck(HashringError):
    """The agents did not do what the show waits for; the message says what it was."""


@dataclasses.dataclass
class _Actor:
    """One agent of the show."""

    name: str
    process: SpawnProcess
    status_file: Path
    fate: str = ""

    @property
    def plays(self) -> bool:
        return not self.fate

    @property
    def status(self) -> Status | None:
        return read_status(self.status_file)


class _Stage:
    """Where the show takes place: a folder, and the agents in it. Leaves nothing behind."""

    def __init__(self, resources: list[str]) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="hashring-show-"))
        self.samples = self.folder / "samples.jsonl"
        self.samples.touch()
        self.log = self.folder / "agents.log"
        self.log.touch()
        self.actors: dict[str, _Actor] = {}
        self._resources = tuple(resources)
        self._url = f"sqlite://{quote(str(self.folder / 'group.db'))}"

    def enter(self, name: str) -> None:
        """Start an agent."""
        status_file = self.folder / f"{name}.json"
        settings = agent_settings(
            backend_url=self._url,
            group="show",
            member=name,
            interval=INTERVAL,
            ttl=TTL,
            output=str(self.samples),
            resources=self._resources,
            on_crash="skip",
            status_file=status_file,
        )
        process = start_worker(Launch(settings), log_level="INFO", log_file=str(self.log))
        self.actors[name] = _Actor(name, process, status_file)

    def kill(self, name: str) -> None:
        """End an agent as a crash would."""
        self.actors[name].fate = "killed"
        self.actors[name].process.kill()

    def stop(self, name: str) -> None:
        """Ask an agent to leave."""
        self.actors[name].fate = "leaving"
        self.actors[name].process.terminate()

    def clear(self) -> None:
        """End every agent that is still there, at once, and remove the folder. Idempotent."""
        for actor in self.actors.values():
            with contextlib.suppress(ValueError):  # it is closed already
                actor.process.kill()
                actor.process.join()
                actor.process.close()
        shutil.rmtree(self.folder, ignore_errors=True)


@click.command()
def show() -> int:
    """See agents share this machine, die, join and leave, in under a minute."""
    try:
        return Show().run()
    except Interrupted:
        return 130


class Show:
    """The guided show, from the first agent to the account.

    Args:
        console: where it is printed; a live table where that is a terminal, plain text elsewhere.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console if console is not None else Console()
        self._interrupted = threading.Event()
        self._live: Live | None = None
        self._said: dict[str, str] = {}

    def run(self) -> int:
        """Perform the show; return the exit code: 0 if all came out as it should.

        Raises:
            Interrupted: on Ctrl-C or SIGTERM; nothing is left behind.
        """
        resources = self._cast()
        stage = _Stage(list(resources))

        def abort() -> None:
            stage.clear()
            os._exit(128 + signal.SIGINT)

        try:
            with Signals(self._interrupted.set, abort=abort):
                try:
                    events, until = self._perform(stage, resources)
                except _Stuck as error:
                    self._console.print(f"[red]{error}[/red]")
                    self._console.print(stage.log.read_text(errors="replace"), markup=False)
                    return 1
                return self._account(stage, resources, events, until)
        finally:
            stage.clear()

    def _cast(self) -> dict[str, Resource]:
        """What is there to poll throughout the show: of many processes, the oldest."""
        found = {resource.id: resource for resource in _discovered()}
        processes = sorted(
            (resource for resource in found.values() if resource.kind == "process"),
            key=lambda resource: int(resource.attributes["start"]),
        )
        for young in processes[_MOST_PROCESSES:]:
            del found[young.id]
        kinds: dict[str, int] = {}
        for resource in found.values():
            kinds[resource.kind] = kinds.get(resource.kind, 0) + 1
        self._console.print(
            f"[bold]{len(found)} resources[/bold] of {machine.host_id()} to share: "
            + ", ".join(f"{number} {_plural(kind, number)}" for kind, number in kinds.items())
            + f". Each is due once every {INTERVAL:g} s; an agent's lease is {TTL:g} s."
        )
        return found

    def _perform(self, stage: _Stage, resources: dict[str, Resource]) -> tuple[list[Event], float]:
        events = []
        with self._watching(stage):
            self._say("Three agents start: [bold]a[/bold], [bold]b[/bold] and [bold]c[/bold]")
            for name in "abc":
                stage.enter(name)
            self._settle(stage)
            # Everything is due from the first whole window in which all three are at work.
            events.append(Event(_START, math.ceil(clock.wall() / INTERVAL) * INTERVAL))
            self._calm(stage)

            self._say("[bold]b[/bold] is killed with [red]kill -9[/red]: its lease must run out")
            events.append(Event(_KILL, clock.wall()))
            stage.kill("b")
            self._settle(stage)
            self._calm(stage)

            self._say("[bold]d[/bold] joins")
            events.append(Event(_JOIN, clock.wall()))
            stage.enter("d")
            self._settle(stage)
            self._calm(stage)

            self._say("[bold]c[/bold] is stopped with SIGTERM: it hands over, then leaves")
            events.append(Event(_STOP, clock.wall()))
            stage.stop("c")
            self._settle(stage)
            self._calm(stage)

            until = math.floor(clock.wall() / INTERVAL) * INTERVAL
            self._say("The show ends: the last two are stopped as well")
            for actor in stage.actors.values():
                if actor.plays:
                    stage.stop(actor.name)
            self._until(stage, lambda: _all_left(stage), "the agents leave")
        return events, until

    # What the audience sees

    @contextlib.contextmanager
    def _watching(self, stage: _Stage) -> Iterator[None]:
        if not self._console.is_terminal:
            yield
            return
        live = Live(
            console=self._console, auto_refresh=False, get_renderable=lambda: self._scene(stage)
        )
        with live:
            self._live = live
            try:
                yield
            finally:
                self._live = None

    def _say(self, line: str) -> None:
        stamp = datetime.now().strftime("%H:%M:%S")
        self._console.print(f"[dim]{stamp}[/dim]  {line}", highlight=False)

    def _scene(self, stage: _Stage) -> Table:
        table = Table(expand=False)
        for column in ("member", "state"):
            table.add_column(column)
        for column in ("slots", "resources", "last poll", "polls"):
            table.add_column(column, justify="right")
        for actor in stage.actors.values():
            table.add_row(*self._row(actor), style="dim" if actor.fate else "")
        return table

    @staticmethod
    def _row(actor: _Actor) -> tuple[str, ...]:
        status = actor.status
        if status is None:
            return actor.name, actor.fate or "starting", "", "", "", ""
        gone = not actor.process.is_alive()
        return (
            actor.name,
            actor.fate if gone and actor.fate == "killed" else status.state,
            "" if gone else f"{status.slots:,}",
            "" if gone else f"{status.resources:,}",
            "" if status.last_poll is None else _time(status.last_poll),
            f"{status.polls:,}",
        )

    def _refresh(self, stage: _Stage) -> None:
        if self._live is not None:
            self._live.refresh()
            return
        # Plain text: a line for each change of state, in place of a table that moves.
        for actor in stage.actors.values():
            name, state, slots, resources, last_poll, _ = self._row(actor)
            words = [state, f"{slots} slots"] if state == "settled" else [state]
            now = ", ".join(words)
            if self._said.get(name) != now:
                self._said[name] = now
                if resources:
                    words.append(f"{resources} resources")
                if last_poll:
                    words.append(f"last poll {last_poll}")
                self._console.print(f"          {name}: {', '.join(words)}", highlight=False)

    # Waiting

    def _until(self, stage: _Stage, reached: Callable[[], bool], what: str) -> None:
        deadline = clock.boottime() + _SECONDS_TO_SETTLE
        while not reached():
            for actor in stage.actors.values():
                if actor.plays and not actor.process.is_alive():
                    raise _Stuck(f"agent {actor.name} ended by itself; its log:")
            if clock.boottime() > deadline:
                raise _Stuck(f"waited {_SECONDS_TO_SETTLE:g} s in vain until {what}; the log:")
            self._pause(stage)
        self._refresh(stage)

    def _settle(self, stage: _Stage) -> None:
        """Wait until the agents that play, and no others, share everything."""

        def settled() -> bool:
            players = [actor for actor in stage.actors.values() if actor.plays]
            names = tuple(sorted(actor.name for actor in players))
            statuses = [actor.status for actor in players]
            return all(
                status is not None and status.state == "settled" and status.members == names
                for status in statuses
            )

        self._until(stage, settled, "the agents have settled")

    def _calm(self, stage: _Stage) -> None:
        """Let some whole windows pass."""
        end = (math.ceil(clock.wall() / INTERVAL) + _CALM_WINDOWS) * INTERVAL
        self._until(stage, lambda: clock.wall() >= end, "some windows have passed")

    def _pause(self, stage: _Stage) -> None:
        self._refresh(stage)
        if self._interrupted.wait(_REFRESH):
            raise Interrupted("the show was interrupted")

    # The account

    def _account(
        self, stage: _Stage, resources: dict[str, Resource], events: list[Event], until: float
    ) -> int:
        still_there = {resource.id for resource in _discovered()}
        polled = [name for name in resources if name in still_there]
        if len(polled) < len(resources):
            ended = len(resources) - len(polled)
            self._console.print(
                f"{ended} {_plural('resource', ended)} ended meanwhile: not counted"
            )
        periods = audit(
            read_samples(stage.samples),
            resources=polled,
            interval=INTERVAL,
            events=events,
            until=until,
        )
        table = Table(title=f"Polls of {len(polled)} resources, counted from the samples")
        table.add_column("from")
        for column in ("windows", "due", "made", "missed", "repeated", "late", "longest gap"):
            table.add_column(column, justify="right")
        for period in periods:
            table.add_row(
                period.event.name,
                f"{period.windows:,}",
                f"{period.due:,}",
                f"{period.made:,}",
                f"{period.missed:,}",
                f"{period.repeated:,}",
                f"{period.late:,}",
                f"{period.longest_gap * INTERVAL:g} s" if period.longest_gap else "-",
            )
        self._console.print(table)
        broken = verdict(periods, interval=INTERVAL, ttl=TTL)
        for line in broken:
            self._console.print(f"[red]BROKEN[/red]  {line}", highlight=False)
        if broken:
            self._console.print(stage.log.read_text(errors="replace"), markup=False)
            return 1
        [killed] = [period for period in periods if period.event.name == _KILL]
        self._console.print(
            "[green]As promised[/green]: nothing polled twice, nothing missed around the join and "
            f"the stop. The last window with a missed poll ended {killed.last_missed_end:.1f} s "
            f"after the kill ({TTL + INTERVAL:g} s are promised); then all is polled again.",
            highlight=False,
        )
        return 0


def verdict(periods: list[Period], *, interval: float, ttl: float) -> list[str]:
    """Return what of the promise was broken, as sentences; empty if all of it was kept.

    The promise: nothing is polled twice; nothing is missed, but by a crash, and then for
    ``ttl`` and one interval at most.
    """
    broken = []
    for period in periods:
        name = period.event.name
        if period.repeated:
            broken.append(f"{name}: {period.repeated} polls were repeated")
        if period.missed and name != _KILL:
            broken.append(f"{name}: {period.missed} polls were missed")
        if name == _KILL and period.last_missed_end > ttl + interval:
            broken.append(
                f"{name}: polls were missed until {period.last_missed_end:.1f} s after it; "
                f"at most {ttl + interval:g} s is promised"
            )
        if not period.windows:
            broken.append(f"{name}: no whole window passed, so nothing is known")
    return broken


def _discovered() -> Iterator[Resource]:
    settings = Settings(backend_url="", member="", host=machine.host_id())
    discoveries: tuple[type[Discovery], ...] = (
        HostDiscovery,
        ProcessorDiscovery,
        DiskDiscovery,
        FilesystemDiscovery,
        InterfaceDiscovery,
        ProcessDiscovery,
    )
    for discovery in discoveries:
        yield from discovery(settings).discover()


def _all_left(stage: _Stage) -> bool:
    return not any(actor.process.is_alive() for actor in stage.actors.values())


def _time(moment: float) -> str:
    return datetime.fromtimestamp(moment).strftime("%H:%M:%S.%f")[:-5]


def _plural(word: str, number: int) -> str:
    if number == 1:
        return word
    return f"{word}es" if word.endswith("s") else f"{word}s"
