"""Series that were never seen: what one costs, in calls, and that all twins say the same."""

import cProfile
import pstats
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.expositions import exposition
from hashring.telemetry.model.resource import Resource
from hashring.telemetry.sources.web import (
    exposition_lines,
    exposition_messages,
    exposition_series,
)
from hashring.telemetry.sources.web.exposition import _meter
from hashring.telemetry.sources.web.exposition_series import ExpositionReader
from hashring.telemetry.sources.web.labels import shown
from tests.properties import examples
from tests.telemetry.prometheus_messages import (
    CLIENT,
    COUNTER,
    HISTOGRAM,
    SUMMARY,
    delimited,
    family,
    metric,
)

SAMPLES = 1000
WEB1 = Resource("prometheus+http://web1/metrics", "exposition")
WITH_LABELS = Resource(
    "prometheus+http://web2/metrics", "exposition", {"labels": {"rack": 'r"1', "zone": "ñ"}}
)
FORMS = {"text": exposition_series._native, "protobuf": exposition_series._native_messages}
COMPILED = [form for form, twin in FORMS.items() if twin is not None]


def calls_of_a_new_series(form, resource, first, second):
    """How many functions are called for one series of an answer that follows another one."""
    reader = ExpositionReader(_meter)
    read = reader.read if form == "text" else reader.read_messages
    read(first, resource)
    profile = cProfile.Profile()
    profile.enable()
    found = read(second, resource)
    profile.disable()
    assert len(found) == SAMPLES
    return pstats.Stats(profile).total_calls / SAMPLES


@pytest.mark.parametrize("form", COMPILED)
@pytest.mark.parametrize(
    ("resource", "most"), [(WEB1, 0.5), (WITH_LABELS, 8)], ids=["alone", "with a target's labels"]
)
def test_a_new_series_costs_few_calls_also_where_others_were_known(form, resource, most):
    first, second = (exposition(form, SAMPLES, n, random.Random(n)) for n in (1, 2))

    assert calls_of_a_new_series(form, resource, first, second) < most


@pytest.mark.parametrize("form", ["text", "protobuf"])
@pytest.mark.parametrize("resource", [WEB1, WITH_LABELS], ids=["alone", "with labels"])
def test_new_series_among_known_ones_are_described_as_if_all_were_new(form, resource):
    bodies = [exposition(form, 300, version, random.Random(version)) for version in (1, 2, 1)]
    whole = b"".join(bodies[:2])
    reader, other = ExpositionReader(_meter), ExpositionReader(_meter)
    read = reader.read if form == "text" else reader.read_messages
    read_alone = other.read if form == "text" else other.read_messages

    for body in (bodies[0], whole, bodies[1], b"".join(reversed(bodies[:2]))):
        other._known.clear()
        found, alone = read(body, resource), read_alone(body, resource)
        assert list(found) == list(alone)


# What stands in a name or a value, with what no text has as it is, and sizes about our buffers'.
PARTS = ["a", "le", "quantile", "_x", "__x", "", "9", "a b", "ñ", '"', "\\", "\n", "\x7f", "}"]
LABELS = st.dictionaries(
    st.one_of(st.sampled_from(PARTS), st.text("abc_", min_size=1, max_size=3)),
    st.one_of(
        st.sampled_from(PARTS),
        st.text(st.characters(exclude_categories=["Cs"]), max_size=4),
        st.integers(0, 2100).map(lambda size: "x" * size),
    ),
    max_size=40,
)
VALUES = [
    (COUNTER, {"counter": {"value": 1}}),
    (SUMMARY, {"summary": {"sample_count": 1, "quantile": [{"quantile": 0.5, "value": 1}]}}),
    (HISTOGRAM, {"histogram": {"sample_count": 1, "bucket": [{"upper_bound": 1e-7}]}}),
]


def described(twin, keys, resource_id):
    """What a twin makes of keys, or how it refuses them."""
    try:
        return twin.described_all(keys, resource_id)
    except (exposition_messages.BadExposition, UnicodeDecodeError) as error:
        return str(error)


@pytest.mark.parametrize("twin", [FORMS[form] for form in COMPILED if form == "protobuf"])
@given(
    families=st.lists(
        st.tuples(
            st.sampled_from(["x", "a:b", "9", "ñ", "x" * 300]),
            st.sampled_from(VALUES),
            st.lists(LABELS, min_size=1, max_size=3),
        ),
        min_size=1,
        max_size=4,
    ),
    resource_id=st.sampled_from(["web1", "wéb1"]),
)
@examples(150, deadline=None)
def test_keys_of_messages_say_the_same_to_both_twins(twin, families, resource_id):
    body = delimited(
        family(CLIENT, name, type_, *(metric(CLIENT, one, **value) for one in labels))
        for name, (type_, value), labels in families
    )
    scanner = exposition_messages.Scanner(body, [])
    while scanner.read(2**20):
        pass

    compiled = described(twin, scanner.keys, resource_id)
    assert compiled == described(exposition_messages, scanner.keys, resource_id)


@pytest.mark.parametrize("twin", [FORMS[form] for form in COMPILED if form == "text"])
@given(
    series=st.lists(
        st.dictionaries(
            st.text("abc_", min_size=1, max_size=3),
            st.one_of(
                st.text(st.characters(exclude_categories=["Cs"]), max_size=4),
                st.integers(0, 2100).map(lambda size: "x" * size),
            ),
            max_size=32,
        ),
        min_size=1,
        max_size=4,
    ),
    resource_id=st.sampled_from(["web1", "wéb1"]),
)
@examples(150, deadline=None)
def test_keys_of_lines_say_the_same_to_both_twins(twin, series, resource_id):
    keys = [("x" + shown(labels)).encode() for labels in series]

    assert twin.described_all(keys, resource_id) == exposition_lines.described_all(
        keys, resource_id
    )
