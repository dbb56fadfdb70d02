"""Members that differ, and records that cannot be read."""

import pytest

from hashring.errors import GroupMismatch
from hashring.ring.ring import HashRing
from tests.protocol.group import FULL, NOTHING


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


def test_an_eager_member_that_has_settled_is_not_thrown_out_by_a_newcomer(store):
    b = store.member("b", mode="eager")
    store.settle(b)

    store.member("a", mode="eager", ttl=3.0)

    for _ in range(3):
        b.step()
    assert b.held == FULL


def test_a_record_that_is_no_bytes_is_named_like_any_other_bad_one(store):
    a = store.member("a")
    store.records["x"] = bytearray(a.store.records["a"])
    store.records["y"] = None

    a.step()

    assert "x" in a.handoff.members
    assert "NoneType" in a.handoff.problems["y"]
