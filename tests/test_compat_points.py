"""The two twins behind `hashring.compat.tooz`: compiled and plain Python, one suite over both."""

import hashlib
import random
import threading
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hashring.compat import _toozring, _toozring_reference
from hashring.errors import BadKey

VARIANTS = _toozring.variants()
TWINS = {
    "reference": _toozring_reference.PointIndex,
    **{
        variant: lambda points, variant=variant: _toozring.PointIndex(points, variant)
        for variant in VARIANTS
    },
}

# Lengths on both sides of MD5's borders: 55 bytes fit one block, 56 need two, 119 and 120 again.
KEYS = st.one_of(
    st.text(max_size=20),
    st.binary(max_size=20),
    st.sampled_from(
        [0, 1, 3, 4, 7, 8, 15, 16, 31, 32, 36, 54, 55, 56, 63, 64, 65, 119, 120, 1000]
    ).flatmap(lambda length: st.sampled_from([length * "x", length * b"\xff", length * "é"])),
)


@pytest.fixture(params=TWINS, ids=str)
def make_index(request):
    return TWINS[request.param]


def points_of(*names):
    return sorted(hashlib.md5(name.encode()).digest() for name in names)


def test_the_processor_always_has_the_portable_variant_and_uses_the_fastest_first():
    assert VARIANTS[-1] == "portable"
    assert len(set(VARIANTS)) == len(VARIANTS)


def test_an_unknown_variant_is_refused_by_name():
    with pytest.raises(ValueError, match=r"no MD5 variant 'abacus'.*portable"):
        _toozring.PointIndex([], "abacus")


@pytest.mark.parametrize("variant", VARIANTS)
@settings(deadline=None)
@given(st.lists(KEYS, max_size=150))
def test_md5_of_many_keys_side_by_side_is_hashlibs(variant, keys):
    expected = [hashlib.md5(_toozring_reference.key_bytes(key)).digest() for key in keys]
    assert _toozring.md5_many(keys, variant) == expected


@pytest.mark.parametrize("variant", VARIANTS)
def test_md5_is_right_for_every_length_up_to_five_blocks_in_every_lane(variant):
    keys = [bytes(range(256))[:length] + b"q" * max(0, length - 256) for length in range(330)]
    for rotation in (0, 1, 7, 13):
        turned = keys[rotation:] + keys[:rotation]
        expected = [hashlib.md5(key).digest() for key in turned]
        assert _toozring.md5_many(turned, variant) == expected


@settings(deadline=None)
@given(
    names=st.lists(st.text(max_size=3), min_size=1, max_size=300),
    keys=st.lists(KEYS, max_size=80),
    random_source=st.randoms(use_true_random=False),
)
def test_the_compiled_twin_agrees_with_the_plain_one(names, keys, random_source):
    points = sorted({hashlib.md5(name.encode()).digest() for name in names})
    flags = bytes(random_source.randrange(2) for _ in points)
    plain = _toozring_reference.PointIndex(points)
    for variant in VARIANTS:
        compiled = _toozring.PointIndex(points, variant)
        assert compiled.mask(keys, flags) == plain.mask(keys, flags)
        assert compiled.owned(keys, flags) == plain.owned(keys, flags)
        assert len(compiled) == len(plain)
        for key in keys[:10]:
            data = _toozring_reference.key_bytes(key)
            assert compiled.position(data) == plain.position(data)
        dealt_by_compiled, dealt_by_plain = [[] for _ in points], [[] for _ in points]
        compiled.deal(keys, dealt_by_compiled)
        plain.deal(keys, dealt_by_plain)
        assert dealt_by_compiled == dealt_by_plain


def neighbours(digest):
    number = int.from_bytes(digest, "big")
    return [
        (number + step).to_bytes(16, "big") for step in (-1, 0, 1) if 0 <= number + step < 1 << 128
    ]


def test_a_point_that_equals_a_keys_hash_is_passed_over_and_the_next_number_is_not(make_index):
    # The bisection is a right one, and all 128 bits count.
    keys = [f"key {i}" for i in range(200)]
    for key in keys:
        below, equal, above = neighbours(hashlib.md5(key.encode()).digest())
        assert make_index([below, equal, above]).owned([key], b"\0\0\1") == [key]
        assert make_index([below, equal]).owned([key], b"\1\0") == [key]
        assert make_index([equal, above]).position(key.encode()) == 1


def test_points_at_both_ends_of_the_circle_are_found(make_index):
    first, last = bytes(16), b"\xff" * 16
    index = make_index([first, last])
    assert index.owned(["a", "b", "c"], b"\0\1") == ["a", "b", "c"]


def test_a_key_beyond_the_last_point_belongs_to_the_first(make_index):
    index = make_index([bytes(15) + b"\1", bytes(15) + b"\2"])
    assert index.mask(["a", "b"], b"\1\0") == b"\1\1"


