"""Records from hostile strangers: checked values or BadRecord, whatever the bytes."""

import json
import math
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hashring.driver import Reading
from hashring.errors import BadRecord
from hashring.protocol import record as record_module
from hashring.protocol.claims import Claim
from hashring.protocol.handoff import Handoff, Publish
from hashring.protocol.record import Member, check_meta
from hashring.protocol.strict_json import MAX_DEPTH, parse
from hashring.ring.ring import HashRing, SlotSet
from tests.fuzz.fuzz_records import fuzz

SPEC = HashRing(slots=256).spec


def member(id="x", **fields):
    return Member(
        **{"id": id, "incarnation": "i", "weight": 1.0, "ring": SPEC, "ttl": 10.0} | fields
    )


def with_meta(text, ours='{"handoff":"exclusive","settled":null,"claims":[]}'):
    record = member().to_json().decode()
    (before,) = record.split('"meta":')[:-1]
    after = record.partition('"meta":')[2].partition("}}")[2]
    return f'{before}"meta":{{"hashring":{ours},"x":{text}}}{after}'.encode()


def nested(levels):
    return "[" * levels + "]" * levels


def test_the_record_that_the_others_are_made_of_is_a_good_one():
    assert Member.from_json("x", with_meta('"y"')).meta == {"x": "y"}


@pytest.mark.parametrize("through", ["1" + "0" * 400, "1e400", "1e300", "-1e13", "NaN", "true"])
def test_a_claim_through_a_moment_that_is_none_is_a_bad_record(through):
    packed = record_module._pack(SlotSet.empty(256))
    ours = f'{{"handoff":"exclusive","settled":null,"claims":[[{through},"{packed}"]]}}'

    with pytest.raises(BadRecord, match="member 'x'"):
        Member.from_json("x", with_meta("1", ours))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (nested(980), "levels"),
        (nested(20_000), "levels"),
        ('{"a":' * 500 + "1" + "}" * 500, "levels"),
        ("1" + "0" * 400, "401 digits"),
        ("1" * 5_000, "5000 digits"),
        ("1e999", "out of range"),
        ("NaN", "not valid JSON"),
        ("-Infinity", "not valid JSON"),
        ('"\\ud800"', "surrogate"),
        ('{"\\udfff":1}', "surrogate"),
        ('{"host":"a","host":["b"]}', "twice"),
        ('1,"x":2', "twice"),
        ('"' + "é" * 40_000 + '"', "has a meta of"),
        ('"' + "y" * 70_000 + '"', "has a meta of"),
    ],
)
def test_a_meta_that_would_hurt_a_reader_is_a_bad_record(text, reason):
    with pytest.raises(BadRecord, match=reason) as caught:
        Member.from_json("x", with_meta(text))

    assert "member 'x'" in str(caught.value)


@pytest.mark.parametrize("fields", [{"incarnation": "\ud800"}, {"applied": "\ud800"}])
def test_half_of_a_surrogate_pair_is_a_bad_record_in_every_field(fields):
    with pytest.raises(BadRecord, match="surrogate"):
        Member.from_json("x", member(**fields).to_json())


def test_bytes_in_another_encoding_are_a_bad_record():
    with pytest.raises(BadRecord, match="not JSON"):
        Member.from_json("x", member().to_json().decode().encode("utf-16"))


def test_an_id_that_no_utf8_can_carry_is_a_bad_record():
    with pytest.raises(BadRecord, match="surrogate"):
        Member.from_json("\udc80", member().to_json())


def test_what_was_read_can_be_shown_and_dumped_again_near_the_recursion_limit():
    read = Member.from_json("x", with_meta(nested(MAX_DEPTH - 2)))

    def deep(levels):
        return deep(levels - 1) if levels else (repr(read.meta), json.dumps(dict(read.meta)))

    depth, frame = 0, sys._getframe()
    while frame is not None:
        depth, frame = depth + 1, frame.f_back
    shown, dumped = deep(sys.getrecursionlimit() - depth - 100)
    assert "[" * (MAX_DEPTH - 2) in shown
    assert "[" * (MAX_DEPTH - 2) in dumped


