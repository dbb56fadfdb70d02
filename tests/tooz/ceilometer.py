"""Ceilometer's own polling agents and their account.

What they poll is written down: see ``in_services/hashring_recorded.py``.
"""

from __future__ import annotations

import collections
import contextlib
import signal
import subprocess
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from hashring import clock
from tests.servers import openstack
from tests.servers.process import wait_until
from tests.tooz.service import Services, fields_of


class Poll(NamedTuple):
    """One agent polled one resource at a moment, on the boottime clock."""

    moment: float
    agent: int
    resource: str


class Fleet(Services):
    """Agents of one configuration.

    Args:
        folder: an empty one.
        url: `[coordination] backend_url`.
        resources: how many there are.
        interval: seconds between two polls of each.
    """

    def __init__(self, folder: Path, url: str, *, resources: int, interval: int) -> None:
        super().__init__(folder, openstack.python())
        self._resources = resources
        self.interval = interval
        self._record = folder / "polls"
        self._record.touch()
        self.install(
            "hashring_recorded",
            "[ceilometer.discover.recorded]\nrecorded = hashring_recorded:Discovery\n"
            "[ceilometer.poll.recorded]\nrecorded = hashring_recorded:Pollster\n",
        )
        (folder / "polling.yaml").write_text(
            f"sources: [{{name: recorded, interval: {interval}, meters: [recorded]}}]\n"
        )
        (folder / "ceilometer.conf").write_text(
            f"[DEFAULT]\nhost = here\ndebug = false\n"
            f"[coordination]\nbackend_url = {url}\n"
            f"[polling]\ncfg_file = {folder}/polling.yaml\nenable_notifications = false\n"
        )

    def start(self) -> subprocess.Popen[bytes]:
        """Start one more agent."""
        arguments = ["--config-file", str(self.folder / "ceilometer.conf")]
        arguments += ["--polling-namespaces", "recorded"]
        return self.launch(
            self.command("ceilometer.cmd.polling:main", "ceilometer-polling", *arguments),
            {
                "RECORDED_FILE": str(self._record),
                "RECORDED_RESOURCES": str(self._resources),
                "RECORDED_SECONDS": "0.003",
            },
        )

    @property
    def polls(self) -> list[Poll]:
        """All polls so far, in order."""
        found = []
        for moment, agent, resource in fields_of(self._record):
            found.append(Poll(float(moment), int(agent), resource))
        return sorted(found)

    def wait_for_shares(self, agents: int, *, surely: bool = True) -> float:
        """Wait until so many agents, and no others, poll all resources; return when it is so.

        Args:
            agents: how many.
            surely: where it never comes true, fail; else go on after 40 s.
        """

        def is_so() -> bool:
            seen = collections.defaultdict(set)
            since = clock.boottime() - 1.8 * self.interval
            for poll in self.polls:
                if poll.moment >= since:
                    seen[poll.agent].add(poll.resource)
            return len(seen) == agents and len(set().union(*seen.values())) == self._resources

        what = f"{agents} agents share {self._resources} resources"
        with contextlib.nullcontext() if surely else contextlib.suppress(AssertionError):
            wait_until(is_so, within=120 if surely else 40, what=what)
        return clock.boottime()


class Gaps(NamedTuple):
    """How often a resource was not polled for too long, by who polled it before and after.

    Attributes:
        kept: the same agent: it was late.
        joined: an agent that has just come polled it after.
        stopped: an agent that was told to stop polled it before.
        moved: it went from one agent to another, and neither had come or was told to go.
    """

    kept: int
    joined: int
    stopped: int
    moved: int


class Account(NamedTuple):
    """What became of a fleet through a join, a SIGTERM, a `kill -9` and a pause of 20 s.

    Attributes:
        polls: from when the first agents shared everything, to the end.
        turns: how often two agents polled a resource in turns, up to when the paused one went on:
            it goes on with its list, since tooz has no call between two polls.
        turns_after: the same from then on.
        longest: the longest cycle in the planned changes, in tenths of a second.
        gaps: how often a resource was not polled for too long in the planned changes.
    """

    polls: int
    turns: int
    turns_after: int
    longest: int
    gaps: Gaps


def play(fleet: Fleet, *, surely: bool = True, longest: float = 2.0) -> Account:
    """Let three agents go through all of it.

    Args:
        fleet: none of its agents runs yet.
        surely: all resources must be shared after each change, within two minutes.
        longest: a resource that is not polled for more than so many intervals is a gap.
    """
    try:
        agents = [fleet.start() for _ in range(3)]
        steady = fleet.wait_for_shares(3, surely=surely)
        agents.append(fleet.start())
        fleet.wait_for_shares(4, surely=surely)
        stopped = fleet.tell_to_stop(agents[0])
        planned = fleet.wait_for_shares(3, surely=surely)
        fleet.signal(agents[1], signal.SIGKILL)
        fleet.wait_for_shares(2, surely=surely)
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
    missed = gaps(planned_polls, fleet.interval, longest, stopped)
    longest_cycle = longest_of(planned_polls, fleet.interval)
    return Account(len(polls), len(before), len(turns) - len(before), longest_cycle, missed)


def play_planned(fleet: Fleet, rounds: int, *, longest: float = 2.0) -> Account:
    """Let three agents go through so many joins and stops, one after the other, and no fault.

    Arguments are those of `play`.
    """
    stopped: set[int] = set()
    try:
        agents = [fleet.start() for _ in range(3)]
        steady = fleet.wait_for_shares(3, surely=False)
        for _ in range(rounds):
            agents.append(fleet.start())
            fleet.wait_for_shares(4, surely=False)
            stopped |= fleet.tell_to_stop(agents.pop(0))
            planned = fleet.wait_for_shares(3, surely=False)
    finally:
        fleet.stop()
    polls = [poll for poll in fleet.polls if steady <= poll.moment < planned]
    turns = interleaved(polls, fleet.interval)
    missed = gaps(polls, fleet.interval, longest, stopped)
    return Account(len(polls), len(turns), 0, longest_of(polls, fleet.interval), missed)


def longest_of(polls: list[Poll], interval: float) -> int:
    """Return how long the longest cycle took, in tenths of a second: polls of one agent that no
    fifth of an interval parts.
    """
    began: dict[int, float] = {}
    last: dict[int, float] = {}
    longest = 0.0
    for poll in polls:
        if poll.moment - last.get(poll.agent, -interval) > interval / 5:
            began[poll.agent] = poll.moment
        last[poll.agent] = poll.moment
        longest = max(longest, poll.moment - began[poll.agent])
    return round(10 * longest)


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


def gaps(
    polls: list[Poll], interval: float, longest: float = 2.0, stopped: Collection[int] = ()
) -> Gaps:
    """Return how often a resource was not polled for more than so many intervals, and by whom.

    Args:
        polls: in order.
        interval: in seconds.
        longest: in intervals.
        stopped: the agents that were told to stop.
    """
    last: dict[str, Poll] = {}
    first: dict[int, float] = {}
    kinds: collections.Counter[str] = collections.Counter()
    for poll in polls:
        came = first.setdefault(poll.agent, poll.moment)
        before = last.get(poll.resource, poll)
        last[poll.resource] = poll
        if poll.moment - before.moment <= longest * interval:
            continue
        if before.agent == poll.agent:
            kinds["kept"] += 1
        elif before.agent in stopped:
            kinds["stopped"] += 1
        elif poll.moment - came < interval:
            kinds["joined"] += 1
        else:
            kinds["moved"] += 1
    return Gaps(*(kinds[kind] for kind in Gaps._fields))
