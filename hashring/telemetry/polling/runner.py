"""Runner: one agent's membership in one group, and its loops there: own, poll, check, put.

The loop is the one that any user of :func:`hashring.join` writes. Who owns what, and in which
window, is the Partition's to say; what is polled, the plan's; where samples go, the outlet's.
"""

from __future__ import annotations

import logging
import math
import os
import threading
from collections.abc import Callable, Collection, Sequence
from typing import Any

from hashring import backoff, clock
from hashring.errors import HashringError, MemberExists, StoreUnavailable
from hashring.partition.partition import Partition, join
from hashring.protocol.request import Request
from hashring.telemetry.config.plan import Group, Loop
from hashring.telemetry.model.settings import Settings
from hashring.telemetry.overlap.peer import Peer
from hashring.telemetry.plugin import Pollster
from hashring.telemetry.polling.catalogue import Catalogue
from hashring.telemetry.polling.loops import PollingLoop
from hashring.telemetry.polling.set_aside import SetAside, from_meta, to_meta
from hashring.telemetry.polling.shared import Shared
from hashring.telemetry.polling.tally import Tally

__all__ = ["Runner"]

log = logging.getLogger(__name__)

_RETRY_JOIN = 0.25
"""Seconds between two tries to join while a former agent's lease runs out."""

_LOOK, _LOOK_IDLE = 0.05, 1.0
"""Seconds between two looks at whether all loops have ended: while their calls are given up, and
before. Each end is told besides; longer, and a thread that died without telling is found later."""

_HAND_OVER = 2.0
"""Seconds that a hand-over gets at least, though the polls in hand have taken all the time."""

_ASIDE_LEASES = 10
_ASIDE_WINDOWS = 4
"""Leases, and windows, for which a resource that stopped an agent is set aside the first time: the
longer of the two. Each further try may cost its agent the lease."""


