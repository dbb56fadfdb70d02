"""Agent: runs a plan: a runner for each group, one outlet for all, and a watch over both.

This module keeps the order of beginning and ending: announce, join, poll; stop, hand over, send
what is left. What a member does in its group is the runner's; what samples go through, the
outlet's.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import threading
from collections.abc import Callable
from contextlib import ExitStack

from hashring import clock
from hashring.errors import HashringError
from hashring.partition.partition import Partition
from hashring.telemetry.agent.reporting import Reporting
from hashring.telemetry.agent.status import Status
from hashring.telemetry.agent.systemd import Notifier, Watchdog
from hashring.telemetry.config.installed import make_publisher
from hashring.telemetry.config.plan import Plan, make_plan
from hashring.telemetry.delivery.delivery import Delivery
from hashring.telemetry.delivery.direct import Direct
from hashring.telemetry.delivery.outlet import Outlet
from hashring.telemetry.delivery.spool import Spool
from hashring.telemetry.model.settings import Settings
from hashring.telemetry.overlap.announcements import Announcements
from hashring.telemetry.overlap.overlap import Announcement
from hashring.telemetry.plugin import Publisher
from hashring.telemetry.polling.runner import Runner
from hashring.telemetry.polling.shared import Shared
from hashring.telemetry.polling.tally import Tally
from hashring.telemetry.polling.witness import Guard

__all__ = ["Agent", "make_outlet", "make_publisher"]

log = logging.getLogger(__name__)

_LOOK = 1.0
"""Seconds between two looks at the other agents' announcements."""

_STUCK = 30.0
"""Seconds without a turn of the main loop after which the watchdog is not told that all is well."""

_DELIVER = 2.0
"""Seconds that the delivery of what is left gets at least when an agent ends."""

_RESTART = (
    "backend_url",
    "member",
    "host",
    "ttl",
    "heartbeat",
    "state_dir",
    "spool_bytes",
    "batch_size",
    "threads",
    "max_in_flight",
    "status_file",
    "listen",
    "token",
    "token_file",
)
"""Settings that a reload leaves as they are."""

_WORST = ("fenced", "joining", "settling", "draining", "settled", "left")
"""States of groups: the agent's is the first of these that any of its groups is in."""


