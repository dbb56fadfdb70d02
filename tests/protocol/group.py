"""A group of hand-offs in lockstep, as plain function calls: no clock, no store, no thread."""

import itertools
import math

from hashring.driver import Reading
from hashring.protocol.handoff import Handoff, Join, Leave, Publish
from hashring.protocol.record import Member
from hashring.ring.ring import HashRing, SlotSet

SPEC = HashRing(slots=64, vnodes=16).spec


TTL = 10.0


FULL, NOTHING = SlotSet.full(64), SlotSet.empty(64)


class Store:
    """A dictionary that stands for the store, and the members that use it in lockstep."""

    def __init__(self):
        self.records = {}
        self.now = 100.0
        self.wall = 1000.0
        self.memory_age = math.inf

    def member(self, name, **options):
        return Runner(self, name, **options)

    def settle(self, *runners):
        for _ in range(20):
            for runner in runners:
                runner.step()
            if all(runner.handoff.is_settled for runner in runners):
                return
        raise AssertionError([runner.action for runner in runners])


class Runner:
    def __init__(self, store, name, *, spec=SPEC, ttl=TTL, joins=True, **options):
        self.store = store
        self.name = name
        incarnations = (f"{name}-{number}" for number in itertools.count())
        self.handoff = Handoff(name, incarnations=incarnations, spec=spec, ttl=ttl, **options)
        self.action = self.handoff.start()
        if joins:
            self.do()
            self.heartbeat()

    def do(self):
        """Do what the hand-off said."""
        if isinstance(self.action, Join):
            self.store.records[self.name] = self.action.record
            self.handoff.joined(self.store.now)
        elif isinstance(self.action, Publish):
            self.store.records[self.name] = self.action.record
            self.handoff.published()
        elif isinstance(self.action, Leave):
            self.store.records.pop(self.name, None)
            self.handoff.left()

    def read(self):
        token = self.handoff.reading_begins()
        return token, Reading(dict(self.store.records), self.store.memory_age)

    def decide(self, token, reading, **options):
        self.handoff.observe(
            reading,
            token,
            now=self.store.now,
            wall=self.store.wall,
            worked=options.pop("worked", True),
        )
        self.action = self.handoff.decide(now=self.store.now, wall=self.store.wall, **options)
        return self.action

    def step(self, **options):
        self.decide(*self.read(), **options)
        self.do()
        return self.action

    def heartbeat(self):
        token = self.handoff.heartbeat_begins()
        self.handoff.heartbeat_confirmed(token, self.store.now)

    @property
    def held(self):
        return self.handoff.held(self.store.now)

    @property
    def record(self):
        return Member.from_json(self.name, self.store.records[self.name])


def two(store):
    a, b = store.member("a"), store.member("b")
    store.settle(a, b)
    return a, b
