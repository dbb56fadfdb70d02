"""Expositions in protobuf: the same as the text says, whatever is sent, and by both twins."""

import contextlib
import itertools
import math
import random
from collections import Counter

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from hashring.telemetry.errors import BadExposition
from hashring.telemetry.model.resource import Resource
from hashring.telemetry.sources.web import exposition_messages, exposition_series
from hashring.telemetry.sources.web.exposition import _meter, measurements
from hashring.telemetry.sources.web.exposition_series import ExpositionReader, count_samples
from hashring.telemetry.sources.web.protobuf_fields import length
from tests.telemetry.prometheus_messages import (
    CLIENT,
    CLIENT_PACKED,
    COUNTER,
    GAUGE,
    GAUGE_HISTOGRAM,
    HISTOGRAM,
    SUMMARY,
    UNTYPED,
    delimited,
    family,
    may_stand_in_text,
    metric,
    text_of,
)

WEB1 = Resource("prometheus+http://web1/metrics", "exposition")
WITH_LABELS = Resource(
    "prometheus+http://web2/metrics", "exposition", {"labels": {"a": "its own", "rack": 'r"1'}}
)
TWINS = {"plain": exposition_messages, "compiled": exposition_series._native_messages}
BOTH = [CLIENT, CLIENT_PACKED]


@pytest.fixture(params=[name for name, twin in TWINS.items() if twin is not None])
def reader(request, monkeypatch):
    monkeypatch.setattr(exposition_series, "_messages", TWINS[request.param])
    return ExpositionReader(_meter)


def plain(found, skipped):
    return [one._replace(metadata=dict(one.metadata)) for one in found], skipped


def read(reader, body, resource=WEB1):
    """What is measured, and what is left out; ``None`` where it is refused."""
    skipped = Counter()
    try:
        found = reader.read_messages(body, resource, skipped=skipped)
    except (BadExposition, UnicodeDecodeError):
        return None
    return plain(found, skipped)


def as_text(families, resource=WEB1):
    """What the parser of prometheus-client makes of the same families in the text format."""
    skipped = Counter()
    return plain(measurements(text_of(families), resource, skipped=skipped), skipped)


def everything(classes):
    """A family of each type."""
    return [
        family(classes, "up", GAUGE, metric(classes, {}, gauge={"value": 1})),
        family(
            classes,
            "served_bytes_total",
            COUNTER,
            metric(
                classes,
                {"method": "GET", "path": '/"a"\\\n'},
                counter={
                    "value": 17,
                    "created_timestamp": {"seconds": 5},
                    "exemplar": {"value": 1, "label": [{"name": "trace", "value": "x"}]},
                },
            ),
            metric(classes, {"path": "/ñ", "method": "PUT"}, counter={"value": 0.5}),
        ),
        family(
            classes,
            "wait_seconds",
            SUMMARY,
            metric(
                classes,
                {"queue": "q"},
                summary={
                    "sample_count": 2**64 - 1,
                    "sample_sum": 1.5,
                    "quantile": [
                        {"quantile": 0.5, "value": 0.25},
                        {"quantile": 1, "value": math.nan},
                    ],
                },
            ),
        ),
        family(classes, "odd", UNTYPED, metric(classes, {"a": ""}, untyped={"value": -math.inf})),
        *(
            family(
                classes,
                name,
                type_,
                metric(
                    classes,
                    {"rack": "1"},
                    histogram={
                        "sample_count": 9,
                        "sample_sum": 4.5,
                        "bucket": [
                            {"cumulative_count": 3, "upper_bound": 0.005},
                            {"cumulative_count": 5, "upper_bound": 1e6},
                        ],
                    },
                    timestamp_ms=1520879607789,
                ),
            )
            for name, type_ in (("size_bytes", HISTOGRAM), ("held_bytes", GAUGE_HISTOGRAM))
        ),
    ]


