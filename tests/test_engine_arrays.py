"""Keys in arrays: NumPy's fixed-width strings and whatever exports Arrow data."""

from __future__ import annotations

import array
import ctypes

import numpy as np
import pyarrow as pa
import pytest

from hashring.errors import BadKey

TEXTS = [
    "",
    "a",
    "exactly-12-b",
    "thirteen-byte",
    "é" * 20,
    "日本語",
    "🌍",
    *(f"resource-{i}-of-a-longer-name" for i in range(17_000)),
]
BYTES = [text.encode() for text in TEXTS]
ARROW_TYPES = [
    pa.string(),
    pa.large_string(),
    pa.string_view(),
    pa.binary(),
    pa.large_binary(),
    pa.binary_view(),
]


@pytest.fixture(scope="module")
def ring(twin):
    return twin.HashRing(["a", "b", "c"], slots=1024, vnodes=16)


def agree(twin, ring, keys, expected):
    """Every batch answers for ``keys`` what it answers for the list ``expected``."""
    member = ring.slots("b")
    assert member.owned(keys) == member.owned(expected)
    assert member.mask(keys) == member.mask(expected)
    assert ring.assign(keys) == ring.assign(expected)
    assert twin.hash_all(keys) == twin.hash_all(expected)
    hashed = twin.Keys(keys)
    assert list(hashed) == expected
    assert member.owned(hashed) == member.owned(expected)


# --- NumPy ------------------------------------------------------------------------------------


def test_an_array_of_bytes_is_checked_in_place(twin, ring):
    agree(twin, ring, np.array(BYTES), BYTES)


def test_an_array_of_text_is_checked_in_place(twin, ring):
    agree(twin, ring, np.array(TEXTS), TEXTS)


@pytest.mark.parametrize("make", [np.array, lambda keys: np.array([k.encode() for k in keys])])
def test_slices_of_an_array_keep_their_order(twin, ring, make):
    keys = make(TEXTS)

    for part in (keys[::3], keys[::-1], keys[5:9], keys[:0]):
        agree(twin, ring, part, part.tolist())


def test_zeros_at_the_end_are_padding_and_zeros_within_are_not(twin, ring):
    agree(twin, ring, np.array([b"a\0", b"a\0b", b"\0"]), [b"a", b"a\0b", b""])
    agree(twin, ring, np.array(["a\0", "a\0b", "\0"]), ["a", "a\0b", ""])


def test_a_memoryview_of_an_array_serves_as_well(ring, twin):
    keys = np.array(BYTES[1:50])

    if twin.name == "compiled":
        assert ring.assign(memoryview(keys)) == ring.assign(keys)


def test_fields_of_packed_records_need_not_be_aligned(twin, ring):
    records = np.zeros(3, dtype=[("flag", "u1"), ("name", "U9"), ("raw", "S5")])
    records["name"] = ["één", "twee", "drie"]
    records["raw"] = [b"one", b"two", b"three"]

    agree(twin, ring, records["name"], ["één", "twee", "drie"])
    agree(twin, ring, records["raw"], [b"one", b"two", b"three"])


def test_text_in_the_other_byte_order_is_read_right(twin, ring):
    swapped = np.array(["één", "twee"]).astype(">U4")

    agree(twin, ring, swapped, ["één", "twee"])


def test_an_array_of_objects_is_iterated(twin, ring):
    agree(twin, ring, np.array(TEXTS[:100], dtype=object), TEXTS[:100])


@pytest.mark.parametrize(
    "keys", [np.arange(5), np.ones(5), array.array("i", [1]), bytearray(b"abc"), np.arange(5) > 2]
)
def test_an_array_of_numbers_holds_no_keys(ring, keys):
    with pytest.raises(BadKey, match="key 0 is of type"):
        ring.assign(keys)


def test_an_array_of_two_dimensions_holds_no_keys(ring):
    with pytest.raises(BadKey, match="key 0 is of type 'ndarray'"):
        ring.assign(np.array([["a", "b"], ["c", "d"]]))


def test_a_lone_surrogate_in_an_array_is_named(ring):
    keys = np.array(["a"] * 20_000, dtype="U2")
    keys.view(np.uint32)[2 * 17_000] = 0xD800

    for ask in (ring.assign, ring.slots("a").owned, ring.slots("a").mask):
        with pytest.raises(BadKey, match="key 17000 has a lone surrogate"):
            ask(keys)


def test_an_array_with_a_key_function_is_iterated(twin, ring):
    numbers = np.arange(1000)

    assert ring.assign(numbers, key=lambda n: f"n{n}") == ring.assign(
        list(numbers), key=lambda n: f"n{n}"
    )


