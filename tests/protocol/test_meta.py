"""What a member publishes of itself."""

import dataclasses
import math

import pytest

from hashring.errors import BadRecord
from hashring.protocol.handoff import Join, Publish, Wait
from tests.protocol.group import FULL, NOTHING, two


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
