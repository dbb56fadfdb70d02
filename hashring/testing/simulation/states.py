"""The states that a small group can be in: what may happen in each, where it leads, what is wrong.

For the search in `exhaustive`. Each member's and each store's state is kept once, by number.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import NamedTuple

from hashring.protocol.handoff import Handoff
from hashring.protocol.record import Member
from hashring.protocol.runner import Runner
from hashring.protocol.view import View
from hashring.ring.ring import HashRing, SlotSet
from hashring.testing.simulation.lives import NAMES, Life, Store, shown_slots

__all__ = ["LIMITS", "Counterexample", "Event", "Limits", "Outcome", "Place", "States"]


@dataclasses.dataclass(frozen=True)
class Limits:
    """How often each thing may happen on one path. What has no limit here happens at any time.

    Attributes:
        starts: processes started again, after a crash or a leave.
        drains: members asked to leave with hand-over.
        parks: members asked to leave for two thirds of a lease; ``starts`` bring them back.
        crashes: processes that end without a word.
        leaves: members that leave at once, without hand-over.
        ticks: thirds of a lease that pass.
        losses: writes whose request or answer is lost, or comes when nobody waits any more.
        delays: heartbeats whose answer is under way while other things happen.
        pins: cycles begun.
        forgets: times that the store loses everything; 0: it is one that never forgets.
    """

    starts: int = 0
    drains: int = 1
    parks: int = 0
    crashes: int = 1
    leaves: int = 0
    ticks: int = 4
    losses: int = 1
    delays: int = 0
    pins: int = 1
    forgets: int = 0


class Place(NamedTuple):
    """The state of all members and of the store, and what may still happen on the way from here."""

    lives: tuple[int, ...]
    store: int
    left: tuple[int, ...]  # of each limit


class Event(NamedTuple):
    """What happens, and to whom: a member's place, or -1."""

    kind: str
    who: int = -1