class Agent:
    """One agent: joins its groups, polls its share each window, and hands over when told to stop.

    Args:
        settings: what it is told to do.
        plan: what it polls, and where; by default what the settings and the plug-ins give.
        outlet: what takes the samples; by default the spool in ``settings.state_dir``, or the
            publishers at once without one.
        load: reads settings and plan anew, for a reload; ``None``: there is nothing to read.
        announce: tell agents of all prefixes what it polls, and look for overlaps.

    Raises:
        HashringError: the settings, a definition, a plug-in or the outlet cannot be used.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        plan: Plan | None = None,
        outlet: Outlet | None = None,
        load: Callable[[], tuple[Settings, Plan]] | None = None,
        announce: bool = False,
    ) -> None:
        self.settings = settings
        self._plan = plan if plan is not None else make_plan(settings)
        self._outlet = outlet if outlet is not None else make_outlet(settings)
        self._load = load
        self._announces = announce
        self._guard = Guard(settings)
        self._shared = Shared(settings, self._plan, self._outlet, self._closed, self._guard.flights)
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._reloading = threading.Event()
        self._runners: dict[str, Runner] = {}
        self._leaving: list[Runner] = []
        self._left: list[Tally] = []  # of groups that a reload has left
        self._missed = 0  # in these
        self._old: list[tuple[float, Plan]] = []  # when to close which pollsters
        self._announcements: Announcements | None = None
        self._ended = False
        self._error: HashringError | None = None
        self._told: float | None = None  # when it was told to stop
        self._turn = clock.boottime()
        self._notifier = Notifier()
        self._overlaps: tuple[str, ...] = ()
        self._reporting = Reporting(
            settings,
            self._outlet,
            self._shared.counts,
            self._partitions,
            self.status,
            self._is_alive,
        )

    # ---- from any thread -------------------------------------------------------------------

    def stop(self) -> None:
        """Let :meth:`run` end after the cycles in hand. From any thread; idempotent."""
        if self._told is None:
            self._told = clock.boottime()
        self._stopping.set()
        self._wake.set()
        announcements = self._announcements
        if announcements is not None:
            announcements.stop()

    def reload(self) -> None:
        """Let :meth:`run` read the configuration anew. From any thread; returns at once."""
        self._reloading.set()
        self._wake.set()

    def status(self) -> Status:
        """Return what there is to say now. From any thread."""
        runners = list(self._runners.values())
        groups = {runner.group.name: self._reporting.group(runner) for runner in runners}
        states = {group.state for group in groups.values()}
        leaving = list(self._leaving)
        tallies = [*(runner.tally for runner in (*runners, *leaving)), *self._left]
        windows = [tally.window for tally in tallies if tally.window is not None]
        polled = [tally.last_poll for tally in tallies if tally.last_poll is not None]
        views = {group.view_id for group in groups.values()}
        found = Status(
            member=self.settings.member,
            pid=os.getpid(),
            state="left" if self._ended else next((s for s in _WORST if s in states), "joining"),
            view_id=views.pop() if len(views) == 1 else None,
            members=tuple(sorted({name for group in groups.values() for name in group.members})),
            slots=0 if self._ended else sum(group.slots for group in groups.values()),
            resources=sum(tally.resources for tally in tallies),
            window=max(windows, default=None),
            lateness=max((late for t in tallies if (late := t.lateness) is not None), default=None),
            last_poll=max(polled, default=None),
            polls=sum(tally.polls for tally in tallies),
            samples=sum(tally.samples for tally in tallies),
            failures=self._shared.failures.total,
            missed=self._missed + sum(runner.missed for runner in (*runners, *leaving)),
            clock_steps=max((runner.clock_steps for runner in runners), default=0),
            clock_step=next((step for r in runners if (step := r.clock_step) is not None), None),
            hanging=self._shared.hanging,
            set_aside={
                id_: times
                for runner in runners
                for id_, times in runner.aside.times(clock.boottime()).items()
            },
            causes={
                f"{what}: {kind}": count
                for (what, kind), count in sorted(self._shared.failures.counts.items())
            },
            groups=groups,
            publishers={
                url: dataclasses.asdict(count) for url, count in self._outlet.counts.items()
            },
            overlaps=self._overlaps,
        )
        return self._reporting.completed(found)

    def _partitions(self) -> list[Partition]:
        """Return this agent's memberships, those that end among them."""
        found = [runner.partition for runner in (*self._runners.values(), *self._leaving)]
        return [partition for partition in found if partition is not None]

    def _closed(self, why: str) -> None:
        if not self._stopping.is_set():
            log.info("%s: nothing more to do", why)
        self.stop()

    # ---- the main loop ---------------------------------------------------------------------

    def run(self) -> None:
        """Work until told to stop, or until all cycles are done; then hand over and leave.

        Raises:
            OverlapRefused: another agent's meters overlap with this one's.
            MemberExists: another process holds this member's lease, and held it on for longer
                than ``settings.patience``.
            GroupMismatch: a group uses another ring or ttl.
            StoreUnavailable: the store cannot be reached, and is not to be waited for.
        """
        with ExitStack() as stack:
            stack.callback(self._close_outlet)
            stack.callback(self._shared.end)
            stack.callback(self._close_pollsters)
            stack.callback(self._shared.close)
            stack.enter_context(self._guard)
            stack.enter_context(self._reporting)
            stack.callback(self._has_ended)
            if self._stopping.is_set():
                return
            announcements = self._announce(stack)
            if self._stopping.is_set():
                return
            stack.callback(self._stop_runners)
            self._apply(self._plan)
            stack.enter_context(Watchdog(self._notifier, self._is_alive))
            self._watch(announcements)
            self._notifier.stopping()
        if self._error is not None:
            raise self._error

    def _announce(self, stack: ExitStack) -> Announcements | None:
        if not self._announces:
            return None
        announcements = Announcements(self.settings, self._announcement(self.settings, self._plan))
        stack.callback(announcements.close)
        self._announcements = announcements
        # A stop that came before there was anything to tell.
        if self._stopping.is_set():
            announcements.stop()
        if announcements.start():
            announcements.check()
        return announcements

    @staticmethod
    def _announcement(settings: Settings, plan: Plan) -> Announcement:
        return Announcement(
            member=settings.member,
            host=settings.host,
            prefix=settings.group_prefix,
            namespaces=frozenset(settings.namespaces),
            shared=plan.meters(local=False),
            local=plan.meters(local=True),
            shared_groups=plan.announced_groups(local=False),
            local_groups=plan.announced_groups(local=True),
        )

    def _watch(self, announcements: Announcements | None) -> None:
        is_ready = False
        while not self._stopping.is_set():
            self._turn = clock.boottime()
            if self._reloading.is_set():
                self._reloading.clear()
                self._reread(announcements)
            if not is_ready and all(runner.is_joined for runner in self._runners.values()):
                is_ready = True
                self._notifier.ready()
            if announcements is not None:
                found = announcements.look()
                self._overlaps = tuple(overlap.describe() for overlap in found)
            if self._outlet.finished:
                self._closed("nobody takes samples any more")
            self._take_leave()
            self._close_old()
            over = [runner for runner in self._runners.values() if runner.wait(0)]
            for runner in over:
                self._error = self._error or runner.error
            if self._error is not None or len(over) == len(self._runners):
                return
            self._wake.wait(_LOOK)
            self._wake.clear()

    def _take_leave(self) -> None:
        """Keep the figures of the groups that a reload has left; what failed there is over."""
        for runner in [runner for runner in self._leaving if runner.wait(0)]:
            if runner.error is not None:
                log.warning("leaving %s: %s", runner.group.name, runner.error)
            self._left.append(runner.tally)
            self._missed += runner.missed
            self._leaving.remove(runner)

    def _apply(self, plan: Plan, since: float = 0.0) -> None:
        """Let the runners be those of a plan: what both have goes on undisturbed.

        Args:
            plan: the plan.
            since: groups that are new work the windows that start from this second on.
        """
        wanted = {group.name: group for group in plan.groups}
        for name in set(self._runners) - set(wanted):
            runner = self._runners.pop(name)
            log.info("leaving %s", name)
            runner.stop()
            self._leaving.append(runner)
        for name, group in wanted.items():
            if name in self._runners:
                self._runners[name].update(group)
            else:
                # A group that is being left is joined anew only once it has been left: its record
                # is still this member's.
                before = [runner for runner in self._leaving if runner.group.name == name]
                self._runners[name] = runner = Runner(
                    self.settings,
                    group,
                    self._shared,
                    self._wake.set,
                    asked=self.stop,
                    after=before,
                    since=since,
                )
                runner.start()

    def _reread(self, announcements: Announcements | None) -> None:
        if self._load is None:
            log.warning("there is no configuration to read anew")
            return
        self._notifier.reloading()
        try:
            settings, plan = self._load()
            try:
                self._replace(settings, plan, announcements)
            except BaseException:
                _close(plan)
                raise
        except HashringError as error:
            log.error("the configuration is not usable, so nothing changes: %s", error)  # noqa: TRY400
        except Exception:
            # A plug-in, or a file that no module foresaw: no reason to stop what works.
            log.exception("the configuration could not be read anew, so nothing changes")
        else:
            log.info("the configuration has been read anew")
        self._notifier.ready()

    def _replace(self, settings: Settings, plan: Plan, announcements: Announcements | None) -> None:
        kept = {name: getattr(self.settings, name) for name in _RESTART}
        changed = [name for name in _RESTART if getattr(settings, name) != kept[name]]
        settings = dataclasses.replace(settings, **kept)
        if announcements is not None:  # refuses what is too large, before anything has changed
            announcements.update(self._announcement(settings, plan))
        if changed:
            log.warning("%s: a change takes a restart", ", ".join(changed))
        # Polls that run are finished by the pollsters that they began with.
        longest = max(loop.interval for group in self._plan.groups for loop in group.loops)
        due = clock.boottime() + longest + self.settings.poll_timeout
        self._old.append((due, self._plan))
        self.settings = settings
        self._plan = plan
        self._shared.replace(settings, plan)
        # Resources may have moved to a group of another name, a list of static ones that became
        # longer, say. The window in hand was theirs in the group that is left now.
        self._apply(plan, since=clock.wall())
        self._outlet.keep(self._plan.targets)

    def _close_old(self) -> None:
        """Close what a reload has replaced, once nothing uses it any more."""
        now = clock.boottime()
        while self._old and self._old[0][0] <= now:
            pollsters = self._old[0][1].pollsters
            # A cycle with many slow resources may outlast its window by far.
            if any(one.works_with(pollsters) for one in (*self._leaving, *self._runners.values())):
                return
            _close(self._old.pop(0)[1])
            self._outlet.keep(self._plan.targets)
            if not self._old:
                self._shared.keep_pools(
                    {
                        task.source
                        for group in self._plan.groups
                        for loop in group.loops
                        for task in loop.tasks
                    }
                )

    def _is_alive(self) -> bool:
        """Whether this process does what it is there for, as far as it can tell by itself."""
        return clock.boottime() - self._turn < _STUCK

    # ---- ending ----------------------------------------------------------------------------

    def _stop_runners(self) -> None:
        runners = [*self._leaving, *self._runners.values()]
        for runner in runners:
            runner.stop()
        for runner in runners:
            runner.wait()
            self._error = self._error or runner.error

    def _has_ended(self) -> None:
        self._ended = True

    def _close_pollsters(self) -> None:
        for _, plan in self._old:
            _close(plan)
        _close(self._plan)

    def _close_outlet(self) -> None:
        seconds = self.settings.drain_timeout
        left = seconds - (clock.boottime() - self._told) if self._told is not None else seconds
        # What is not delivered stays in the spool; a sink that is there takes a little of it.
        self._outlet.close(max(min(seconds, _DELIVER), left))


def _close(plan: Plan) -> None:
    for pollster in plan.pollsters:
        try:
            pollster.close()
        except Exception as error:
            log.warning("closing %s failed: %s", type(pollster).__name__, error)


def make_outlet(settings: Settings) -> Outlet:
    """Return what takes an agent's samples: its spool, or its publishers themselves."""

    def make(url: str) -> Publisher:
        return make_publisher(url, settings)

    if settings.state_dir is None:
        return Direct(make, (settings.output,))
    return Delivery(
        Spool(settings.state_dir / "spool", max_bytes=settings.spool_bytes),
        make,
        batch_size=settings.batch_size,
    )
