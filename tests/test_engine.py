"""Keys, slot sets and batch checks: what the engine does with whatever it is given."""

from __future__ import annotations

import operator
import pickle
import uuid
from types import SimpleNamespace

import pytest

from hashring.errors import BadKey, BadRing

# Lengths around every boundary of the hash, of the chunk and of the local buffers.
LENGTHS = [*range(40), 255, 256, 511, 512, 513, 4096]
KEYS = [
    *("k" * n for n in LENGTHS),
    *("é" * n for n in LENGTHS),
    *("日" * n for n in LENGTHS),
    *("🌍" * n for n in LENGTHS),
    *(bytes(range(256)) * 3)[:700:7].hex().split("a"),
    *(str(uuid.UUID(int=i * 0x1234567890ABCDEF1234567)) for i in range(3000)),
    *(b"\xff\xfe" * n for n in range(20)),
]


@pytest.fixture
def ring(twin):
    return twin.HashRing(["a", "b", "c"], slots=1024, vnodes=16)


def belongs(twin, ring, member, key):
    return ring.ids[ring.table[twin.hash_key(key) >> 54]] == member


# --- every kind of batch ----------------------------------------------------------------------


def as_list(keys):
    return list(keys)


def as_tuple(keys):
    return tuple(keys)


def as_generator(keys):
    return (key for key in keys)


def as_dict(keys):
    return dict.fromkeys(keys)


class ListOfMine(list):
    pass


class TupleOfMine(tuple):
    __slots__ = ()


class OldSequence:
    """Iterable by ``__getitem__`` alone."""

    def __init__(self, keys):
        self.keys = list(keys)

    def __getitem__(self, index):
        return self.keys[index]


@pytest.mark.parametrize(
    "form",
    [as_list, as_tuple, as_generator, as_dict, ListOfMine, TupleOfMine, OldSequence, "Keys"],
)
@pytest.mark.parametrize("size", [0, 1, 1023, 1024, 1025, len(KEYS)])
def test_every_collection_gives_the_same_answers_in_order(twin, ring, form, size):
    form = twin.Keys if form == "Keys" else form
    keys = list(dict.fromkeys(KEYS))[:size]
    owned = [key for key in keys if belongs(twin, ring, "b", key)]

    assert ring.owned("b", form(keys)) == owned
    assert bytes(ring.mask("b", form(keys))) == bytes(belongs(twin, ring, "b", key) for key in keys)
    assert ring.assign(form(keys))["b"] == owned
    assert twin.hash_all(form(keys)) == twin.hash_all(keys)


def test_results_hold_the_objects_that_were_given(twin, ring):
    class Text(str):
        __slots__ = ()

    keys = [Text(f"key-{i}") for i in range(100)]

    assert all(any(key is given for given in keys) for key in ring.owned("a", keys))


def test_repeated_keys_stay_repeated(twin, ring):
    member = ring.owner("x")

    assert ring.owned(member, ["x", "x", b"x"]) == ["x", "x", b"x"]


def test_objects_are_checked_by_their_key(twin, ring):
    things = [SimpleNamespace(id=key) for key in KEYS]
    by_id = operator.attrgetter("id")
    wanted = [thing for thing in things if belongs(twin, ring, "a", thing.id)]

    for form in (as_list, as_tuple, as_generator):
        assert ring.owned("a", form(things), key=by_id) == wanted
        assert ring.assign(form(things), key=by_id)["a"] == wanted
        assert sum(ring.mask("a", form(things), key=by_id)) == len(wanted)
    assert ring.owned("a", twin.Keys(things, key=by_id)) == wanted


def test_an_error_in_the_key_function_comes_through(twin, ring):
    with pytest.raises(ZeroDivisionError):
        ring.owned("a", [1, 2], key=lambda item: 1 / 0)


