"""Places of members that are away: who keeps them, and when they are over."""

import dataclasses
import math
import random

import pytest

from hashring.errors import BadRecord
from hashring.protocol.claims import Claim
from hashring.protocol.founding import Parameters
from hashring.protocol.handoff import Handoff
from hashring.protocol.parking import KEEPERS, Parking
from hashring.protocol.reading import MAX_RECORD, Reading
from hashring.protocol.record import MAX_PARKED, Member, Parked
from hashring.protocol.roster import Roster
from hashring.ring.ring import HashRing, SlotSet
from hashring.testing.simulation.profiles import SPEC, TTL

BIG = HashRing({}).spec
SLOTS = SlotSet.of([1, 2, 3], 64)
LEFT = (Claim(100.0, SLOTS),)
PLACE = Parked("x", "x.1", 2.0, 10.0, claims=LEFT)


def member(id, **said):
    return Member(id, f"{id}.1", 1.0, SPEC, TTL, **{"applied": "v", **said})


def roster(*members, reader="a"):
    found = Roster(reader, Parameters(SPEC, TTL, "exclusive"))
    found.read(Reading({said.id: said.to_json() for said in members}, math.inf))
    found.judge()
    return found


LEAVING = dataclasses.replace(member("x", draining=True, back=10.0, claims=LEFT), weight=2.0)
GROUP = [member(id) for id in "abcde"]


def test_the_first_few_that_stay_keep_the_place_of_one_that_leaves_for_a_while():
    keepers = []
    for one in GROUP:
        parking = Parking(one.id)
        parking.look(roster(*GROUP, LEAVING, reader=one.id), 0.0, drains=False)
        keepers += [one.id] * (parking.kept == (PLACE,))

    assert keepers == ["a", "b", "c"]
    assert len(keepers) == KEEPERS


def test_the_next_one_takes_up_what_a_keeper_that_drains_has_kept():
    a, b, c = (member(id, parked=(PLACE,)) for id in "abc")
    parking = Parking("d")

    parking.look(roster(a, b, c, member("d"), reader="d"), 0.0, drains=False)
    assert parking.kept == ()
    leaving = dataclasses.replace(a, draining=True)
    parking.look(roster(leaving, b, c, member("d"), reader="d"), 1.0, drains=False)

    assert parking.kept == (PLACE,)


def test_who_is_away_is_in_the_view_until_somebody_says_that_its_place_is_over():
    kept, over = (
        member("b", parked=(dataclasses.replace(PLACE, over=it),)) for it in (False, True)
    )
    there = roster(member("a"), LEAVING).view(draining=False)

    assert there.weights == {"a": 1.0, "x": 2.0}
    away = roster(member("a"), kept, member("c")).view(draining=False)
    assert away.weights == {"a": 1.0, "b": 1.0, "c": 1.0, "x": 2.0}
    assert ("x", "x.1", 2.0) in away.members
    also_kept = dataclasses.replace(kept, id="c", incarnation="c.1")
    assert "x" not in roster(member("a"), over, also_kept).view(draining=False).weights


@pytest.mark.parametrize(("first", "second"), [("x.3", "x.14"), ("x.14", "x.3")])
def test_one_that_is_away_again_is_not_taken_for_the_one_that_it_was(first, second):
    before = dataclasses.replace(PLACE, incarnation=first, over=True)
    again = dataclasses.replace(PLACE, incarnation=second)

    away = roster(member("a"), member("b", parked=(before, again)), member("c", parked=(before,)))

    assert ("x", second, 2.0) in away.view(draining=False).members
    assert [place.name for place in away.places()] == [again.name]


def test_a_place_whose_keepers_have_all_crashed_is_said_to_be_over_by_who_is_left():
    parking = Parking("d")
    for there in (GROUP, GROUP[2:]):  # "a" and "b" crash, and "c" with them
        parking.look(roster(*there, LEAVING, reader="d"), 0.0, drains=False)
    d = member("d")

    parking.look(roster(d, LEAVING, reader="d"), PLACE.back, drains=False)

    assert parking.kept == (dataclasses.replace(PLACE, over=True),)
    told = roster(dataclasses.replace(d, parked=parking.kept), LEAVING, reader="x")
    assert told.is_over(PLACE.name), "so it leaves, and its share is taken over"


