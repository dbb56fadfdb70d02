"""Gnocchi's own metricd on PostgreSQL and files: sacks that two worked on at once, and losses."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from hashring import clock
from tests.servers import openstack
from tests.servers.postgresql import PostgreSQLServer
from tests.servers.process import wait_until
from tests.servers.redis import RedisServer
from tests.tooz.service import Services, fields_of

_SACKS = 16
_WORKERS = 2

PHASES = ("read", "computed", "stored")
"""Where a worker can be stopped: it has read the measures of a sack; it has computed and stored
nothing; it has stored and not yet taken the measures away."""


class Work(NamedTuple):
    """A worker took the measures out of a sack and stored them; boottime, in seconds."""

    began: float
    ended: float
    worker: int
    sack: str


class Metricd(Services):
    """Daemons of one Gnocchi, each with two workers, and who feeds it measures.

    Args:
        folder: an empty one; the aggregates lie there.
        url: `coordination_url`.
        server: runs; the index is a database in it.
        incoming: runs; what was not worked on yet lies there. (Gnocchi's folder for that now and
            then shows its workers a metric without measures, which they log as an error.)
        metrics: how many there are.
    """

    def __init__(
        self,
        folder: Path,
        url: str,
        server: PostgreSQLServer,
        incoming: RedisServer,
        *,
        metrics: int,
    ) -> None:
        super().__init__(folder, openstack.python_with_services())
        self._metrics = metrics
        self._record = folder / "work"
        self._record.touch()
        self._configuration = folder / "gnocchi.conf"
        self.install("hashring_gnocchi")
        server.run("DROP DATABASE IF EXISTS gnocchi")
        server.run("CREATE DATABASE gnocchi")
        self._configuration.write_text(
            f"[DEFAULT]\ncoordination_url = {url}\nparallel_operations = 1\n"
            f"[indexer]\nurl = {server.url.rpartition('/')[0]}/gnocchi\n"
            f"[incoming]\ndriver = redis\nredis_url = {incoming.url}\n"
            f"[storage]\nfile_basepath = {folder}/data\n"
            f"[metricd]\nworkers = {_WORKERS}\nmetric_processing_delay = 1\n"
            f"metric_cleanup_delay = 5\nmetric_reporting_delay = 5\n"
        )
        named = ("--config-file", str(self._configuration))
        self.run(
            "gnocchi.cli.manage:upgrade", "gnocchi-upgrade", *named, f"--sacks-number={_SACKS}"
        )
        self._feeder: subprocess.Popen[bytes] | None = None

    def start(self) -> subprocess.Popen[bytes]:
        """Start one more daemon."""
        named = ("--config-file", str(self._configuration))
        command = self.command(
            "gnocchi.cli.metricd:metricd", "gnocchi-metricd", *named, first=["hashring_gnocchi"]
        )
        return self.launch(
            command, {"RECORDED_FILE": str(self._record), "RECORDED_STOPS": str(self.folder)}
        )

    def feed(self) -> None:
        """Begin to feed."""
        arguments = ["feed", str(self._configuration), str(self.folder), str(self._metrics)]
        self._feeder = self.launch(self.command("hashring_gnocchi:feed", *arguments))

    def stop_feeding(self) -> None:
        """Feed no more."""
        assert self._feeder is not None
        self._feeder.terminate()
        assert self._feeder.wait(60) == 0

    def count(self) -> dict[str, int]:
        """Return how many measures were ``fed``, are ``waiting`` and, once none are, ``lost``."""
        arguments = ["count", str(self._configuration), str(self.folder)]
        return dict(json.loads(self.run("hashring_gnocchi:count", *arguments)))

    @property
    def work(self) -> list[Work]:
        """All work on sacks so far, in order."""
        found = []
        for began, ended, worker, sack in fields_of(self._record):
            found.append(Work(float(began), float(ended), int(worker), sack))
        return sorted(found)

    def workers(self, daemon: subprocess.Popen[bytes]) -> set[int]:
        """Return the processes of a daemon that work on sacks."""
        found = set()
        for pid in self.children(daemon):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                if b"processing worker" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    found.add(pid)
        return found

    def stop_in_hand(self, worker: int, phase: str) -> int:
        """Have a worker stop itself with a sack in hand; return how many measures of it it has."""
        wanted = self.folder / f"{worker}-{phase}"
        told = wanted.with_suffix(".stopped")
        told.unlink(missing_ok=True)
        wanted.touch()
        wait_until(told.exists, within=120, what=f"a worker that has {phase} a sack's measures")
        return int(told.read_text())

    def wait_for_work(self, *daemons: subprocess.Popen[bytes]) -> None:
        """Wait until each worker of these has taken measures out of a sack from now on."""
        began = clock.boottime()

        def is_so() -> bool:
            workers = [self.workers(daemon) for daemon in daemons]
            if any(len(found) < _WORKERS for found in workers):
                return False
            at_work = {one.worker for one in self.work if one.began >= began}
            return set().union(*workers) <= at_work

        wait_until(is_so, within=180, what=f"{len(daemons)} daemons at work")


class Account(NamedTuple):
    """What became of metricd through a join, a SIGTERM, a `kill -9` and a pause of 20 s.

    Attributes:
        work: how often a worker took measures out of a sack.
        at_once: how often two did at once on one sack.
        in_hand: how many sacks the workers that were stopped had in hand, and went on with.
        beside_paused: how often another worked on one of these meanwhile.
        slow: how often a sack that gets measures all the time was worked on by nobody for 10 s.
        fed: how many measures were added.
        lost: how many of them are not in the aggregates, once none wait.
        errors: lines of the daemons' log.
    """

    work: int
    at_once: int
    in_hand: int
    beside_paused: int
    slow: int
    fed: int
    lost: int
    errors: int


def play(metricd: Metricd, *, meanwhile: Callable[[], object] = bool) -> Account:
    """Let two daemons go through all of it, fed with measures.

    Args:
        metricd: none of its daemons runs yet.
        meanwhile: called once they are at work.
    """
    try:
        metricd.feed()
        first, second = metricd.start(), metricd.start()
        metricd.wait_for_work(first, second)
        meanwhile()
        third = metricd.start()
        metricd.wait_for_work(first, second, third)
        metricd.tell_to_stop(first)
        first.wait(120)
        fourth = metricd.start()
        metricd.wait_for_work(second, third, fourth)
        metricd.signal(second, signal.SIGKILL)
        metricd.wait_for_work(third, fourth)
        paused = clock.boottime()
        metricd.signal(third, signal.SIGSTOP)
        wait_until(lambda: clock.boottime() - paused > 20, what="20 s")
        metricd.signal(third, signal.SIGCONT)
        metricd.wait_for_work(third, fourth)
        metricd.stop_feeding()
        wait_until(lambda: not metricd.count()["waiting"], within=240, what="no measures wait")
        counted = metricd.count()
    finally:
        metricd.stop()
    work, errors = metricd.work, len(metricd.errors)
    both = at_once(work)
    in_hand = {one for one in work if one.began < paused + 1 and one.ended > paused + 19}
    beside = sum(before in in_hand for before, _ in both)
    found = (len(both) - beside, len(in_hand), beside, slow(work, 10.0))
    return Account(len(work), *found, counted["fed"], counted["lost"], errors)


class Stops(NamedTuple):
    """What became of metricd whose workers were stopped in the middle of their work on a sack.

    Attributes:
        stops: how often one was.
        taken_over: how often another had worked on that sack when the one went on.
        in_hand: how many measures the ones had in hand whose sacks were taken over.
        fed: how many measures were added.
        lost: how many of them are not in the aggregates, once none wait.
        errors: lines of the daemons' log.
    """

    stops: int
    taken_over: int
    in_hand: int
    fed: int
    lost: int
    errors: int


def play_stops(metricd: Metricd, stops: int, seconds: float) -> Stops:
    """Let one worker after the other be stopped with a sack in hand, for so many seconds each."""
    taken: list[tuple[int, float, int]] = []
    try:
        metricd.feed()
        daemons = [metricd.start(), metricd.start()]
        metricd.wait_for_work(*daemons)
        for number in range(stops):
            workers = sorted(metricd.workers(daemons[number % 2]))
            worker = workers[number // 2 % len(workers)]
            measures = metricd.stop_in_hand(worker, PHASES[number % len(PHASES)])
            stopped = clock.boottime()
            wait_until(lambda: clock.boottime() - stopped > seconds, what="the stop")  # noqa: B023
            os.kill(worker, signal.SIGCONT)
            taken.append((worker, stopped, measures))
            metricd.wait_for_work(*daemons)
        metricd.stop_feeding()
        wait_until(lambda: not metricd.count()["waiting"], within=240, what="no measures wait")
        counted = metricd.count()
    finally:
        metricd.stop()
    beside = {before for before, _ in at_once(metricd.work)}
    over = [
        measures
        for worker, stopped, measures in taken
        if any(one.worker == worker and one.began <= stopped < one.ended for one in beside)
    ]
    errors = len(metricd.errors)
    return Stops(stops, len(over), sum(over), counted["fed"], counted["lost"], errors)


def at_once(work: list[Work]) -> list[tuple[Work, Work]]:
    """Return where a worker began on a sack while another was not through with it."""
    last: dict[str, Work] = {}
    found = []
    for one in work:
        before = last.get(one.sack)
        if before is not None and before.worker != one.worker and before.ended > one.began:
            found.append((before, one))
        if before is None or one.ended > before.ended:
            last[one.sack] = one
    return found


def slow(work: list[Work], seconds: float) -> int:
    """Return how often a sack was worked on by nobody for so long."""
    by_sack: dict[str, list[float]] = {}
    for one in work:
        by_sack.setdefault(one.sack, []).append(one.began)
    return sum(
        after - before > seconds
        for moments in by_sack.values()
        for before, after in itertools.pairwise(moments)
    )
