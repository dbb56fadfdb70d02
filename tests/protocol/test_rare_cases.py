"""What the protocol does in cases that hardly ever come up, as plain function calls."""

import dataclasses
import json
import math
import random

import pytest

from hashring.errors import BadRecord
from hashring.protocol import strict_json
from hashring.protocol.claims import Claim, merged
from hashring.protocol.custody import Custody, Gain
from hashring.protocol.gathering import Gathering
from hashring.protocol.handoff import Handoff, Publish, Wait
from hashring.protocol.reading import Reading
from hashring.protocol.record import MAX_PARKED, MAX_RECORD, Member, Parked
from hashring.protocol.runner import Runner
from hashring.protocol.strict_json import Malformed
from hashring.ring.ring import HashRing, SlotSet
from tests.protocol.group import FULL, NOTHING, SPEC, TTL, Store
from tests.test_windows import HIGH, LOW, stream, work


@pytest.fixture
def store():
    return Store()


def test_a_claim_without_slots_takes_no_place_among_those_that_are_merged():
    claims = [Claim(20.0, NOTHING), Claim(30.0, FULL)]

    assert merged(claims, 8) == [Claim(30.0, FULL)]


def test_one_that_never_worked_gives_up_a_window_and_promises_no_time():
    custody = Custody(NOTHING, max_claims=8)
    custody.gain_at_once([Gain(FULL, 30.0, is_claimed=True)])
    custody.keep_only(NOTHING, 20.0, worked=False)

    custody.give_up_windows([(10.0, FULL)])
    custody.finish_losing([])

    assert custody.through is None
    assert [(claim.through, claim.slots) for claim in custody.claims] == [(10.0, FULL)]


def test_an_eager_member_that_has_settled_takes_what_one_leaves_as_it_looks(store):
    a, b = store.member("a", mode="eager"), store.member("b", mode="eager")
    store.settle(a, b)
    assert a.held != FULL

    del store.records["b"]
    a.decide(*a.read())

    assert isinstance(a.action, Publish)
    assert a.held == FULL


def test_an_eager_member_whose_place_is_kept_takes_nothing_more(store):
    a, b = store.member("a", mode="eager"), store.member("b", mode="eager")
    store.settle(a, b)
    held = a.held
    a.handoff.drain(back=60.0)

    del store.records["b"]
    a.decide(*a.read())

    assert not a.held - held


def test_a_write_that_returns_after_the_member_has_left_makes_it_no_member(store):
    a = store.member("a", joins=False)
    a.handoff.left()

    a.handoff.joined(store.now)
    a.handoff.published()

    assert a.handoff.state(store.now) == "left"
    assert a.held == NOTHING


def test_an_answer_to_nothing_that_was_sent_confirms_nothing(store):
    a = store.member("a")
    store.settle(a)
    applied = a.handoff.applied

    a.handoff.published()

    assert a.handoff.applied == applied
    assert a.held == FULL


def test_one_that_stands_aside_publishes_what_its_user_wants_to_be_said(store):
    a = store.member("a")
    store.settle(a)
    store.records.clear()
    store.now += 3 * TTL
    a.handoff.lease_lost()
    store.wall = 2000.0
    stranger = store.member("0", ttl=3.0)
    store.settle(stranger)
    for runner in (a, stranger, a, stranger):
        runner.step()
        runner.heartbeat()
    for _ in range(6):
        stranger.step()
        a.step()
    assert stranger.handoff.stands_aside

    stranger.handoff.change_meta({"host": "web1"})
    stranger.step()

    assert isinstance(stranger.action, Publish)
    assert stranger.record.applied is None
    assert stranger.record.meta == {"host": "web1"}
    assert isinstance(stranger.step(), Wait)


def test_a_record_that_is_too_large_though_it_has_no_claim_is_an_error(store):
    a = store.member("a")
    store.settle(a)
    a.handoff.meta = {"text": "x" * MAX_RECORD}  # as none that was checked is

    with pytest.raises(BadRecord, match="meta of 131083 bytes"):
        a.step()


def test_of_places_in_a_record_one_that_is_no_object_makes_it_a_bad_one():
    place = Parked("b", "2", 1.0, 60.0, False, ())
    member = Member("a", "1", 1.0, SPEC, TTL, parked=(place,))
    record = strict_json.parse(member.to_json())
    record["meta"]["hashring"]["parked"] = ["b"]

    with pytest.raises(BadRecord, match=r"meta\.hashring"):
        Member.from_json("a", strict_json.dumped(record))


def test_a_record_of_a_release_that_knew_no_founding_is_written_as_it_was_read():
    old = Member("a", "1", 1.0, SPEC, TTL, applied="v", settled="v", founded=-math.inf)

    written = old.to_json()

    assert b"founded" not in written
    assert Member.from_json("a", written) == old


def test_a_value_of_more_parts_than_a_record_can_spell_is_refused():
    with pytest.raises(Malformed, match="more than 131072 values"):
        strict_json.check_value([None] * 140_000)


