"""Members that drain, and what their heirs see."""

from hashring.protocol.handoff import Join, Leave, Publish
from tests.protocol.group import FULL, NOTHING, two


def test_a_draining_member_hands_over_and_leaves_when_its_heirs_have_gained(store):
    a, b = two(store)
    a.handoff.drain()

    a.step()  # says so, holds nothing
    assert a.record.draining
    assert a.held == NOTHING
    assert not isinstance(a.step(), Leave)  # b has not gained yet
    store.settle(b)
    assert b.held == FULL
    assert isinstance(a.step(), Leave)
    assert a.handoff.state(store.now) == "left"


def test_a_draining_member_works_its_cycle_to_the_end(store):
    a, b = two(store)
    held = a.held
    a.handoff.pin(1, held)
    a.handoff.drain()

    a.step()
    a.step()
    b.step()
    b.step()

    assert a.record.draining
    assert a.handoff.in_hand(store.now) == held
    assert b.held.isdisjoint(held)
    a.handoff.unpin(1)
    a.step()
    store.settle(b)
    assert b.held == FULL


def test_the_last_member_leaves_an_empty_group_at_once(store):
    a = store.member("a")
    store.settle(a)
    a.handoff.drain()

    a.step()
    a.step()

    assert a.handoff.has_left
    assert store.records == {}


def test_a_drain_that_began_while_a_record_was_on_its_way_is_still_announced(store):
    a, _ = two(store)
    a.handoff.pin(1, a.held)
    store.member("c")
    a.handoff.pin(1, NOTHING)
    a.decide(*a.read())
    assert isinstance(a.action, Publish)

    a.handoff.drain()  # between the driver's call and its return
    a.do()
    assert not a.record.draining
    a.handoff.pin(1, a.held)
    a.step()

    assert a.record.draining


def test_a_draining_member_that_the_store_forgot_still_hands_over(store):
    a, b = two(store)
    a.handoff.pin(1, a.held)
    a.handoff.drain()
    a.step()
    store.records.clear()
    store.memory_age = 1.0

    a.step()

    assert isinstance(a.action, Join)
    assert a.record.draining
    assert a.handoff.in_hand(store.now) == FULL - b.held