def test_an_error_in_the_iterable_comes_through(twin, ring):
    def keys():
        yield "a"
        raise RuntimeError("the source failed")

    for ask in (ring.assign, ring.slots("a").owned, ring.slots("a").mask, twin.Keys):
        with pytest.raises(RuntimeError, match="the source failed"):
            ask(keys())


@pytest.mark.parametrize("index", [0, 7, 1024, 2500])
@pytest.mark.parametrize("bad", [None, 5, bytearray(b"x"), "\ud800", ("a",)])
@pytest.mark.parametrize("form", [as_list, as_tuple, as_generator])
def test_a_bad_key_is_named_by_its_index(twin, ring, index, bad, form):
    keys = [f"k{i}" for i in range(3000)]
    keys[index] = bad
    message = "lone surrogate" if isinstance(bad, str) else f"of type '{type(bad).__name__}'"

    for ask in (ring.assign, ring.slots("a").owned, ring.slots("a").mask, twin.Keys):
        with pytest.raises(BadKey, match=f"key {index} .*{message}"):
            ask(form(keys))


@pytest.mark.parametrize("keys", ["one", b"one"])
def test_one_key_is_no_collection_of_keys(twin, ring, keys):
    for ask in (ring.assign, ring.slots("a").owned, ring.slots("a").mask, twin.Keys):
        with pytest.raises(BadKey, match="use a list"):
            ask(keys)


@pytest.mark.parametrize("keys", [None, 5, object()])
def test_what_is_no_collection_is_named(twin, ring, keys):
    for ask in (ring.assign, ring.slots("a").owned, ring.slots("a").mask, twin.Keys):
        with pytest.raises(BadKey, match="must be a collection"):
            ask(keys)


def test_a_list_that_the_key_function_empties_ends_the_batch(twin, ring):
    things = list(KEYS)

    def vanish(item):
        things.clear()
        return item

    assert sum(ring.mask("a", things, key=vanish)) <= 1
    assert things == []


def test_a_list_that_the_key_function_extends_is_read_to_its_end(twin, ring):
    things = ["x"]

    def grow(item):
        if len(things) < 5000:
            things.append("x")
        return item

    assert len(ring.mask("a", things, key=grow)) == 5000


# --- Keys -------------------------------------------------------------------------------------


def test_keys_are_a_sequence_of_what_was_given(twin):
    keys = twin.Keys(iter(["b", "a", b"c", "a"]))

    assert len(keys) == 4
    assert list(keys) == ["b", "a", b"c", "a"]
    assert keys[1] == "a"
    assert keys[-1] == "a"
    assert keys[1:3] == ("a", b"c")
    assert "a" in keys
    assert repr(keys) == "<Keys: 4>"
    with pytest.raises(IndexError):
        keys[4]


def test_keys_do_not_follow_the_list_they_came_from(twin, ring):
    given = ["x", "y"]
    keys = twin.Keys(given)
    given.append("z")

    assert list(keys) == ["x", "y"]


def test_keys_serve_any_ring(twin):
    keys = twin.Keys(KEYS)

    largest = 1 << (20 if twin.name == "compiled" else 17)  # seconds in plain Python
    for slots in (1, 2, 64, 65536, largest):
        ring = twin.HashRing(["a", "b"], slots=slots, vnodes=2)
        assert ring.assign(keys) == ring.assign(KEYS)


def test_added_keys_follow_and_removed_keys_are_gone(twin, ring):
    keys = twin.Keys(KEYS)
    before = list(keys)

    keys.add(["new-1", "new-2", "new-1"])
    assert list(keys) == [*before, "new-1", "new-2", "new-1"]
    assert keys.remove(["new-1", "absent", KEYS[700]]) == 3
    left = [key for key in before if key != KEYS[700]]
    assert list(keys) == [*left, "new-2"]
    assert ring.assign(keys) == ring.assign(list(keys))


