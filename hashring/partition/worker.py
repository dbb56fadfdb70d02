"""`Worker`: the two threads of a member, one that heartbeats and one that reconciles.

It opens the store, joins, calls the driver as the hand-off says, tries again what failed, and ends
both threads and the lease. How long it waits stands in `waiting.py`, what it says in `reports.py`;
of the protocol it decides nothing.
"""

from __future__ import annotations

import contextlib
import logging
import math
import threading

from hashring import clock
from hashring.backoff import jittered
from hashring.driver import Reading
from hashring.errors import GroupMismatch, HashringError, LeaseLost, MemberExists
from hashring.partition import ending
from hashring.partition.joining import refuse_mismatch
from hashring.partition.listening import listen, rest
from hashring.partition.loops import Loops
from hashring.partition.membership import Membership
from hashring.partition.notes import Signal
from hashring.partition.readings import Readings
from hashring.partition.reports import Reports
from hashring.partition.requests import OnRequest, Requests
from hashring.partition.waiting import heartbeat_retry, retry_pause
from hashring.protocol.handoff import Join, Leave, Publish, Wait
from hashring.protocol.runner import Read, Step

__all__ = ["Worker"]

log = logging.getLogger("hashring")
_UNTOLD = "%s: %s left without telling the store: %s"
_NOT_TAKEN_BACK = "%s: %s could not take back a failed join, so its lease has to run out: %s"

_LOOK = 0.1
"""Seconds between two looks, while a drain waits, at whether there is sense in it."""

_AWAY = 0.4
"""Part of the ttl for which a drain without a cycle in hand waits for a store that is away. If it
comes back later, the others gain as after a crash."""

_ID_TAKEN_TTL = 2.0
"""For this many ttl another process may have this member's id before the member gives up: a lease
of its own that was lost cannot live so long."""

_DROPPED_TTL = 2.0
"""A member that was dropped hands over for at most this many ttl, then leaves all the same."""


