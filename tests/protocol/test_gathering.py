"""Joins and drains that come together make few views; nothing waits after a crash."""

import dataclasses

import pytest

from hashring.protocol.gathering import DEFAULT_GATHER, is_planned
from hashring.protocol.handoff import Handoff, Publish, Wait
from hashring.protocol.reading import Reading
from hashring.protocol.record import Member
from hashring.protocol.view import View
from hashring.testing.simulation.profiles import SPEC, TTL

GATHER = 0.5


def other(member, **said):
    return Member(member, f"{member}.1", 1.0, SPEC, TTL, **said)


@pytest.mark.parametrize(
    ("left", "is_so"),
    [
        ({}, False),
        ({"b": Member("b", "b.2", 1.0, SPEC, TTL)}, False),
        ({"b": other("b")}, False),
        ({"b": other("b", draining=True)}, True),
        ({"b": dataclasses.replace(other("b"), weight=2.0)}, True),
    ],
)
def test_a_change_is_planned_where_who_goes_has_said_so(left, is_so):
    before = View((("a", "a.1", 1.0), ("b", "b.1", 1.0)), SPEC, TTL)
    after = View((("a", "a.1", 1.0),), SPEC, TTL)

    assert is_planned(before, after, {"a": other("a"), **left}) == is_so


class Group:
    """A member that has settled beside others, of whom we say what they publish."""

    def __init__(self, *members, gather=GATHER):
        self.handoff = Handoff(
            "a", incarnations=iter(["a.1", "a.2"]), spec=SPEC, ttl=TTL, gather=gather
        )
        self.record = self.handoff.start().record
        self.others = {member: other(member) for member in members}
        self.handoff.joined(0.0)
        self.beat(0.0)
        self.settle(0.0)

    def beat(self, now):
        self.handoff.heartbeat_confirmed(self.handoff.heartbeat_begins(), now)

    def look(self, now):
        records = {member: said.to_json() for member, said in self.others.items()}
        token = self.handoff.reading_begins()
        reading = Reading({**records, "a": self.record}, float("inf"))
        action = self.handoff.step(reading, token, now=now, wall=1000.0 + now)
        if isinstance(action, Publish):
            self.record = action.record
            self.handoff.published()
        return action

    def settle(self, now):
        for _ in range(10):
            if isinstance(self.look(now), Wait):
                return

    @property
    def seen(self):
        return {member for member, _, _ in self.handoff.view.members}


def test_a_lone_join_never_waits_nor_one_soon_after_it():
    group = Group("b")
    group.settle(10.0)
    group.beat(10.0)

    group.others["c"] = other("c")
    group.settle(10.0)
    assert group.seen == {"a", "b", "c"}
    group.others["d"] = other("d")
    group.settle(10.1)

    assert group.seen == {"a", "b", "c", "d"}


def test_the_joins_after_the_second_are_seen_as_one_change():
    group = Group("b")
    group.beat(10.0)
    views = set()
    for number in range(10):
        group.others[f"m{number}"] = other(f"m{number}")
        group.settle(10.0 + number * 0.02)
        views.add(group.handoff.view.id)
    assert len(views) == 2

    action = group.look(10.3)
    assert "coming or going" in action.reason
    assert action.seconds == pytest.approx(0.2)
    group.settle(10.0 + GATHER)

    assert len(group.seen) == 12


def test_who_drains_is_gathered_too():
    group = Group("b", "c", "d", "e")
    group.beat(10.0)
    for number, member in enumerate(("b", "c", "d")):
        group.others[member] = dataclasses.replace(group.others[member], draining=True)
        group.settle(10.0 + number * 0.02)

    assert group.seen == {"a", "d", "e"}
    group.settle(10.0 + GATHER)
    assert group.seen == {"a", "e"}


def test_what_a_crashed_member_held_is_taken_over_at_once_in_the_middle_of_a_burst():
    group = Group("b", "c")
    group.beat(10.0)
    for number in range(3):
        group.others[f"m{number}"] = other(f"m{number}")
        group.settle(10.0)
    assert "m2" not in group.seen

    del group.others["b"]
    group.settle(10.01)

    assert group.seen == {"a", "c", "m0", "m1", "m2"}


def test_a_member_follows_another_that_is_ahead_of_it():
    group = Group("b", "c")
    group.beat(10.0)
    for number in range(3):
        group.others[f"m{number}"] = other(f"m{number}")
        group.settle(10.0)
    waits = group.handoff.view.id

    group.others["b"] = dataclasses.replace(group.others["b"], applied="another view")
    group.settle(10.01)

    assert group.handoff.view.id != waits


def test_who_gathers_still_gains_what_is_free_of_the_view_of_before():
    group = Group("b", "c")
    group.beat(10.0)
    everything = group.handoff.view.slots("a")
    # One leaves; what it held is not let go yet, and more changes come.
    del group.others["c"]
    group.others["b"] = dataclasses.replace(group.others["b"], applied="a view of its own")
    group.settle(10.0)
    missing = group.handoff.view.slots("a") - everything
    assert missing
    assert group.handoff.waiting_for == {"b": missing}
    group.others["b"] = dataclasses.replace(group.others["b"], applied=group.handoff.view.id)
    group.others |= {f"m{number}": other(f"m{number}") for number in range(2)}
    group.handoff._gathering._turned_at = (10.0, 10.0)

    group.settle(10.01)

    assert group.seen == {"a", "b"}
    assert group.handoff.held(10.01) == group.handoff.view.slots("a")


def test_without_gathering_each_change_is_a_view():
    group = Group("b", gather=0.0)
    group.beat(10.0)
    views = set()

    for number in range(5):
        group.others[f"m{number}"] = other(f"m{number}")
        group.settle(10.0)
        views.add(group.handoff.view.id)

    assert len(views) == 5


def test_by_default_a_partition_gathers_for_a_small_part_of_its_lease():
    import hashring

    with hashring.join("memory://gathering", "pollers", ttl=10.0) as partition:
        assert partition._membership.handoff._gathering.seconds == DEFAULT_GATHER
    with pytest.raises(ValueError, match="gather must be a number from 0 to 10"):
        hashring.join("memory://gathering", "pollers", ttl=10.0, gather=11.0)