def test_without_points_nothing_is_owned(make_index):
    index = make_index([])
    assert index.owned(["a", b"b"], b"") == []
    assert index.mask(["a", b"b"], b"") == b"\0\0"
    assert index.position(b"a") == 0
    with pytest.raises(ValueError, match="no points"):
        index.deal(["a"], [])


@pytest.mark.parametrize("wrong", [3, None, 2.5, ["nested"], object()])
def test_a_key_of_another_type_is_refused_with_its_type_and_value(make_index, wrong):
    index = make_index(points_of("a"))
    with pytest.raises(BadKey, match=f"must be str or bytes, not {type(wrong).__name__}"):
        index.owned(["fine", wrong], b"\1")


def test_a_lone_surrogate_is_refused_and_said_where(make_index):
    index = make_index(points_of("a"))
    with pytest.raises(BadKey, match="index 2"):
        index.mask(["fine", "ab\ud800"], b"\1")


def test_str_and_bytes_subclasses_and_buffers_are_keys_by_their_content(make_index):
    class Name(str):
        __slots__ = ()

        def __str__(self):
            return "another"

    class Raw(bytes):
        __slots__ = ()

    names = [f"n{i}" for i in range(40)]
    index = make_index(points_of(*"abcdefgh"))
    flags = b"\1\0" * 4
    expected = index.mask(names, flags)
    for form in (
        Name,
        *(lambda n, t=t: t(n.encode()) for t in (bytes, Raw, bytearray, memoryview)),
    ):
        assert index.mask([form(name) for name in names], flags) == expected


def test_a_form_gives_the_bytes_of_what_is_no_str(make_index):
    index = make_index(points_of(*"abcdefgh"))
    flags = b"\1\0" * 4
    expected = index.mask([str(i) for i in range(50)], flags)
    assert index.mask(range(50), flags, lambda i: str(i).encode()) == expected


def test_an_error_in_a_form_comes_out_as_it_is_and_leaves_no_reference(make_index):
    index = make_index(points_of("a"))
    marker = object()
    before = sys_refcount(marker)

    def broken(_):
        raise LookupError("no such resource")

    with pytest.raises(LookupError, match="no such resource"):
        index.owned(["a", marker], b"\1", broken)
    assert sys_refcount(marker) == before


def sys_refcount(thing):
    import sys

    return sys.getrefcount(thing)


def test_flags_and_piles_must_match_the_points(make_index):
    index = make_index(points_of("a", "b"))
    with pytest.raises(ValueError, match="3 flags for 2 points"):
        index.mask([], b"\0\0\0")
    with pytest.raises(ValueError, match="3 flags for 2 points"):
        index.owned([], b"\0\0\0")
    with pytest.raises(ValueError, match="1 piles for 2 points"):
        index.deal([], [[]])


@pytest.mark.parametrize(
    "points",
    [points_of("a", "b")[::-1], points_of("a") * 2],
    ids=["descending", "twice"],
)
def test_the_compiled_index_refuses_points_that_do_not_ascend(points):
    with pytest.raises(ValueError, match="ascend"):
        _toozring.PointIndex(points)


def test_the_compiled_index_refuses_points_of_another_length():
    with pytest.raises(ValueError, match="16 bytes"):
        _toozring.PointIndex([b"short"])


def test_a_list_that_changes_while_it_is_read_is_an_error_and_no_crash():
    index = _toozring.PointIndex(points_of("a"))
    keys = [object() for _ in range(1000)]

    def shrinking(_):
        keys.clear()
        return b"any"

    with pytest.raises(RuntimeError, match="changed its length"):
        index.owned(keys, b"\1", shrinking)


def test_another_thread_that_changes_the_list_crashes_nothing():
    index = _toozring.PointIndex(points_of(*"abcd"))
    keys = [f"key {i}" for i in range(50_000)]
    stop = threading.Event()

    def churn():
        source = random.Random(5)
        while not stop.is_set():
            keys[source.randrange(len(keys))] = "é" * source.randrange(200)

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        for _ in range(20):
            assert len(index.mask(keys, b"\1\0\1\0")) == len(keys)
    finally:
        stop.set()
        thread.join()


def test_batches_keep_no_memory():
    index = _toozring.PointIndex(points_of(*"abcd"))
    keys = [f"key é {i}" for i in range(20_000)] + [f"key {i}".encode() for i in range(20_000)]
    index.mask(keys, b"\1\0\1\0")
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(5):
            index.mask(keys, b"\1\0\1\0")
            index.owned(keys, b"\0\0\0\0")
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # A batch that kept its keys' UTF-8 forms would keep a megabyte each time.
    assert after - before < 50_000
