"""Strangers: members of one group whose ring, ttl or mode differ, and who of them gives way."""

import dataclasses
import json

import pytest

from hashring.errors import BadRecord, GroupMismatch
from hashring.protocol.founding import Parameters, judge
from hashring.protocol.handoff import Join, Leave, Publish, Wait
from hashring.protocol.record import Member
from hashring.ring.ring import HashRing
from tests.protocol.group import FULL, NOTHING, SPEC, TTL, Store

OTHER = HashRing(slots=128, vnodes=16).spec
OURS, THEIRS = Parameters(SPEC, TTL, "exclusive"), Parameters(SPEC, 3.0, "exclusive")


@pytest.fixture
def store():
    return Store()


def outage(store, *runners):
    """The store is away for longer than the ttl: every lease ends, every fence passes."""
    store.records.clear()
    store.now += 3 * TTL
    for runner in runners:
        runner.handoff.lease_lost()


def bereft(store, *names, **given):
    """Return members that have settled, and then lost all their leases while the store was away."""
    members = [store.member(name, **given) for name in names]
    store.settle(*members)
    outage(store, *members)
    return members


def overtaken(store, *names, **other):
    """Members settle, all leases end, and a stranger that differs is first: in a group of its own.

    Returns:
        The members, and the stranger. Its id sorts before theirs.
    """
    members = bereft(store, *names)
    store.wall = 2000.0
    stranger = store.member("0", **(other or {"ttl": 3.0}))
    store.settle(stranger)
    return *members, stranger


def stood_aside(store):
    """Return a stranger that stands aside for a member ``a``, which came back and got all."""
    a, stranger = overtaken(store, "a")
    come_back(a)
    steps(stranger, a)
    assert a.held == FULL
    return stranger


def come_back(*runners):
    for runner in runners:
        assert isinstance(runner.step(), Join)
        runner.heartbeat()


def steps(*runners, rounds=6):
    for _ in range(rounds):
        for runner in runners:
            runner.step()


@pytest.mark.parametrize("other", [{"ttl": 3.0}, {"spec": OTHER}, {"mode": "eager"}])
def test_who_settled_once_comes_back_though_a_stranger_was_first_after_an_outage(store, other):
    a, b, stranger = overtaken(store, "a", "b", **other)
    assert stranger.handoff.held(store.now)

    come_back(a, b)
    steps(stranger, a, b)

    assert a.held | b.held == FULL
    assert a.held.isdisjoint(b.held)
    assert not stranger.handoff.held(store.now)
    assert stranger.record.applied is None
    assert stranger.handoff.stands_aside
    assert list(stranger.handoff.strangers_in_the_way) == ["a", "b"]
    assert "member 'a' has" in stranger.action.reason


def test_nobody_gains_while_a_stranger_that_gives_way_still_works_its_cycle(store):
    a, stranger = overtaken(store, "a")
    stranger.handoff.pin(1, FULL)

    come_back(a)
    store.now += 1.0
    steps(stranger, a)

    assert a.held == NOTHING
    assert list(a.handoff.strangers_in_the_way) == ["0"]
    assert "0 (ttl 3.0 where this member has 10.0)" in a.action.reason
    assert stranger.record.applied is not None
    stranger.handoff.unpin(1)
    steps(stranger, a)
    assert a.held == FULL
    assert a.handoff.strangers_in_the_way == {}


def test_a_stranger_that_weighs_nothing_since_a_moment_ago_is_waited_for_while_it_works(store):
    a, stranger = overtaken(store, "a")
    stranger.handoff.pin(1, FULL)
    stranger.handoff.weight = 0.0

    come_back(a)
    store.now += 1.0
    steps(stranger, a)

    assert stranger.record.weight == 0
    assert stranger.record.holds
    assert stranger.handoff.in_hand(store.now) == FULL
    assert a.held == NOTHING
    stranger.handoff.unpin(1)
    steps(stranger, a)
    assert not stranger.record.holds
    assert a.held == FULL


