"""The fence, leases that end, a store that forgot, writes of unknown outcome."""

import math

import pytest

from hashring.protocol.handoff import Join, Publish, Wait
from hashring.protocol.record import Member
from tests.protocol.group import FULL, NOTHING, TTL, two


def test_at_the_fence_nothing_is_held_and_a_late_heartbeat_brings_it_back(store):
    a = store.member("a")
    store.settle(a)

    store.now += 0.9 * TTL
    assert a.held == NOTHING
    assert a.handoff.state(store.now) == "fenced"
    a.heartbeat()  # the store still had the lease: nobody can have gained

    assert a.held == FULL
    assert a.handoff.state(store.now) == "settled"


def test_nobody_gains_on_a_lease_that_is_about_to_end(store):
    a = store.member("a")
    store.now += 0.6 * TTL

    a.step()
    assert "heartbeat" in a.step().reason
    a.heartbeat()
    store.settle(a)

    assert a.held == FULL


def test_a_heartbeat_counts_from_its_start(store):
    a = store.member("a")
    store.settle(a)
    token, started = a.handoff.heartbeat_begins(), store.now

    store.now += 0.95 * TTL  # paused between the store's answer and its arrival
    a.handoff.heartbeat_confirmed(token, started)

    assert a.held == NOTHING


def test_an_expired_member_drops_everything_and_comes_back_as_another(store):
    a, b = two(store)
    lease = a.handoff.lease_number
    del store.records["a"]
    store.now += 2 * TTL
    b.heartbeat()
    store.settle(b)

    a.step()

    assert isinstance(a.action, Join)
    assert a.held == NOTHING
    assert a.handoff.lease_number != lease
    assert a.record.incarnation == "a-1"
    assert a.record.applied is None
    assert b.held == FULL


def test_a_heartbeat_of_an_earlier_lease_proves_nothing(store):
    a = store.member("a")
    store.settle(a)
    token, started = a.handoff.heartbeat_begins(), store.now
    del store.records["a"]
    store.now += 2 * TTL
    a.step()  # expired, joined again

    a.handoff.heartbeat_confirmed(token, store.now)

    assert a.handoff.deadline == -math.inf
    assert started < store.now


def test_a_member_that_the_store_forgot_rejoins_at_once_and_keeps_what_it_holds(store):
    a, b = two(store)
    held, applied = a.held, a.record.applied
    store.records.clear()
    store.memory_age = 0.5

    a.step()

    assert isinstance(a.action, Join)
    assert a.record.applied == applied
    assert a.record.incarnation == "a-0"
    assert a.held == held
    assert b.held == FULL - held


def test_nobody_acks_or_gains_while_the_memory_is_young(store):
    a, b = two(store)
    applied = b.record.applied
    store.records.clear()
    store.memory_age = 0.5
    b.step()  # rejoins; a has not yet

    b.step()

    assert isinstance(b.action, Wait)
    assert b.action.seconds == pytest.approx(TTL - 0.5)
    assert b.record.applied == applied
    assert a.held | b.held == FULL
    store.memory_age = TTL
    del a
    store.settle(b)
    assert b.held == FULL


def test_a_fenced_member_that_was_forgotten_drops_everything(store):
    a, _ = two(store)
    store.records.clear()
    store.memory_age = 0.5
    store.now += 0.95 * TTL

    a.step()

    assert a.record.applied is None
    assert a.record.incarnation == "a-1"


def test_the_fence_may_not_pass_while_a_rejoin_is_under_way(store):
    a, _ = two(store)
    store.records.clear()
    store.memory_age = 0.5
    a.decide(*a.read())
    assert isinstance(a.action, Join)

    store.now += 0.95 * TTL  # paused in the middle of the join
    a.do()
    a.heartbeat()

    assert a.held == NOTHING


def test_a_rejoin_of_unknown_outcome_that_lands_after_the_fence_resurrects_nothing(store):
    a, _ = two(store)
    store.records.clear()
    store.memory_age = 0.5
    a.decide(*a.read())
    store.records["a"] = a.action.record  # it landed; the answer was lost

    store.now += 0.95 * TTL
    a.step()
    a.heartbeat()

    assert a.held == NOTHING


def test_a_publish_of_unknown_outcome_is_repeated_before_anything_is_gained(store):
    a, b = two(store)
    c = store.member("c")
    a.decide(*a.read())
    assert isinstance(a.action, Publish)
    store.records["a"] = a.action.record  # it landed; a does not know
    del store.records["c"]  # and the view is the old one again

    a.decide(*a.read())

    assert isinstance(a.action, Publish)
    assert Member.from_json("a", a.action.record).applied == b.record.applied
    assert a.held <= FULL - b.held
    assert c.held == NOTHING


def test_a_mark_of_unknown_outcome_is_not_repeated_on_an_old_lease(store):
    a = store.member("a")
    a.step()  # the ack
    a.decide(*a.read())  # the mark; its outcome is unknown
    assert Member.from_json("a", a.action.record).settled

    store.now += 0.6 * TTL
    a.decide(*a.read())

    assert Member.from_json("a", a.action.record).settled is None
    a.do()
    a.heartbeat()
    store.settle(a)
    assert a.held == FULL


def test_an_age_that_is_no_number_counts_as_young(store):
    a = store.member("a")
    store.memory_age = math.nan

    assert isinstance(a.step(), Wait)
