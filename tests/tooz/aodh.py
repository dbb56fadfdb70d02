"""Aodh's own evaluators on PostgreSQL: alarms that two evaluated, gaps, repeated notifications."""

from __future__ import annotations

import contextlib
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from hashring import clock
from tests.servers import openstack
from tests.servers.postgresql import PostgreSQLServer
from tests.servers.process import wait_until
from tests.tooz.ceilometer import Poll, interleaved
from tests.tooz.service import Services, fields_of


class Evaluators(Services):
    """Evaluators of one Aodh, whose alarms go on and off.

    Args:
        folder: an empty one.
        url: `[coordination] backend_url`; without it Aodh has its database decide.
        server: runs; the alarms are a database in it.
        alarms: how many there are.
        interval: seconds between two evaluations of each.
    """

    def __init__(
        self, folder: Path, url: str, server: PostgreSQLServer, *, alarms: int, interval: int
    ) -> None:
        super().__init__(folder, openstack.python_with_services())
        self._alarms = alarms
        self.interval = interval
        self._record = folder / "record"
        self._record.touch()
        self._named = ("--config-file", str(folder / "aodh.conf"))
        self.install("hashring_aodh")
        server.run("DROP DATABASE IF EXISTS aodh")
        server.run("CREATE DATABASE aodh")
        (folder / "aodh.conf").write_text(
            f"[DEFAULT]\ntransport_url = fake://\nrecord_history = false\n"
            f"enable_evaluation_results_metrics = false\n"
            f"[database]\nconnection = {server.url.rpartition('/')[0]}/aodh\n"
            f"[evaluator]\nworkers = 1\nevaluation_interval = {interval}\n"
            f"[service_credentials]\nauth_type = none\n"
            f"[coordination]\n" + (f"backend_url = {url}\n" if url else "")
        )
        self.run("aodh.cmd.storage:dbsync", "aodh-dbsync", *self._named)
        self.run("hashring_aodh:fill", "fill", str(folder / "aodh.conf"), str(alarms))

    def start(self) -> subprocess.Popen[bytes]:
        """Start one more evaluator."""
        command = self.command(
            "aodh.cmd.alarm:evaluator", "aodh-evaluator", *self._named, first=["hashring_aodh"]
        )
        return self.launch(command, {"RECORDED_FILE": str(self._record)})

    @property
    def log(self) -> str:
        """What they have said, each until it was told to stop.

        Aodh leaves the group before its cycle is over. A cycle that begins then finds itself not in
        the group, joins again, and complains when the coordinator is stopped: on any backend.
        """
        stopped: set[str] = set()
        kept = []
        for line in super().log.splitlines(keepends=True):
            pid = "".join(line.split()[2:3])
            if "Caught SIGTERM signal, graceful exiting of service" in line:
                stopped.add(pid)
            if pid not in stopped:
                kept.append(line)
        return "".join(kept)

    def _lines(self, fields: int) -> list[list[str]]:
        lines = fields_of(self._record)
        return sorted((one for one in lines if len(one) == fields), key=lambda one: float(one[0]))

    @property
    def evaluations(self) -> list[Poll]:
        """All evaluations so far, in order."""
        return [Poll(float(now), int(who), alarm) for now, who, alarm in self._lines(3)]

    @property
    def notifications(self) -> list[tuple[float, str, str]]:
        """All notifications so far, in order: when, and which alarm came into which state."""
        return [(float(now), alarm, state) for now, _, alarm, state in self._lines(4)]

    def wait_for_shares(self, evaluators: int, *, surely: bool) -> float:
        """Wait until so many evaluate all alarms; return when it is so."""

        def is_so() -> bool:
            since = clock.boottime() - 1.8 * self.interval
            seen = [one for one in self.evaluations if one.moment >= since]
            everybody, everything = {one.agent for one in seen}, {one.resource for one in seen}
            return len(everybody) == evaluators and len(everything) == self._alarms

        what = f"{evaluators} evaluators share {self._alarms} alarms"
        with contextlib.nullcontext() if surely else contextlib.suppress(AssertionError):
            wait_until(is_so, within=120 if surely else 40, what=what)
        return clock.boottime()


class Account(NamedTuple):
    """What became of evaluators through a join, a SIGTERM, a join, a `kill -9` and a pause of 20 s.

    Attributes:
        evaluations: from when the first three shared all alarms, to the end.
        close: how often another evaluated an alarm within half an interval, up to when the paused
            one went on.
        turns: how often two did in turns, up to then.
        gaps: how often an alarm was not evaluated for 1.75 intervals in the planned changes.
        notifications: how many there were.
        repeats: how many of them said what the one before had said of that alarm, up to when the
            paused one went on: it goes on with its list.
        repeats_after: the same from then on.
        errors: lines of the evaluators' log.
    """

    evaluations: int
    close: int
    turns: int
    gaps: int
    notifications: int
    repeats: int
    repeats_after: int
    errors: int


def play(
    fleet: Evaluators, *, surely: bool = True, meanwhile: Callable[[], object] = bool
) -> Account:
    """Let three evaluators go through all of it.

    Args:
        fleet: none of its evaluators runs yet.
        surely: all alarms must be shared after each change, within two minutes.
        meanwhile: called once the first three share all alarms.
    """
    try:
        evaluators = [fleet.start() for _ in range(3)]
        steady = fleet.wait_for_shares(3, surely=surely)
        meanwhile()
        evaluators.append(fleet.start())
        fleet.wait_for_shares(4, surely=surely)
        fleet.tell_to_stop(evaluators[0])
        fleet.wait_for_shares(3, surely=surely)
        evaluators.append(fleet.start())
        planned = fleet.wait_for_shares(4, surely=surely)
        fleet.signal(evaluators[1], signal.SIGKILL)
        fleet.wait_for_shares(3, surely=surely)
        paused = clock.boottime()
        fleet.signal(evaluators[2], signal.SIGSTOP)
        wait_until(lambda: clock.boottime() - paused > 20, what="20 s")
        woken = clock.boottime()
        fleet.signal(evaluators[2], signal.SIGCONT)
        fleet.wait_for_shares(3, surely=surely)
    finally:
        fleet.stop()
    found = [one for one in fleet.evaluations if one.moment >= steady]
    notified = fleet.notifications
    before = repeats([one for one in notified if one[0] < woken])
    return Account(
        len(found),
        close([one for one in found if one.moment < woken], fleet.interval / 2),
        len(interleaved([one for one in found if one.moment < woken], fleet.interval)),
        gaps([one for one in found if one.moment < planned], 1.75 * fleet.interval),
        len(notified),
        before,
        repeats(notified) - before,
        len(fleet.errors),
    )


def close(evaluations: list[Poll], seconds: float) -> int:
    """Return how often an alarm was evaluated within so many seconds by another than before."""
    last: dict[str, Poll] = {}
    found = 0
    for one in evaluations:
        before = last.get(one.resource, one)
        found += before.agent != one.agent and one.moment - before.moment < seconds
        last[one.resource] = one
    return found


def gaps(evaluations: list[Poll], seconds: float) -> int:
    """Return how often an alarm was not evaluated for longer than so many seconds."""
    last: dict[str, float] = {}
    found = 0
    for one in evaluations:
        found += one.moment - last.get(one.resource, one.moment) > seconds
        last[one.resource] = one.moment
    return found


def repeats(notifications: list[tuple[float, str, str]]) -> int:
    """Return how many notifications said of an alarm what the one before had said."""
    last: dict[str, str] = {}
    found = 0
    for _, alarm, state in notifications:
        found += last.get(alarm) == state
        last[alarm] = state
    return found