@pytest.mark.parametrize(
    "meta",
    [
        {1: "a key that is not a text"},
        {"x": {None: 1}},
        {"x": 10**400},
        {"x": "\ud800"},
        {"x": math.inf},
        {"x": json.loads(nested(MAX_DEPTH))},
        {"x": b"bytes"},
    ],
)
def test_nothing_is_published_that_a_reader_would_refuse(meta):
    with pytest.raises(BadRecord, match="meta"):
        check_meta(meta)


def test_the_deepest_meta_that_may_be_published_is_read():
    meta = {"x": json.loads(nested(MAX_DEPTH - 2))}

    assert Member.from_json("x", member(meta=meta).to_json()).meta == meta


def test_a_meta_that_holds_itself_is_refused():
    meta = {}
    meta["x"] = [meta, meta]

    with pytest.raises(BadRecord, match=r"levels|values"):
        check_meta(meta)


def test_an_error_that_nobody_foresaw_is_one_members_problem(monkeypatch):
    monkeypatch.setattr(record_module, "_ours", lambda *_: 1 / 0)

    with pytest.raises(BadRecord, match="member 'x' cannot be read: ZeroDivisionError"):
        Member.from_json("x", member().to_json())


def settled_member():
    """A member that holds everything, and its store."""
    handoff = Handoff("a", incarnations=iter(["a1", "a2"]), spec=SPEC, ttl=10.0)
    records = {"a": handoff.start().record}
    handoff.joined(0.0)
    handoff.heartbeat_confirmed(handoff.heartbeat_begins(), 0.0)
    while not handoff.is_settled:
        step(handoff, records)
    return handoff, records


def step(handoff, records):
    action = handoff.step(
        Reading(dict(records), math.inf), handoff.reading_begins(), now=1.0, wall=1.0
    )
    if isinstance(action, Publish):
        records["a"] = action.record
        handoff.published()
    return action


@pytest.mark.parametrize(
    "record",
    [
        with_meta("1", '{"handoff":"exclusive","settled":null,"claims":[[1' + "0" * 400 + ',""]]}'),
        with_meta(nested(980)),
        b"[" * 100_000,
        b"\xff",
    ],
)
def test_a_hostile_record_is_a_problem_by_name_and_the_reconciling_goes_on(record):
    handoff, records = settled_member()
    records["x"] = record

    step(handoff, records)

    assert "member 'x'" in handoff.problems["x"]
    assert len(handoff.held(1.0)) == 256


def test_a_stranger_of_another_ring_that_carries_claims_ends_no_reconciling():
    handoff, records = settled_member()
    other = HashRing(slots=64).spec
    claims = (Claim(5.0, SlotSet.full(64)),)
    records["x"] = member(ring=other, claims=claims).to_json()
    records["b"] = member("b").to_json()  # a good one joins, so that slots move
    step(handoff, records)
    step(handoff, records)
    del records["b"]

    for _ in range(5):
        step(handoff, records)

    del records["x"]
    for _ in range(5):
        step(handoff, records)
    assert handoff.is_settled
    assert len(handoff.held(1.0)) == 256


def test_parse_returns_what_json_says():
    text = '{"a": [1, 2.5, null, true, "\\ud83d\\ude00"], "b": {}}'

    assert parse(text.encode()) == json.loads(text)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
    | st.sampled_from(["\ud800", 10**400, math.nan, [[[]]] * 3]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
names = st.sampled_from(
    ["v", "incarnation", "weight", "ring", "ttl", "applied", "through", "draining", "meta"]
)


@settings(deadline=None)  # a busy machine proves nothing
@given(st.dictionaries(names, json_values, max_size=3), st.none() | json_values, json_values)
def test_whatever_stands_in_a_field_it_is_a_member_or_a_bad_record(changes, ours, host):
    fields = json.loads(member().to_json()) | changes
    if isinstance(fields["meta"], dict):
        fields["meta"]["host"] = host
        if ours is not None:
            fields["meta"]["hashring"] = ours

    try:
        read = Member.from_json("x", json.dumps(fields).encode())
    except BadRecord as error:
        assert "member 'x'" in str(error)  # noqa: PT017
    else:
        assert type(read.weight) is type(read.ttl) is float
        assert json.loads(json.dumps(dict(read.meta), allow_nan=False)) == read.meta


@pytest.mark.parametrize("seed", [1, 2])
def test_no_reader_fails_on_mutated_records(seed):
    count, members = fuzz(seed, rounds=400)

    assert count == 400
    assert 20 < members < 380