def test_the_one_that_stood_aside_takes_part_again_when_the_others_are_gone(store):
    stranger = stood_aside(store)

    del store.records["a"]
    stranger.heartbeat()
    store.settle(stranger)

    assert stranger.held == FULL


def test_one_that_stands_aside_can_drain(store):
    stranger = stood_aside(store)

    stranger.handoff.drain()
    steps(stranger, rounds=3)

    assert isinstance(stranger.action, Leave)
    assert "0" not in store.records


def test_a_stranger_that_retries_for_ever_keeps_nobody_out_and_ends_nobody(store):
    a, b = bereft(store, "a", "b")
    store.wall = 2000.0
    ends = 0
    for number in range(12):
        # Each second anew, always before the others, gone again when it has learnt why.
        stranger = store.member(f"0-{number}", ttl=3.0)
        if number == 2:
            come_back(a)
        if number == 4:
            come_back(b)
        try:
            stranger.step()
        except GroupMismatch:
            ends += 1
            store.records.pop(stranger.name)
        if number < 2:
            store.records.pop(stranger.name, None)
        if number >= 2:
            a.step()
        if number >= 4:
            b.step()

    assert ends == 10
    store.settle(a, b)
    assert a.held | b.held == FULL


def test_a_newcomer_that_differs_is_refused_by_those_that_came_back(store):
    (a,) = bereft(store, "a")
    come_back(a)  # shows null, and yet its parameters are the group's

    with pytest.raises(GroupMismatch, match=r"ttl 10\.0 where this member has 3\.0"):
        store.member("0", ttl=3.0).step()


def test_of_two_fleets_the_one_that_was_founded_first_works_and_the_other_waits(store):
    a, b = bereft(store, "a", "b")
    store.wall = 2000.0
    c, d = bereft(store, "0c", "0d", spec=OTHER)

    come_back(c, a, d, b)
    steps(c, a, d, b, rounds=8)

    assert a.held | b.held == FULL
    assert c.handoff.stands_aside
    assert d.handoff.stands_aside
    assert not c.handoff.held(store.now)
    # A newcomer counts as those whose parameters it has.
    with pytest.raises(GroupMismatch):
        store.member("0e", spec=OTHER).step()
    del store.records["0e"]
    e = store.member("e")
    steps(a, b, e)
    assert e.held


def test_an_heir_knows_when_its_group_was_founded_though_the_founder_has_left(store):
    a, b = store.member("a"), store.member("b")
    store.settle(a, b)
    founded = a.handoff.founded
    store.wall = 1500.0
    c = store.member("c")
    store.settle(a, b, c)

    assert founded == 1000.0
    assert c.handoff.founded == founded
    assert c.record.founded == founded


def test_one_without_weight_founds_no_group_and_gives_way_to_whoever_does(store):
    watcher = store.member("0", weight=0.0, ttl=3.0)
    store.settle(watcher)
    assert watcher.record.founded is None

    a = store.member("a")
    steps(a, watcher)

    assert a.held == FULL
    assert watcher.handoff.stands_aside


def test_one_without_weight_keeps_its_group_s_place(store):
    a, watcher = store.member("a"), store.member("w", weight=0.0)
    store.settle(a, watcher)
    outage(store, a, watcher)
    store.wall = 2000.0
    come_back(watcher)

    with pytest.raises(GroupMismatch):
        store.member("0", ttl=3.0).step()


def test_a_stranger_without_weight_is_waited_for_by_nobody(store):
    a = store.member("a")
    a.step()
    stranger = dataclasses.replace(
        a.record, id="x", incarnation="x", weight=0.0, ttl=3.0, applied="its own", founded=None
    )
    store.records["x"] = stranger.to_json()

    store.settle(a)

    assert a.held == FULL


def test_a_stranger_that_drains_is_waited_for_while_it_may_hold_something(store):
    a, stranger = overtaken(store, "a")
    stranger.handoff.pin(1, FULL)
    stranger.handoff.drain()

    come_back(a)
    steps(stranger, a)
    assert a.held == NOTHING

    stranger.handoff.unpin(1)
    steps(stranger, rounds=3)
    store.settle(a)
    assert "0" not in store.records
    assert a.held == FULL


