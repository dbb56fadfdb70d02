"""JSON is read the same by either reader: orjson's where it is installed, and the library's."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashring.telemetry.sources.web import json_values
from tests.properties import examples

ODD = [
    *("", " ", "NaN", "[NaN, -Infinity]", "1e999", "-1e999", '{"a": 1e999}', "[1,]", "[1] x", "01"),
    *("18446744073709551615", "18446744073709551616", "-9223372036854775808", "1" + "0" * 400),
    *("-9223372036854775809", "[123456789012345678901234567890]", "-0", "-0.0", "1.0", "1E5"),
    *('"\\ud800"', '"\\ud83d\\ude00"', '{"\\udc00": 1}', '"\\u0000"', '"\u2028"', '"\t"', "'a'"),
    *('{"a": 1, "a": 2}', "0.1", "5e-324", "1.7976931348623157e308", "9007199254740993", "+1"),
    *("[" * 500 + "]" * 500, "[" * 1500 + "]" * 1500, "[" * 100_000, "true", "nul", "\ufeff1"),
    *("0.30000000000000004", "123456789.123456789123456789", "1e-400", ".5", "5.", "0x10", "1_0"),
]


def without_orjson(text):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_values, "_orjson", None)
        return outcome(text)


def outcome(text):
    try:
        found = json_values.parsed(text)
    except (ValueError, RecursionError) as error:
        return type(error), getattr(error, "msg", None), getattr(error, "lineno", None)
    # A float is told from a whole number, and 0.0 from -0.0.
    return repr(found)


@pytest.mark.parametrize("text", ODD, ids=lambda text: text[:12])
def test_what_is_odd_is_read_the_same_with_orjson_and_without(text):
    assert outcome(text) == without_orjson(text)


documents = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(st.characters(), max_size=6),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(
    document=documents,
    is_ascii=st.booleans(),
    place=st.integers(0, 200),
    put=st.text('{}[]",:0eE.-\\u1 \n', max_size=2),
)
@examples(300)
def test_any_document_is_read_the_same_and_one_with_an_error_in_it(document, is_ascii, place, put):
    text = json.dumps(document, ensure_ascii=is_ascii)
    text = text.encode("utf-8", "replace").decode()
    for each in (text, text[:place] + put + text[place + 1 :]):
        assert outcome(each) == without_orjson(each)


@given(number=st.floats(allow_nan=False, allow_infinity=False))
@examples(300)
def test_a_number_is_the_nearest_one(number):
    found = json_values.parsed(f"[{number!r}]")[0]

    assert found == number
    assert math.copysign(1, found) == math.copysign(1, number)


def test_what_is_of_the_usual_kind_is_read_by_orjson(monkeypatch):
    monkeypatch.setattr(json_values, "_DECODER", None)

    assert json_values.parsed('{"a": [1, 2.5, "x", null]}') == {"a": [1, 2.5, "x", None]}