@pytest.mark.parametrize("classes", BOTH, ids=["written out", "packed"])
def test_what_is_measured_is_what_the_text_says_at_the_first_time_and_at_the_next(reader, classes):
    families = everything(classes)

    for resource in (WEB1, WITH_LABELS, WEB1, WITH_LABELS):
        assert read(reader, delimited(families), resource) == as_text(families, resource)


def test_types_and_units_are_those_of_the_text(reader):
    found = {
        one.meter.name.removeprefix("prometheus."): (str(one.meter.type), one.meter.unit)
        for one in reader.read_messages(delimited(everything(CLIENT)), WEB1)
    }

    assert found == {
        "up": ("gauge", ""),
        "served_bytes_total": ("cumulative", "B"),
        "wait_seconds": ("gauge", "s"),
        "wait_seconds_sum": ("cumulative", "s"),
        "wait_seconds_count": ("cumulative", ""),
        "size_bytes_bucket": ("cumulative", ""),
        "size_bytes_sum": ("cumulative", "B"),
        "size_bytes_count": ("cumulative", ""),
        "held_bytes_bucket": ("gauge", ""),
        "held_bytes_sum": ("gauge", "B"),
        "held_bytes_count": ("gauge", ""),
    }
    named = family(CLIENT, "x", GAUGE, metric(CLIENT, {}, gauge={"value": 1}), unit="parsecs")
    [one] = reader.read_messages(delimited([named]), WEB1)
    assert one.meter.unit == "parsecs"


def test_a_float_histogram_has_its_float_counts(reader):
    floats = {
        "sample_count_float": 2.5,
        "bucket": [{"cumulative_count_float": 1.25, "upper_bound": 1}],
    }
    families = [family(CLIENT, "h", HISTOGRAM, metric(CLIENT, {}, histogram=floats))]

    assert read(reader, delimited(families)) == as_text(families)
    assert [one.volume for one in reader.read_messages(delimited(families), WEB1)] == [
        *(1.25, 2.5, 0.0, 2.5)
    ]


def test_series_that_were_seen_are_recognised_by_their_bytes(reader):
    def answer(value, name="b"):
        one = metric(CLIENT, {"a": name}, gauge={"value": value})
        more = {"bucket": [{"upper_bound": value}]}
        return delimited(
            [
                family(CLIENT, "x", GAUGE, one),
                family(CLIENT, "h", HISTOGRAM, metric(CLIENT, {}, histogram=more)),
            ]
        )

    first, again = (reader.read_messages(answer(1.0), WEB1) for _ in range(2))
    other_label = reader.read_messages(answer(1.0, "c"), WEB1)
    other_bound = reader.read_messages(answer(2.0, "c"), WEB1)

    assert again.series is first.series
    assert other_label.series is not first.series
    assert [one.metadata for one in other_label][:2] == [{"a": "c"}, {"le": "1"}]
    assert [one.metadata for one in other_bound][:2] == [{"a": "c"}, {"le": "2"}]
    # A target may answer in another format from one poll to the next.
    assert [one.volume for one in reader.read(b'x{a="c"} 3\n', WEB1)] == [3]
    assert reader.read_messages(answer(2.0, "c"), WEB1).volumes == other_bound.volumes


def test_names_that_only_unicode_has_are_names(reader):
    body = delimited([family(CLIENT, "a.b ñ", GAUGE, metric(CLIENT, {"c.d": "e"}, gauge={}))])

    [one] = reader.read_messages(body, WEB1)

    assert (one.meter.name, one.metadata) == ("prometheus.a.b ñ", {"c.d": "e"})
    assert one.resource_id == 'prometheus+http://web1/metrics#{c.d="e"}'


def alone(type_, labels, name="x", **value):
    """An answer with one series."""
    return delimited([family(CLIENT, name, type_, metric(CLIENT, labels, **value))])


