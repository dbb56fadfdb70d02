"""What operators say to members in records: read back as it was written, or not at all."""

import dataclasses

import pytest

from hashring.protocol.freezing import Freeze
from hashring.protocol.grips import Grips
from hashring.protocol.record import Member
from hashring.protocol.request import ACCEPTED, Answer, Request
from tests.protocol.group import SPEC, TTL, Store

DRAIN = Request("drain", "1", "alice", "web1", "x")
FREEZE = Freeze(1, True, "alice", 5.0)


def test_words_come_back_from_a_record_as_they_were_written():
    member = Member(
        *("a", "1", 1.0, SPEC, TTL),
        answer=Answer("1", ACCEPTED),
        freeze=FREEZE,
        stays=True,
        draining=True,
        back=60.0,
        until_thaw=True,
    )

    operator = Member("o", "1", 0.0, SPEC, TTL, request=DRAIN)

    assert Member.from_json("a", member.to_json()) == member
    assert Member.from_json("o", operator.to_json()) == operator


@pytest.mark.parametrize(
    "wrong",
    [
        *({"number": number} for number in (True, 1.5, 0)),
        *({"at": at} for at in ("now", float("inf"))),
        *({"by": by} for by in ("", "a\x1b[2J")),
        {"on": 1},
    ],
)
def test_a_freeze_that_is_not_well_formed_is_none(wrong):
    assert Freeze.from_fields(FREEZE.to_fields() | wrong) is None
    assert Freeze.from_fields(["freeze"]) is None


@pytest.mark.parametrize("wrong", [{"id": ""}, {"by": 1}, {"by": "a\nb"}, {"what": "reboot"}])
def test_a_request_that_is_not_well_formed_is_none(wrong):
    assert Request.from_fields(DRAIN.to_fields() | wrong) is None


@pytest.mark.parametrize("wrong", [{"id": ""}, {"id": "x" * 1000}, {"what": "perhaps"}])
def test_an_answer_that_is_not_well_formed_is_none(wrong):
    assert Answer.from_fields(Answer("1", ACCEPTED).to_fields() | wrong) is None


def test_a_freeze_is_copied_from_the_record_of_another_and_ends_a_stay_when_it_is_thawed():
    store = Store()
    a, b = store.member("a"), store.member("b")
    store.settle(a, b)

    def say(word):
        store.records["b"] = dataclasses.replace(b.record, freeze=word, stays=word.on).to_json()
        a.step()

    say(FREEZE)
    assert a.handoff.is_frozen
    assert a.record.freeze == FREEZE
    a.handoff.drain()
    assert a.handoff.back is not None  # its share stays its own until the group is thawed
    say(Freeze(2, False, "alice", 6.0))

    assert not a.handoff.is_frozen
    assert a.handoff.back is None


def test_a_freeze_that_keeps_nobody_any_more_is_ended_by_whoever_is_there():
    store = Store()
    operator = dataclasses.replace(Member("o", "1", 0.0, SPEC, TTL), freeze=FREEZE)
    store.records["o"] = operator.to_json()
    newcomer = store.member("n")

    for _ in range(4):
        newcomer.step()

    assert not newcomer.handoff.is_frozen
    assert newcomer.handoff.freeze == FREEZE.ended_by("n", store.wall)


def test_grips_are_counted_while_they_hold():
    store = Store()
    a = store.member("a")
    store.settle(a)
    grips = Grips(a.handoff)

    grip = grips.take(store.now, 2.0)
    assert grip.slots
    assert len(grips) == 1
    assert not grips.end_due(store.now)
    assert grips.end_due(store.now + 3.0)
    assert len(grips) == 0


def test_the_word_that_ends_a_freeze_counts_more_and_may_stand_in_a_log():
    ended = FREEZE.ended_by("a\x1b", 9.0)

    assert (ended.number, ended.on, ended.at) == (2, False, 9.0)
    assert ended.by.isprintable()
    assert ended.rank > FREEZE.rank
