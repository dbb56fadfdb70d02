import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashring.telemetry.errors import BadAttribute, Missing, Unusable
from hashring.telemetry.sources.web.attributes import Attribute

SERVER = {
    "id": "s1",
    "flavor": {"ram": 512, "extra.key": 1},
    "addresses": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}],
    "tags": ["b", "a"],
    "image": "",
    "user": " p1$p2 ",
    "links": [{"rel": "prev", "href": "http://x/0"}, {"rel": "next", "href": "http://x/2"}],
}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("id", "s1"),
        ("flavor.ram", 512),
        ("addresses.1.ip", "10.0.0.2"),
        (".", SERVER),
        # The operations of Ceilometer's own documentation.
        ("user | value.split('$')[0].strip()", "p1"),
        ("user | value.split ('$') | value[0] | value.strip()", "p1"),
        (". | value['some_field'] if 'some_field' in value else ''", ""),
        ("image | value or { 'id': '' } | value['id']", ""),
        ("tags | ','.join(value)", "b,a"),
        (
            "links | filter(lambda v: v.get('rel') == 'next', value) | list(value) | value[0] "
            "| value.get('href') | value.replace('http:', 'https:')",
            "https://x/2",
        ),
        # Others that their kind lets one expect.
        ("flavor.ram | value * 1024 // 2 + 1", 262145),
        ("flavor.ram | -value if value > 100 and not value == 3 else None", -512),
        ("tags | sorted(value)[-1]", "b"),
        ("tags | value[0:1] + ['|']", ["b", "|"]),
        ("addresses | len(value)", 2),
        ("addresses | sum(map(lambda a: int(a['ip'][-1]), value))", 3),
        ("tags | 'a' in value", True),
        ("flavor.ram | 0 < value < 100", False),
        ("user | (value, 1)[1]", 1),
    ],
)
def test_an_attribute_finds_and_changes_a_value(text, value):
    assert Attribute(text).of(SERVER) == value


@pytest.mark.parametrize("text", ["nothing", "flavor.ram.deeper", "addresses.2", "addresses.x"])
def test_a_path_that_leads_nowhere_is_missing(text):
    with pytest.raises(Missing, match=text.rpartition(".")[2]):
        Attribute(text).of(SERVER)


@pytest.mark.parametrize("text", ["tags | value[7]", "flavor | value['x']"])
def test_an_index_that_leads_nowhere_is_missing(text):
    with pytest.raises(Missing):
        Attribute(text).of(SERVER)


@pytest.mark.parametrize(
    "text",
    [
        "flavor.ram | value.strip()",
        "flavor.ram | value / 0",
        "id | int(value)",
        "tags | value < 1",
        "id | value * 1000000000",
        "id | '%1000000000d' % len(value)",
        "id | 1000000000 * value",
        "tags | value * 1000000000",
        "flavor.ram | (lambda v: v)[0] if value else 0",
    ],
)
def test_an_operation_that_cannot_be_done_is_said_by_name(text):
    with pytest.raises(Unusable, match="failed"):
        Attribute(text).of(SERVER)


@pytest.mark.parametrize(
    "operation",
    [
        "open(value)",
        "__import__('os').system(value)",
        "value.__class__",
        "value.__class__.__mro__[1].__subclasses__()",
        "value.format(value)",
        "'{0.__class__}'.format(value)",
        "getattr(value, 'x')",
        "eval(value)",
        "f'{value}'",
        "[v for v in value]",
        "value ** 99",
        "value << 99",
        "(x := value)",
        "value.strip",
        "print(value)",
        "lambda: os and value",
        "value(1)",
        "(lambda v: v)(value)",
        "max(value, key=len)",
        "list(*value)",
        "{**value}",
        "b'' + value",
        "lambda v=value: v",
        "1j + value",
    ],
)
def test_nothing_but_harmless_operations_is_accepted(operation):
    with pytest.raises(BadAttribute, match="not supported"):
        Attribute(f"id | {operation}")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is a text"),
        (None, "is a text"),
        ("a..b", "empty key"),
        ("a | ", "not an expression"),
        ("a | 1 + 1", "must use the variable"),
        ("a | value +", "not an expression"),
        ("a | " + "(" * 500 + "value" + ")" * 500, "characters"),
        ("a | " + "(" * 300 + "value" + ")" * 300, "not an expression"),
    ],
)
def test_what_is_no_attribute_is_refused(text, said):
    with pytest.raises(BadAttribute, match=said):
        Attribute(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)
OPERATIONS = st.sampled_from(
    """
    value[0]; value.get('a'); value + 1; len(value); int(value); value or 'x'; -value; value % 3
    sorted(value); value.split('a'); sum(value); round(value); value[1:]; value < 3; str(value)
    map(lambda v: v + 1, value); float(value); max(value); 'a' in value; value['a']; value * value
    """.replace("\n", ";").split(";")
).filter(str.strip)


@given(JSON, st.lists(OPERATIONS, max_size=3))
def test_whatever_the_document_is_nothing_but_our_errors_comes_out(document, operations):
    attribute = Attribute(" | ".join([".", *operations]))
    with contextlib.suppress(Missing, Unusable):
        attribute.of(document)
