"""Expositions as columns: the same as the parser of prometheus-client says, line by line."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashring.telemetry.errors import BadExposition
from hashring.telemetry.model.resource import Resource
from hashring.telemetry.sources.web import exposition_lines, exposition_series
from hashring.telemetry.sources.web.exposition import _meter, measurements
from hashring.telemetry.sources.web.exposition_series import ExpositionReader
from tests.properties import examples
from tests.telemetry.test_exposition_text import ALL

WEB1 = Resource("prometheus+http://web1/metrics", "exposition")
WITH_LABELS = Resource(
    "prometheus+http://web2/metrics", "exposition", {"labels": {"a": "its own", "rack": 'r"1'}}
)
TWINS = {"plain": exposition_lines, "compiled": exposition_series._native}


@pytest.fixture(params=[name for name, twin in TWINS.items() if twin is not None])
def reader(request, monkeypatch):
    monkeypatch.setattr(exposition_series, "_lines", TWINS[request.param])
    return ExpositionReader(_meter)


def oracle(text, resource, is_openmetrics=False):
    """What the parser of prometheus-client makes of a text: measurements, and what is left out."""
    skipped = Counter()
    try:
        found = list(measurements(text, resource, is_openmetrics=is_openmetrics, skipped=skipped))
    except BadExposition:
        return None
    # -0 and 0 are equal, 1 and 1.0 as well: what is written must be the same.
    return [(one._replace(metadata=dict(one.metadata)), repr(one.volume)) for one in found], skipped


def read(reader, text, resource, is_openmetrics=False):
    skipped = Counter()
    try:
        found = reader.read(text.encode(), resource, is_openmetrics=is_openmetrics, skipped=skipped)
    except BadExposition:
        return None
    return [(one._replace(metadata=dict(one.metadata)), repr(one.volume)) for one in found], skipped


@pytest.mark.parametrize("name", ALL)
def test_what_prometheus_reads_is_read_the_same_at_the_first_time_and_at_the_next(reader, name):
    text, is_openmetrics = ALL[name]

    for resource in (WEB1, WITH_LABELS, WEB1, WITH_LABELS):
        expected = oracle(text, resource, is_openmetrics)
        assert read(reader, text, resource, is_openmetrics) == expected


NAMES = ["x", "x_total", "wait_bucket", "a:b", "_y", "x{", "1x", "ñ", "x y", '{"u.8"', "", "# x"]
VALUES = [
    *("1", "-0", "+7", "007", "1.5", "-2.50e-3", ".5", "5.", "1e999", "NaN", "+Inf", "-Inf", "inf"),
    *("nan", "1_0", "0x1", "12345678901234567890", "18446744073709551616", "9" * 400, "", "1 2"),
    *("0.1", "1e22", "1e23", "123456789012345678", "0.30000000000000004", "1.7976931348623157e308"),
    *("5e-324", "2.2250738585072011e-308", "9007199254740993.0", "1e-400", "1E5", "1e+5", "1e"),
    *("3 1520879607789", "3\t4", "3 -1", "3 1.5", "3 x",),
    *('1 # {t="a b"} 0.5', '1 # {t="x"} 0.5 7.5'),
    *("4  17", "4 17 ", "1e00001", "--1", "1.2.3", "0" * 50),
]  # fmt: skip
LABELS = [
    *("", "{}", '{a="1"}', '{a="1",b="2"}', '{b="2",a="1"}', '{a="1",}', '{a="1",,}', '{,a="1"}'),
    *('{a="say \\"x\\""}', '{a="a\\\\b\\n"}', '{a="\\q"}', '{a="ñ\u2028"}', '{a="}"}', '{a="{"}'),
    *('{a="1",a="2"}', '{__name__="z"}', '{__x="1"}', '{ a="1"}', '{a ="1"}', '{a= "1"}'),
    '{a="1" }',
    *('{a="1"', '{a=1}', '{"q.r"="1"}', '{a="# EOF"}', '{a=""}', '{a="\t"}', '{le="+Inf"}'),
    *('{a="\\', '{a="x" b="y"}', '{rack="1",exported_rack="2"}', '{a="\x7f\x01"}', ' {a="1"}'),
]  # fmt: skip
COMMENTS = [
    *("# TYPE x counter", "# TYPE x_total gauge", "# TYPE wait histogram", "# UNIT x seconds", ""),
    "#",
    *("# HELP x \\n", "# TYPE x", "# TYPE x odd", "# EOF", "#TYPE x gauge", '# TYPE "u.8" gauge'),
    *(" \t", "\x0b", "\u2003", " x 1", "\x1cx 1", "x 1\x0b", "x 1\r", "# EOF\x0b", "# a note"),
]  # fmt: skip


def line(chance):
    """A line, most often one of the usual kind: one that is odd has the whole answer refused."""
    usual = chance.random() < 0.95
    if chance.random() < 0.15:
        return chance.choice(COMMENTS[:5] if usual else COMMENTS)
    name = chance.choice(NAMES[:5] if usual else NAMES)
    labels = chance.choice(LABELS[:11] if usual else LABELS)
    blank = chance.choice([" ", " ", " ", "  ", "\t", ""])
    return f"{name}{labels}{blank}{chance.choice(VALUES[:9] if usual else VALUES)}"


def changed(chance, lines):
    """The lines of the next answer: most often the same, with other numbers."""
    found = list(lines)
    for _ in range(chance.choice([0, 0, 1, 2])):
        place = chance.randrange(len(found) + 1)
        found[place : place + chance.randrange(2)] = [line(chance)]
    return [
        one.rpartition(" ")[0] + f" {chance.randrange(100)}"
        if chance.random() < 0.3 and not one.startswith("#") and " " in one
        else one
        for one in found
    ]


def compare(reader, seed, answers):
    """Compare with the oracle over the answers of one target; count the lines that were read."""
    chance = random.Random(seed)
    lines = [line(chance) for _ in range(chance.choice([1, 3, 12]))]
    count = 0
    for _ in range(answers):
        is_openmetrics = chance.random() < 0.2
        text = "\n".join([*lines, "# EOF"] if is_openmetrics else lines)
        text += chance.choice(["\n", "\n", ""])
        resource = chance.choice([WEB1, WITH_LABELS])
        expected = oracle(text, resource, is_openmetrics)
        assert read(reader, text, resource, is_openmetrics) == expected, (seed, text)
        count += 0 if expected is None else len(lines)
        lines = changed(chance, lines)
    return count


def test_whatever_lines_come_in_whatever_order_they_are_read_as_the_oracle_reads_them(reader):
    assert sum(compare(reader, seed, 4) for seed in range(300)) > 2000


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_a_million_lines_are_read_as_the_oracle_reads_them(reader):
    count = 0
    for seed in range(1000, 10**9):
        count += compare(reader, seed, 6)
        if count > 1_000_000:
            return


@given(text=st.text(alphabet='x{a="1,}\\n \t.e+-#\n0_:ñ', max_size=60))
@examples(300)
def test_no_text_is_read_otherwise_than_by_the_oracle(text):
    expected = oracle(text, WEB1)
    for twin in filter(None, TWINS.values()):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(exposition_series, "_lines", twin)
            again = ExpositionReader(_meter)
            assert read(again, text, WEB1) == expected
            assert read(again, text, WEB1) == expected
