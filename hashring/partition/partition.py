"""Join a group and act on this member's share: `join`, and `Partition`, what a user asks.

A `Partition` is a thin handle. What runs behind it, the lock and the threads, is in
`membership.py`, `loops.py` and `worker.py`, and knows nothing of it. So it is collected once its
user has dropped it, and its finaliser leaves a note for the threads.
"""

from __future__ import annotations

import math
import threading
import types
import weakref
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Self, TypeVar

from hashring import clock
from hashring.driver import Driver, DriverURL
from hashring.errors import BadArgument
from hashring.partition import arguments, ending
from hashring.partition.cycle import CycleBlock, Cycles
from hashring.partition.loops import Loops
from hashring.partition.membership import Membership
from hashring.partition.reports import Reports
from hashring.partition.worker import Worker
from hashring.protocol.handoff import Handoff
from hashring.protocol.view import Member
from hashring.ring.ring import HashRing, SlotSet

__all__ = ["Partition", "join"]

K = TypeVar("K")

_LOOK = 0.5
"""The longest wait in seconds between two looks at the state: the fence passes without a word."""


def join(
    url: str | DriverURL | Driver,
    group: str,
    member: str | None = None,
    weight: float = 1.0,
    ttl: float | None = None,
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
        ttl: the lease in seconds: how long after a crash the others take over. ``None``: as the
            ``ttl`` option of the URL says, else 10. Where both are given they must be equal.
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
    driver = arguments.loaded(url, ttl)
    arguments.check_names(group, member, handoff, meta)
    weight = arguments.checked_number("weight", weight)
    if heartbeat is not None:
        heartbeat = arguments.checked_number("heartbeat", heartbeat, least=0.001)
    partition = Partition(
        driver,
        group,
        Handoff(
            member if member is not None else arguments.default_member(),
            incarnations=arguments.incarnations(),
            spec=arguments.ring_spec(ring),
            ttl=driver.ttl,
            weight=weight,
            mode=handoff,
            meta=MappingProxyType(dict(meta or {})),
        ),
        heartbeat=heartbeat,
    )
    partition._worker.begin()
    return partition


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
        self.group = group
        self.member = handoff.member
        self.ttl = handoff.ttl
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

    def owns(self, key: str | bytes) -> bool:
        """Whether this member holds ``key`` now.

        An answer is about this instant. Where acting takes time, use :meth:`cycle`: it pins what
        it says until the block ends.
        """
        self._membership.check()
        return self.held.owns(key)

    def owned(self, keys: Iterable[K]) -> list[K]:
        """Return those of ``keys`` that this member holds now, in order. See :meth:`owns`."""
        self._membership.check()
        return self.held.owned(keys)

    def mask(self, keys: Iterable[Any]) -> bytearray:
        """Return 1 for each of ``keys`` that this member holds now, 0 for the others."""
        self._membership.check()
        return self.held.mask(keys)

    @property
    def members(self) -> Mapping[str, float]:
        """The weights of the members that own something, by id, at the latest reading."""
        view = self._membership.handoff.view
        return MappingProxyType(view.weights if view is not None else {})

    @property
    def records(self) -> Mapping[str, Member]:
        """All live members' records at the latest reading, those that drain included."""
        return MappingProxyType(dict(self._membership.handoff.members))

    @property
    def problems(self) -> Mapping[str, str]:
        """Which members keep this one from its slots, by id, and why.

        A live record that cannot be read: nobody gains while there is one. A member with another
        ring, ttl or handoff: this one waits for its end.
        """
        handoff = self._membership.handoff
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
        return MappingProxyType(dict(self._membership.handoff.waiting_for))

    @property
    def view_id(self) -> str | None:
        """The id of the view of the latest reading; ``None`` before the first."""
        view = self._membership.handoff.view
        return None if view is None else view.id

    @property
    def incarnation(self) -> str:
        """This membership's identity; a new one after each expiry."""
        return self._membership.handoff.incarnation

    @property
    def state(self) -> str:
        """joining, settling, settled, fenced, draining or left."""
        return self._membership.state

    @property
    def reason(self) -> str:
        """Why it is not settled, in a sentence for an operator; empty where it is, or has left."""
        state = self.state
        if state in ("settled", "left"):
            return ""
        if self._reports.store_is_away:
            return "the store is away"
        return self._reports.waits_for

    @property
    def deadline(self) -> float:
        """The fence, in seconds on ``CLOCK_BOOTTIME``."""
        return self._membership.handoff.deadline

    @property
    def clock_steps(self) -> int:
        """How often the wall clock has stepped by more than ``ttl``, since this member joined."""
        return self._membership.clock_watch.count

    @property
    def clock_step(self) -> float | None:
        """By how many seconds it stepped last, negative where it was back; ``None``: never."""
        return self._membership.clock_watch.latest

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
        with self._membership.changed:
            while True:
                self._membership.check()
                if self.state == "settled":
                    return True
                left = deadline - clock.boottime()
                if left <= 0 or self.state == "left":
                    return False
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
        if self._membership.failure is not None:
            self.leave()
        else:
            self.drain()

    def __repr__(self) -> str:
        return (
            f"<Partition {self.member!r} of group {self.group!r} at {self._membership.driver.url}: "
            f"{self.state}, {len(self.held)} slots>"
        )