class Worker:
    """Runs one member on its store, from the join to the end of both threads.

    Args:
        member: the hand-off, its lock, and the driver.
        loops: the streams of windows that the hand-off must know of.
        reports: where outages and hindrances are said.
        pause: seconds between two heartbeats.
        caller: file and line of the user's join, for the warning of a partition that is dropped.
        on_request: see :func:`hashring.join`.
    """

    def __init__(
        self,
        member: Membership,
        loops: Loops,
        reports: Reports,
        *,
        pause: float,
        caller: str,
        on_request: OnRequest | None = None,
    ) -> None:
        self._member = member
        self._requests = Requests(member, loops, on_request)
        self._readings = Readings(member.driver, member.group, member.member)
        self._loops = loops
        self._reports = reports
        self._pause = pause
        self._caller = caller
        self._threads: list[threading.Thread] = []
        self._beat_now = Signal()
        self._try_now = Signal()  # the store has answered again: no need to pause
        self._finished = False
        self._drop_by: float | None = None  # dropped: when to end, handed over or not
        self._drop_warning: Warning | None = None
        self._refused_since: float | None = None  # MemberExists ever since
        self._handed_over = False
        self._took = 0.0  # seconds: the latest reading, and what followed from it

    # ---- the beginning ---------------------------------------------------------------------

    def begin(self) -> None:
        """Open the store, join, and start the threads; on any failure leave nothing behind."""
        member = self._member
        driver = member.driver
        tried = False
        try:
            step = member.runner.next()
            assert isinstance(step, Join)
            record = step.record
            driver.open()
            # Look before joining: a member that differs need not disturb the group.
            refuse_mismatch(member.handoff, driver.read(member.group), record)
            tried = True
            try:
                driver.join(member.group, member.member, record)
            except MemberExists:
                tried = False  # the lease is somebody else's
                raise
            member.joined_at = clock.boottime()
            self._confirm(member.joined_at)
            member.progress.joined(member.handoff)
            self._heartbeat()
            self._start_threads()
            ending.expect(self)
        except BaseException:
            self._undo(tried)
            raise

    def _start_threads(self) -> None:
        member = self._member
        for what, target in (("heartbeat", self._beat), ("reconcile", self._reconcile)):
            name = f"hashring-{what}-{member.group}-{member.member}"
            thread = threading.Thread(target=target, name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def _undo(self, tried: bool) -> None:
        """Leave nothing of a join that failed: no thread, no lease, no connection."""
        member = self._member
        member.ended.set()  # first: whatever interrupts this, the threads end
        try:
            with member.lock:
                member.handoff.left()
            self._end_threads_and_lease(tried)  # It may have landed though its answer was lost.
        except Exception as error:
            log.warning(_NOT_TAKEN_BACK, member.group, member.member, error)
        finally:
            self._finished = True
            ending.forget(self)
            self._reports.end()
            with contextlib.suppress(Exception):  # what is raised is why the join failed
                member.driver.close()

    # ---- the end ---------------------------------------------------------------------------

    @property
    def member(self) -> Membership:
        """Whose worker it is."""
        return self._member

    def is_within(self) -> bool:
        """Whether the calling thread cannot wait for the worker's: it is one of them, or holds
        their lock. So it is where a finaliser leaves the ``with`` block of a collected generator.
        """
        return threading.current_thread() in self._threads or self._member.is_locked_here()

    def begin_drain(self) -> None:
        """Let the member drain: it gives up each slot once it is worked."""
        self._loops.end_own()
        with self._member.lock:
            self._loops.read_notes()
            self._member.begin_drain()

    def drain(self, seconds: float) -> bool:
        """Leave with hand-over; return whether the rest have taken over everything in time."""
        self._member.leave_by = clock.boottime() + seconds
        try:
            self.begin_drain()
            self.wait_for_end(seconds)
        finally:
            self.finish()  # Ctrl-C in the wait too
        return self._handed_over

    def wait_for_end(self, seconds: float) -> None:
        """Wait until the rest have taken over, or for so long, or until there is no sense in it."""
        member = self._member
        deadline = clock.boottime() + seconds
        away_until = math.inf
        while not self._has_nothing_to_drain():
            now = clock.boottime()
            if not self._reports.store_is_away or self._loops.is_running:
                away_until = math.inf
            else:
                away_until = min(away_until, now + _AWAY * member.ttl)
            left = min(deadline, away_until) - now
            if left <= 0 or member.ended.wait(min(left, _LOOK)):
                return

    def _has_nothing_to_drain(self) -> bool:
        """Whether nothing is held, and the store that would have to be told is away."""
        return self._reports.store_is_away and not self._member.handoff.in_hand(clock.boottime())

    def finish(self) -> None:
        """Hold nothing, end both threads and the lease, close the connections. Idempotent.

        A Ctrl-C that interrupts it is raised after all is done; another one then leaves the rest,
        but for the threads, to a later call.
        """
        if self._member.is_child:
            return
        self._member.ended.set()
        try:
            self._finish()
        except BaseException as error:
            self._finished = False
            if not isinstance(error, Exception):
                self._finish()
            raise
        self._member.gone.wait(self._member.ttl)  # where another thread is about it

    def _finish(self) -> None:
        member = self._member
        with member.lock:
            if self._finished:
                return
            self._finished = True
            # For who holds nothing in any case nobody waits.
            is_told = bool(member.handoff.weight) or not self._has_nothing_to_drain()
            member.count()
            member.tally.end(clock.boottime())
            member.handoff.left()
            member.progress.left(handed_over=self._handed_over, was_member=member.failure is None)
            member.changed.notify_all()
        try:
            self._end_threads_and_lease(is_told)
        except HashringError as error:
            log.warning(_UNTOLD, member.group, member.member, error)
        except Exception:
            _close(self)
            raise
        _close(self)  # not where a Ctrl-C came: whoever tells the store then needs the driver

    def _end_threads_and_lease(self, is_told: bool) -> None:
        """End both threads; then, also where a Ctrl-C came meanwhile, tell the store."""
        member = self._member
        member.ended.set()
        member.interrupt()
        self._beat_now.set()
        self._try_now.set()
        try:
            for thread in self._threads:
                if thread is not threading.current_thread():
                    # One that could not be started cannot be joined. Should it begin yet, it ends.
                    with contextlib.suppress(RuntimeError):
                        # Every call on the driver ends within its timeout, so this join does too.
                        thread.join()
            self._threads = []
        finally:
            # Where the store seems to be away, too: it may be back by now, and a store whose clock
            # stood still meanwhile keeps the lease for another ttl. One call, with its timeout.
            if is_told:
                member.driver.leave(member.group, member.member)

    def _fail(self, error: HashringError) -> None:
        """This member can never take part: hold nothing, and let all who ask know why."""
        member = self._member
        log.error("%s: %s cannot take part: %s", member.group, member.member, error)
        with member.lock:
            member.failure = error
            member.count()
            member.tally.end(clock.boottime())
            member.handoff.left()
            member.changed.notify_all()
        member.ended.set()
        self._beat_now.set()
        member.stopping = True
        with contextlib.suppress(HashringError):
            member.driver.leave(member.group, member.member)

    # ---- the thread that heartbeats --------------------------------------------------------

    def _heartbeat(self) -> None:
        member = self._member
        with member.lock:
            beat = member.runner.beat(clock.boottime())
        try:
            member.driver.heartbeat()
        except LeaseLost as error:
            with member.lock:
                member.runner.fail_beat(beat, error)
                member.changed.notify_all()
            member.interrupt()
            self._try_now.set()
            raise
        with member.lock:
            was_fenced = clock.boottime() >= (before := member.handoff.deadline)
            member.runner.confirm_beat(beat)
            member.count()
            if was_fenced:
                member.changed.notify_all()
        member.progress.look_at_fence(member.handoff, before)

    def _beat(self) -> None:
        reports, ended = self._reports, self._member.ended
        pause = self._pause
        while not ended.is_set():
            if self._beat_now.wait(max(0.0, pause)):
                self._beat_now.clear()
            if ended.is_set():
                return
            began = clock.boottime()
            try:
                self._heartbeat()
                if reports.heartbeat_worked():
                    self._try_now.set()
                # From the start of the last one: its answer may have been long on the way.
                pause = began + self._pause - clock.boottime()
                continue
            except LeaseLost as error:
                reports.heartbeat_refused(error)
            except HashringError as error:
                reports.heartbeat_failed(error)
            except Exception as error:
                # A defect of the driver: without heartbeats the fence passes, which is safe.
                reports.heartbeat_broke(error)
            self._member.progress.look_at_fence(self._member.handoff)
            pause = jittered(heartbeat_retry(self._pause, self._member.ttl))

    # ---- the thread that reconciles --------------------------------------------------------

    def _reconcile(self) -> None:
        failures = 0
        member = self._member
        while not member.ended.is_set() and not self._is_over_after_drop():
            try:
                self._go()
                failures = 0
                self._reports.step_worked()
                continue
            except LeaseLost as error:
                self._reports.lease_lost(error)
                continue
            except GroupMismatch as error:
                self._fail(error)
                return
            except MemberExists as error:
                if self._is_replaced():
                    self._fail(error)
                    return
                self._reports.id_taken(error)
            except HashringError as error:
                self._reports.step_failed(error)
            except Exception as error:
                self._reports.step_broke(error)
            failures += 1
            # A heartbeat that the store answers ends the pause: it may have forgotten this member,
            # whose fence comes.
            if self._try_now.wait(jittered(retry_pause(failures, member.ttl))):
                self._try_now.clear()
        self._beat_now.set()  # the other thread ends with this one
        if self._drop_by is not None or self._requests.must_end:
            self.finish()  # nobody else will
        if self._drop_warning is not None:
            raise self._drop_warning

    def _is_over_after_drop(self) -> bool:
        """Begin to drain once nobody has the partition in hand; return whether that is over."""
        member = self._member
        if not member.notes.dropped or self._finished:
            return False
        now = clock.boottime()
        if self._drop_by is None:
            self._drop_by = now + _DROPPED_TTL * member.ttl
            member.stopping = True
            with member.lock:
                self._loops.read_notes()
                member.begin_drain()
            try:
                ending.warn_of_drop(member.group, member.member, self._caller)
            except Warning as warning:  # where the filters make errors of them
                self._drop_warning = warning
        return now >= self._drop_by or self._has_nothing_to_drain()

    def _is_replaced(self) -> bool:
        """Whether another process has had this member's id for longer than a lost lease can."""
        now = clock.boottime()
        if self._refused_since is None:
            self._refused_since = now
        return now - self._refused_since > _ID_TAKEN_TTL * self._member.ttl

    def _go(self) -> None:
        """Go once through the choreography (`protocol/runner.py`): read the group, and do what
        follows from it.
        """
        member = self._member
        try:
            step = self._next_step()
            # What is in hand has been done, or has failed, by the next look: that is a reading.
            if isinstance(step, Read):  # pragma: no branch - each other step is done at once
                if not self._read():
                    return
                step = self._next_step()
            self._perform(step)
        except Exception as error:
            with member.lock:
                member.runner.fail(error)
                member.changed.notify_all()
            raise

    def _next_step(self) -> Step:
        with self._member.lock:
            return self._member.runner.next()

    def _read(self) -> bool:
        """Read the group, and let the hand-off decide; return whether there is a sense in it."""
        member, loops = self._member, self._loops
        member.notes.clear()
        began = clock.boottime()
        reading = self._readings.read()
        with member.lock:
            if member.handoff.has_left:
                return False
            loops.read_notes()
            member.clock_watch.look()
            member.memory_age = reading.memory_age
            member.runner.learn(
                reading, now=clock.boottime(), wall=clock.wall(), streams=loops.streams
            )
            member.changed.notify_all()
            view = member.handoff.view
            self._readings.note(reading, None if view is None else view.id)
        self._report(member.runner.step, reading)
        self._requests.look()
        self._took = clock.boottime() - began
        return True

    def _perform(self, step: Step) -> None:
        """Do it, and confirm only then that it is done."""
        member = self._member
        if isinstance(step, Publish):
            number = member.driver.publish(member.group, member.member, step.record)
            self._confirm(clock.boottime(), number)
            rest(member, took=self._took)
        elif isinstance(step, Join):
            member.driver.join(member.group, member.member, step.record)
            self._confirm(clock.boottime())
            self._refused_since = None
            self._beat_now.set()
        elif isinstance(step, Leave):
            self._handed_over = step.handed_over
            member.ended.set()
        elif isinstance(step, Wait):
            listen(member, step, acks=self._readings.acks, took=self._took)

    def _confirm(self, now: float, number: int | None = None) -> None:
        """Note that the store has taken the write in hand, and which number it gave to it."""
        member = self._member
        with member.lock:
            member.runner.confirm(
                now=now, wall=clock.wall(), streams=self._loops.streams, number=number
            )
            member.changed.notify_all()

    def _report(self, step: Step | None, reading: Reading) -> None:
        self._member.count()
        handoff, reports = self._member.handoff, self._reports
        self._member.progress.look(handoff)
        reports.problems(handoff.problems)
        reports.strangers(handoff.strangers_in_the_way, settled=handoff.is_settled)
        reports.waits_for = step.reason if isinstance(step, Wait) else "the store is being told"
        reports.away(handoff.away)
        reports.memory(reading.memory_age, gains=bool(handoff.weight))


def _close(worker: Worker) -> None:
    worker._reports.end()
    try:
        worker.member.driver.close()
    finally:
        worker.member.gone.set()
        ending.forget(worker)
