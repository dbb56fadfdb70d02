"""Records, and the views that follow from them."""

import dataclasses
import functools
import gc
import json
import math
import operator
import weakref

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashring.driver import MAX_RECORD
from hashring.errors import BadRecord
from hashring.protocol import view as view_module
from hashring.protocol.claims import Claim
from hashring.protocol.record import Member, slot_count
from hashring.protocol.view import View
from hashring.ring.ring import HashRing, SlotSet

SPEC = HashRing(slots=256).spec
MEMBER = Member(id="a", incarnation="i", weight=1.0, ring=SPEC, ttl=10.0)

slot_sets = st.sets(st.integers(0, 255)).map(lambda slots: SlotSet.of(slots, 256))
claims = st.builds(Claim, st.floats(-1e12, 1e12) | st.just(-math.inf), slot_sets)
members = st.builds(
    Member,
    id=st.just("a"),
    incarnation=st.text(min_size=1, max_size=40).filter(lambda text: text.isprintable()),
    weight=st.floats(0, 1e9),
    ring=st.just(SPEC),
    ttl=st.floats(0.001, 1e6),
    applied=st.none() | st.text("0123456789abcdef", min_size=1),
    through=st.none() | st.floats(-1e12, 1e12),
    draining=st.booleans(),
    handoff=st.sampled_from(["exclusive", "eager"]),
    settled=st.none() | st.text("0123456789abcdef", min_size=1),
    claims=st.lists(claims, max_size=4).map(tuple),
    meta=st.dictionaries(
        st.text(max_size=8), st.integers() | st.text(max_size=20), max_size=3
    ).filter(lambda meta: "hashring" not in meta),
)


@given(members)
def test_a_record_comes_back_as_it_was(member):
    again = Member.from_json("a", member.to_json())

    assert dataclasses.replace(again, meta=dict(again.meta)) == member


def test_the_record_has_the_contract_s_fields():
    fields = json.loads(MEMBER.to_json())

    assert set(fields) == {
        "v", "incarnation", "weight", "ring", "ttl", "applied", "through", "draining", "meta",
    }  # fmt: skip
    assert fields["v"] == 1
    assert fields["applied"] is None


def changed(**changes):
    fields = json.loads(MEMBER.to_json())
    for name, value in changes.items():
        if value is ...:
            del fields[name]
        else:
            fields[name] = value
    return json.dumps(fields).encode()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"v": 2}, "version 2"),
        ({"v": True}, "version True"),
        ({"v": ...}, "version None"),
        ({"incarnation": 5}, "'incarnation'"),
        ({"incarnation": ""}, "'incarnation'"),
        ({"incarnation": "x" * 5000}, "'incarnation'"),
        ({"weight": "1"}, "'weight'"),
        ({"weight": True}, "'weight'"),
        ({"weight": -1}, "'weight'"),
        ({"weight": 10**400}, "integer of 401 digits"),
        ({"weight": math.nan}, "NaN"),
        ({"ttl": 0}, "'ttl'"),
        ({"ttl": ...}, "'ttl'"),
        ({"ring": None}, "'ring'"),
        ({"applied": 7}, "'applied'"),
        ({"through": "now"}, "'through'"),
        ({"draining": 1}, "'draining'"),
        ({"meta": []}, "'meta'"),
        ({"meta": {"hashring": []}}, "malformed"),
        ({"meta": {"hashring": {"handoff": "x", "settled": None, "claims": []}}}, "malformed"),
        ({"meta": {"hashring": {"handoff": "eager", "settled": None, "claims": [[1]]}}}, "malf"),
        (
            {"meta": {"hashring": {"handoff": "eager", "settled": None, "claims": [[1, "!"]]}}},
            "malformed",
        ),
    ],
)
def test_a_record_with_a_wrong_field_names_it_and_the_member(changes, reason):
    with pytest.raises(BadRecord, match="member 'a'") as caught:
        Member.from_json("a", changed(**changes))

    assert reason in str(caught.value)


@given(st.binary(max_size=300))
def test_bytes_from_strangers_are_a_bad_record_or_a_member_never_another_error(data):
    try:
        Member.from_json("a", data)
    except BadRecord:
        return


@pytest.mark.parametrize("data", [b"[" * 100_000, b"1" * 10_000, b'{"v":1' + b" " * MAX_RECORD])
def test_a_record_that_would_exhaust_the_parser_is_refused(data):
    with pytest.raises(BadRecord):
        Member.from_json("a", data)


