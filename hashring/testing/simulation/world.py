"""One run: the members of a group, what happens to them, and when it is over."""

from __future__ import annotations

import itertools
import math
import random
from collections import deque
from collections.abc import Callable, Sequence

from hashring.protocol.freezing import Freeze, latest, next_number
from hashring.protocol.handoff import Handoff
from hashring.protocol.reading import is_young
from hashring.protocol.record import Member
from hashring.protocol.request import FREEZE, THAW, Request
from hashring.protocol.runner import Runner
from hashring.testing.simulation.judge import Judge
from hashring.testing.simulation.members import SimulatedMember
from hashring.testing.simulation.profiles import INTERVAL, SPEC, STRANGE, TTL, Profile
from hashring.testing.simulation.result import Result, Violation
from hashring.testing.simulation.scheduler import Entry, Scheduler
from hashring.testing.simulation.store import SimulatedStore

__all__ = ["World"]

_MOST_MEMBERS = 8

_AFTERWARDS = 5 * TTL
"""Seconds that a group is given to settle once the faults have stopped and everybody is back."""


class World(Scheduler):
    """One run.

    Args:
        seed: the same seed and profile play the same run.
        profile: what may happen.
        make_handoff: makes each member's hand-off.
        make_runner: makes its choreography.
        trace: is called with a line for each event.
    """

    def __init__(
        self,
        seed: int,
        profile: Profile,
        *,
        make_handoff: Callable[..., Handoff] = Handoff,
        make_runner: Callable[[Handoff], Runner] = Runner,
        trace: Callable[[str], None] | None = None,
    ) -> None:
        chance = random.Random(seed)  # noqa: S311 - a reproducible run, no secret
        super().__init__(chance, profile, SimulatedStore(forgetful=profile.forgetful))
        self.seed = seed
        self.make_handoff = make_handoff
        self.make_runner = make_runner
        self.trace = trace
        self.numbers = itertools.count()
        self.members: list[SimulatedMember] = []
        self.result = Result()
        self.judge = Judge(self)
        self._names = itertools.count()
        self._words: deque[str] = deque()  # what operators have yet to say
        self._end = profile.length + _AFTERWARDS
        self._look_again = profile.length + TTL
        self._begun_at = math.inf

    def violation(self, text: str) -> Violation:
        """Return the error for a rule that does not hold."""
        return Violation(f"seed {self.seed}, t={self.now:.4f}: {text}")

    def say(self, text: str) -> None:
        """Trace a line."""
        if self.trace is not None:
            self.trace(f"{self.now:9.4f}  {text}")

    # ---- one run --------------------------------------------------------------------------

    def play(self) -> Result:
        """Play it to its end; raise :class:`Violation` where a rule does not hold."""
        for _ in range(self.random.randint(*self.profile.members)):
            self._start()
        self._plan()
        while (entry := self.pop()) is not None:
            at, _, member, _, _ = entry
            if at > self._end or self._is_over(at):
                break
            if member is not None and not member.alive:
                continue
            if member is not None and member.paused_until > at:
                self.put_off(entry, member.paused_until)
                continue
            self.now = max(self.now, at)
            self.result.steps += 1
            self._take(entry)
        self.judge.finish()
        return self.result

    def _plan(self) -> None:
        """Choose when which fault or change happens."""
        profile, random_ = self.profile, self.random
        moments: list[float] = []
        for kind, expected in profile.rates:
            count = int(expected) + (random_.random() < expected % 1)
            if expected > 1:
                count = random_.randint(0, 2 * count)
            for _ in range(count):
                # Half of them close to another one: what overlaps is what breaks protocols.
                moment = random_.uniform(2.0, profile.length)
                if moments and random_.random() < 0.5:
                    moment = random_.choice(moments) + random_.uniform(0.0, 0.3)
                moments.append(moment)
                self.push(moment, None, ("event", kind))
        if profile.freezes:
            self.push(max([profile.length, *moments]) + 0.5, None, ("event", "thaw"))

    def _take(self, entry: Entry) -> None:
        _, _, member, what, value = entry
        if member is not None:
            self.resume(member, what, value)
            self.judge.check(member)
        elif what[0] == "event":
            self._event(what[1])
            self.judge.check_silence()
        elif what[0] == "drain":
            if self._can_spare(what[1]):
                self._drain(what[1])
            else:
                self.push(self.now + 0.3, None, what)
        elif what[0] == "comes back":
            self._begin(what[1].name, what[1].handoff.weight)
            self.judge.is_back(what[1].name)
        elif what[0] == "ended":
            self._drain(what[1])
        else:
            _, asker, process, function, deadline = what
            self.land(asker, process, function, deadline, self.members)
            self.judge.check(asker)

    def _is_over(self, at: float) -> bool:
        """Whether the group has settled for good: what is left would be the same window over and
        over.
        """
        if at <= self._look_again:
            return False
        self.judge.check_silence()
        self._look_again = at + 1.0
        return (
            not self.events_to_come()
            and not self.judge.somebody_is_away
            and self.judge.everything_is_held()
            and self._loops_are_at_work(at)
            and all(
                member.paused_until <= self.now
                and not member.stopping
                and not member.ending
                and member.handoff.state(member.local()) == "settled"
                for member in self.defining()
            )
        )

    def _loops_are_at_work(self, at: float) -> bool:
        """Whether loops that begin late have had the time to work what was left to them."""
        if not self.profile.late_loops:
            return True
        if not all(member.streams for member in self.live()):
            self._begun_at = math.inf
            return False
        self._begun_at = min(self._begun_at, at)
        return at - self._begun_at >= 3 * INTERVAL

    # ---- the members ----------------------------------------------------------------------

    def _start(self, *, is_stranger: bool = False) -> SimulatedMember:
        weight = self.random.choice((1.0, 1.0, 1.0, 2.0, 0.5))
        if self.profile.exactly is False and self.random.random() < 0.05:
            weight = 0.0
        # Some strangers' names sort before all others.
        prefix = self.random.choice(("a", "z")) if is_stranger else "m"
        return self._begin(f"{prefix}{next(self._names)}", weight, is_stranger=is_stranger)

    def _begin(self, name: str, weight: float, *, is_stranger: bool = False) -> SimulatedMember:
        member = SimulatedMember(self, name, weight, is_stranger=is_stranger)
        self.members.append(member)
        for delay, process in member.processes():
            self.push(self.now + delay, member, process)
        self.say(f"start {name} weight {weight}")
        return member

    def live(self) -> list[SimulatedMember]:
        """Return the members that take part."""
        return [member for member in self.members if member.alive and not member.handoff.has_left]

    def holders(self) -> list[SimulatedMember]:
        """Return the members that may hold slots; forget the others."""
        if any(not member.alive or member.handoff.has_left for member in self.members):
            self.members = self.live()
        return self.members

    def defining(self) -> list[SimulatedMember]:
        """Return the live members of those whose parameters were founded first."""
        live = self.live()
        if not self.profile.strangers:
            return live
        known = {
            spec: min(
                (
                    member.handoff.founded
                    for member in live
                    if member.handoff.spec == spec and member.handoff.founded
                ),
                default=float("inf"),
            )
            for spec in (SPEC, STRANGE)
        }
        first = min(known, key=known.__getitem__)
        return [member for member in live if member.handoff.spec == first]

    def _can_spare(self, member: SimulatedMember) -> bool:
        """Whether somebody stays who can own slots: an empty group works none, by its own wish."""
        return any(
            other is not member
            and not other.stopping
            and not other.ending
            and other.handoff.weight > 0
            and other.handoff.is_settled
            and (not other.reweighed or self._tells_its_weight(other))
            for other in self.live()
        )

    def _tells_its_weight(self, member: SimulatedMember) -> bool:
        """Whether its record has the weight that it was given, and nothing older is on its way.

        Who weighs nothing by its record is no heir to anybody, whatever it was told a moment ago.
        """
        record = self.store.record(member.name, self.now)
        if record is None or member.publishing:
            return False
        return Member.from_json(member.name, record).weight == member.handoff.weight

    def refused(self, member: SimulatedMember) -> None:
        """One that has never settled is told that it differs: its supervisor starts it again."""
        self.say(f"{member.name} is refused")
        self.result.events["refused"] += 1
        kind = "strange retry" if member.is_stranger else "join"
        self.push(self.now + self.random.uniform(0.2, 1.5), None, ("event", kind))

    # ---- what happens ---------------------------------------------------------------------

    def _event(self, kind: str) -> None:
        if kind == "words":
            self._say_words()
            return
        candidates = [
            member
            for member in self.live()
            if not (member.stopping or member.ending)
            and (kind == "weigh" or not member.is_stranger)
        ]
        self.result.events[kind] += 1
        if kind == "join":
            if len(candidates) < _MOST_MEMBERS:
                self._start()
        elif kind == "burst":
            for _ in range(min(4, _MOST_MEMBERS - len(candidates))):
                self.push(self.now + self.random.uniform(0.0, 0.3), None, ("event", "join"))
        elif kind in ("stranger", "strange retry"):
            if self.now < self.profile.length:
                self._start(is_stranger=True)
        elif kind == "step all":
            self._step_clocks(candidates)
        elif kind in ("outage", "away", "forget"):
            self._event_of_store(kind)
        elif kind in (FREEZE, THAW):
            self._words.append(kind)
            self._say_words()
        else:
            member = self.random.choice(candidates) if candidates else None
            if member is None or not self._can_spare(member):
                return
            if kind == "roll":
                for place in range(len(candidates)):
                    self.push(self.now + 1.5 * place, None, ("event", "restart"))
            else:
                self._event_of(member, kind)

    def _say_words(self) -> None:
        """Let operators say whether it is frozen, each in a record of its own, as `hashring.steer`
        does, and in their order: the last word thaws the group.
        """
        while self._words:
            if self.now < self.away_until:
                self.push(self.away_until, None, ("event", "words"))
                return
            reading = self.store.read(self.now)
            if is_young(reading, TTL):  # it may have forgotten a word that is greater than this
                later = self.now + 0.01 + TTL - reading.memory_age
                self.push(later, None, ("event", "words"))
                return
            records = reading.records
            what = self._words.popleft()
            known = latest(Member.from_json(id, record).freeze for id, record in records.items())
            word = Freeze(next_number(known), what == FREEZE, "operator", self.now)
            name = f"operator{next(self.numbers)}"
            record = Member(
                name, name, 0.0, SPEC, TTL, draining=True,
                request=Request(what, name, "operator", "*", "*"), freeze=word,
            ).to_json()  # fmt: skip
            self.say(f"{what} (number {word.number})")
            self.store.join(self.now, name, record)
            self.judge.said(word, known)
            for member in self.live():
                self.wake(member.reconciling)

    def _event_of_store(self, kind: str) -> None:
        if kind == "forget":
            self.say("the store forgets")
            self.store.forget(self.now)
            return
        if kind == "outage":
            # Longer than the ttl: every lease ends, and a stranger may be the first one back.
            length = self.random.uniform(1.0, 1.5) * TTL
        else:
            length = self.random.uniform(0.1, 1.5 * TTL)
        self.away_until = self.now + length
        self.say(f"the store is away until {self.away_until:.3f}")
        if kind == "outage":
            self.push(self.away_until, None, ("event", "stranger"))

    def _event_of(self, member: SimulatedMember, kind: str) -> None:
        random_ = self.random
        if kind == "step":
            self._step_clocks([member])
        elif kind == "crash":
            self.say(f"crash {member.name}")
            member.alive = False
            self.judge.disturbed(self.now + 2 * TTL)
        elif kind == "pause":
            length = random_.choice(
                (random_.uniform(0.05, 0.8), random_.uniform(0.8, 1.1), random_.uniform(1.1, 3.5))
            )
            member.paused_until = self.now + length * TTL
            self.say(f"pause {member.name} until {member.paused_until:.3f}")
            self.judge.disturbed(member.paused_until + 2 * TTL)
        elif kind == "flap":
            # Comes and goes at once: views that some see and others skip.
            flapping = self._start()
            self.push(self.now + random_.uniform(0.0, 0.2), None, ("drain", flapping))
        elif kind == "drain":
            self._drain(member)
        elif kind == "resume":
            self._park(member)
        elif kind == "weigh":
            self._weigh(member)
        elif kind in ("end", "stop"):
            # As `break` and `stop` do, and a drain after it: at once, or some windows later.
            self.say(f"{kind} the loops of {member.name}")
            member.ending, member.stopping = True, kind == "stop"
            member.wake_loops()
            linger = random_.choice((0.0, random_.uniform(0.0, 1.0), random_.uniform(1.0, 2.0)))
            self.push(self.now + linger, None, ("ended", member))
        elif kind == "restart":
            self._drain(member)
            self.push(self.now + random_.uniform(0.0, 1.0), None, ("event", "join"))
        else:
            raise ValueError(f"no such event: {kind!r}")

    def _weigh(self, member: SimulatedMember) -> None:
        """Let it have another share, or none for a while."""
        weight = self.random.choice((0.0, 0.5, 1.0, 2.0, 3.0))
        self.say(f"{member.name} is to weigh {weight}")
        member.handoff.weight = weight
        member.reweighed = True
        self.wake(member.reconciling)

    def _park(self, member: SimulatedMember) -> None:
        """Let it leave for a while."""
        member.back = self.random.choice((1.0, 3.0, 5.0))
        self.say(f"{member.name} leaves, to be back within {member.back} s")
        member.stopping = True
        member.handoff.drain(member.back)
        self.judge.leaves_for(member.name, self.now, member.back)
        if member.handoff.back is None:
            self.judge.is_not_kept(member.name)  # it has no share
        self.wake(member.reconciling)
        member.wake_loops()

    def has_left(self, member: SimulatedMember) -> None:
        """It has left: its supervisor starts it again, if it was to come back."""
        if not member.handed_over:
            self.judge.left_to_nobody(member.name)
        if member.back is not None:
            if not member.handed_over:
                self.judge.is_not_kept(member.name)
            away = self.random.choice((0.5, 1.2, 2.5)) * self.random.random() * member.back
            self.push(self.now + away, None, ("comes back", member))
            self._end = max(self._end, self.now + away + _AFTERWARDS)

    def _step_clocks(self, members: Sequence[SimulatedMember]) -> None:
        """Step the wall clocks of these by one amount, back or forth."""
        most = self.profile.steps
        step = self.random.choice((1.0, 0.1)) * self.random.uniform(-most, most)
        for member in members:
            self.say(f"the clock of {member.name} steps by {step:.3f}")
            member.wall_offset += step
            member.wake_loops()

    def _drain(self, member: SimulatedMember) -> None:
        self.say(f"drain {member.name}")
        member.stopping = True
        handoff = member.handoff
        if handoff.is_frozen and handoff.stays and handoff.weight and handoff.applied is not None:
            self.judge.leaves_frozen(member.name)
        handoff.drain()
        self.wake(member.reconciling)
        member.wake_loops()
