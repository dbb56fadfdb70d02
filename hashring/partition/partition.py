"""Join a group and act on this member's share: `join`, and `Partition`, what a user asks.

A `Partition` is a thin handle. What runs behind it, the lock and the threads, is in
`membership.py`, `loops.py` and `worker.py`, and knows nothing of it. So it is collected once its
user has dropped it, and its finaliser leaves a note for the threads.
"""

from __future__ import annotations

import logging
import math
import threading
import time
import types
import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Self, TypeVar, overload

from hashring import clock
from hashring.driver import Driver, DriverURL
from hashring.partition import arguments, ending
from hashring.partition.changes import Changes, Teller
from hashring.partition.cycle import CycleBlock, Cycles
from hashring.partition.keeping import FIRST_PAUSE, LONGEST_PAUSE
from hashring.partition.leading import Leading
from hashring.partition.literals import HandoffMode, OnCrash
from hashring.partition.loops import Loops
from hashring.partition.membership import Membership
from hashring.partition.opening import joined
from hashring.partition.reports import Reports
from hashring.partition.requests import OnRequest
from hashring.partition.share import Share
from hashring.partition.worker import Worker
from hashring.partition.workers import Stop, Workers
from hashring.protocol.handoff import Handoff
from hashring.protocol.record import MAX_BACK
from hashring.ring.ring import HashRing, SlotSet

__all__ = ["Partition", "join"]

log = logging.getLogger("hashring")

K = TypeVar("K")

_LOOK = 0.5
"""The longest wait in seconds between two looks at the state: the fence passes without a word."""