def test_a_key_is_removed_in_either_form(twin):
    keys = twin.Keys(["é", "é".encode(), "x"])

    assert keys.remove(["é"]) == 2
    assert list(keys) == ["x"]


def test_many_keys_are_removed_at_once(twin):
    keys = twin.Keys(str(i) for i in range(20_000))

    assert keys.remove(str(i) for i in range(0, 20_000, 2)) == 10_000
    assert list(keys) == [str(i) for i in range(1, 20_000, 2)]


def test_a_failed_change_changes_nothing(twin):
    keys = twin.Keys(["a", "b"])

    with pytest.raises(BadKey, match="key 1 "):
        keys.add(["c", 5])
    with pytest.raises(BadKey, match="key 1 "):
        keys.remove(["a", None])
    assert list(keys) == ["a", "b"]


def test_objects_are_added_and_removed_by_their_key(twin, ring):
    things = [SimpleNamespace(id=f"thing-{i}") for i in range(10)]
    keys = twin.Keys(things[:5], key=operator.attrgetter("id"))

    keys.add(things[5:])
    assert keys.remove([SimpleNamespace(id="thing-3")]) == 1
    assert list(keys) == things[:3] + things[4:]
    assert ring.assign(keys) == ring.assign(list(keys), key=operator.attrgetter("id"))


def test_keys_are_made_changed_and_combined_with_keys(twin):
    keys = twin.Keys(twin.Keys(["a", "b"]))
    keys.add(twin.Keys(["c", "d"]))
    keys.add(keys)

    assert list(keys) == ["a", "b", "c", "d"] * 2
    assert keys.remove(twin.Keys(["a", "d"])) == 4
    assert list(keys) == ["b", "c"] * 2
    assert keys.remove(keys) == 4
    assert list(keys) == []


def test_hashed_keys_take_no_second_key_function(twin, ring):
    with pytest.raises(BadKey, match="hashed already"):
        ring.owned("a", twin.Keys(["a"]), key=str)


def test_a_batch_sees_the_keys_of_its_beginning(twin):
    keys = twin.Keys(["x"] * 5)
    batch = iter(keys)
    keys.add(["y"])

    assert list(batch) == ["x"] * 5
    assert list(keys) == ["x"] * 5 + ["y"]


def test_keys_that_their_own_key_function_changes_lose_nothing(twin):
    keys = twin.Keys(
        ["a"], key=lambda item: keys.add([item.upper()]) or item if item == "b" else item
    )

    keys.add(["b"])

    assert list(keys) == ["a", "B", "b"]


def test_keys_survive_pickle(twin, ring):
    keys = pickle.loads(pickle.dumps(twin.Keys(["a", b"b"])))

    assert list(keys) == ["a", b"b"]
    assert ring.assign(keys) == ring.assign(["a", b"b"])


# --- SlotSet ----------------------------------------------------------------------------------

UNIVERSES = [1, 2, 8, 32, 64, 128, 65536]


@pytest.mark.parametrize("slots", UNIVERSES)
def test_empty_and_full_sets_are_what_they_say(twin, slots):
    empty, full = twin.SlotSet.empty(slots), twin.SlotSet.full(slots)

    assert (len(empty), len(full)) == (0, slots)
    assert (bool(empty), bool(full)) == (False, True)
    assert list(empty) == []
    assert list(full) == list(range(slots))
    assert full - full == empty
    assert empty.slots == full.slots == slots
    assert twin.SlotSet(slots) == empty
    assert not empty.owns("x")
    assert full.owns("x")


def test_a_set_answers_like_a_set(twin):
    one = twin.SlotSet.of([1, 5, 63, 64, 200], 256)
    two = twin.SlotSet.of({5, 64, 7}, 256)
    a, b = set(one), set(two)

    for operate in (operator.and_, operator.or_, operator.sub, operator.xor):
        assert set(operate(one, two)) == operate(a, b)
    for compare in (operator.le, operator.lt, operator.ge, operator.gt, operator.eq, operator.ne):
        for left, right in [(one, two), (one & two, one), (one, one | two), (one, one)]:
            assert compare(left, right) == compare(set(left), set(right))
    assert one.isdisjoint(twin.SlotSet.of([0], 256))
    assert not one.isdisjoint(two)
    assert list(one) == sorted(a)
    assert len(one ^ two) == len(a ^ b)


