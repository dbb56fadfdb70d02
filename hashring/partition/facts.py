"""`Facts`: what can be read of a member and its group at any moment, without changing anything."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeVar, cast, overload

from hashring import clock
from hashring.driver import Driver
from hashring.errors import BadKey
from hashring.partition import arguments
from hashring.partition.keys import explained
from hashring.partition.literals import State
from hashring.partition.loops import Loops
from hashring.partition.membership import Membership
from hashring.partition.reports import Reports
from hashring.partition.stats import Stats
from hashring.partition.timings import CallStats, Timing, plain
from hashring.protocol.freezing import Freeze
from hashring.protocol.record import Member
from hashring.protocol.request import Request
from hashring.ring.ring import HashRing, SlotSet

__all__ = ["Facts"]

K = TypeVar("K")


class Facts:
    """The read-only part of a :class:`hashring.Partition`. All of it is by the latest reading."""

    _membership: Membership
    _loops: Loops
    _reports: Reports

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
    def store_url(self) -> str:
        """The store's URL, secrets masked."""
        return str(self._membership.driver.url)

    @property
    def incarnation(self) -> str:
        """This membership's identity; a new one after each expiry."""
        return self._membership.handoff.incarnation

    @property
    def state(self) -> State:
        """joining, settling, settled, fenced, draining or left."""
        return cast(State, self._membership.state)

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
    def requests(self) -> tuple[Request, ...]:
        """What operators have asked of this member (``hashring group drain``), the latest last."""
        return self._membership.requests

    @property
    def frozen(self) -> Freeze | None:
        """Who froze the group, and since when (``hashring group freeze``); ``None``: nobody."""
        handoff = self._membership.handoff
        return handoff.freeze if handoff.is_frozen else None

    @property
    def store_is_away(self) -> bool:
        """Whether the store has not answered this member's latest heartbeat, or latest reading."""
        return self._reports.store_is_away

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

    @property
    def weight(self) -> float:
        """This member's share relative to the others'.

        It may be set at any time, from any thread, and holds from then on. The group goes along
        with it as with a join or a drain: slots change hands, and no window is missed or worked
        twice. 0 gives everything to the others and stays in the group. Where the group is frozen,
        it is told once that is over.

        Raises:
            BadArgument: when set: it is no number of 0 or more, or the member drains or has left.
            LeaseLost: when set: this is a forked child.
        """
        return self._membership.handoff.weight

    @weight.setter
    def weight(self, weight: float) -> None:
        self._membership.change_weight(arguments.checked_number("weight", weight))

    @property
    def ring(self) -> HashRing:
        """The ring of the members that own something; without members before the first reading."""
        handoff = self._membership.handoff
        view = handoff.view
        return HashRing.from_spec({}, handoff.spec) if view is None else view.ring

    @overload
    def owner(self, item: str | bytes, /) -> str: ...
    @overload
    def owner(self, item: K, /, *, key: Callable[[K], str | bytes]) -> str: ...
    def owner(self, item: K, /, *, key: Callable[[K], str | bytes] | None = None) -> str:
        """Return the id of the member that owns a key, or is about to.

        That member may still wait for the one before it to let go. To act on a key, ask
        :meth:`hashring.Partition.owns`, or take a cycle.

        Args:
            item: the key; or any object, with ``key``.
            key: what gives an object's key.

        Raises:
            EmptyRing: no reading has shown a member that owns anything.
            BadKey: the key is neither ``str`` nor ``bytes``.
        """
        try:
            return self.ring.owner(item if key is None else key(item))  # type: ignore[arg-type]
        except BadKey as error:
            raise explained(error) from None

    @property
    def store_calls(self) -> Mapping[str, CallStats]:
        """The calls that this member made on its store, by the driver's method."""
        return self._membership.calls.stats

    def new_driver(self) -> Driver:
        """Return another driver of the same store and lease, not open: to look, or to steer."""
        driver = plain(self._membership.driver)
        return type(driver)(driver.url, ttl=driver.ttl)

    @property
    def store_traffic(self) -> tuple[int, int] | None:
        """Bytes that its driver has sent and received; ``None`` where it does not tell."""
        traffic = self._membership.driver.traffic
        return None if traffic is None else (traffic.sent, traffic.received)

    @property
    def settling_times(self) -> Timing:
        """How long it took this member to settle, from when it saw a change of the group on."""
        return self._membership.settling.timing

    @property
    def cycle_times(self) -> Timing:
        """How long its cycles lasted."""
        return self._membership.cycles.timing

    @property
    def memory_age(self) -> float:
        """Seconds for which the store had surely forgotten nothing, at the latest reading."""
        return self._membership.memory_age

    @property
    def stats(self) -> Stats:
        """What this member has done and missed since it joined, in numbers."""
        membership, loops = self._membership, self._loops
        missed, given_up = loops.unworked
        return Stats(
            windows_on_time=loops.on_time,
            windows_late=loops.late,
            windows_missed=missed,
            windows_given_up=given_up,
            hand_overs=membership.tally.hand_overs,
            fenced_seconds=membership.tally.fenced_seconds(clock.boottime()),
            windows_away=loops.away,
            away_seconds=max(
                (until - since for since, until in list(membership.handoff.away.values())),
                default=0.0,
            ),
            members_lost=membership.losses.count,
        )