def join(
    url: str | DriverURL | Driver,
    group: str,
    member: str | None = None,
    weight: float = 1.0,
    ttl: float | None = None,
    handoff: HandoffMode = "exclusive",
    *,
    meta: Mapping[str, Any] | None = None,
    ring: HashRing | str | None = None,
    heartbeat: float | None = None,
    wait: float = 0.0,
    gather: float | None = None,
    resume: float | None = None,
    on_request: OnRequest | None = None,
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
        ttl: the lease in seconds: how long after a crash the others take over. ``None``: as the
            ``ttl`` option of the URL says, else 10. Where both are given they must be equal.
        handoff: ``"exclusive"``: no slot is ever held twice; ``"eager"``: for users who prefer a
            repeat to a gap, slots are taken without waiting for the others' acks.
        meta: a small JSON object to publish in this member's record;
            :meth:`Partition.publish_meta` replaces it.
        ring: the parameters of the group's ring (all members need the same), if not the default.
        heartbeat: the longest time between two heartbeats in seconds. It never exceeds a third of
            ``ttl``, which is the default: a lost one leaves time for another before the fence.
        wait: for so many seconds, try again while the store is away, or another process holds
            this member's lease: one that was killed holds it for up to ``ttl`` more. Then what
            stands in the way is raised.
        gather: joins and drains that come together are seen as one change: this member goes along
            with two of them at once, and with all others that come within so many seconds
            together. A lone change, and what follows a crash, never waits. By default 0.1, or a
            twentieth of ``ttl`` if that is less; 0 goes along with each at once.
        resume: where this member drains, its share stays its own for so many seconds, unworked,
            until it joins again as ``member``, which must be given. ``None``: as the ``resume``
            option of the URL says, else 0: the others take it over at once.
        on_request: is told of what an operator asks (``hashring group drain``), in a thread of the
            library's, and returns soon; ``False`` refuses. Else this member's loops end, it
            drains, and holds nothing from then on: what becomes of the process is the program's.

    Raises:
        BadURL, UnknownDriver, MissingDependency: the URL has no driver.
        StoreUnavailable: the store cannot be reached.
        MemberExists: another process holds this member's lease.
        GroupMismatch: the group uses another ring, ttl or handoff.
        BadArgument: an argument is out of range; it is a ``ValueError``.
    """
    return joined(
        Partition,
        time.sleep,
        ending.caller(),
        url,
        group,
        member=member,
        weight=weight,
        ttl=ttl,
        handoff=handoff,
        meta=meta,
        ring=ring,
        heartbeat=heartbeat,
        wait=wait,
        gather=gather,
        resume=resume,
        on_request=on_request,
    )


class Partition(Share):
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
        self,
        driver: Driver,
        group: str,
        handoff: Handoff,
        *,
        heartbeat: float | None = None,
        caller: str = "",
        on_request: OnRequest | None = None,
    ) -> None:
        self.group = group
        self.member = handoff.member
        self.ttl = handoff.ttl
        self._seen = threading.local()  # what each thread saw last: see `wait_changed`
        self._membership = Membership(driver, group, handoff)
        self._loops = Loops(self._membership)
        self._reports = Reports(group, self.member, str(driver.url), self.ttl)
        self._worker = Worker(
            self._membership,
            self._loops,
            self._reports,
            pause=min(self.ttl / 3, math.inf if heartbeat is None else heartbeat),
            caller=caller or ending.caller(),
            on_request=on_request,
        )
        finalizer = weakref.finalize(self, self._membership.notes.drop)
        finalizer.atexit = False  # `ending` does that, and has the time to hand over

    # ---- waiting --------------------------------------------------------------------------

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
        if self._membership.is_child:
            return False
        deadline = math.inf if timeout is None else clock.boottime() + timeout
        with self._membership.lock:
            while True:
                decided = self._is_settled()
                if decided is not None:
                    return decided
                left = deadline - clock.boottime()
                if left <= 0:
                    return False
                self._membership.changed.wait(min(left, _LOOK))

    def wait_changed(self, timeout: float | None = None) -> bool:
        """Wait until the slots held, the members or the state are others than this thread saw.

        What counts is the difference to the end of this thread's last call, or to the first call
        itself. So a change between two calls is not lost; several are seen as one.

        Args:
            timeout: seconds; ``None`` waits for as long as it takes.

        Returns:
            Whether there was a change. After the end of the membership nothing changes.

        Raises:
            GroupMismatch, MemberExists: see :meth:`wait_settled`.
        """
        deadline = math.inf if timeout is None else clock.boottime() + timeout
        if self._membership.is_child:
            return False
        with self._membership.lock:
            before = getattr(self._seen, "facts", None) or self._facts()
            while True:
                self._membership.check()
                now = self._facts()
                left = deadline - clock.boottime()
                if now != before or left <= 0 or now[0] == "left":
                    self._seen.facts = now
                    return now != before
                self._membership.changed.wait(min(left, _LOOK))

    # ---- cycles ----------------------------------------------------------------------------

    def cycle(self) -> CycleBlock:
        """Pin what is held while the block runs: nobody else can hold it before the block ends.

        The others wait for this block, so keep it short, or leave it when ``cycle.valid`` is
        false.
        """
        return CycleBlock(self, self._membership, self._loops)

    def cycles(
        self,
        interval: float,
        *,
        on_crash: OnCrash = "repeat",
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
        jitter = arguments.checked_number("jitter", jitter, most=1)
        self._membership.check_parent()
        loop = self._loops.add(interval, on_crash=on_crash, jitter=jitter, name=name)
        return Cycles(self, self._membership, self._loops, loop)

    # ---- work that is no polling -----------------------------------------------------------

    @overload
    def changes(self) -> Changes[SlotSet]: ...
    @overload
    def changes(self, keys: None) -> Changes[SlotSet]: ...
    @overload
    def changes(self, keys: Iterable[str]) -> Changes[frozenset[str]]: ...
    @overload
    def changes(self, keys: Iterable[bytes]) -> Changes[frozenset[bytes]]: ...
    @overload
    def changes(
        self, keys: Iterable[K], *, key: Callable[[K], str | bytes] | None = None
    ) -> Changes[frozenset[K]]: ...
    def changes(
        self,
        keys: Iterable[Any] | None = None,
        *,
        key: Callable[[Any], str | bytes] | None = None,
    ) -> Changes[Any]:
        """Iterate over what this member gains and loses, for work that goes on between windows.

        ::

            for change in partition.changes(keys):
                for key in change.gained:
                    start(key)
                for key in change.lost:
                    stop(key)           # and wait until it has ended

        The first change has what is held already. What was gained stays this member's, pinned,
        until a change says that it is lost; and what is lost until the next iteration, or
        :meth:`Change.done`. Others wait for that. From the fence on it may be theirs in any case:
        then all is lost at once, and ``change.deadline`` lies in the past. What comes back is
        gained again.

        The iterator ends when the partition drains, leaves or is asked to :meth:`stop`, after
        a change with all that is lost by that. Leaving it early lets everything go.

        Args:
            keys: tell of these keys, as they are now (``str`` or ``bytes``, any iterable, or
                :class:`Keys`), in sets of keys. ``None``: tell of slots.
            key: for other objects, which must be hashable: what gives an object's key.

        Raises:
            BadKey: a key is neither ``str`` nor ``bytes``.
        """
        return Changes(self, self._membership, Teller(self._membership, self._loops, keys, key))

    def keep(
        self,
        worker: Callable[[K, Stop], object],
        keys: Iterable[K] = (),
        *,
        key: Callable[[K], str | bytes] | None = None,
        first_pause: float = FIRST_PAUSE,
        longest_pause: float = LONGEST_PAUSE,
    ) -> Workers[K]:
        """Keep one worker, in a thread of its own, running for each key that this member holds.

        ::

            def consume(key, stop):
                with connect(key) as connection:
                    while not stop.is_set():
                        handle(connection.receive(timeout=1))

            with partition.keep(consume, keys) as workers:
                workers.wait()

        A worker is started once its key is this member's, and told to end (``stop``) when the
        key is lost, removed, or the fence has passed. Its slot is let go only when it has ended,
        so in a planned change no key is ever worked twice at once. One that ends by itself, by
        an exception or not, is started again after a pause that grows. Leaving the block tells
        all to end, and waits for them. A worker that wants all to end calls :meth:`stop`, for a
        drain would wait for it.

        Args:
            worker: called with a key and a :class:`Stop`.
            keys: the keys; more can be added and removed later.
            key: for other objects, which must be hashable: what gives an object's key.
            first_pause: seconds before a worker that ended by itself is started again.
            longest_pause: the bound of these pauses; one that ran for longer begins anew.

        Raises:
            BadKey: a key is neither ``str`` nor ``bytes``.
            BadArgument: a pause is out of range.
        """
        first = arguments.checked_number("first_pause", first_pause, least=0.001)
        longest = arguments.checked_number("longest_pause", longest_pause, least=first)
        workers: Workers[K] = Workers(
            self, self._membership, self._loops, worker, key=key, pauses=(first, longest)
        )
        workers.replace(keys)
        return workers

    def leading(self, name: str, *, timeout: float | None = None) -> Leading:
        """Wait until this member is the one that may act for a name, and keep it so in the block.

        ::

            with partition.leading("compactor") as term:
                while not term.wait(60):    # until somebody else is to lead, or this one to stop
                    compact()

        Nobody else leads before the block has ended, or this member's fence has passed: see
        :attr:`Term.valid`. Whom the group gives the name to next waits, so leave the block when
        ``term.over`` is true.

        For what is to run once a window, no term is needed: ``if cycle.owns("report"):`` in
        a loop over :meth:`cycles`.

        Args:
            name: what there is to be one leader for. Its leader is who holds the key of that name.
            timeout: seconds to wait; ``None``: for as long as it takes. Where the time is up, or
                the partition was stopped meanwhile, the term is false from the start.

        Raises:
            BadArgument: the name is no ``str``, or empty.
        """
        if timeout is not None:
            timeout = arguments.checked_number("timeout", timeout)
        return Leading(self, self._membership, self._loops, name, timeout)

    # ---- leaving ---------------------------------------------------------------------------

    def drain(self, timeout: float | None = None, *, resume: float | None = None) -> bool:
        """Leave with hand-over: give up each slot only when it is worked, and wait for its heirs.

        Cycles and loops of the calling thread are ended first: it cannot be working them. Not to
        be called from a signal handler, which may have interrupted its thread inside a lock: call
        :meth:`stop` there.

        Args:
            timeout: seconds to wait, twice ``ttl`` by default (a store that forgot makes all stand
                still for one of them); then leave all the same. For a store that is away it waits
                0.4 ``ttl`` at most once no cycle runs, and not at all past the fence.
            resume: for so many seconds its share is to stay its own; 0: it leaves for good.
                ``None``: as :func:`join` was told.

        Returns:
            Whether the rest have taken over everything, or keep its share for it.
        """
        if resume is not None:
            self._membership.resume = arguments.checked_number("resume", resume, most=MAX_BACK)
        if self._membership.is_child:
            return True  # A forked child has nothing to give up.
        self.stop()
        if self._worker.is_within():
            self._membership.notes.drop()
            return False
        return self._worker.drain(self._drain_seconds(timeout))

    def leave(self) -> None:
        """Leave at once: hold nothing, end the lease, end both threads. Idempotent.

        Not to be called from a signal handler: see :meth:`drain`.
        """
        self.stop()
        if self._worker.is_within() and not self._membership.is_child:
            self._membership.notes.drop()
            return
        self._worker.finish()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: types.TracebackType | None,
    ) -> None:
        try:
            if self._membership.failure is not None:
                self.leave()
            else:
                self.drain()
        except BaseException:
            # Ctrl-C, before anything was asked to end: its threads will see to it.
            self._membership.notes.drop()
            raise
