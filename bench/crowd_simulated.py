"""What a join and a leave cost a Redis server in groups that no machine here holds: counted.

    python -m bench.crowd_simulated 200 1000 10000

A few members run the real hand-off (``Runner``), the real waiting policy and the driver's real
patches, on a simulated store and in simulated time. All others are copies of one of these: they do
the same a little later, with records of their own, which claim what they really lose. So what is
counted is what a group of that size does; but nothing takes the time that it would take, except
that each step of a member is late by up to ``--late`` seconds. That spreads the acks: it decides
how many readings bring them, and hardly how many bytes.

Readings that bring nothing are counted apart: an idle group has them too. Heartbeats are not
counted, nor what the newcomer reads before it joins.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import heapq
import itertools
import math
import random
import sys
import time
from collections.abc import Callable
from types import MappingProxyType

from hashring.drivers.redis.patches import Patch, patch_of
from hashring.partition.waiting import plan_wait
from hashring.protocol.actions import Join, Leave, Publish, Wait
from hashring.protocol.claims import Claim
from hashring.protocol.handoff import Handoff
from hashring.protocol.reading import Reading
from hashring.protocol.record import Member
from hashring.protocol.runner import Read, Runner
from hashring.protocol.view import View
from hashring.ring.ring import HashRing, SlotSet

SPEC = HashRing({}).spec
TTL = 10.0
WALL = 1_790_000_000.0
HEAD = 180
"""Bytes of an answer that brings nothing (`bench.crowd`, a group at rest)."""
MESSAGE = 62
"""Bytes of a message to one subscriber."""
LATENCY = 0.001
"""Seconds on the way to the store, and back."""
FOLLOWING = 2.0
"""Seconds counted after all have settled, as `bench.crowd` does."""
LARGE, HOLD, LONGEST, STEPS = 16, 0.001, 1.0, 4  # as in the script


@dataclasses.dataclass
class Counts:
    """What was done."""

    readings: float = 0
    empty: float = 0
    publishes: int = 0
    messages: int = 0
    brought: float = 0  # bytes of answers to readings that bring something, and to publishes
    told: int = 0  # bytes of messages


@dataclasses.dataclass
class Step:
    """One change of a record: the version before it, and the patch, if there is one."""

    before: int
    patch: Patch | None


class Store:
    """Records, their changes by version, and who is told of them."""

    def __init__(self, records: dict[str, bytes]) -> None:
        self.records = records
        self.version = 0
        self.log: list[str] = []  # who changed, by version
        self.steps: dict[str, list[Step]] = {}
        self.last: dict[str, int] = {}
        self.told = -math.inf  # when it was last announced that there is something new
        self.said = 0  # the version that was announced then
        self.counts = Counts()
        self.hear: Callable[[float], None] = lambda now: None

    def put(self, now: float, member: str, record: bytes | None) -> None:
        old = self.records.get(member)
        if record is None:
            self.records.pop(member, None)
        else:
            self.records[member] = record
        known = old is not None and record is not None
        self.version += 1
        self.log.append(member)
        patch = patch_of(old, record) if old is not None and record is not None else None
        self.steps.setdefault(member, []).append(Step(self.last.get(member, 0), patch))
        self.last[member] = self.version
        if not known or now >= self.told + self.hold():
            self.told, self.said = now, self.version
            self.counts.messages += 1
            self.counts.told += MESSAGE * len(self.records)
            self.hear(now)

    def hold(self) -> float:
        size = len(self.records)
        return min(size * HOLD, LONGEST) if size > LARGE else 0.0

    def held(self, now: float) -> float:
        """Return until when changes of records are not announced; infinite: they are."""
        end = self.told + self.hold()
        return end if now < end else math.inf

    def size_since(self, version: int) -> int:
        """Return the bytes that bring what changed since a version."""
        shared: set[bytes] = set()
        size = 0
        for member in set(self.log[version:]):
            record = self.records.get(member, b"")
            steps = self._steps(member, version)
            patches = [step.patch for step in steps if step.patch is not None]
            if record and steps and len(patches) == len(steps) <= STEPS:
                size += 1 + len(member) + 5 + sum(2 + len(patch.own) for patch in patches)
                shared |= {patch.shared for patch in patches}
            else:
                size += len(member) + len(record) + 14
        return size + sum(2 + len(text) for text in shared)

    def _steps(self, member: str, version: int) -> list[Step]:
        steps, at = [], self.last[member]
        for step in reversed(self.steps[member]):
            if at <= version:
                break
            steps.append(step)
            at = step.before
        return steps


class Simulation:
    """One group: its members that run, their copies, and the events to come."""

    def __init__(self, members: int, runners: int, late: float, seed: int) -> None:
        self.random = random.Random(seed)
        self.late = late
        self.now = 0.0
        self.queue: list[tuple[float, int, Callable[[], None]]] = []
        self.order = itertools.count()
        self.names = [f"m{number:05}" for number in range(members)]
        chosen = self.names[:: max(1, members // runners)][:runners]
        self.store = Store({})
        self.actors = [Actor(self, name) for name in chosen]
        incarnations = {actor.name: actor.runner.handoff.incarnation for actor in self.actors}
        others = [name for name in self.names if name not in incarnations]
        for name in others:
            incarnations[name] = hashlib.md5(name.encode()).hexdigest()
        for number, name in enumerate(others):
            self.actors[number % len(self.actors)].copies.append(name)
        owning = tuple((name, incarnations[name], 1.0) for name in self.names)
        self.before = View(owning, SPEC, TTL)
        self._rings: dict[str, HashRing] = {}
        for name in others:
            self.store.records[name] = Member(
                name, incarnations[name], 1.0, SPEC, TTL,
                applied=self.before.id, settled=self.before.id,
                founded=WALL + 0.123, since=WALL + 0.456,
            ).to_json()  # fmt: skip
        self.store.hear = self.hear
        for actor in self.actors:
            self.at(0.0, actor.go)

    def hear(self, now: float) -> None:
        for actor in self.actors:
            actor.hear(now)

    def at(self, moment: float, action: Callable[[], None]) -> None:
        heapq.heappush(self.queue, (max(moment, self.now), next(self.order), action))

    def until_settled(self, size: int) -> Counts:
        """Run until all are settled in a view of that size, and a while; return what was done."""
        self.store.counts = counts = Counts()
        end = math.inf
        while self.queue and self.queue[0][0] <= end:
            self.now, _, action = heapq.heappop(self.queue)
            action()
            settled = all(actor.is_settled(size) for actor in self.actors)
            if settled and end == math.inf:
                end = self.now + FOLLOWING
            if self.now > 1000:
                raise SystemExit("the simulated group does not settle")
        return counts

    def join(self) -> Counts:
        """Let one more member join; return what that costs."""
        self.actors = [actor for actor in self.actors if not actor.gone]
        newcomer = Actor(self, "newcomer")
        self.actors.append(newcomer)
        self.at(self.now, newcomer.go)
        counts = self.until_settled(len(self.names) + 1)
        view = newcomer.runner.handoff.view
        assert view is not None
        if newcomer.runner.handoff.held(self.now) != view.slots("newcomer"):
            raise SystemExit("the newcomer does not hold what is its own")
        self.before = view
        return counts

    def leave(self) -> Counts:
        """Let it drain; return what that costs."""
        newcomer = self.actors[-1]
        newcomer.runner.handoff.drain()
        newcomer.wake_at(self.now)
        return self.until_settled(len(self.names))

    def lost(self, member: str, view: View) -> SlotSet:
        return self._slots(member, self.before) - self._slots(member, view)

    def _slots(self, member: str, view: View) -> SlotSet:
        ring = self._rings.get(view.id)  # a view looks for its ring by all its members
        if ring is None:
            ring = self._rings[view.id] = view.ring
        return ring.slots(member) if member in ring.members else SlotSet.empty(ring.universe)


class Actor:
    """A member that runs the hand-off, and the members that do as it does."""

    def __init__(self, world: Simulation, name: str) -> None:
        self.world = world
        self.name = name
        self.copies: list[str] = []
        handoff = Handoff(
            name,
            incarnations=(f"{world.random.getrandbits(128):032x}" for _ in itertools.count()),
            spec=SPEC,
            ttl=TTL,
        )
        self.runner = Runner(handoff)
        self.place = -1
        self.known: dict[str, bytes] = {}
        self.acks = 0
        self.last_view: str | None = None
        self.waits: tuple[float, float] | None = None  # from when it listens, until when
        self.turn = 0
        self.held = math.inf
        self.gone = False

    def is_settled(self, size: int) -> bool:
        handoff = self.runner.handoff
        view = handoff.view
        return self.gone or (handoff.is_settled and view is not None and len(view.members) == size)

    def go(self) -> None:
        """Take the next step, late as everybody is."""
        world, handoff = self.world, self.runner.handoff
        beat = self.runner.beat(world.now)
        self.runner.confirm_beat(beat)
        step = self.runner.next()
        lateness = world.random.uniform(0.0, world.late)
        if isinstance(step, Read):
            world.at(world.now + lateness + LATENCY, self.read)
        elif isinstance(step, Join | Publish):
            record = step.record
            world.at(world.now + LATENCY, lambda: self.put(record))
        elif isinstance(step, Leave):
            handoff.left()
            self.gone = True
            world.store.put(world.now, self.name, None)
        else:
            self.wait(step)

    def read(self) -> None:
        world, store = self.world, self.world.store
        now, many = world.now, 1 + len(self.copies)
        size = 0
        if self.place < 0:
            size = sum(len(name) + len(record) + 14 for name, record in store.records.items())
        elif self.place < store.version:
            size = store.size_since(self.place)
        counts = store.counts
        counts.readings += many if size else 0
        counts.empty += 0 if size else many
        counts.brought += many * (HEAD + size) if size else 0
        changed = self.place < 0 or size > 0
        self.place, self.held = store.version, store.held(now)
        if changed:
            self.known = dict(store.records)
        reading = Reading(MappingProxyType(self.known), math.inf)
        self.runner.learn(reading, now=now, wall=WALL + now)
        view = self.runner.handoff.view
        only_acks = changed and (view is not None and view.id == self.last_view)
        self.acks = self.acks + 1 if only_acks else 0
        self.last_view = None if view is None else view.id
        world.at(now + LATENCY, self.go)

    def put(self, record: bytes) -> None:
        """Have the store take a record, and those of the copies soon after."""
        world, store = self.world, self.world.store
        store.put(world.now, self.name, record)
        self.count_publish()
        self.runner.confirm(now=world.now, wall=WALL + world.now, number=store.version)
        view = self.runner.handoff.view
        said = Member.from_json(self.name, record)
        for name in self.copies:
            later = world.random.uniform(0.0, world.late)
            world.at(world.now + later, lambda n=name, d=later: self.copy(n, said, view, d))
        world.at(world.now + LATENCY, self.go)

    def copy(self, name: str, said: Member, view: View | None, later: float) -> None:
        """Publish for a copy what the member that runs has said, with what is its own."""
        before = Member.from_json(name, self.world.store.records[name])
        claims, through = before.claims if said.claims else (), before.through
        if said.applied != before.applied and view is not None and said.applied == view.id:
            lost = self.world.lost(name, view)
            seen = WALL + self.world.now + later if lost else None
            claims, through = ((Claim(seen, lost),) if lost else ()), seen or through
        since = None if said.since is None else said.since + later
        copied = dataclasses.replace(
            said, id=name, incarnation=before.incarnation, claims=claims, through=through,
            since=since, founded=before.founded,
        )  # fmt: skip
        record = copied.to_json()
        if record != self.world.store.records[name]:
            self.world.store.put(self.world.now, name, record)
            self.count_publish()

    def count_publish(self) -> None:
        self.world.store.counts.publishes += 1
        self.world.store.counts.brought += HEAD

    def wait(self, step: Wait) -> None:
        handoff, now = self.runner.handoff, self.world.now
        plan = plan_wait(
            local=step.local,
            most=step.seconds,
            ttl=TTL,
            members=len(handoff.members),
            changing=not handoff.is_settled,
            acks=self.acks,
        )
        listens = now + plan.gather
        self.waits = listens, listens + plan.listen
        until = min(listens + plan.listen, max(listens, self.held))
        self.wake_at(listens if self.world.store.said > self.place else until)

    def hear(self, now: float) -> None:
        if self.waits is not None:
            self.wake_at(max(now, self.waits[0]))

    def wake_at(self, moment: float) -> None:
        self.turn += 1
        turn = self.turn

        def wake() -> None:
            if turn == self.turn and self.waits is not None:
                self.waits = None
                self.go()

        self.world.at(moment, wake)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.crowd_simulated", description=__doc__)
    parser.add_argument("members", type=int, nargs="*", default=[200, 1000, 10_000])
    parser.add_argument("--runners", type=int, default=8, help="members that are no copies")
    parser.add_argument("--late", type=float, default=0.5, help="seconds")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    print(f"late by up to {options.late:g} s, seed {options.seed}, {time.strftime('%Y-%m-%d')}\n")
    print("| | readings that bring something | others | publishes | messages | bytes from the "
          "server | for each pair of members |\n|---" + 6 * "|---:" + "|")  # fmt: skip
    for members in options.members:
        world = Simulation(members, options.runners, options.late, options.seed)
        world.until_settled(members)
        world.join()  # so that everybody has what a group has that has seen a change
        world.leave()
        for name, change in (("join", world.join), ("leave", world.leave)):
            counts = change()
            total = counts.brought + counts.told
            cells = (
                f"{name}, {members:,} members",
                f"{counts.readings:,.0f}",
                f"{counts.empty:,.0f}",
                f"{counts.publishes:,}",
                f"{counts.messages:,}",
                f"{total / 1e6:,.2f} MB",
                f"{total / members**2:.0f}",
            )
            print("| " + " | ".join(cells) + " |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