NAMELESS = CLIENT["MetricFamily"](type=GAUGE, metric=[{"gauge": {}}])
TWICE = CLIENT["Metric"](label=[{"name": "a"}, {"name": "a"}], gauge={})
REFUSED = {
    "it is cut off": delimited(everything(CLIENT))[:-1],
    "a length beyond the end": b"\x05\x0a\x01",
    "a number of more than ten bytes": b"\x0c\x18" + b"\xff" * 10 + b"\x01",
    "a field of the number 0": b"\x02\x00\x00",
    "a group": b"\x02\x0b\x0c",
    "a metric without a name": delimited([NAMELESS]),
    "an unknown type": alone(6, {}, gauge={}),
    "a type below 0": alone(-1, {}, gauge={}),
    "a value of another type": alone(COUNTER, {}, gauge={}),
    "no value": alone(COUNTER, {}),
    "a label without a name": alone(GAUGE, {"": "a"}, gauge={}),
    "a label that is the name": alone(GAUGE, {"__name__": "y"}, gauge={}),
    "a label twice": delimited([family(CLIENT, "x", GAUGE, TWICE)]),
    "a bound that is a label too": alone(HISTOGRAM, {"le": "1"}, histogram={}),
    "labels without end": alone(GAUGE, {"a": "b" * 65_536}, gauge={}),
    "not UTF-8": alone(GAUGE, {"aaa": "bbb"}, gauge={}).replace(b"bbb", b"b\xffb"),
    "a name that is not": alone(GAUGE, {}, "xxx", gauge={}).replace(b"xxx", b"x\xffx"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_answer_that_is_wrong_somewhere_is_refused_whole_each_time(reader, name):
    good = alone(GAUGE, {}, "up", gauge={"value": 1})

    for _ in range(2):
        assert read(reader, good + REFUSED[name]) is None
    assert read(reader, good) is not None


def test_what_is_unknown_is_passed_over_and_what_stands_twice_is_one(reader):
    # Fields of the numbers 100 to 103, of each type of the wire, in the metric and in the series.
    unknown = b"\xa0\x06\x07\xa9\x06" + b"8" * 8 + b"\xb2\x06\x01x\xbd\x06" + b"4" * 4
    pair = b"\x0a\x06\x0a\x01a\x12\x01b"
    series = b"\x12\x00" + pair + unknown + b"\x12\x09\x09" + b"\0" * 6 + b"\xf0\x3f"
    scattered = pair.replace(b"a", b"c") + b"\x30\x01" + pair
    again = scattered + b"\x12\x00"
    body = b"".join(
        (
            b"\x22" + bytes([len(series)]) + series,
            unknown,
            b"\x18\x01\x0a\x01w",
            b"\x22" + bytes([len(again)]) + again,
            b"\x0a\x01x",
        )
    )

    for _ in range(2):
        found, _ = read(reader, bytes([len(body)]) + body)
        assert [(one.meter.name, one.metadata, one.volume) for one in found] == [
            ("prometheus.x", {"a": "b"}, 1.0),
            ("prometheus.x", {"c": "b", "a": "b"}, 0.0),
        ]


def test_reading_is_looked_at_all_the_while_and_can_be_ended(reader):
    series = [metric(CLIENT, {"n": str(n)}, gauge={"value": n}) for n in range(10_000)]
    body = delimited([family(CLIENT, "x", GAUGE, *series)])
    rows = []

    def look(count):
        rows.append(count)
        if len(rows) > 2:
            raise TimeoutError

    with pytest.raises(TimeoutError):
        reader.read_messages(body, WEB1, look=look)
    assert len(rows) == 3
    assert 0 < sum(rows) < 10_000


def test_samples_are_counted_before_they_are_made(reader):
    for classes in BOTH:
        body = delimited(everything(classes))
        found, skipped = read(reader, body)
        count = len(found) + skipped.total()
        assert count <= exposition_series._messages.count_samples(body) <= 2 * count
        # Whatever it says of what is cut off, it ends.
        assert exposition_series._messages.count_samples(body[:-1]) <= 2 * count
    assert count_samples(b"") == 0


# ---- whatever is sent -------------------------------------------------------------------------

TEXTS = ["", "a", "b", 'say "x"', "\\", "\n", "ñ\u2028", "}", "# EOF", "x" * 40, "\x01\x7f"]
NAMES = ["x", "x_total", "wait_seconds", "a:b", "_y", "h_bucket"]
LABELS = ["a", "b", "rack", "exported_a", "_c", "A1"]
NUMBERS = [0.0, -0.0, 1.0, 0.1, 1e22, 5e-324, -1e308, math.inf, -math.inf, math.nan, 123456.0]
COUNTS = [0, 1, 127, 128, 2**32, 2**63, 2**64 - 1]


def some_value(chance, type_):
    def number():
        return chance.choice(NUMBERS)

    def counted(whole, real):
        return {real: abs(number())} if chance.random() < 0.2 else {whole: chance.choice(COUNTS)}

    if type_ == SUMMARY:
        quantiles = [{"quantile": number(), "value": number()} for _ in range(chance.randrange(3))]
        return {
            "summary": {"sample_count": chance.choice(COUNTS), "sample_sum": number()}
            | {"quantile": quantiles}
        }
    if type_ in (HISTOGRAM, GAUGE_HISTOGRAM):
        buckets = [
            {"upper_bound": number()} | counted("cumulative_count", "cumulative_count_float")
            for _ in range(chance.randrange(4))
        ]
        found = {"sample_sum": number(), "bucket": buckets}
        if buckets and chance.random() < 0.3:  # it is told by its usual buckets
            found |= some_native(chance)
        return {"histogram": found | counted("sample_count", "sample_count_float")}
    name = {COUNTER: "counter", GAUGE: "gauge", UNTYPED: "untyped"}[type_]
    return {name: {"value": number()}}


def some_native(chance):
    """What a native histogram has; now and then it contradicts itself."""
    found = {"schema": chance.choice([-4, 0, 3, 8, 8, -53]), "zero_threshold": 0.001}
    for side in ("positive", "negative"):
        lengths = [chance.choice([0, 1, 1, 3]) for _ in range(chance.randrange(4))]
        offsets = [chance.choice([0, 1, 7, -3 if n == 0 else 2]) for n in range(len(lengths))]
        found[f"{side}_span"] = [
            {"offset": offset, "length": length}
            for offset, length in zip(offsets, lengths, strict=True)
        ]
        count = sum(lengths) + (chance.random() < 0.1)
        found[f"{side}_delta"] = [chance.choice([0, 1, 1, 5, 2**40]) for _ in range(count)]
    return found


def some_series(chance, classes, type_):
    labels = {
        chance.choice(LABELS): chance.choice(TEXTS) for _ in range(chance.choice([0, 1, 1, 2, 3]))
    }
    return metric(classes, labels, **some_value(chance, type_))


def some_family(chance, classes):
    type_ = chance.randrange(6)
    series = [some_series(chance, classes, type_) for _ in range(chance.choice([0, 1, 1, 2, 5]))]
    return family(classes, chance.choice(NAMES), type_, *series)


def changed(chance, classes, families):
    """The families of the next answer: most often the same, with other numbers."""
    found = [classes["MetricFamily"].FromString(one.SerializeToString()) for one in families]
    for one in found:
        for each in one.metric:
            if chance.random() < 0.3:
                each.MergeFrom(classes["Metric"](**some_value(chance, one.type)))
    if chance.random() < 0.3:
        found.insert(chance.randrange(len(found) + 1), some_family(chance, classes))
    return found


def compare(reader, seed, answers):
    """Compare with what the text says over the answers of one target; count the samples."""
    chance = random.Random(seed)
    classes = chance.choice(BOTH)
    families = [some_family(chance, classes) for _ in range(chance.choice([1, 3, 8]))]
    count = 0
    for _ in range(answers):
        resource = chance.choice([WEB1, WITH_LABELS])
        expected = as_text(families, resource)
        assert same(read(reader, delimited(families), resource), expected), (seed, families)
        count += len(expected[0]) + expected[1].total()
        families = changed(chance, classes, families)
    return count


def same(one, other):
    """Whether two readings are equal, and -0.0 is not 0."""
    return one == other and [math.copysign(1, each.volume) for each in one[0]] == [
        math.copysign(1, each.volume) for each in other[0]
    ]


def test_whatever_families_come_they_are_read_as_their_text_is(reader):
    assert sum(compare(reader, seed, 4) for seed in range(120)) > 2000


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_a_million_samples_are_read_as_their_text_is(reader):
    count = 0
    for seed in itertools.count(1000):
        count += compare(reader, seed, 6)
        if count > 1_000_000:
            return


def damaged(chance, body):
    """An answer of which some bytes are others, are gone, or are there twice."""
    found = bytearray(body)
    for _ in range(chance.choice([1, 1, 2, 5])):
        if not found:
            break
        at = chance.randrange(len(found))
        match chance.randrange(4):
            case 0:
                found[at] = chance.randrange(256)
            case 1:
                found[at] ^= 1 << chance.randrange(8)
            case 2:
                del found[at : at + chance.choice([1, 2, 9])]
            case _:
                found[at:at] = found[at : at + chance.choice([1, 2, 9])]
    return bytes(found)


def parsed(classes, body):
    """The families that the protobuf library finds in an answer; ``None``: it refuses it."""
    found, at = [], 0
    try:
        while at < len(body):
            size, start = length(body, at, len(body))
            at = start + size
            found.append(classes["MetricFamily"].FromString(body[start:at]))
    except (DecodeError, BadExposition, UnicodeDecodeError):
        return None
    return found


def read_damaged(seed):
    """Read an answer that is damaged, twice, by both twins; return how often it was readable."""
    chance = random.Random(seed)
    classes = chance.choice(BOTH)
    families = [some_family(chance, classes) for _ in range(chance.choice([1, 2]))]
    has_native = chance.random() < 0.3
    if has_native:
        native = metric(classes, {"a": "b"}, histogram=some_native(chance))
        families.append(family(classes, "native", HISTOGRAM, native))
    body = damaged(chance, delimited(families)) if chance.random() < 0.9 else delimited(families)
    found = {}
    for name, twin in TWINS.items():
        if twin is None:
            continue
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(exposition_series, "_messages", twin)
            again = ExpositionReader(_meter)
            read(again, delimited(families))
            found[name] = read(again, body)
            assert same_or_refused(read(again, body), found[name]), (seed, name)
            twin.count_samples(body)
    assert all(same_or_refused(one, found["plain"]) for one in found.values()), seed
    if found["plain"] is None:
        return 0
    understood = parsed(CLIENT, body)
    if understood is not None and not has_native and may_stand_in_text(understood):
        with contextlib.suppress(BadExposition):  # the text format has fewer names
            assert same(found["plain"], as_text(understood)), seed
    return 1


def same_or_refused(one, other):
    return one is other or (one is not None and other is not None and same(one, other))


def test_whatever_is_damaged_both_twins_read_or_refuse_as_the_library_would():
    assert sum(read_damaged(seed) for seed in range(400)) > 40


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_a_hundred_thousand_damaged_answers_are_read_or_refused():
    assert sum(read_damaged(seed) for seed in range(1000, 101_000)) > 10_000


@given(body=st.binary(max_size=60))
@settings(max_examples=200, deadline=None)
def test_no_bytes_are_too_odd(body):
    found = []
    for twin in filter(None, TWINS.values()):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(exposition_series, "_messages", twin)
            found.append(read(ExpositionReader(_meter), body))
    assert all(same_or_refused(one, found[0]) for one in found)
