"""Join a group and act on this member's share: ``join``, `Partition`, `Cycle`.

This room runs a `Handoff` (the rules) and its streams of windows on a `Driver` (the store). It has
the clocks, the threads and the lock; it decides nothing of the protocol itself. Two threads belong
to a partition, one that heartbeats and one that reconciles; both end with it.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import os
import random
import socket
import threading
import types
import uuid
import weakref
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Self, TypeVar

from hashring import clock
from hashring.backoff import grown, jittered
from hashring.driver import Driver, DriverURL, Reading, load
from hashring.errors import (
    BadArgument,
    BadRecord,
    BadURL,
    GroupMismatch,
    HashringError,
    LeaseLost,
    MemberExists,
)
from hashring.partition import ending, outage
from hashring.partition.cycle import Cycle, CycleBlock, Cycles, Token
from hashring.partition.notes import Notes, Signal
from hashring.protocol.founding import Parameters, judge
from hashring.protocol.handoff import Handoff, Join, Leave, Publish, Wait, mismatch
from hashring.protocol.view import Member
from hashring.protocol.windows import (
    Due,
    Stream,
    can_yield,
    checked_interval,
    checked_on_crash,
    follow_clock,
    label_time,
    newest_start,
    owed_by,
    yielded_by,
)
from hashring.ring.ring import HashRing, SlotSet

__all__ = ["Partition", "join"]

log = logging.getLogger("hashring")

K = TypeVar("K")

_LOOSE = " #"
"""Before the random part of the label of a second loop with the same name or interval."""

_LOCAL_POLL = 0.02
"""Seconds between two looks at what must change in this process (a cycle that ends)."""

_CROWD = 16
"""More members than this read at intervals, not at each other's every ack."""

_GATHER = 0.001
"""Seconds to gather changes for each member of a crowd: n members' n acks are then read a few
times by each, not n times."""

_NAME_AGAIN = 30.0
"""Seconds between two lines in the log about strangers: one that retries comes under new names."""

_LOOK = 0.1
"""Seconds between two looks, while a drain waits, at whether there is sense in it."""

_AWAY = 0.4
"""Part of the ttl for which a drain without a cycle in hand waits for a store that is away. If it
comes back later, the others gain as after a crash."""

_GATHER_PART, _GATHER_TTL = 0.1, 0.2
"""Parts of the interval and of the ttl: the first member of a group begins its first cycle no
sooner than the shorter of them after it has joined, but before the last tenth of the window. Who
joins meanwhile gets a share of that window."""

_REFUSALS = ("the lease is lost", "the member's id is taken")

_SLICE = 0.05
"""The longest single wait in the store, in seconds, so that a drain or a leave is soon noticed."""


def _is_owned(lock: threading.RLock) -> bool:
    """Whether the calling thread holds this lock."""
    return bool(lock._is_owned())  # type: ignore[attr-defined]


def _new_incarnations() -> Iterator[str]:
    while True:
        yield uuid.uuid4().hex


def default_member() -> str:
    """Return an id for a member that was given none: host, process and a random part."""
    return f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"


def join(
    url: str | DriverURL | Driver,
    group: str,
    member: str | None = None,
    weight: float = 1.0,
    ttl: float = 10.0,
    handoff: str = "exclusive",
    *,
    meta: Mapping[str, Any] | None = None,
    ring: HashRing | str | None = None,
    heartbeat: float | None = None,
) -> Partition:
    """Join a group and return this member's partition of its key space.

    The user's loop::

        with hashring.join("sqlite:////var/lib/agent/group.db", "pollers") as partition:
            for cycle in partition.cycles(interval=60):
                for key in cycle.owned(keys):
                    poll(key)

    Args:
        url: the store's URL (see :func:`hashring.drivers`), or a driver that is not yet open.
        group: members that share one key space.
        member: this member's id; by default host, process id and a random part.
        weight: this member's share relative to the others'; 0 watches and holds nothing.
        ttl: the lease in seconds: how long after a crash the others take over. A ``ttl`` in the
            URL's options stands where this one is left at its default.
        handoff: ``"exclusive"``: no slot is ever held twice; ``"eager"``: for users who prefer a
            repeat to a gap, slots are taken without waiting for the others' acks.
        meta: a small JSON object to publish in this member's record;
            :meth:`Partition.publish_meta` replaces it.
        ring: the parameters of the group's ring (all members need the same), if not the default.
        heartbeat: the longest time between two heartbeats in seconds. It never exceeds a third of
            ``ttl``, which is the default: a lost one leaves time for another before the fence.

    Raises:
        BadURL, UnknownDriver, MissingDependency: the URL has no driver.
        StoreUnavailable: the store cannot be reached.
        MemberExists: another process holds this member's lease.
        GroupMismatch: the group uses another ring, ttl or handoff.
        BadArgument: an argument is out of range; it is a ``ValueError``.
    """
    if isinstance(url, Driver):
        driver = url
        if ttl not in (_DEFAULT_TTL, driver.ttl):
            raise BadArgument(f"the driver has ttl={driver.ttl} and the argument is {ttl!r}")
        ttl = driver.ttl
    else:
        parsed = url if isinstance(url, DriverURL) else DriverURL.parse(url)
        driver = load(parsed, ttl=_lease(parsed, ttl))
        ttl = driver.ttl
    if not isinstance(group, str) or not group:
        raise BadArgument(f"group must be a non-empty str, not {group!r}")
    if member is not None and (not isinstance(member, str) or not member):
        raise BadArgument(f"member must be a non-empty str, not {member!r}")
    weight = checked_number("weight", weight)
    if handoff not in ("exclusive", "eager"):
        raise BadArgument(f"handoff must be 'exclusive' or 'eager', not {handoff!r}")
    if meta is not None and not isinstance(meta, Mapping):
        raise BadArgument(f"meta must be a mapping, not {meta!r:.200}")
    if heartbeat is not None:
        heartbeat = checked_number("heartbeat", heartbeat, least=0.001)
    if ring is None:
        spec = HashRing({}).spec
    else:
        spec = ring.spec if isinstance(ring, HashRing) else HashRing.from_spec({}, ring).spec
    partition = Partition(
        driver,
        group,
        Handoff(
            member if member is not None else default_member(),
            incarnations=_new_incarnations(),
            spec=spec,
            ttl=ttl,
            weight=float(weight),
            mode=handoff,
            meta=MappingProxyType(dict(meta or {})),
        ),
        heartbeat=heartbeat,
    )
    partition._joined_at = ending.caller()
    partition._begin()
    return partition