class Runner:
    """One group of an agent: joins it, runs its loops, hands over when told to stop.

    Args:
        settings: what the agent is told to do.
        group: what to join, and what to poll there.
        shared: what all runners have in common.
        woken: called when something has ended.
        asked: called when an operator asks this member to leave: the agent is to end.
        after: join only when these have ended.
        since: work only windows that start at or after this wall-clock second.
    """

    def __init__(
        self,
        settings: Settings,
        group: Group,
        shared: Shared,
        woken: Callable[[], None],
        *,
        asked: Callable[[], None] = lambda: None,
        after: Sequence[Runner] = (),
        since: float = 0.0,
    ) -> None:
        self.group = group
        self.member = settings.member
        self.shared = shared
        self.since = since
        self.tally = Tally()
        self.partition: Partition | None = None
        self.error: HashringError | None = None
        self.catalogue = Catalogue(group, shared)
        longest = max(loop.interval for loop in group.loops)
        self.aside = SetAside(max(_ASIDE_LEASES * settings.ttl, _ASIDE_WINDOWS * longest))
        self._told_aside = 0  # how many resources this member's record says are set aside
        self._settings = settings
        self._woken = woken
        self._asked = asked
        self._after = after
        self._lock = threading.Lock()
        self._loops: dict[float, PollingLoop] = {}
        self._ended_loops: list[PollingLoop] = []
        self._clock_steps = 0  # those that were followed
        self._stopping = threading.Event()
        self._loops_changed = threading.Event()  # one has ended, or all are to
        self._end_by = math.inf  # on CLOCK_BOOTTIME: when polls are given up
        self._joined = threading.Event()
        self._strangers: frozenset[str] = frozenset()
        self._unjoined = "it has yet to join"
        self._thread = threading.Thread(target=self._run, name=f"group-{group.name}", daemon=True)

    def start(self) -> None:
        """Begin to join."""
        self._thread.start()

    def stop(self) -> None:
        """Let it end after the cycles in hand. From any thread; idempotent."""
        self._end_by = min(self._end_by, clock.boottime() + self._settings.drain_timeout)
        self._stopping.set()
        self._loops_changed.set()
        partition = self.partition
        if partition is not None:
            partition.stop()

    def fail(self, error: HashringError) -> None:
        """End, because of this; the first reason counts."""
        if self.error is None:
            self.error = error
        self.stop()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for its end; return whether it has come."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def seconds_to_end(self) -> float:
        """How long its calls may still take; infinite while it is not told to stop."""
        return self._end_by - clock.boottime()

    def works_with(self, pollsters: Collection[Pollster]) -> bool:
        """Whether a cycle in hand uses one of these."""
        with self._lock:
            loops = [*self._loops.values(), *self._ended_loops]
        return any(loop.works_with(pollsters) for loop in loops)

    @property
    def is_joined(self) -> bool:
        """Whether it has joined its group, now or before."""
        return self._joined.is_set()

    @property
    def missed(self) -> int:
        """How many windows this member skipped because it was late itself."""
        with self._lock:
            return sum(loop.missed for loop in (*self._loops.values(), *self._ended_loops))

    @property
    def clock_steps(self) -> int:
        """How often the wall clock has stepped since it joined."""
        return 0 if self.partition is None else self.partition.clock_steps

    @property
    def clock_step(self) -> float | None:
        """By how many seconds it stepped last; ``None``: never."""
        return None if self.partition is None else self.partition.clock_step

    def follow_clock(self, steps: int) -> None:
        """Take part in so many steps of the clock; one loop is enough to say so."""
        with self._lock:
            if steps == self._clock_steps:
                return
            self._clock_steps = steps
            self.since = 0.0
        self.tally.restart()

    @property
    def state(self) -> str:
        """The partition's state; ``joining`` before there is one, ``left`` in the end."""
        partition = self.partition
        if not self._thread.is_alive() and self._thread.ident is not None:
            return "left"
        return "joining" if partition is None else partition.state

    @property
    def reason(self) -> str:
        """Why it is not settled, in a sentence; empty where it is, or has left."""
        partition, state = self.partition, self.state
        if state in ("settled", "left"):
            return ""
        return self._unjoined if partition is None else partition.reason

    def update(self, group: Group) -> None:
        """Poll what a newer plan says; the membership and its lease stay as they are."""
        with self._lock:
            self.group = group
            self.catalogue = Catalogue(group, self.shared, self.catalogue)
            wanted = {loop.interval: loop for loop in group.loops}
            for interval in set(self._loops) - set(wanted):
                ended = self._loops.pop(interval)
                ended.end()
                self._ended_loops.append(ended)
            for interval, loop in wanted.items():
                if interval in self._loops:
                    self._loops[interval].update(loop)
                elif self._joined.is_set() and not self._stopping.is_set():
                    self._start_loop(loop)

    def look_for_strangers(self) -> None:
        """Say so where agents of other hosts share a local group: they own what they cannot see."""
        if not self.group.is_local or self.partition is None:
            return
        here = self._settings.host
        hosts = {Peer.of(record.meta).host for record in self.partition.records.values()}
        strangers = frozenset(host for host in hosts if host is not None and host != here)
        if strangers - self._strangers:
            log.error(
                "agents on %s share the group %r: what they own of %s's resources nobody polls; "
                "give each host a group of its own",
                ", ".join(sorted(strangers)),
                self.group.name,
                here,
            )
        self._strangers = strangers

    def look_what_is_set_aside(self) -> None:
        """Take what others' records say stopped an agent, and say it in this member's own."""
        if self.partition is None:
            return
        now = clock.boottime()
        told = [case for one in self.partition.records.values() for case in from_meta(one.meta)]
        is_new = self.aside.take(told, now)
        cases = self.aside.cases(now)
        if is_new or len(cases) != self._told_aside:
            self._told_aside = len(cases)
            self.partition.publish_meta({**self._meta(), **to_meta(cases)})

    def _meta(self) -> dict[str, Any]:
        return {"role": "agent", "host": self._settings.host, "pid": os.getpid()}

    def _on_request(self, request: Request) -> None:
        """The member drains all the same; nothing is left for the process to do."""
        log.info("%s: the agent ends, as %r asks", self.group.name, request.by)
        self._asked()

    def _run(self) -> None:
        try:
            for runner in self._after:
                runner.wait()
            self._after = ()
            partition = self._join()
            if partition is None:
                return
            with partition:
                with self._lock:
                    # In one piece: a reload starts loops only where these have been started.
                    for loop in self.group.loops:
                        self._start_loop(loop)
                    self._joined.set()
                self._woken()
                self._wait_for_loops()
                if not partition.drain(self._seconds_to_drain()):
                    log.warning(
                        "%s: the others have not taken over in time: leaving all the same",
                        self.group.name,
                    )
        except HashringError as error:
            self.error = self.error or error
        except Exception as error:
            log.exception("the group %s failed", self.group.name)
            self.error = self.error or HashringError(f"{type(error).__name__}: {error}")
        finally:
            self._woken()

    def _start_loop(self, loop: Loop) -> None:
        before = [ended for ended in self._ended_loops if ended.interval == loop.interval]
        after = before[-1] if before else None
        started = self._loops[loop.interval] = PollingLoop(self, loop, after)
        started.start()

    def _seconds_to_drain(self) -> float:
        """How long the hand-over may take: what the cycles in hand have left, or a little."""
        seconds = self._settings.drain_timeout
        return max(min(seconds, _HAND_OVER), min(seconds, self.seconds_to_end()))

    def loop_ended(self) -> None:
        """Take note that a loop has ended, or is about to."""
        self._loops_changed.set()

    def _wait_for_loops(self) -> None:
        while True:
            with self._lock:
                loops = [*self._loops.values(), *self._ended_loops]
            if all(loop.join(0) for loop in loops):
                return
            left = self.seconds_to_end()
            if left <= 0:
                self.shared.give_up(self)
            if self._loops_changed.wait(max(_LOOK, min(left, _LOOK_IDLE))):
                self._loops_changed.clear()
                for loop in loops:
                    loop.join(_LOOK)  # one that has told of its end is over in a moment

    def _join(self) -> Partition | None:
        """Join the group; wait for a former agent's lease, and for a store that is away."""
        settings = self._settings
        patience = clock.boottime() + settings.patience
        pauses = backoff.Backoff(settings.retry_backoff, settings.max_retry_interval)
        while not self._stopping.is_set():
            try:
                partition = join(
                    settings.backend_url,
                    self.group.name,
                    member=settings.member,
                    ttl=settings.ttl,
                    heartbeat=settings.heartbeat,
                    meta=self._meta(),
                    on_request=self._on_request,
                )
            except MemberExists as error:
                if clock.boottime() >= patience:
                    raise
                self._unjoined = str(error)
                self._stopping.wait(_RETRY_JOIN)
                continue
            except StoreUnavailable as error:
                if not settings.retry_backoff:
                    raise
                self._unjoined = str(error)
                self.shared.failures.add(f"joining {self.group.name}", error)
                self._stopping.wait(next(pauses))
                continue
            self.partition = partition
            if self._stopping.is_set():
                partition.stop()
            return partition
        return None