def test_of_late_windows_one_whose_slots_are_lost_is_dropped_and_the_others_are_due():
    found = stream(catch_up=100.0)
    work(found, 100.0)
    found.gain([Gain(LOW, 80.0, is_claimed=True), Gain(HIGH, 60.0, is_claimed=True)], 100.0)

    due = found.due(100.0, lambda start: LOW)

    assert due is not None
    assert (due.window, due.slots, due.late) == (8, LOW, True)
    assert found.due(100.0, lambda start: HIGH) is None


def test_a_late_window_that_is_too_old_is_worked_with_the_windows_of_the_base_share():
    found = stream()
    work(found, 100.0)
    found.gain([Gain(LOW, 80.0, is_claimed=True)], 100.0)
    assert found.begun(100.0, LOW | HIGH) == [(90.0, LOW)]

    assert found.begun(200.0, LOW | HIGH) == [(110.0, LOW | HIGH)]


def test_claims_that_fit_into_no_record_are_left_out_of_it():
    chance = random.Random(1)
    most = HashRing(slots=2**20, vnodes=16)
    a = Store().member("a", spec=most.spec)
    half = [
        SlotSet.of((slot for slot in range(2**20) if chance.random() < 0.5), 2**20)
        for _ in range(2)
    ]
    a.handoff._custody.claims = [Claim(10.0, half[0]), Claim(20.0, half[1])]

    a.step()

    assert a.record.claims == ()
    assert a.record.applied is not None


def test_of_members_that_claim_no_slots_each_leaves_what_the_table_gave_it(store):
    a = store.member("a")
    a.decide(*a.read())
    plain = {"v": 1, "weight": 1.0, "ring": SPEC, "ttl": TTL, "draining": False}
    for name, weight, through in (("b", 1.0, 990.0), ("watcher", 0.0, 980.0)):
        told = plain | {"incarnation": name, "weight": weight, "applied": None}
        store.records[name] = json.dumps(told | {"through": through}).encode()
    a.step()
    for name in ("b", "watcher"):
        told = json.loads(store.records[name]) | {"applied": a.handoff.view.id}
        store.records[name] = json.dumps(told).encode()

    store.settle(a)

    gains = a.handoff.take_gains()
    assert {(gain.through, gain.is_claimed) for gain in gains} == {(990.0, True)}


def test_of_members_that_were_away_the_oldest_are_forgotten(store):
    a = store.member("a")
    store.settle(a)
    for number in range(MAX_PARKED + 1):
        claims = (Claim(900.0, FULL),)
        place = Parked(f"m{number}", "1", 1.0, 60.0, over=True, claims=claims)
        record = dataclasses.replace(Member("b", "b", 0.0, SPEC, TTL), parked=(place,))
        store.records["b"] = record.to_json()
        a.read()
        a.decide(*a.read())
        a.handoff._note_away(FULL, store.wall)

    away = a.handoff.away
    assert len(away) == MAX_PARKED
    assert ("m0", "1") not in away


def test_a_member_is_pinned_while_a_cycle_works(store):
    a = store.member("a")
    store.settle(a)

    a.handoff.pin(1, a.held)
    assert a.handoff.is_pinned
    a.handoff.unpin(1)
    assert not a.handoff.is_pinned


def test_a_newcomer_that_waits_for_what_this_member_still_misses_leads(store):
    a = store.member("a")
    store.settle(a)
    before = a.handoff.view
    store.member("b")
    a.decide(*a.read())
    after = a.handoff.view
    newcomer = dataclasses.replace(Member("b", "b-0", 1.0, SPEC, TTL), applied=after.id)

    gathering = Gathering(0.5)

    assert gathering.is_led(before, after, {"b": newcomer}, after.slots("b"))
    assert not gathering.is_led(before, after, {"b": newcomer}, after.slots("a"))


def test_a_caller_that_knows_better_says_whether_it_has_worked():
    runner = Runner(Handoff("a", incarnations=iter("12"), spec=SPEC, ttl=TTL))
    join = runner.next()
    runner.confirm(now=0.0, wall=100.0)
    runner.next()

    runner.learn(Reading({"a": join.record}, math.inf), now=0.0, wall=100.0, worked=True)

    ack = runner.next()
    assert Member.from_json("a", ack.record).through == 100.0


def test_a_stream_that_is_opened_again_may_have_another_rule_for_crashes():
    found = stream(on_crash="repeat")

    found.open(100.0, "skip")

    found.gain([Gain(LOW, 100.0, is_claimed=False)], 100.0)
    assert not any(slots for _, slots, _ in work(found, 100.0, LOW))


def test_windows_that_nobody_worked_for_longer_than_they_are_caught_up_are_counted():
    found = stream(catch_up=20.0)

    assert found.too_old(since=100.0, until=115.0) == 0
    assert found.too_old(since=100.0, until=205.0) == 9  # 10 to 18


def test_of_the_views_that_were_seen_the_oldest_are_forgotten(store):
    a = store.member("a")
    store.settle(a)
    seen = []
    for number in range(70):
        store.records["b"] = Member("b", f"{number}", 1.0, SPEC, TTL).to_json()
        a.decide(*a.read())
        seen.append(a.handoff.view)
    roster = a.handoff._roster

    assert roster.view_named(seen[0].id) is None
    assert [roster.view_named(view.id) for view in seen[-60:]] == seen[-60:]
