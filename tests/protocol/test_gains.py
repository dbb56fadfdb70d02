"""What lets a member gain: its own ack, what others show, whom it waits for."""

import dataclasses

from hashring.protocol.handoff import Publish, Wait
from tests.protocol.group import FULL, NOTHING, two


def test_a_lone_member_acks_marks_and_then_holds_everything(store):
    a = store.member("a")

    assert isinstance(a.step(), Publish)  # the ack
    assert a.held == NOTHING
    assert isinstance(a.step(), Publish)  # the mark
    assert a.held == FULL
    assert a.record.settled == a.record.applied == a.handoff.view.id
    assert a.step() == Wait("settled")


def test_two_members_share_all_slots_and_none_twice(store):
    a, b = two(store)

    assert a.held | b.held == FULL
    assert a.held.isdisjoint(b.held)
    assert a.held == a.handoff.view.slots("a")


def test_what_a_new_view_takes_away_is_dropped_before_the_ack(store):
    a = store.member("a")
    store.settle(a)
    store.member("b")

    a.decide(*a.read())

    assert isinstance(a.action, Publish)
    assert a.handoff.in_hand(store.now) == a.handoff.view.slots("a")
    assert a.record.applied != a.handoff.view.id  # nothing is in the store yet


def test_a_slot_that_a_cycle_pins_is_kept_and_the_ack_waits_for_it(store):
    a = store.member("a")
    store.settle(a)
    a.handoff.pin(1, a.held)
    store.member("b")

    a.step()

    assert isinstance(a.action, Wait)
    assert a.action.local
    assert a.handoff.in_hand(store.now) == FULL
    assert a.held == a.handoff.view.slots("a")  # a new cycle gets no more than this
    a.handoff.unpin(1)
    assert isinstance(a.step(), Publish)
    assert a.handoff.in_hand(store.now) == a.handoff.view.slots("a")


def test_a_begun_window_that_nobody_started_keeps_its_slots_too(store):
    a = store.member("a")
    store.settle(a)
    store.member("b")

    assert a.step(pending=[(999.0, FULL)]).local
    assert isinstance(a.step(pending=[(1001.0, FULL)]), Publish)  # that one is not ours any more


def test_evidence_from_before_the_own_ack_lets_nobody_gain(store):
    a, b = store.member("a"), store.member("b")
    token, early = a.read()  # both show null
    a.decide(token, early)
    a.do()  # the ack

    a.decide(token, early)

    assert isinstance(a.action, Wait)
    assert a.held == NOTHING
    assert b.held == NOTHING


def test_a_member_that_shows_another_view_blocks_the_gain(store):
    a = store.member("a")
    store.settle(a)
    b = store.member("b")

    b.step()  # acks
    b.step()

    assert b.action == Wait("waiting for what 1 members may still hold: a")
    assert b.held == NOTHING


def three_of_which_one_is_in_a_cycle(store):
    a, b = two(store)
    b.handoff.pin(1, b.held)
    c = store.member("c")
    c.step()  # acks
    a.step()  # drops, and acks
    b.step()  # keeps what its cycle pins, and shows the view before
    return a, b, c


def test_a_member_in_a_cycle_delays_only_the_slots_that_it_holds(store):
    _, b, c = three_of_which_one_is_in_a_cycle(store)
    due = c.handoff.view.slots("c")

    c.step()

    assert c.held == due - b.handoff.in_hand(store.now)
    assert c.held
    assert c.record.took == c.held
    assert c.record.settled is None
    assert not c.handoff.is_settled


def test_whom_it_waits_for_is_named_with_the_slots(store):
    a, b, c = three_of_which_one_is_in_a_cycle(store)
    due = c.handoff.view.slots("c")

    c.step()
    c.step()

    assert c.action == Wait("waiting for what 1 members may still hold: b")
    assert c.handoff.waiting_for == {"b": due - c.held}
    assert b.handoff.waiting_for == {}  # the new view gives it nothing more
    b.handoff.unpin(1)
    store.settle(a, b, c)
    assert c.held == due
    assert c.handoff.waiting_for == {}


def test_whom_it_waits_for_stays_named_while_a_reading_is_taken_in(store):
    _, _, c = three_of_which_one_is_in_a_cycle(store)
    c.step()
    c.step()
    named = dict(c.handoff.waiting_for)
    assert named.keys() == {"b"}

    token, reading = c.read()
    c.handoff.observe(reading, token, now=store.now, wall=store.wall, worked=True)

    assert c.handoff.waiting_for == named


def test_a_part_that_was_taken_over_is_marked_so_and_only_its_claims_are_dropped(store):
    a, b, c = three_of_which_one_is_in_a_cycle(store)
    c.step()

    a.step()

    assert a.record.claims  # as a's last record still says
    assert not a.handoff._custody.claims  # c took over all that a had to give
    b.handoff.unpin(1)
    b.step()
    assert {claim.slots for claim in b.record.claims} == {c.handoff.view.slots("c") - c.held}


def test_a_member_whose_own_cycle_keeps_it_from_acking_waits_for_itself(store):
    a, b, c = three_of_which_one_is_in_a_cycle(store)
    a.handoff.drain()
    a.step()

    b.step()

    assert b.handoff.waiting_for == {"b": b.handoff.view.slots("b") - b.held}
    assert c.held == NOTHING


def test_a_view_that_nobody_here_knows_may_give_its_member_anything(store):
    a, b = two(store)
    record = dataclasses.replace(b.record, applied="0" * 32)
    store.records["b"] = record.to_json()
    c = store.member("c")
    a.step()
    c.step()

    c.step()

    assert c.held == NOTHING
    assert c.handoff.waiting_for == {"b": c.handoff.view.slots("c")}


def test_a_newcomer_computes_the_view_that_was_before_it(store):
    a, _ = two(store)
    c = store.member("c")
    c.step()  # acks; neither a nor b has looked

    c.step()

    before = a.handoff.view
    due = c.handoff.view.slots("c")
    assert c.handoff.waiting_for == {
        "a": due & before.slots("a"),
        "b": due & before.slots("b"),
    }


def test_a_member_that_shows_null_holds_nothing_and_does_not_block(store):
    a = store.member("a")
    store.settle(a)
    store.member("b")  # joined, and no step yet

    store.settle(a)

    assert a.held == a.handoff.view.slots("a")
