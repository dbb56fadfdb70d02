"""Which windows are in doubt after a loss: claims, marks, and what a crash leaves."""

import dataclasses
import json
import math

from hashring.protocol.claims import Claim
from tests.protocol.group import FULL, NOTHING, two


def test_a_claim_under_an_older_view_is_in_doubt(store):
    a, b = two(store)
    c = store.member("c")
    a.step()
    b.step()
    lost = c.handoff.view.slots("c") if c.handoff.view else b.record.claims[0].slots
    del store.records["c"]  # it crashes before it takes anything over
    d = store.member("d")
    d.step()

    d.step()

    assert lost
    claimed = a.record.claims[0].slots
    assert (d.handoff.view.slots("d") & claimed) <= d.handoff.waiting_for["a"]


def test_a_mark_counts_under_whichever_view_it_was_made(store):
    a, b = two(store)
    c = store.member("c")
    a.step()
    (claim,) = a.record.claims
    marked = dataclasses.replace(c.record, applied=b.record.applied, took=claim.slots)
    assert marked.applied != a.record.applied
    store.records["c"] = marked.to_json()

    a.step()

    assert not a.handoff._custody.claims


def test_a_claim_is_dropped_where_anothers_is_later(store):
    a, b = two(store)
    c = store.member("c")
    a.step()
    b.step()
    (claim,) = a.record.claims
    later = dataclasses.replace(b.record, claims=(Claim(claim.through + 5.0, claim.slots),))
    store.records["b"] = later.to_json()

    a.step()

    assert not a.handoff._custody.claims
    assert c.held == NOTHING


def test_an_eager_member_takes_its_slots_without_waiting(store):
    a = store.member("a", mode="eager")
    store.settle(a)
    b = store.member("b", mode="eager")

    b.step()  # acks: strangers can see that it no longer holds nothing
    b.step()

    assert b.held == b.handoff.view.slots("b")
    assert a.held == FULL  # it has not looked yet: the repeat that eager users prefer


def test_a_loss_is_claimed_until_the_new_owner_marks_that_it_has_gained(store):
    a = store.member("a")
    store.settle(a)
    b = store.member("b")
    a.step()
    lost = FULL - a.held
    assert a.record.claims == (Claim(1000.0, lost),)

    store.settle(a, b)
    (gain,) = b.handoff.take_gains()
    assert (gain.slots, gain.through, gain.is_claimed) == (lost, 1000.0, True)
    a.step()  # sees the mark
    c = store.member("c")
    store.settle(a, b, c)

    assert all(claim.slots.isdisjoint(lost) for claim in a.record.claims)
    assert len(lost) > 10


def test_a_claim_outlives_views_that_never_settled(store):
    a = store.member("a")
    store.settle(a)
    b = store.member("b")
    a.step()  # acks {a, b}; b never gets that far
    lost = FULL - a.held
    c = store.member("c")

    store.settle(a, b, c)

    for runner in (b, c):
        for gain in runner.handoff.take_gains():
            assert gain.is_claimed
            if not gain.slots.isdisjoint(lost):
                assert gain.through == 1000.0


def test_a_view_that_comes_back_needs_a_new_mark(store):
    a, b = two(store)
    first = a.record.settled
    c = store.member("c")
    a.step()
    del store.records["c"]
    a.step()

    assert a.record.applied == first
    assert a.record.settled in (None, first)
    assert c.held == NOTHING
    store.settle(a, b)
    assert a.held | b.held == FULL


def test_after_a_crash_the_gain_says_that_nobody_knows(store):
    a, b = two(store)
    b.handoff.take_gains()
    share = a.held
    del store.records["a"]

    store.settle(b)

    (gain,) = b.handoff.take_gains()
    assert (gain.slots, gain.is_claimed) == (share, False)


def test_a_member_that_worked_no_window_promises_none(store):
    a = store.member("a")
    store.settle(a)
    b = store.member("b")

    a.step(worked=False)

    assert a.record.through is None
    assert {claim.through for claim in a.record.claims} == {-math.inf}
    store.settle(a, b)
    assert not b.handoff.take_gains()[0].is_claimed


def test_a_begun_window_that_is_given_up_lowers_the_through(store):
    a = store.member("a")
    store.settle(a)
    store.member("b")

    a.step(given_up=[(960.0, FULL)])

    assert a.record.through == 960.0
    assert {claim.through for claim in a.record.claims} == {960.0}


def test_a_member_of_another_make_is_followed_by_its_plain_through(store):
    a = store.member("a")
    stranger = dataclasses.replace(a.record, id="x", incarnation="x-0")
    store.records["x"] = stranger.to_json()
    a.step()
    view = a.handoff.view.id
    fields = json.loads(
        dataclasses.replace(stranger, applied=view, through=1234.0, draining=True).to_json()
    )
    del fields["meta"]
    store.records["x"] = json.dumps(fields).encode()
    a.step()
    alone = a.handoff.view.id
    fields["applied"] = alone
    store.records["x"] = json.dumps(fields).encode()

    store.settle(a)

    gains = a.handoff.take_gains()
    assert sum(len(gain.slots) for gain in gains) == 64
    assert all(gain.is_claimed and gain.through == 1234.0 for gain in gains if gain.is_claimed)
    assert any(gain.is_claimed for gain in gains)