def test_a_claim_that_would_inflate_to_more_than_its_slots_is_refused():
    import base64
    import zlib

    bomb = base64.b64encode(zlib.compress(bytes(10_000_000))).decode()
    ours = {"handoff": "exclusive", "settled": None, "claims": [[1.0, bomb]]}

    with pytest.raises(BadRecord, match="malformed"):
        Member.from_json("a", changed(meta={"hashring": ours}))


def test_an_unknown_field_is_left_alone():
    assert Member.from_json("a", changed(colour="blue")).weight == 1.0


def test_a_record_of_another_ring_format_still_parses_so_that_it_can_be_named():
    member = Member.from_json("a", changed(ring="future/9"))

    assert member.ring == "future/9"
    assert slot_count("future/9") is None


@pytest.mark.parametrize("meta", [{"x": object()}, {"x": math.nan}, {"hashring": 1}])
def test_meta_that_cannot_be_published_is_an_error_at_once(meta):
    with pytest.raises(BadRecord, match="meta"):
        dataclasses.replace(MEMBER, meta=meta).to_json()


def test_meta_leaves_room_for_what_the_hand_off_publishes():
    with pytest.raises(BadRecord, match=r"meta of \d+ bytes"):
        dataclasses.replace(MEMBER, meta={"x": "y" * 70_000}).to_json()


def test_a_record_that_is_too_large_says_by_how_much():
    with pytest.raises(BadRecord, match=r"of \d+ bytes"):
        dataclasses.replace(MEMBER, meta={"x": "y" * MAX_RECORD}).to_json()


def view_of(*found):
    return View.of(found, SPEC, 10.0)


def test_a_view_has_those_that_own_something():
    draining = dataclasses.replace(MEMBER, id="b", draining=True)
    idle = dataclasses.replace(MEMBER, id="c", weight=0.0)
    other = dataclasses.replace(MEMBER, id="d", ttl=3.0)

    assert view_of(MEMBER, draining, idle, other) == view_of(MEMBER)
    assert view_of(MEMBER).members == (("a", "i", 1.0),)


def test_the_view_id_does_not_depend_on_the_order():
    other = dataclasses.replace(MEMBER, id="b")

    assert view_of(MEMBER, other).id == view_of(other, MEMBER).id


@pytest.mark.parametrize("change", [{"incarnation": "j"}, {"weight": 2.0}, {"id": "b"}])
def test_the_view_id_tells_members_incarnations_and_weights_apart(change):
    assert view_of(MEMBER).id != view_of(dataclasses.replace(MEMBER, **change)).id


def test_the_view_id_tells_rings_and_ttls_apart():
    ids = {
        View((("a", "i", 1.0),), spec, ttl).id
        for spec in (SPEC, HashRing().spec)
        for ttl in (10.0, 3.0)
    }

    assert len(ids) == 4


def test_the_view_id_is_pinned():
    # Members of different versions must agree on it: a change needs a new record version.
    assert view_of(MEMBER).id == View((("a", "i", 1.0),), SPEC, 10.0).id
    assert View((("a", "i", 1.0),), "spec", 10.0).id == "8f4d9de6dbcafb6dd7fe1b7ebac8be7d"


def test_a_member_that_the_view_does_not_have_gets_no_slots():
    view = view_of(MEMBER)

    assert view.slots("nobody") == SlotSet.empty(256)
    assert view.slots("a") == SlotSet.full(256)


def test_a_view_is_asked_for_many_members_and_looks_for_its_ring_once(monkeypatch):
    asked = []

    def ring(members, spec, real=view_module._ring):
        asked.append(members)
        return real(members, spec)

    monkeypatch.setattr(view_module, "_ring", ring)
    found = View.of([dataclasses.replace(MEMBER, id=str(n)) for n in range(50)], SPEC, 10.0)
    assert SlotSet.full(256) == functools.reduce(
        operator.or_, [found.slots(str(number)) for number in range(50)]
    )
    assert len(asked) == 1


def test_whoever_remembers_views_keeps_no_more_rings_alive_than_the_last_few():
    views = [
        View.of([dataclasses.replace(MEMBER, id=str(n)) for n in range(size)], SPEC, 10.0)
        for size in range(1, 65)
    ]
    rings = weakref.WeakSet(view.ring for view in views)
    gc.collect()
    assert 1 <= len(rings) <= 16
    assert views[0].slots("0") == SlotSet.full(256)  # the first one's is made again