def test_membership_of_a_slot(twin):
    some = twin.SlotSet.of([0, 63, 255], 256)

    assert [slot for slot in range(-2, 300) if slot in some] == [0, 63, 255]
    assert "0" not in some
    assert None not in some
    assert 10**30 not in some


def test_equal_sets_hash_equally(twin):
    one = twin.SlotSet.of([3, 4], 64)

    assert hash(one) == hash(twin.SlotSet.full(64) & one)
    assert len({one, twin.SlotSet.of([4, 3], 64), twin.SlotSet.of([3, 4], 128)}) == 2
    assert one != {3, 4}


@pytest.mark.parametrize("slots", UNIVERSES)
def test_the_bitmap_is_little_endian_and_comes_back(twin, slots):
    some = twin.SlotSet.of(range(0, slots, 3), slots)
    data = some.tobytes()

    assert int.from_bytes(data, "little") == sum(1 << slot for slot in range(0, slots, 3))
    assert len(data) == (slots + 7) // 8
    assert twin.SlotSet.frombytes(data, slots) == some
    assert twin.SlotSet.frombytes(bytearray(data), slots) == some
    assert pickle.loads(pickle.dumps(some)) == some


def test_a_bitmap_that_does_not_fit_is_an_error(twin):
    with pytest.raises(BadRing, match="8 bytes, not 3"):
        twin.SlotSet.frombytes(b"abc", 64)
    with pytest.raises(BadRing, match="beyond"):
        twin.SlotSet.frombytes(b"\x10", 4)


def test_slots_outside_the_universe_are_an_error(twin):
    for slot in (-1, 64, 10**30):
        with pytest.raises(BadRing, match=f"slot {slot} does not exist"):
            twin.SlotSet.of([slot], 64)
    for slot in ("1", 1.0, None, True):
        with pytest.raises(BadRing, match="a slot is an int"):
            twin.SlotSet.of([slot], 64)


@pytest.mark.parametrize("slots", [0, 3, -1, 1 << 25, 2.0, "64", None, True])
def test_a_universe_is_a_power_of_two(twin, slots):
    for make in (twin.SlotSet.empty, twin.SlotSet.full, twin.SlotSet):
        with pytest.raises(BadRing, match="slots must be"):
            make(slots)


def test_sets_of_two_universes_do_not_mix(twin):
    one, two = twin.SlotSet.full(64), twin.SlotSet.full(128)

    for operate in (operator.and_, operator.or_, operator.sub, operator.xor, operator.le):
        with pytest.raises(BadRing, match="64 and of 128"):
            operate(one, two)
    with pytest.raises(BadRing, match="64 and of 128"):
        one.isdisjoint(two)
    assert one != two


def test_a_set_mixes_with_nothing_else(twin):
    for other in ({1}, None, 5):
        for operate in (operator.and_, operator.or_, operator.sub, operator.xor, operator.le):
            with pytest.raises(TypeError):
                operate(twin.SlotSet.full(64), other)
            with pytest.raises(TypeError):
                operate(other, twin.SlotSet.full(64))
        with pytest.raises(TypeError):
            twin.SlotSet.full(64).isdisjoint(other)


def test_a_set_cannot_be_changed(twin):
    some = twin.SlotSet.of([1], 64)

    with pytest.raises(AttributeError):
        some.slots = 128
    with pytest.raises(TypeError):
        some[0] = 1
    before = hash(some)
    some |= twin.SlotSet.of([2], 64)
    assert hash(twin.SlotSet.of([1], 64)) == before