@dataclasses.dataclass(frozen=True)
class Counterexample:
    """A violation, and the shortest way to it.

    Attributes:
        rule: what does not hold.
        conversation: a line for each event.
    """

    rule: str
    conversation: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join([*self.conversation, f"violation: {self.rule}"])


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a search found.

    Attributes:
        states: how many distinct ones were reached and checked.
        by_depth: how many were new after so many events.
        is_complete: no state is left that these limits allow and the depth cut off.
        counterexample: ``None``: all that was checked holds.
    """

    states: int
    by_depth: tuple[int, ...]
    is_complete: bool
    counterexample: Counterexample | None = None


LIMITS = tuple(field.name for field in dataclasses.fields(Limits))
_COST = {
    "starts again": "starts",
    "drains": "drains",
    "leaves for a while": "parks",
    "crashes": "crashes",
    "leaves at once": "leaves",
    "time passes": "ticks",
    "request is lost": "losses",
    "waits no longer": "losses",
    "answer is lost": "losses",
    "heartbeat is under way": "delays",
    "cycle begins": "pins",
    "the store forgets": "forgets",
}
_PRICE = {kind: LIMITS.index(name) for kind, name in _COST.items()}


class States:
    """One search: the states that are known, and how one leads to the next."""

    def __init__(
        self,
        members: int,
        ring: str,
        limits: Limits,
        make: tuple[Callable[..., Handoff], Callable[[Handoff], Runner]],
        overwritten: frozenset[str],
    ) -> None:
        self._make = make
        self._ring = ring
        self._overwritten = overwritten
        self._empty = SlotSet.empty(HashRing.from_spec({}, ring).universe)
        self._lives: list[Life] = []
        self._life_numbers: dict[Hashable, int] = {}
        self._stores: list[Store] = []
        self._store_numbers: dict[Store, int] = {}
        self._steps: dict[tuple[int, str, object], int] = {}
        self._masks: list[int] = []
        self._allowed: dict[tuple[str, bytes], int] = {}
        self._views: dict[str, View] = {}
        memory = 3 if limits.forgets else None
        self.first = Place(
            tuple(self._known(Life(NAMES[index], self._empty)) for index in range(members)),
            self._known_store(Store(memory=memory)),
            tuple(getattr(limits, name) for name in LIMITS),
        )

    # ---- states, each kept once --------------------------------------------------------------

    def _known(self, life: Life) -> int:
        key = life.key(self._overwritten)
        number = self._life_numbers.get(key)
        if number is None:
            number = self._life_numbers[key] = len(self._lives)
            self._lives.append(life)
            self._masks.append(int.from_bytes(life.in_hand.tobytes(), "little"))
            if life.handoff is not None and life.handoff.view is not None:
                self._views.setdefault(life.handoff.view.id, life.handoff.view)
        return number

    def _known_store(self, store: Store) -> int:
        number = self._store_numbers.get(store)
        if number is None:
            number = self._store_numbers[store] = len(self._stores)
            self._stores.append(store)
        return number

    def _step(self, number: int, kind: str, change: Callable[[Life], None], given: object) -> int:
        """Return the state that a change makes of another; the same one is computed once."""
        place = (number, kind, given)
        found = self._steps.get(place)
        if found is None:
            found = self._steps[place] = self._known(self._lives[number].after(change))
        return found

    # ---- events ------------------------------------------------------------------------------

    def events(self, world: Place) -> Iterator[Event]:
        """Iterate over what may happen next."""
        left = world.left
        for who, number in enumerate(world.lives):
            for kind in self._events_of(self._lives[number]):
                price = _PRICE.get(kind)
                if price is None or left[price] > 0:
                    yield Event(kind, who)
        if left[_PRICE["time passes"]] and self._stores[world.store].leases:
            yield Event("time passes")
        if left[_PRICE["the store forgets"]]:
            yield Event("the store forgets")

    def _events_of(self, life: Life) -> Iterator[str]:
        if life.late:
            yield "late request is taken"
            yield "late request is lost"
        if life.handoff is None:
            if not life.late:
                yield "starts again" if life.life else "starts"
            return
        if life.is_idle:
            yield "reads"
        elif life.reading is not None:
            yield "learns"
        elif life.sent is not None:
            if not life.late:
                yield "request is taken"
            yield "request is lost"
            if life.can_be_late():
                yield "waits no longer"
        else:
            yield "hears"
            yield "answer is lost"
        if life.beat is None:
            yield "heartbeat"
            yield "heartbeat is under way"
        else:
            yield "heartbeat is answered"
            yield "heartbeat's answer is lost"
        if life.running is not None:
            yield "cycle ends"
        elif life.handoff.held(life.now):
            yield "cycle begins"
        if not life.leaving:
            yield "drains"
            yield "leaves for a while"
        yield "leaves at once"
        yield "crashes"

    def after(self, world: Place, event: Event) -> Place:
        """Return the world after an event."""
        kind, who = event
        left = world.left
        price = _PRICE.get(kind)
        if price is not None:
            left = (*left[:price], left[price] - 1, *left[price + 1 :])
        if kind == "time passes":
            lives = [self._step(number, kind, Life.tick, None) for number in world.lives]
            store = self._known_store(self._stores[world.store].later())
            return Place(tuple(lives), store, left)
        if kind == "the store forgets":
            store = self._known_store(self._stores[world.store].forgetting())
            return Place(world.lives, store, left)
        before = world.lives[who]
        after, store = self._act(kind, before, world.store)
        return Place((*world.lives[:who], after, *world.lives[who + 1 :]), store, left)

    def _act(self, kind: str, number: int, store: int) -> tuple[int, int]:
        """Return a member and the store after an event of this member."""
        life = self._lives[number]
        simple = _CHANGES.get(kind)
        if simple is not None:
            return self._step(number, kind, simple, None), store
        if kind in ("starts", "starts again"):
            make, ring = self._make, self._ring
            return self._step(number, kind, lambda new: new.start(*make, ring), None), store
        held = self._stores[store]
        if kind == "reads":
            return self._step(number, kind, lambda new: new.read(held), store), store
        if kind in ("request is taken", "late request is taken"):
            request = life.sent if kind == "request is taken" else life.late[0]
            assert request is not None
            fresh, error = held.take(life.name, request)
            change = _taken(request.kind, error) if request is life.sent else _late_gone
            return self._step(number, kind, change, error), self._known_store(fresh)
        assert life.handoff is not None
        fresh, error = held.heartbeat(life.name, life.handoff.incarnation)
        change = _beats(error, at_once=kind == "heartbeat")
        return self._step(number, kind, change, error), self._known_store(fresh)

    # ---- the rules ---------------------------------------------------------------------------

    def violation(self, world: Place) -> str | None:
        """Return which rule does not hold; ``None``: all do."""
        store = self._stores[world.store]
        taken = 0
        for number in world.lives:
            mine, life = self._masks[number], self._lives[number]
            if not life.valid:
                return f"{life.name}: a valid cycle lost slots that it had pinned"
            if not mine:
                continue
            if mine & taken:
                return self._two_holders(world)
            taken |= mine
            found = store.record(life.name)
            if found is None:
                continue  # Forgotten or expired: the fence and the young memory answer for it.
            assert life.handoff is not None
            if found[0] != life.handoff.incarnation:
                return f"{life.name} holds slots while another incarnation has its place"
            if mine & ~self._allows(life, found[1]):
                return f"{life.name} has more in hand than the view in its record allows"
        return None

    def _allows(self, life: Life, record: bytes) -> int:
        allowed = self._allowed.get((life.name, record))
        if allowed is None:
            slots = life.allowed(record, self._views, self._empty)
            allowed = int.from_bytes(slots.tobytes(), "little")
            self._allowed[life.name, record] = allowed
        return allowed

    def _two_holders(self, world: Place) -> str:
        lives = [self._lives[number] for number in world.lives]
        for place, life in enumerate(lives):
            for other in lives[place + 1 :]:
                both = life.in_hand & other.in_hand
                if both:
                    return f"{life.name} and {other.name} both hold {shown_slots(both)}"
        raise AssertionError("no two hold one slot")

    # ---- settling, and telling ---------------------------------------------------------------

    def settle(self, world: Place, members: int) -> list[tuple[Event, Place]]:
        """Return the events, none of them a fault, by which the first members settle."""
        path: list[tuple[Event, Place]] = []
        quiet = ("hears", "learns", "request is taken", "reads")
        for _ in range(1000):
            lives = [self._lives[number] for number in world.lives[:members]]
            handoffs = [life.handoff for life in lives]
            if all(
                life.is_idle and handoff is not None and handoff.is_settled
                for life, handoff in zip(lives, handoffs, strict=True)
            ):
                return path
            for who in range(members):
                possible = list(self._events_of(self._lives[world.lives[who]]))
                now = next((kind for kind in ("starts", *quiet) if kind in possible), None)
                for kind in (now, "heartbeat" if now == "hears" else None):
                    if kind is not None:
                        event = Event(kind, who)
                        world = self.after(world, event)
                        path.append((event, world))
        raise AssertionError(f"{members} members do not settle")

    def told(self, path: Sequence[tuple[Event, Place]]) -> tuple[str, ...]:
        """Return a conversation: what happened, and what each member then had in hand."""
        lines = []
        before = self.first
        for number, (event, world) in enumerate(path, start=1):
            who = f"{NAMES[event.who]}: " if event.who >= 0 else ""
            said = f"{who}{event.kind}{self._detail(event, before, world)}"
            holds = "; ".join(
                f"{self._lives[life].name} {shown_slots(self._lives[life].in_hand)}"
                for life in world.lives
            )
            lines.append(f"{number:3}  {said:<72} | {holds}")
            before = world
        return tuple(lines)

    def _detail(self, event: Event, before: Place, after: Place) -> str:
        if event.who < 0:
            return ""
        was, life = (self._lives[world.lives[event.who]] for world in (before, after))
        if event.kind == "reads" and life.reading is not None:
            seen = [self._said(name, data) for name, data in life.reading.records.items()]
            return f": {', '.join(seen) or 'nobody'}"
        if event.kind in ("starts", "starts again", "learns") and life.sent is not None:
            return f", sends {life.sent.kind} {self._said(life.name, life.sent.record)}"
        if event.kind == "hears" and was.answer is not None:
            return f": {was.answer[0]} {was.answer[1] or 'done'}"
        return ""

    def _said(self, name: str, record: bytes) -> str:
        member = Member.from_json(name, record)
        numbers = list(self._views)
        applied = "null" if member.applied is None else f"v{numbers.index(member.applied)}"
        extra = [" settled"] * (member.settled is not None and member.settled == member.applied)
        extra += [" draining"] * member.draining
        extra += [f" keeps {place.member}{' over' * place.over}" for place in member.parked]
        extra += [" claims " + shown_slots(claim.slots) for claim in member.claims]
        return f"{name}({applied}{''.join(extra)})"


_CHANGES: dict[str, Callable[[Life], None]] = {
    "learns": Life.learn,
    "hears": Life.hear,
    "waits no longer": Life.give_up,
    "request is lost": Life.lose,
    "answer is lost": Life.lose,
    "late request is lost": lambda life: _late_gone(life),
    "heartbeat is answered": Life.hear_heartbeat,
    "heartbeat's answer is lost": lambda life: setattr(life, "beat", None),
    "cycle begins": Life.pin,
    "cycle ends": Life.unpin,
    "drains": Life.drain,
    "leaves for a while": Life.park,
    "leaves at once": Life.end,
    "crashes": Life.crash,
}


def _taken(kind: str, error: str) -> Callable[[Life], None]:
    def change(life: Life) -> None:
        life.sent, life.answer = None, (kind, error)

    return change


def _late_gone(life: Life) -> None:
    life.late = life.late[1:]


def _beats(error: str, *, at_once: bool) -> Callable[[Life], None]:
    def change(life: Life) -> None:
        life.beats(error)
        if at_once:
            life.hear_heartbeat()

    return change