_DEFAULT_TTL = 10.0
_MOST = 1e9


def checked_number(name: str, value: float, *, least: float = 0.0, most: float = _MOST) -> float:
    """Return a number in range as a float, or raise :class:`BadArgument`."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise BadArgument(f"{name} must be a number from {least:g} to {most:g}, not {value!r:.100}")
    return float(value)


def _lease(url: DriverURL, ttl: float) -> float:
    ttl = checked_number("ttl", ttl, least=0.01)
    text = url.options.get("ttl")
    if text is None:
        return float(ttl)
    try:
        in_url = float(text)
    except ValueError:
        raise BadURL(f"{url.scheme}:// option ttl={text!r} is not a number of seconds") from None
    if ttl not in (_DEFAULT_TTL, in_url):
        raise BadURL(f"the URL says ttl={text} and the argument ttl={ttl}: give one of them")
    return in_url


class Partition:
    """This member's part of a group's key space. Made by :func:`join`.

    The loop::

        with hashring.join(url, "pollers") as partition:
            for cycle in partition.cycles(interval=60):
                for key in cycle.owned(keys):
                    poll(key)

    States: ``joining`` (nothing acked yet) -> ``settling`` (a new view: slots change hands) ->
    ``settled`` -> ``draining`` -> ``left``; ``fenced`` whenever no heartbeat was confirmed for
    0.9 ttl: nothing is held until one is. The store may go away and come back in any of them.

    Methods may be called from any thread. A forked child holds nothing: join again there.
    """

    def __init__(
        self, driver: Driver, group: str, handoff: Handoff, *, heartbeat: float | None = None
    ) -> None:
        self._driver = driver
        self._handoff = handoff
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._notes = Notes()
        self._wake = self._notes.wake
        self._stopping = False
        self._ended = threading.Event()
        self._streams: dict[str, Stream] = {}
        self._cycle_numbers = 0
        self._threads: list[threading.Thread] = []
        self._pid = os.getpid()
        self._failure: HashringError | None = None
        self._beat_now = Signal()
        self._last_problem = ""
        self._strangers: frozenset[str] = frozenset()  # those that were named in the log
        self._clock = clock.Steps(handoff.ttl)
        self._clock.look_now()
        self._named_again = 0.0  # when more of them may be
        self._stands_still = False
        self._waits_for = "the first reading of the group is on its way"
        self._begun_at = math.inf
        self._finished = False
        self._gone = threading.Event()  # the store has been told, and the connections are closed
        self._drop_by: float | None = None  # dropped: when to end, handed over or not
        self._drop_warning: Warning | None = None
        self._handed_over = False
        self._refused_since: float | None = None  # MemberExists ever since
        self._loops: weakref.WeakSet[Cycles] = weakref.WeakSet()
        # By number: the cycle and its thread. Weakly, as all here: see `_for_threads`.
        self._running: dict[int, tuple[weakref.ref[Cycle], int]] = {}
        self._finalizer: weakref.finalize[..., Partition] | None = None
        self._joined_at = ""  # the caller's file and line
        self.group = group
        self.member = handoff.member
        self.ttl = handoff.ttl
        self._heartbeat_pause = min(self.ttl / 3, math.inf if heartbeat is None else heartbeat)
        self._outage = outage.of_store(str(driver.url))
        name = f"{group}: {handoff.member}"
        self._sources = (f"{name}: no heartbeat", f"{name}: no reading")
        self._refusals = outage.Outage(name, "the store refused", "is accepted again")
        self._defects = outage.Outage(name, "a defect of the driver", "works again")

    # ---- what a caller may ask -------------------------------------------------------------

    @property
    def held(self) -> SlotSet:
        """The slots that may be acted on now; empty past the fence."""
        if self._is_child():
            return self._handoff.held(math.inf)
        return self._handoff.held(clock.boottime())

    def owns(self, key: str | bytes) -> bool:
        """Whether this member holds ``key`` now.

        An answer is about this instant. Where acting takes time, use :meth:`cycle`: it pins what
        it says until the block ends.
        """
        self._check()
        return self.held.owns(key)

    def owned(self, keys: Iterable[K]) -> list[K]:
        """Return those of ``keys`` that this member holds now, in order. See :meth:`owns`."""
        self._check()
        return self.held.owned(keys)

    def mask(self, keys: Iterable[Any]) -> bytearray:
        """Return 1 for each of ``keys`` that this member holds now, 0 for the others."""
        self._check()
        return self.held.mask(keys)

    @property
    def members(self) -> Mapping[str, float]:
        """The weights of the members that own something, by id, at the latest reading."""
        view = self._handoff.view
        return MappingProxyType(view.weights if view is not None else {})

    @property
    def records(self) -> Mapping[str, Member]:
        """All live members' records at the latest reading, those that drain included."""
        return MappingProxyType(dict(self._handoff.members))

    @property
    def problems(self) -> Mapping[str, str]:
        """Which members keep this one from its slots, by id, and why.

        A live record that cannot be read: nobody gains while there is one. A member with another
        ring, ttl or handoff: this one waits for its end.
        """
        handoff = self._handoff
        strangers = {
            id: f"member {id!r:.200} has {difference}"
            for id, difference in handoff.strangers_in_the_way.items()
        }
        return MappingProxyType({**strangers, **handoff.problems})

    @property
    def waiting_for(self) -> Mapping[str, SlotSet]:
        """Whose act must end before this member gains what the view gives it: slots by member id.

        Empty where nothing is missing. By the latest reading. A member is named with the slots
        that it may still hold; with all that are missing where its record cannot be read or shows
        a view that nobody here knows; and this member itself, where its own cycle is in the way.
        """
        return MappingProxyType(dict(self._handoff.waiting_for))

    @property
    def view_id(self) -> str | None:
        """The id of the view of the latest reading; ``None`` before the first."""
        view = self._handoff.view
        return None if view is None else view.id

    @property
    def incarnation(self) -> str:
        """This membership's identity; a new one after each expiry."""
        return self._handoff.incarnation

    @property
    def state(self) -> str:
        """joining, settling, settled, fenced, draining or left."""
        if self._is_child():
            return "left"
        return self._handoff.state(clock.boottime())

    @property
    def reason(self) -> str:
        """Why it is not settled, in a sentence for an operator; empty where it is, or has left."""
        state = self.state
        if state in ("settled", "left"):
            return ""
        if self._store_is_away():
            return "the store is away"
        return self._waits_for

    @property
    def deadline(self) -> float:
        """The fence, in seconds on ``CLOCK_BOOTTIME``."""
        return self._handoff.deadline

    @property
    def clock_steps(self) -> int:
        """How often the wall clock has stepped by more than ``ttl``, since this member joined."""
        return self._clock.count

    @property
    def clock_step(self) -> float | None:
        """By how many seconds it stepped last, negative where it was back; ``None``: never."""
        return self._clock.latest

    def publish_meta(self, meta: Mapping[str, Any]) -> None:
        """Replace the ``meta`` in this member's record, without delaying any hand-over.

        Returns at once. It goes out with the next record of this member, or in one of its own
        once it has settled; a record that the store has lost comes back with it. Of several in a
        row only the last need be seen by others.

        Args:
            meta: a JSON object of at most 64 KiB; copied, not deeply.

        Raises:
            BadArgument: it is no mapping.
            BadRecord: it is no JSON object, too large, or has the key ``"hashring"``, which is
                the hand-off's own. What stood before stays.

        Example:
            >>> with join("memory://doc", "pollers", "a", meta={"polls": 1}) as partition:
            ...     partition.publish_meta({"polls": 2})
        """
        if not isinstance(meta, Mapping):
            raise BadArgument(f"meta must be a mapping, not {meta!r:.200}")
        self._check_parent()
        with self._lock:
            self._handoff.change_meta(MappingProxyType(dict(meta)))
        self._wake.set()

    def wait_settled(self, timeout: float | None = None) -> bool:
        """Wait until everything that the latest view gives this member is held.

        Args:
            timeout: seconds; ``None`` waits for as long as it takes.

        Returns:
            Whether it is settled.

        Raises:
            GroupMismatch: this member cannot take part.
            MemberExists: its lease was lost, and another process has had its id for two ttl.
        """
        if self._is_child():
            return False
        deadline = math.inf if timeout is None else clock.boottime() + timeout
        with self._changed:
            while True:
                self._check()
                if self.state == "settled":
                    return True
                left = deadline - clock.boottime()
                if left <= 0 or self.state == "left":
                    return False
                self._changed.wait(min(left, 0.5))

    def _is_child(self) -> bool:
        """Whether this is a forked child: it has no threads and holds nothing, and its copy of
        the lock may be held for ever.
        """
        return os.getpid() != self._pid

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _check_parent(self) -> None:
        self._check()
        if self._is_child():
            raise LeaseLost("a forked child holds nothing: join again in the child")

    def _is_lease(self, lease: int) -> bool:
        # The deadline first: a deadline read after the lease could be the next lease's.
        deadline = self._handoff.deadline
        return (
            clock.boottime() < deadline
            and self._handoff.lease == lease
            and os.getpid() == self._pid
        )

    # ---- cycles ----------------------------------------------------------------------------

    def cycle(self) -> CycleBlock:
        """Pin what is held while the block runs: nobody else can hold it before the block ends.

        The others wait for this block, so keep it short, or leave it when ``cycle.valid`` is
        false.
        """
        return CycleBlock(self, self._start_plain_cycle)

    def _start_plain_cycle(self) -> Cycle:
        self._check_parent()
        with self._lock:
            return self._start_cycle(self.held, None, clock.wall())

    def cycles(
        self,
        interval: float,
        *,
        on_crash: str = "repeat",
        jitter: float = 0.0,
        name: str | None = None,
    ) -> Cycles:
        """Iterate over windows: each key is worked by one member in each of them.

        Windows are aligned on the wall clock: ``k`` begins at ``k * interval``. Each iteration of
        the loop is a :class:`Cycle`; what another member handed over after this one had begun a
        window comes as a second cycle of that window. The iterator ends when the partition
        drains, leaves or is asked to :meth:`stop`.

        Args:
            interval: seconds.
            on_crash: what to do with the present window of a member that crashed in it:
                ``"repeat"`` or ``"skip"``.
            jitter: the part of the interval, 0 to 1, by which the start of each window's work is
                delayed at random.
            name: tells several loops with one interval apart; a loop that is closed and opened
                again under its name goes on where it stopped.

        Several loops with different intervals may run at once. One number tells the next owner
        where to begin in all of them, so where one of several is closed early, a window that it
        had not started may be lost to a hand-over in which the others went on.

        Raises:
            BadArgument: an argument is out of range; it is a ``ValueError``.
        """
        interval, on_crash = checked_interval(interval), checked_on_crash(on_crash)
        jitter = checked_number("jitter", jitter, most=1)
        self._check_parent()
        wall = clock.wall()
        label = name if name is not None else f"every {interval!r} s"
        with self._lock:
            self._read_notes()
            self._share_gains()
            known = self._streams.get(label)
            if known is not None and not known.closed:
                # A second loop of its own: never the same object in two hands. Those of before
                # that are closed, and whose last window is long worked, are forgotten.
                self._forget_loose_streams(wall)
                label = f"{label}{_LOOSE}{uuid.uuid4().hex[:8]}"
                known = None
            if known is not None:
                if known.interval != interval:
                    known.change_interval(interval, wall)
                known.open(wall, on_crash)
                known.opened = False  # not before it is iterated
                stream = known
            else:
                stream = Stream(
                    interval,
                    wall=wall,
                    since=self._handoff.since,
                    on_crash=on_crash,
                    catch_up=max(interval, self.ttl),
                    ttl=self.ttl,
                )
                self._streams[label] = stream
            self._allow_catching_up()
        loop = Cycles(self, stream, jitter)
        self._loops.add(loop)
        return loop

    def _allow_catching_up(self) -> None:
        """Let every loop work what a slower one's cycle has held up, on whichever member."""
        intervals = {stream.interval for stream in self._streams.values()}
        if len(intervals) > 1:
            for stream in self._streams.values():
                stream.catch_up = max(stream.catch_up, max(intervals) + self.ttl)

    def _forget_loose_streams(self, wall: float) -> None:
        for label, stream in list(self._streams.items()):
            over = stream.next_start() + max(stream.interval, self.ttl) < wall
            if _LOOSE in label and stream.closed and over:
                del self._streams[label]

    def _open_stream(self, stream: Stream) -> None:
        if self._is_child():
            return
        with self._changed:
            stream.open(clock.wall())

    def _share_gains(self) -> None:
        gains = self._handoff.take_gains()
        wall = clock.wall()
        if gains:
            for stream in self._streams.values():
                stream.gain(gains, wall)

    def _next_cycle(self, stream: Stream, jitter: float) -> Cycle | None:
        """Wait for the stream's next piece of work and pin it; ``None``: there will be no more."""
        if self._is_child():
            return None
        waited: tuple[float, float] | None = None  # the window's start, and when to begin it
        with self._changed:
            while True:
                self._check()
                self._look_at_clock()
                now, wall = clock.boottime(), clock.wall()
                follow_clock(list(self._streams.values()), wall)
                state = self._handoff.state(now)
                if state == "left" or stream.ending:
                    return None
                timeout = 0.2
                if state not in ("joining", "fenced"):
                    self._share_gains()
                    due = stream.due(wall, functools.partial(self._handoff.usable, now))
                    if self._stopping and (
                        due is None
                        or (
                            due.slots.isdisjoint(self._handoff.losing)
                            and can_yield(stream, list(self._streams.values()), due, wall)
                        )
                    ):
                        # What has begun and nobody here has started is the next owner's.
                        return None
                    # An empty share is only worth a cycle once it is known to be one.
                    if due is not None and (due.slots or self._handoff.is_settled):
                        if waited is None or waited[0] != due.start:
                            # From the window's start: a delay may not outlast the window.
                            delay = random.random() * jitter * stream.interval  # noqa: S311
                            waited = (due.start, due.start + delay)
                            if self._may_be_joined(stream, now):
                                # Before the window's end, whatever the clock does.
                                begin = wall + self._begun_at + self._gathering(stream) - now
                                last = due.start + (1 - _GATHER_PART) * stream.interval
                                waited = (due.start, max(waited[1], min(begin, last)))
                        if (
                            wall >= waited[1]
                            or due.late
                            or self._stopping
                            or not due.slots.isdisjoint(self._handoff.losing)  # others wait for us
                        ):
                            return self._start_cycle(due.slots, stream, wall, due)
                        timeout = min(timeout, waited[1] - wall)
                    elif due is None:
                        timeout = min(timeout, stream.next_start() - wall)
                elif self._stopping:
                    return None
                self._changed.wait(max(0.001, timeout))

    def _gathering(self, stream: Stream) -> float:
        return min(_GATHER_PART * stream.interval, _GATHER_TTL * self.ttl)

    def _may_be_joined(self, stream: Stream, now: float) -> bool:
        """Whether this member is new in a group where nobody has worked yet: others may be about
        to join, and would wait for the whole of its first cycle.
        """
        return (
            stream.newest_start == -math.inf
            and not any(batch.certain for batch in self._handoff.since)
            and now < self._begun_at + self._gathering(stream)
        )

    def _start_cycle(
        self, slots: SlotSet, stream: Stream | None, wall: float, due: Due | None = None
    ) -> Cycle:
        handoff = self._handoff
        self._cycle_numbers += 1
        number = self._cycle_numbers
        handoff.pin(number, slots)
        if stream is not None and due is not None:
            stream.started(due)
        view = handoff.applied
        cycle = Cycle(
            self,
            number,
            slots,
            Token(
                "" if view is None else view.id,
                handoff.incarnation,
                None if due is None else due.window,
            ),
            lease=handoff.lease,
            start=wall if due is None else due.start,
            interval=None if stream is None else stream.interval,
            late=due is not None and due.late,
        )
        self._running[number] = (weakref.ref(cycle), threading.get_ident())
        return cycle

    def _end(self, cycle: Cycle) -> None:
        """End a cycle. A finaliser may run this, anywhere: no lock is taken."""
        cycle._over = True
        cycle._cancel_maps()
        self._notes.end(cycle)

    def _read_notes(self) -> None:
        """Act on what ended without the lock; the caller has it, and is no finaliser."""
        notes = self._notes
        if not (notes.cycles or notes.streams):
            return
        for _ in range(len(notes.cycles)):
            cycle = notes.cycles.popleft()
            if cycle._runs_calls:
                notes.cycles.append(cycle)  # looked at again when the last of them has ended
                continue
            self._running.pop(cycle._number, None)
            self._handoff.unpin(cycle._number)
        while notes.streams:
            notes.streams.popleft().closed = True
        self._changed.notify_all()

    # ---- leaving ---------------------------------------------------------------------------

    def stop(self) -> None:
        """Ask the loops over :meth:`cycles` to end; safe in a signal handler: it takes no lock.

        Each loop finishes the cycle in hand, and ends within a fifth of a second where it waits
        for the next window. Leaving the ``with`` block then drains.
        """
        self._stopping = True

    def drain(self, timeout: float | None = None) -> bool:
        """Leave with hand-over: give up each slot only when it is worked, and wait for its heirs.

        Cycles and loops of the calling thread are ended first: it cannot be working them. Not to
        be called from a signal handler, which may have interrupted its thread inside a lock: call
        :meth:`stop` there.

        Args:
            timeout: seconds to wait, twice ``ttl`` by default (a store that forgot makes all stand
                still for one of them); then leave all the same. For a store that is away it waits
                0.4 ``ttl`` at most once no cycle runs, and not at all past the fence.

        Returns:
            Whether the rest have taken over everything.
        """
        if self._is_child():
            return True  # A forked child has nothing to give up.
        self.stop()
        if self._is_within():
            self._notes.drop()
            return False
        seconds = 2 * self.ttl if timeout is None else min(max(0.0, timeout), threading.TIMEOUT_MAX)
        try:
            self._begin_drain()
            self._wait_for_end(seconds)
        finally:
            self._finish()  # Ctrl-C in the wait too
        return self._handed_over

    def _begin_drain(self) -> None:
        self._end_own_cycles()
        with self._changed:
            self._read_notes()
            if not self._handoff.has_left:
                self._handoff.drain()
            self._changed.notify_all()
        self._wake.set()

    def _wait_for_end(self, seconds: float) -> None:
        """Wait until the rest have taken over, or for so long, or until there is no sense in it."""
        deadline = clock.boottime() + seconds
        away_until = math.inf
        while not self._has_nothing_to_drain():
            now = clock.boottime()
            if not self._store_is_away() or self._running:
                away_until = math.inf
            else:
                away_until = min(away_until, now + _AWAY * self.ttl)
            left = min(deadline, away_until) - now
            if left <= 0 or self._ended.wait(min(left, _LOOK)):
                return

    def _has_nothing_to_drain(self) -> bool:
        """Whether nothing is held, and the store that would have to be told is away."""
        return self._store_is_away() and not self._handoff.in_hand(clock.boottime())

    def _store_is_away(self) -> bool:
        return any(self._outage.is_failing(source) for source in self._sources)

    def _is_within(self) -> bool:
        """Whether this thread cannot wait for the partition's: it is one of them, or holds their
        lock. So it is where a finaliser leaves the ``with`` block of a collected generator.
        """
        return threading.current_thread() in self._threads or _is_owned(self._lock)

    def _end_own_cycles(self) -> None:
        thread = threading.get_ident()
        for loop in list(self._loops):
            if loop._thread == thread:
                loop.close()
        for found, owner in list(self._running.values()):
            cycle = found()
            if owner == thread and cycle is not None:
                self._end(cycle)

    def leave(self) -> None:
        """Leave at once: hold nothing, end the lease, end both threads. Idempotent.

        Not to be called from a signal handler: see :meth:`drain`.
        """
        self.stop()
        if self._is_within() and not self._is_child():
            self._notes.drop()
            return
        self._finish()

    def _finish(self) -> None:
        if self._is_child():
            return
        with self._changed:
            if self._finished:
                return
            self._finished = True
            # For who holds nothing in any case nobody waits.
            is_told = bool(self._handoff.weight) or not self._has_nothing_to_drain()
            self._handoff.left()
            self._ended.set()
            self._changed.notify_all()
        if self._finalizer is not None:
            self._finalizer.detach()
        try:
            self._end_threads()
            # Where the store seems to be away, too: it may be back by now, and a store whose clock
            # stood still meanwhile keeps the lease for another ttl. One call, with its timeout.
            if is_told:
                self._driver.leave(self.group, self.member)
        except HashringError as error:
            log.warning("%s: %s left without telling the store: %s", self.group, self.member, error)
        finally:
            self._outage.forget(*self._sources)
            try:
                self._driver.close()
            finally:
                self._gone.set()
                ending.forget(self)

    def _end_threads(self) -> None:
        self._ended.set()
        self._wake.set()
        self._beat_now.set()
        for thread in self._threads:
            if thread is not threading.current_thread():
                # One that could not be started cannot be joined. Should it begin yet, it ends.
                with contextlib.suppress(RuntimeError):
                    # Every call on the driver ends within its timeout, so this join does too.
                    thread.join()
        self._threads = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: types.TracebackType | None,
    ) -> None:
        if self._failure is not None:
            self.leave()
        else:
            self.drain()

    def __repr__(self) -> str:
        return (
            f"<Partition {self.member!r} of group {self.group!r} at {self._driver.url}: "
            f"{self.state}, {len(self.held)} slots>"
        )

    # ---- the two threads -------------------------------------------------------------------

    def _begin(self) -> None:
        """Open the store, join, and start the threads; on any failure leave nothing behind."""
        driver, handoff = self._driver, self._handoff
        tried = False
        try:
            record = handoff.start().record
            driver.open()
            # Look before joining: a member that differs need not disturb the group.
            self._refuse_mismatch(driver.read(self.group), record)
            tried = True
            try:
                driver.join(self.group, self.member, record)
            except MemberExists:
                tried = False  # the lease is somebody else's
                raise
            self._begun_at = clock.boottime()
            handoff.joined(self._begun_at)
            self._heartbeat()
            self._start_threads()
        except BaseException:
            self._undo(tried)
            raise

    def _start_threads(self) -> None:
        inner = self._for_threads()
        for name, target in (("heartbeat", inner._beat), ("reconcile", inner._reconcile)):
            thread = threading.Thread(
                target=target, name=f"hashring-{name}-{self.group}-{self.member}", daemon=True
            )
            self._threads.append(thread)
            thread.start()
        self._finalizer = weakref.finalize(self, self._notes.drop)
        self._finalizer.atexit = False  # `ending` does that, and has the time to hand over
        ending.expect(inner)

    def _undo(self, tried: bool) -> None:
        """Leave nothing of a join that failed: no thread, no lease, no connection."""
        try:
            with self._lock:
                self._handoff.left()
            self._end_threads()
            if tried:  # The join may have landed though its answer was lost.
                self._driver.leave(self.group, self.member)
        except Exception as error:
            log.warning(
                "%s: %s could not take back a join that failed, so its lease has to run out: %s",
                self.group,
                self.member,
                error,
            )
        finally:
            ending.forget(self)
            self._outage.forget(*self._sources)
            with contextlib.suppress(Exception):  # what is raised is why the join failed
                self._driver.close()

    def _for_threads(self) -> Partition:
        """Return another object with the very same attributes, for the threads.

        They hold that one. The one that `join` returns is held by its user alone, and by the loops
        and cycles that it gave out, so it is finalised when the last of them is dropped. Nothing
        among the attributes may refer to it.
        """
        inner = object.__new__(type(self))
        inner.__dict__ = self.__dict__
        return inner

    def _refuse_mismatch(self, reading: Reading, own: bytes) -> None:
        members = {self.member: Member.from_json(self.member, own)}
        for id, record in reading.records.items():
            with contextlib.suppress(BadRecord):
                members.setdefault(id, Member.from_json(id, record))
        handoff = self._handoff
        parameters = Parameters(handoff.spec, handoff.ttl, handoff.mode)
        verdict = judge(members.values(), parameters)
        first = verdict.first
        if first is not None and (verdict.is_founded or first.applied is not None):
            raise mismatch(first.id, verdict.differences[first.id])

    def _heartbeat(self) -> None:
        with self._lock:
            token = self._handoff.heartbeat_begins()
        started = clock.boottime()
        try:
            self._driver.heartbeat()
        except LeaseLost:
            with self._changed:
                self._handoff.lease_lost(token)
                self._changed.notify_all()
            self._wake.set()
            raise
        with self._changed:
            was_fenced = clock.boottime() >= self._handoff.deadline
            self._handoff.heartbeat_confirmed(token, started)
            if was_fenced:
                self._changed.notify_all()

    def _beat(self) -> None:
        pause = self._heartbeat_pause
        while not self._ended.is_set():
            if self._beat_now.wait(max(0.0, pause)):
                self._beat_now.clear()
            if self._ended.is_set():
                return
            began = clock.boottime()
            source = self._sources[0]
            try:
                self._heartbeat()
                self._outage.worked(source)
                self._defects.worked("heartbeat")
                # From the start of the last one: its answer may have been long on the way.
                pause = began + self._heartbeat_pause - clock.boottime()
                continue
            except LeaseLost as error:
                self._outage.worked(source)  # the store has answered
                self._refusals.failed("the lease is lost", error)
            except HashringError as error:
                self._outage.failed(source, error)
            except Exception as error:
                # A defect of the driver: without heartbeats the fence passes, which is safe.
                self._defects.failed("heartbeat", error, trace=True)
            pause = jittered(min(1.0, self.ttl / 10, self._heartbeat_pause))

    def _reconcile(self) -> None:
        failures = 0
        source = self._sources[1]
        while not self._ended.is_set():
            if self._is_dropped():
                break
            try:
                self._once()
                failures = 0
                self._outage.worked(source)
                for told in (*_REFUSALS, "reconciling"):
                    self._refusals.worked(told)
                    self._defects.worked(told)
            except LeaseLost as error:
                self._outage.worked(source)
                self._refusals.failed("the lease is lost", error)
                with self._changed:
                    self._handoff.lease_lost()
                    self._changed.notify_all()
            except GroupMismatch as error:
                self._fail(error)
                return
            except HashringError as error:
                if isinstance(error, MemberExists) and self._is_replaced():
                    self._fail(error)
                    return
                if isinstance(error, MemberExists):
                    self._outage.worked(source)
                    self._refusals.failed("the member's id is taken", error)
                else:
                    self._outage.failed(source, error)
                failures += 1
                self._pause(failures)
            except Exception as error:
                self._defects.failed("reconciling", error, trace=True)
                failures += 1
                self._pause(failures)
        if self._drop_by is not None:
            self._finish()  # nobody else will
        if self._drop_warning is not None:
            raise self._drop_warning

    def _is_dropped(self) -> bool:
        """Begin to drain once nobody has this partition in hand; return whether that is over."""
        if not self._notes.dropped or self._finished:
            return False
        now = clock.boottime()
        if self._drop_by is None:
            self._drop_by = now + 2 * self.ttl
            self._stopping = True
            with self._changed:
                self._read_notes()
                if not self._handoff.has_left:
                    self._handoff.drain()
                self._changed.notify_all()
            try:
                ending.warn_of_drop(self.group, self.member, self._joined_at)
            except Warning as warning:  # where the filters make errors of them
                self._drop_warning = warning
        return now >= self._drop_by or self._has_nothing_to_drain()

    def _is_replaced(self) -> bool:
        """Whether another process has had this member's id for longer than a lost lease can."""
        now = clock.boottime()
        if self._refused_since is None:
            self._refused_since = now
        return now - self._refused_since > 2 * self.ttl

    def _pause(self, failures: int) -> None:
        # Backoff with jitter: a store that comes back is not met by everybody at once.
        self._ended.wait(jittered(grown(0.05, min(self.ttl / 3, 1.0), failures + 1)))

    def _once(self) -> None:
        """Read the group, let the hand-off decide, and do what it says."""
        handoff, driver = self._handoff, self._driver
        with self._lock:
            token = handoff.reading_begins()
        self._wake.clear()
        reading = driver.read(self.group)
        with self._changed:
            if handoff.has_left:
                return
            self._read_notes()
            self._look_at_clock()
            now = clock.boottime()
            streams = list(self._streams.values())
            wall = label_time(streams, clock.wall())
            handoff.observe(
                reading, token, now=now, wall=wall, worked=newest_start(streams) > -math.inf
            )
            losing = handoff.losing
            action = handoff.decide(
                now=now,
                wall=wall,
                owed=owed_by(streams, wall, losing),
                yielded=yielded_by(streams, wall, losing),
            )
            self._share_gains()
            self._changed.notify_all()
        self._report_problems()
        self._report_wait(action, reading.memory_age)
        if isinstance(action, Publish):
            driver.publish(self.group, self.member, action.record)
            with self._changed:
                handoff.published()
                self._share_gains()
                self._changed.notify_all()
        elif isinstance(action, Join):
            driver.join(self.group, self.member, action.record)
            with self._changed:
                handoff.joined(clock.boottime())
                self._refused_since = None
                self._changed.notify_all()
            self._beat_now.set()
        elif isinstance(action, Leave):
            self._handed_over = action.handed_over
            self._ended.set()
        else:
            self._wait(action)

    def _look_at_clock(self) -> None:
        """Name a step of the wall clock at once; what it means for windows is the streams' part."""
        step = self._clock.look_now()
        if step is None:
            return
        if step < 0:
            meaning = (
                "windows go on with the new time, and their labels repeat; a loop of which three "
                "windows are longer than the step waits for the clock to catch up"
            )
        else:
            meaning = "the windows in between are skipped"
        log.warning(
            "%s: %s: the wall clock has stepped %s by %.1f s: %s",
            self.group,
            self.member,
            "back" if step < 0 else "forth",
            abs(step),
            meaning,
        )

    def _wait(self, action: Wait) -> None:
        """Wait until the group may have changed, or something here has."""
        if action.local:
            self._wake.wait(_LOCAL_POLL)
            return
        if action.seconds is not None and action.seconds <= 0:
            return
        # Settled members look for expired ones; the more members, the less often each looks.
        size = len(self._handoff.members)
        # In a large group acks come in crowds: gather some before reading all of them again.
        if size > _CROWD:
            self._wake.wait(min(self.ttl / 10, _GATHER * size))
        longest = min(self.ttl / 4, max(0.1, min(0.5, self.ttl / 20), 0.004 * size))
        settles = not self._handoff.is_settled and not self._handoff.stands_aside
        if settles or self.state == "draining":
            longest = min(longest, max(0.02, 0.001 * size))
        if action.seconds is not None:
            longest = min(longest, action.seconds)
        deadline = clock.boottime() + longest
        while True:
            left = deadline - clock.boottime()
            if left <= 0 or self._wake.is_set() or self._ended.is_set():
                return
            slice_ = min(left, _SLICE)
            began = clock.boottime()
            self._driver.wait(self.group, slice_)
            if clock.boottime() - began < 0.9 * slice_:
                return

    def _report_problems(self) -> None:
        text = "; ".join(self._handoff.problems.values())
        if text and text != self._last_problem:
            log.error("%s: nobody gains slots while these members live: %s", self.group, text)
        self._last_problem = text
        self._report_strangers()

    def _report_strangers(self) -> None:
        """Say once for whom this member waits, and once that it goes on."""
        waits_for = self._handoff.strangers_in_the_way
        strangers, now = frozenset(waits_for), clock.boottime()
        if strangers - self._strangers and (not self._strangers or now >= self._named_again):
            self._named_again = now + _NAME_AGAIN
            log.error(
                "%s: %s waits for %d members that differ to leave: %s",
                self.group,
                self.member,
                len(strangers),
                "; ".join(f"{id!r:.200} has {waits_for[id]}" for id in sorted(strangers)[:5]),
            )
        elif self._strangers and not strangers and self._handoff.is_settled:
            log.warning("%s: %s goes on: those that differ have left", self.group, self.member)
        else:
            return  # One that comes and goes is named once, until this member has settled again.
        self._strangers = strangers

    def _report_wait(self, action: object, memory_age: float) -> None:
        """Keep why nothing moves; say it where the whole group stands still."""
        young = not memory_age >= self.ttl
        self._waits_for = action.reason if isinstance(action, Wait) else "the store is being told"
        # Who only watches gains nothing in any case.
        if young and not self._stands_still and self._handoff.weight:
            log.warning(
                "%s: %s stands still: %s has been known for %.1f s only, and may have forgotten "
                "members of before; nobody gains slots for %.1f s (a store's first group waits for "
                "one ttl, once)",
                self.group,
                self.member,
                self._driver.url,
                memory_age,
                self.ttl - memory_age,
            )
        self._stands_still = young

    def _fail(self, error: HashringError) -> None:
        log.error("%s: %s cannot take part: %s", self.group, self.member, error)
        with self._changed:
            self._failure = error
            self._handoff.left()
            self._changed.notify_all()
        self._ended.set()
        self._stopping = True
        with contextlib.suppress(HashringError):
            self._driver.leave(self.group, self.member)
