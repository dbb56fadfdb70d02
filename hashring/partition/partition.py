"""Join a group and act on this member's share: `join`, and `Partition`, what a user asks.

A `Partition` is a thin handle. What runs behind it, the lock and the threads, is in
`membership.py`, `loops.py` and `worker.py`, and knows nothing of it. So it is collected once its
user has dropped it, and its finaliser leaves a note for the threads.
"""

from __future__ import annotations

import functools
import itertools
import logging
import math
import threading
import time
import types
import weakref
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, NoReturn, Self, TypeVar, overload

from hashring import clock
from hashring.backoff import jittered
from hashring.driver import Driver, DriverURL
from hashring.errors import BadArgument, BadKey, MemberExists, StoreUnavailable
from hashring.partition import arguments, ending
from hashring.partition.cycle import CycleBlock, Cycles
from hashring.partition.facts import Facts
from hashring.partition.keys import explained
from hashring.partition.literals import HandoffMode, OnCrash
from hashring.partition.loops import Loops
from hashring.partition.membership import Membership
from hashring.partition.reports import Reports
from hashring.partition.waiting import retry_pause
from hashring.partition.worker import Worker
from hashring.protocol.handoff import Handoff
from hashring.protocol.view import MAX_BACK
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

    Raises:
        BadURL, UnknownDriver, MissingDependency: the URL has no driver.
        StoreUnavailable: the store cannot be reached.
        MemberExists: another process holds this member's lease.
        GroupMismatch: the group uses another ring, ttl or handoff.
        BadArgument: an argument is out of range; it is a ``ValueError``.
    """
    driver = arguments.loaded(url, ttl)
    arguments.check_names(group, member, handoff, meta)
    if heartbeat is not None:
        heartbeat = arguments.checked_number("heartbeat", heartbeat, least=0.001)
    keeps_for = arguments.resume(driver, resume, member)
    rules = arguments.rules(member, weight, driver.ttl, handoff, meta, ring, gather)
    return _tried(
        functools.partial(_joined, driver, group, heartbeat, keeps_for, rules),
        wait=arguments.checked_number("wait", wait),
        ttl=driver.ttl,
        name=f"{group}: {rules['member']}",
    )


def _joined(
    driver: Driver,
    group: str,
    heartbeat: float | None,
    resume: float,
    rules: Mapping[str, Any],
) -> Partition:
    """Try to join once."""
    handoff = Handoff(incarnations=arguments.incarnations(), **rules)
    partition = Partition(driver, group, handoff, heartbeat=heartbeat)
    partition._membership.resume = resume
    partition._worker.begin()
    return partition


def _tried(attempt: Callable[[], Partition], *, wait: float, ttl: float, name: str) -> Partition:
    """Join; try again for so many seconds what time alone may mend."""
    deadline = clock.boottime() + wait
    for failures in itertools.count(1):
        try:
            return attempt()
        except (StoreUnavailable, MemberExists) as error:
            left = deadline - clock.boottime()
            if left <= 0:
                raise
            if failures == 1:
                log.warning("%s: waits up to %.1f s to join: %s", name, wait, error)
        time.sleep(min(left, jittered(retry_pause(failures, ttl))))
    raise AssertionError("unreachable")


class Partition(Facts):
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
            caller=ending.caller(),
        )
        finalizer = weakref.finalize(self, self._membership.notes.drop)
        finalizer.atexit = False  # `ending` does that, and has the time to hand over

    # ---- what a caller may ask -------------------------------------------------------------

    @property
    def held(self) -> SlotSet:
        """The slots that may be acted on now; empty past the fence."""
        return self._membership.held

    @overload
    def owns(self, item: str | bytes, /) -> bool: ...
    @overload
    def owns(self, item: K, /, *, key: Callable[[K], str | bytes]) -> bool: ...
    def owns(self, item: K, /, *, key: Callable[[K], str | bytes] | None = None) -> bool:
        """Whether this member holds a key now.

        An answer is about this instant. Where acting takes time, use :meth:`cycle`: it pins what
        it says until the block ends.

        Args:
            item: the key; or any object, with ``key``.
            key: what gives an object's key.

        Raises:
            BadKey: the key is neither ``str`` nor ``bytes``.
        """
        self._membership.check()
        try:
            return self.held.owns(item if key is None else key(item))  # type: ignore[arg-type]
        except BadKey as error:
            raise explained(error) from None

    def owned(self, keys: Iterable[K], *, key: Callable[[K], str | bytes] | None = None) -> list[K]:
        """Return those of ``keys`` that this member holds now, in order. See :meth:`owns`.

        Args:
            keys: ``str`` or ``bytes``, any iterable, or :class:`Keys`.
            key: for other objects: what gives an object's key.

        Raises:
            BadKey: a key is neither ``str`` nor ``bytes``.
        """
        self._membership.check()
        try:
            return self.held.owned(keys, key=key)
        except BadKey as error:
            raise explained(error) from None

    def mask(
        self, keys: Iterable[K], *, key: Callable[[K], str | bytes] | None = None
    ) -> bytearray:
        """Return 1 for each of ``keys`` that this member holds now, 0 for the others.

        Arguments and errors are those of :meth:`owned`.
        """
        self._membership.check()
        try:
            return self.held.mask(keys, key=key)
        except BadKey as error:
            raise explained(error) from None

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
        self._membership.check_parent()
        with self._membership.lock:
            self._membership.handoff.change_meta(MappingProxyType(dict(meta)))
        self._membership.notes.wake.set()

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
                self._membership.check()
                if self.state == "settled":
                    return True
                left = deadline - clock.boottime()
                if left <= 0 or self.state == "left":
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

    def _facts(self) -> tuple[str, SlotSet, Mapping[str, float]]:
        return self.state, self.held, dict(self.members)

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

    # ---- leaving ---------------------------------------------------------------------------

    def stop(self) -> None:
        """Ask the loops over :meth:`cycles` to end; safe in a signal handler: it takes no lock.

        Each loop finishes the cycle in hand, and ends within a fifth of a second where it waits
        for the next window. Leaving the ``with`` block then drains.
        """
        self._membership.stopping = True

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
        seconds = 2 * self.ttl if timeout is None else min(max(0.0, timeout), threading.TIMEOUT_MAX)
        return self._worker.drain(seconds)

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

    def __reduce__(self) -> NoReturn:
        raise BadArgument(
            "a Partition cannot be pickled or copied: it is one process's membership. Hand the "
            "store's URL and the group's name to the other process and join there, or hand it the "
            "keys: list(cycle.owned(keys))"
        )

    def __repr__(self) -> str:
        return (
            f"<Partition {self.member!r} of group {self.group!r} at {self._membership.driver.url}: "
            f"{self.state}, {len(self.held)} slots>"
        )
