"""The two engines are one function: whatever hypothesis can think of, they agree on."""

from __future__ import annotations

import math
from fractions import Fraction

import mmh3
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hashring.errors import HashringError

KEYS = st.one_of(st.text(), st.binary(), st.text(min_size=100), st.from_regex(r"[a-f0-9-]{30,40}"))
ODD_KEYS = st.one_of(
    KEYS,
    st.text(st.characters(categories=["Cs", "L"]), max_size=5),
    st.none(),
    st.integers(),
    st.floats(),
    st.tuples(st.text()),
)
IDS = st.text(min_size=1, max_size=20)
WEIGHTS = st.one_of(
    st.just(1),
    st.integers(0, 10**6),
    st.floats(0, allow_infinity=False, allow_nan=False),
    st.sampled_from([1e-3, 5e-324, 1e308, 0.1]),
)
PARAMETERS = st.fixed_dictionaries(
    {},
    optional={
        "slots": st.integers(0, 9).map(lambda bits: 1 << bits),
        "vnodes": st.integers(1, 40),
        "load_bound": st.one_of(st.floats(1, 3), st.just(math.inf)),
        "seed": st.integers(0, 2**32 - 1),
    },
).map(lambda given: {"slots": 256, "vnodes": 8} | given)


@settings(deadline=None)  # a busy machine is no failure
@given(key=KEYS, seed=st.integers(0, 2**32 - 1))
def test_the_hash_is_mmh3s(twins, key, seed):
    data = key.encode() if isinstance(key, str) else key
    expected = mmh3.hash64(data, seed, signed=False)[0]

    assert [twin.hash_key(key, seed) for twin in twins] == [expected, expected]


@settings(deadline=None)  # a busy machine is no failure
@given(
    members=st.dictionaries(IDS, WEIGHTS, max_size=12), parameters=PARAMETERS, keys=st.lists(KEYS)
)
def test_the_engines_place_alike(twins, members, parameters, keys):
    compiled, reference = (twin.HashRing(members, **parameters) for twin in twins)

    assert compiled.spec == reference.spec
    assert dict(compiled.members) == dict(reference.members)
    assert compiled.table.tobytes() == reference.table.tobytes()
    assume(compiled.ids)
    assert compiled.assign(keys) == reference.assign(keys)
    for key in keys:
        assert compiled.owners(key, 4) == reference.owners(key, 4)


@settings(deadline=None)  # a busy machine is no failure
@given(members=st.dictionaries(IDS, WEIGHTS, min_size=1, max_size=12), parameters=PARAMETERS)
def test_every_ring_keeps_its_promises(twins, members, parameters):
    compiled, _ = twins
    ring = compiled.HashRing(members, **parameters)
    assume(ring.ids)
    slots = parameters["slots"]
    total = sum(Fraction(weight) for weight in ring.members.values())

    loads = {member: len(ring.slots(member)) for member in ring.members}

    assert sum(loads.values()) == slots
    bound = parameters.get("load_bound", 1.1)
    for member, weight in ring.members.items():
        if not weight:
            assert loads[member] == 0
        elif bound < math.inf:
            assert loads[member] <= math.ceil(Fraction(bound) * slots * Fraction(weight) / total)
    assert ring == compiled.HashRing.from_spec(ring.members, ring.spec)


@settings(deadline=None)  # a busy machine is no failure
@given(keys=st.lists(ODD_KEYS), slots=st.sets(st.integers(0, 63)))
def test_the_engines_check_alike_or_fail_alike(twins, keys, slots):
    answers = []
    for twin in twins:
        some = twin.SlotSet.of(slots, 64)
        try:
            answers.append((some.owned(keys), some.mask(iter(keys)), twin.hash_all(tuple(keys))))
        except HashringError as error:
            answers.append((type(error), str(error)))

    assert answers[0] == answers[1]


SETS = st.sets(st.integers(0, 127))


@settings(deadline=None)  # a busy machine is no failure
@given(left=SETS, right=SETS, slots=st.sampled_from([128, 256]))
def test_slot_sets_are_sets(twins, left, right, slots):
    for twin in twins:
        a, b = twin.SlotSet.of(left, slots), twin.SlotSet.of(right, slots)
        assert set(a & b) == left & right
        assert set(a | b) == left | right
        assert set(a - b) == left - right
        assert set(a ^ b) == left ^ right
        assert (a <= b) == (left <= right)
        assert (a < b) == (left < right)
        assert (a == b) == (left == right)
        assert a.isdisjoint(b) == left.isdisjoint(right)
        assert len(a) == len(left)
        assert bool(a) == bool(left)
        assert (hash(a) == hash(b)) or left != right
        assert list(a) == sorted(left)
    assert len({twin.SlotSet.of(left, slots).tobytes() for twin in twins}) == 1


@settings(deadline=None)  # a busy machine is no failure
@given(
    start=st.lists(KEYS),
    changes=st.lists(st.tuples(st.booleans(), st.lists(KEYS, max_size=5)), max_size=6),
)
def test_keys_change_as_a_list_would(twins, start, changes):
    def encoded(key):
        return key.encode() if isinstance(key, str) else key

    model = list(start)
    both = [twin.Keys(start) for twin in twins]
    for adds, changed in changes:
        if adds:
            model += changed
            for keys in both:
                keys.add(changed)
        else:
            gone = {encoded(key) for key in changed}
            left = [key for key in model if encoded(key) not in gone]
            assert [keys.remove(changed) for keys in both] == [len(model) - len(left)] * 2
            model = left
    for twin, keys in zip(twins, both, strict=True):
        assert list(keys) == model
        assert twin.SlotSet.full(1).owned(keys) == model
        assert twin.hash_all(keys) == twin.hash_all(model)
