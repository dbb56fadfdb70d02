"""The hand-off's rules, one by one, as plain function calls: no clock, no store, no thread."""

import dataclasses
import itertools
import json
import math

import pytest

from hashring.driver import Reading
from hashring.errors import BadRecord, GroupMismatch
from hashring.protocol.claims import Claim
from hashring.protocol.handoff import Handoff, Join, Leave, Publish, Wait
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


@pytest.fixture
def store():
    return Store()


def two(store):
    a, b = store.member("a"), store.member("b")
    store.settle(a, b)
    return a, b


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


def test_a_member_that_shows_null_holds_nothing_and_does_not_block(store):
    a = store.member("a")
    store.settle(a)
    store.member("b")  # joined, and no step yet

    store.settle(a)

    assert a.held == a.handoff.view.slots("a")


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


def test_a_member_with_another_ring_never_holds_a_slot(store):
    a = store.member("a")
    store.settle(a)
    b = store.member("b", spec=HashRing(slots=128).spec)

    with pytest.raises(GroupMismatch, match=r"member 'a'.*has ring.*slots=64"):
        b.step()

    store.settle(a)
    assert a.held == FULL


@pytest.mark.parametrize("other", [{"ttl": 3.0}, {"mode": "eager"}])
def test_another_ttl_or_mode_is_refused_too(store, other):
    a = store.member("a")
    store.settle(a)

    with pytest.raises(GroupMismatch, match=r"ttl|handoff"):
        store.member("b", **other).step()


def test_of_two_newcomers_that_differ_the_later_name_gives_way_and_keeps_nobody_waiting(store):
    a, b = store.member("a"), store.member("b", ttl=3.0)

    with pytest.raises(GroupMismatch):
        b.step()
    store.settle(a)  # though the other's record is still there: it shows null

    assert a.held == FULL


@pytest.mark.parametrize(
    "record", [b"garbage", b"[]", b'{"v": 2}', b"\xff", b'{"v": 1}', b"[" * 5000]
)
def test_while_a_record_cannot_be_read_nobody_gains_and_it_is_named(store, record):
    a = store.member("a")
    store.records["stranger"] = record

    for _ in range(5):
        a.step()

    assert "stranger" in a.handoff.problems
    assert "stranger" in a.action.reason
    assert a.held == NOTHING
    del store.records["stranger"]
    store.settle(a)
    assert a.held == FULL


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


def test_a_member_of_weight_0_takes_part_and_holds_nothing(store):
    a, b = store.member("a"), store.member("b", weight=0.0)

    store.settle(a, b)

    assert (a.held, b.held) == (FULL, NOTHING)


def test_a_new_meta_is_published_and_nothing_else_changes(store):
    a, b = two(store)
    before = (a.held, a.record)

    a.handoff.change_meta({"polls": ["cpu"]})
    a.step()

    assert isinstance(a.action, Publish)
    assert a.record == dataclasses.replace(before[1], meta={"polls": ["cpu"]})
    assert a.held == before[0]
    assert a.handoff.is_settled
    assert a.step() == Wait("settled")
    assert b.step() == Wait("settled")


def test_a_meta_that_changed_while_a_record_was_on_its_way_is_published_after_it(store):
    a, _ = two(store)
    a.handoff.change_meta({"polls": 1})
    a.decide(*a.read())

    a.handoff.change_meta({"polls": 2})  # between the driver's call and its return
    a.do()
    assert a.record.meta == {"polls": 1}
    a.step()

    assert a.record.meta == {"polls": 2}
    assert a.step() == Wait("settled")


def test_a_meta_of_unknown_outcome_is_published_again(store):
    a, _ = two(store)
    a.handoff.change_meta({"polls": 1})
    a.decide(*a.read())  # the answer of this publish is lost

    assert isinstance(a.step(), Publish)
    assert a.record.meta == {"polls": 1}
    assert a.step() == Wait("settled")


def test_a_new_meta_waits_while_a_store_that_forgot_is_young(store):
    a, _ = two(store)
    store.memory_age = 1.0
    a.handoff.change_meta({"polls": 1})
    assert isinstance(a.step(), Wait)

    store.memory_age = math.inf
    a.step()

    assert a.record.meta == {"polls": 1}


def test_a_lost_record_comes_back_with_the_new_meta(store):
    a, _ = two(store)
    a.handoff.change_meta({"polls": 1})
    del store.records["a"]

    a.step()

    assert isinstance(a.action, Join)
    assert a.record.meta == {"polls": 1}


@pytest.mark.parametrize("meta", [{"x": math.nan}, {"x": "y" * 70_000}, {"hashring": {}}])
def test_a_meta_that_cannot_be_published_is_refused_and_the_old_one_stays(store, meta):
    a = store.member("a", meta={"polls": 0})
    store.settle(a)

    with pytest.raises(BadRecord, match="meta"):
        a.handoff.change_meta(meta)

    assert a.step() == Wait("settled")
    assert a.record.meta == {"polls": 0}


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


def test_an_eager_member_that_has_settled_is_not_thrown_out_by_a_newcomer(store):
    b = store.member("b", mode="eager")
    store.settle(b)

    store.member("a", mode="eager", ttl=3.0)

    for _ in range(3):
        b.step()
    assert b.held == FULL


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


def test_a_record_that_is_no_bytes_is_named_like_any_other_bad_one(store):
    a = store.member("a")
    store.records["x"] = bytearray(a.store.records["a"])
    store.records["y"] = None

    a.step()

    assert "x" in a.handoff.members
    assert "NoneType" in a.handoff.problems["y"]


def test_an_age_that_is_no_number_counts_as_young(store):
    a = store.member("a")
    store.memory_age = math.nan

    assert isinstance(a.step(), Wait)


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