def test_a_place_that_is_kept_until_the_thaw_is_over_then_though_its_keepers_have_crashed():
    leaving = dataclasses.replace(LEAVING, until_thaw=True)
    there = roster(member("d"), leaving, reader="d")
    frozen, thawed = Parking("d"), Parking("d")

    frozen.look(there, 0.0, drains=False, is_frozen=True)
    thawed.look(there, 0.0, drains=False, is_frozen=False)

    assert [place.over for place in frozen.kept] == [False]
    assert [place.over for place in thawed.kept] == [True]


def test_a_place_is_over_when_its_time_has_passed_and_is_told_until_nobody_can_take_it_for_one():
    parking = Parking("a")
    parking.look(roster(member("a"), LEAVING), 5.0, drains=False)
    b = member("b", parked=(PLACE,))

    parking.look(roster(member("a"), b), 14.9, drains=False)
    assert not parking.kept[0].over
    parking.look(roster(member("a"), b), 15.0, drains=False)
    assert parking.kept[0].over
    parking.drop_claims(SLOTS)
    parking.look(roster(member("a"), b), 15.1, drains=False)
    assert parking.kept, "b still keeps it"
    parking.look(roster(member("a"), member("b")), 15.2, drains=False)

    assert parking.kept == ()


def test_a_place_is_over_when_its_member_is_back_and_its_claims_stay_until_they_are_taken_over():
    parking = Parking("a")
    parking.look(roster(member("a"), LEAVING), 0.0, drains=False)

    back = dataclasses.replace(member("x"), incarnation="x.2")
    parking.look(roster(member("a"), back), 1.0, drains=False)

    (place,) = parking.kept
    assert place.over
    assert list(parking.claims) == list(LEFT)
    parking.drop_claims(SLOTS)
    parking.look(roster(member("a"), back), 2.0, drains=False)
    assert parking.kept == ()


def test_one_leaves_once_enough_others_keep_what_it_keeps_and_never_waits_for_nobody():
    keeps = [member(id, parked=(PLACE,)) for id in "abc"]
    leaving = Parking("x")

    assert leaving.are_safe(roster(*keeps, LEAVING, reader="x"), PLACE.name)
    assert (
        leaving.are_safe(roster(*keeps[:2], member("c"), LEAVING, reader="x"), PLACE.name) is False
    )
    assert leaving.are_safe(roster(LEAVING, reader="x"), PLACE.name) is None


def test_a_record_that_keeps_places_reads_as_it_was_written_and_one_that_cannot_be_is_refused():
    said = member("a", parked=(PLACE, dataclasses.replace(PLACE, incarnation="x.2", over=True)))
    assert Member.from_json("a", said.to_json()).parked == said.parked
    assert Member.from_json("x", LEAVING.to_json()).back == 10.0
    assert b"parked" not in member("a").to_json(), "older releases read what they always read"

    for wrong in (
        dataclasses.replace(said, parked=(PLACE,) * (MAX_PARKED + 1)),
        dataclasses.replace(said, parked=(dataclasses.replace(PLACE, back=1e9),)),
        dataclasses.replace(said, parked=(dataclasses.replace(PLACE, member=""),)),
        dataclasses.replace(said, back=-1.0),
    ):
        with pytest.raises(BadRecord):
            Member.from_json("a", wrong.to_json())


def test_a_record_that_has_no_room_for_all_places_keeps_fewer_and_goes_out():
    keeper = Handoff("a", incarnations=iter(["a.1"]), spec=BIG, ttl=TTL)
    keeper.start()
    keeper.joined(0.0)
    scattered = SlotSet.of(random.Random(0).sample(range(65_536), 9_000), 65_536)
    keeper._parking.kept = tuple(
        Parked(f"x{number:02}", "1", 1.0, 10.0, claims=(Claim(1.0, scattered),))
        for number in range(MAX_PARKED)
    )

    record = keeper._publish(None).record

    assert len(record) <= MAX_RECORD
    assert 0 < len(Member.from_json("a", record).parked) < MAX_PARKED
    assert len(keeper._parking.kept) == len(Member.from_json("a", record).parked)