# --- Arrow ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ARROW_TYPES, ids=str)
def test_an_arrow_array_is_checked_in_place(twin, ring, kind):
    expected = BYTES if "binary" in str(kind) else TEXTS
    keys = pa.array(expected, kind)

    agree(twin, ring, keys, expected)
    agree(twin, ring, keys[7:16_500], expected[7:16_500])
    agree(twin, ring, keys[:0], [])


@pytest.mark.parametrize("kind", ARROW_TYPES, ids=str)
def test_a_chunked_arrow_array_is_one_row_of_keys(twin, ring, kind):
    expected = BYTES if "binary" in str(kind) else TEXTS
    chunks = [expected[:3], [], expected[3:16_900], expected[16_900:], []]

    agree(twin, ring, pa.chunked_array(chunks, kind), expected)
    agree(twin, ring, pa.chunked_array([], kind), [])


@pytest.mark.parametrize("kind", ARROW_TYPES, ids=str)
def test_a_null_is_no_key(ring, kind):
    keys = pa.array([b"x"] * 20_000 + [None, b"y"], pa.binary()).cast(kind)

    for given in (keys, keys[5:], pa.chunked_array([keys[:100], keys[100:]])):
        index = 19_995 if len(given) < len(keys) else 20_000
        with pytest.raises(BadKey, match=f"key {index} is of type 'NoneType'"):
            ring.assign(given)


def test_nulls_outside_a_slice_do_not_matter(twin, ring):
    keys = pa.array([None, "a", "b", None])

    agree(twin, ring, keys[1:3], ["a", "b"])


@pytest.mark.parametrize(
    "keys", [pa.array([1, 2]), pa.array([1.5]), pa.array([["a"]]), pa.table({"a": ["x"]})]
)
def test_arrow_data_of_another_type_holds_no_keys(twins, keys):
    compiled, reference = (twin.HashRing(["a"]) for twin in twins)

    with pytest.raises(BadKey, match="Arrow array is of format"):
        compiled.assign(keys)
    with pytest.raises(BadKey, match="key 0 is of type"):
        reference.assign(keys)


def test_a_dictionary_of_strings_asks_to_be_cast(twins):
    compiled, _ = twins

    with pytest.raises(BadKey, match=r"is a dictionary.*cast"):
        compiled.HashRing(["a"]).assign(pa.array(["x"]).dictionary_encode())


def test_text_that_is_no_utf8_is_named_where_it_would_be_returned(twins):
    compiled, _ = twins
    broken = pa.Array.from_buffers(
        pa.string(), 1, [None, pa.array([0, 1], pa.int32()).buffers()[1], pa.py_buffer(b"\xff")]
    )

    with pytest.raises(BadKey, match="key 0 is no UTF-8"):
        compiled.SlotSet.full().owned(broken)


class FailingStream:
    """An Arrow stream of strings whose source fails, after one good array or at once."""

    def __init__(self, good_arrays):
        self.left = good_arrays
        self.reason = ctypes.create_string_buffer(b"the disk is gone")
        callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
        self.callbacks = (
            callback(self.get_schema),
            callback(self.get_next),
            ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)(
                lambda stream: ctypes.addressof(self.reason)
            ),
        )
        pointers = [ctypes.cast(function, ctypes.c_void_p) for function in self.callbacks]
        self.struct = (ctypes.c_void_p * 5)(*pointers, None, None)

    def get_schema(self, stream, out):
        pa.string()._export_to_c(out)
        return 0

    def get_next(self, stream, out):
        if not self.left:
            return 5
        self.left -= 1
        pa.array(["a", "b"])._export_to_c(out)
        return 0

    def __arrow_c_stream__(self, requested_schema=None):
        new = ctypes.pythonapi.PyCapsule_New
        new.restype = ctypes.py_object
        new.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
        return new(ctypes.addressof(self.struct), b"arrow_array_stream", None)


@pytest.mark.parametrize("good_arrays", [0, 1, 3])
def test_a_stream_that_fails_says_why(twins, good_arrays):
    compiled, _ = twins

    with pytest.raises(BadKey, match="stream of keys failed: the disk is gone"):
        compiled.SlotSet.full().owned(FailingStream(good_arrays))


def test_an_object_whose_arrow_export_needs_a_missing_package_is_iterated(twin, ring):
    class LikePandas(list):
        def __arrow_c_stream__(self, requested_schema=None):
            raise ImportError("pyarrow is not installed")

    class Column:
        __arrow_c_stream__ = LikePandas.__arrow_c_stream__

        def __iter__(self):
            return iter(TEXTS)

    agree(twin, ring, Column(), TEXTS)
