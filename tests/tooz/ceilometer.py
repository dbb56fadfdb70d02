"""Ceilometer's own polling agents, in processes and an environment of their own; their account.

What they poll is written down: see ``ceilometer_plugin``. Our tree is seen from their environment
as it is installed in ours.
"""

from __future__ import annotations

import collections
import os
import signal
import subprocess
import sysconfig
from pathlib import Path
from typing import NamedTuple

from hashring import clock
from tests.servers import openstack
from tests.servers.process import wait_until

_PLUGIN = Path(__file__).with_name("ceilometer_plugin")

_PROGRAM = """
import site, sys
site.addsitedir({folder!r})
sys.argv[0] = "ceilometer-polling"
from ceilometer.cmd.polling import main
main()
"""


class Poll(NamedTuple):
    """One agent polled one resource at a moment, on the boottime clock."""

    moment: float
    agent: int
    resource: str


class Fleet:
    """Agents of one configuration.

    Args:
        folder: an empty one.
        url: `[coordination] backend_url`.
        resources: how many there are.
        interval: seconds between two polls of each.
    """

    def __init__(self, folder: Path, url: str, *, resources: int, interval: int) -> None:
        self._folder = folder
        self._resources = resources
        self.interval = interval
        self._record = folder / "polls"
        self._record.touch()
        self._site = folder / "site"
        self._agents: list[subprocess.Popen[bytes]] = []
        self._make_site()
        (folder / "polling.yaml").write_text(
            f"sources: [{{name: recorded, interval: {interval}, meters: [recorded]}}]\n"
        )
        (folder / "ceilometer.conf").write_text(
            f"[DEFAULT]\nhost = here\ndebug = false\n"
            f"[coordination]\nbackend_url = {url}\n"
            f"[polling]\ncfg_file = {folder}/polling.yaml\nenable_notifications = false\n"
        )

    def _make_site(self) -> None:
        """Make a folder in which Ceilometer's Python finds our tree and the plug-in installed."""
        self._site.mkdir()
        ours = Path(sysconfig.get_path("purelib"))
        for pattern in ("__editable__*hashring*", "hashring_ha-*.dist-info"):
            for found in ours.glob(pattern):
                (self._site / found.name).symlink_to(found)
        (self._site / "hashring_recorded.py").symlink_to(_PLUGIN / "hashring_recorded.py")
        info = self._site / "hashring_recorded-1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            "Metadata-Version: 2.1\nName: hashring-recorded\nVersion: 1\n"
        )
        (info / "entry_points.txt").write_text(
            "[ceilometer.discover.recorded]\nrecorded = hashring_recorded:Discovery\n"
            "[ceilometer.poll.recorded]\nrecorded = hashring_recorded:Pollster\n"
        )

    def start(self) -> subprocess.Popen[bytes]:
        """Start one more agent."""
        command = [str(openstack.python()), "-W", "ignore", "-c"]
        command += [_PROGRAM.format(folder=str(self._site))]
        command += ["--config-file", str(self._folder / "ceilometer.conf")]
        command += ["--polling-namespaces", "recorded"]
        environment = {
            **os.environ,
            "RECORDED_FILE": str(self._record),
            "RECORDED_RESOURCES": str(self._resources),
        }
        with (self._folder / "log").open("ab") as log:
            agent = subprocess.Popen(
                command, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        self._agents.append(agent)
        return agent

    def signal(self, agent: subprocess.Popen[bytes], number: signal.Signals) -> None:
        """Send a signal to an agent and the worker that it has forked."""
        os.killpg(agent.pid, number)

    def stop(self) -> None:
        """End all agents."""
        for agent in self._agents:
            if agent.poll() is None:
                self.signal(agent, signal.SIGCONT)
                agent.terminate()
        for agent in self._agents:
            try:
                agent.wait(30)
            except subprocess.TimeoutExpired:
                self.signal(agent, signal.SIGKILL)
                agent.wait()

    @property
    def log(self) -> str:
        """What the agents have said."""
        return (self._folder / "log").read_text(errors="replace")

    @property
    def polls(self) -> list[Poll]:
        """All polls so far, in order."""
        found = []
        for line in self._record.read_text().splitlines():
            moment, agent, resource = line.split()
            found.append(Poll(float(moment), int(agent), resource))
        return sorted(found)

    @property
    def errors(self) -> list[str]:
        """What the agents have complained of, but for plug-ins that lack what they need."""
        return [
            line
            for line in self.log.splitlines()
            if ("ERROR" in line or "Traceback" in line) and "Could not load" not in line
        ]

    def wait_for_shares(self, agents: int) -> float:
        """Wait until so many agents, and no others, poll all resources; return when it is so."""

        def is_so() -> bool:
            seen = collections.defaultdict(set)
            since = clock.boottime() - 1.8 * self.interval
            for poll in self.polls:
                if poll.moment >= since:
                    seen[poll.agent].add(poll.resource)
            return len(seen) == agents and len(set().union(*seen.values())) == self._resources

        wait_until(is_so, within=120, what=f"{agents} agents share {self._resources} resources")
        return clock.boottime()


class Account(NamedTuple):
    """What became of a fleet through a join, a SIGTERM, a `kill -9` and a pause of 20 s.

    Attributes:
        polls: from when the first agents shared everything, to the end.
        turns: how often two agents polled a resource in turns, up to when the paused one went on:
            it goes on with its list, since tooz has no call between two polls.
        turns_after: the same from then on.
        gaps: how often a resource was not polled for two intervals in the planned changes.
    """

    polls: int
    turns: int
    turns_after: int
    gaps: int


def play(fleet: Fleet) -> Account:
    """Let three agents go through all of it."""
    try:
        agents = [fleet.start() for _ in range(3)]
        steady = fleet.wait_for_shares(3)
        agents.append(fleet.start())
        fleet.wait_for_shares(4)
        agents[0].send_signal(signal.SIGTERM)
        planned = fleet.wait_for_shares(3)
        fleet.signal(agents[1], signal.SIGKILL)
        fleet.wait_for_shares(2)
        paused = clock.boottime()
        fleet.signal(agents[2], signal.SIGSTOP)
        wait_until(lambda: clock.boottime() - paused > 20, what="20 s")
        woken = clock.boottime()
        fleet.signal(agents[2], signal.SIGCONT)
        wait_until(lambda: clock.boottime() - woken > 4 * fleet.interval, what="four intervals")
    finally:
        fleet.stop()
    polls = [poll for poll in fleet.polls if poll.moment >= steady]
    turns = interleaved(polls, fleet.interval)
    before = [turn for turn in turns if turn[2].moment < woken]
    planned_polls = [poll for poll in polls if poll.moment < planned]
    missed = gaps(planned_polls, 2 * fleet.interval)
    return Account(len(polls), len(before), len(turns) - len(before), missed)


def interleaved(polls: list[Poll], interval: float) -> list[tuple[Poll, Poll, Poll]]:
    """Return where one agent, then another, and then the first again polled a resource within 1.6
    intervals: both took it for theirs.
    """
    by_resource = collections.defaultdict(list)
    for poll in polls:
        by_resource[poll.resource].append(poll)
    return [
        (first, other, again)
        for found in by_resource.values()
        for first, other, again in zip(found, found[1:], found[2:], strict=False)
        if first.agent == again.agent != other.agent
        and again.moment - first.moment < 1.6 * interval
    ]


def gaps(polls: list[Poll], longest: float) -> int:
    """Return how often a resource was not polled for longer than so many seconds."""
    last: dict[str, float] = {}
    found = 0
    for poll in polls:
        found += poll.moment - last.get(poll.resource, poll.moment) > longest
        last[poll.resource] = poll.moment
    return found