def test_a_stranger_of_an_older_release_is_waited_for_and_named(store):
    a = store.member("a")
    store.settle(a)
    fields = json.loads(dataclasses.replace(a.record, id="x", incarnation="x", ttl=3.0).to_json())
    del fields["meta"]["hashring"]["founded"]
    outage(store, a)
    store.records["x"] = json.dumps(fields).encode()

    come_back(a)
    steps(a)

    assert a.held == NOTHING
    assert a.handoff.stands_aside
    assert list(a.handoff.strangers_in_the_way) == ["x"]
    with pytest.raises(GroupMismatch):
        store.member("n").step()
    del store.records["x"]
    del store.records["n"]
    store.settle(a)
    assert a.held == FULL


def test_a_record_that_nobody_can_read_ends_nobody_that_comes_back(store):
    (a,) = bereft(store, "a")
    store.records["0"] = b"garbage"

    come_back(a)
    steps(a)

    assert a.held == NOTHING
    assert "0" in a.handoff.problems
    del store.records["0"]
    store.settle(a)
    assert a.held == FULL


def test_while_the_store_may_have_forgotten_those_that_settled_no_newcomer_judges(store):
    a, n = store.member("a"), store.member("n")
    store.records.pop("n")
    store.settle(a)
    outage(store, a)
    store.memory_age = 0.5
    store.records["n"] = n.handoff.start().record
    stranger = store.member("0", ttl=3.0)  # sorts first, and nobody has founded anything

    assert isinstance(n.step(), Wait)  # those that settled may be about to come back
    come_back(a)
    with pytest.raises(GroupMismatch):
        stranger.step()
    del store.records["0"]
    store.memory_age = TTL
    n.heartbeat()
    store.settle(a, n)
    assert a.held | n.held == FULL


def test_a_stranger_s_claims_and_slots_are_none_of_this_ring(store):
    (a,) = bereft(store, "a")
    store.wall = 2000.0
    stranger, heir = store.member("0", spec=OTHER), store.member("1", spec=OTHER)
    store.settle(stranger, heir)
    come_back(a)

    steps(stranger, heir, a)

    assert stranger.record.claims  # of 128 slots, where ours has 64
    assert a.held == FULL


def test_a_lease_that_ends_while_one_stands_aside_is_begun_anew(store):
    stranger = stood_aside(store)
    before = stranger.handoff.incarnation

    del store.records["0"]
    assert isinstance(stranger.step(), Join)

    assert stranger.handoff.incarnation != before
    assert stranger.record.claims == ()


def test_eager_members_do_not_take_what_a_stranger_may_hold(store):
    a = store.member("a")
    store.settle(a)
    eager = store.member("0", mode="eager")

    with pytest.raises(GroupMismatch):
        eager.step()

    assert eager.held == NOTHING


def test_an_eager_member_shows_an_ack_before_it_takes_anything(store):
    a = store.member("a", mode="eager")

    a.decide(*a.read())

    assert isinstance(a.action, Publish)
    assert a.held == NOTHING


@pytest.mark.parametrize("value", [True, "1", [], 10**400, -(10**400), float("1e301")])
def test_a_founding_that_is_no_moment_makes_the_record_a_bad_one(value):
    fields = json.loads(Member("a", "1", 1.0, SPEC, TTL).to_json())
    fields["meta"]["hashring"]["founded"] = value

    with pytest.raises(BadRecord, match=r"meta\.hashring|digits"):
        Member.from_json("a", json.dumps(fields).encode())


def test_all_members_judge_the_same_records_alike():
    a = Member("a", "1", 1.0, SPEC, TTL, founded=500.0)
    b = Member("b", "2", 1.0, SPEC, 3.0, founded=100.0)
    c = Member("c", "3", 1.0, SPEC, TTL, founded=50.0)

    assert judge([a, b], OURS).first == b
    assert judge([a, b], THEIRS).first is None
    assert judge([a, b, c], OURS).first is None
    assert judge([a, b, c], THEIRS).first == c
    assert judge([a, b, c], THEIRS).is_founded
