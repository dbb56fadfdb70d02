"""Samples as columns: the same ids and lines as a sample at a time, byte for byte."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashring.errors import BadArgument
from hashring.telemetry.model import batch as module
from hashring.telemetry.model import lines
from hashring.telemetry.model.batch import Batch, Measured, batches_of
from hashring.telemetry.model.sample import Measurement, Meter, MeterType, Sample
from hashring.telemetry.polling.parts import parted
from tests.properties import examples


class Portable:
    """The compiled twin on a processor without instructions for SHA-1."""

    def __getattr__(self, name):
        function = getattr(module._native, name)

        def called(*args):
            module._native.use_processor(False)
            try:
                return function(*args)
            finally:
                module._native.use_processor()

        return called


TWINS = [lines] if module._native is None else [lines, module._native, Portable()]
LOAD = Meter("load", MeterType.GAUGE, "")
READ = Meter("disk.read", MeterType.CUMULATIVE, "B")

texts = st.text(st.characters(blacklist_categories=["Cs"]), max_size=8)
numbers = (
    st.floats(allow_nan=True, allow_infinity=True)
    | st.decimals(-1000, 10**10, places=3).map(float)
    | st.integers(-(2**80), 2**80)
    | st.sampled_from([0, -1, 2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 2**64])
    | st.booleans()
)
values = st.none() | st.booleans() | st.integers() | texts | st.lists(texts, max_size=2)
meters = st.builds(Meter, texts, st.sampled_from(MeterType), texts)
samples = st.builds(
    Sample,
    meter=meters,
    volume=numbers,
    resource_id=texts,
    timestamp=st.sampled_from([0.0, 600.25, 1_778_400_000.123456]),
    window=st.integers(0, 3),
    interval=st.sampled_from([1, 60.0, 0.5]),
    member=st.sampled_from(["a", 'ñ"']),
    token=st.sampled_from([(), ("v", "i", 7)]),
    metadata=st.dictionaries(texts, values, max_size=3),
    project_id=st.none() | texts,
    user_id=st.none() | texts,
    source=texts,
)


@given(found=st.lists(samples, max_size=12))
@examples(150)
def test_batches_have_the_lines_and_ids_of_their_samples(found):
    batches = batches_of(found)

    for twin in TWINS:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "_lines", twin)
            assert b"".join(each.lines() for each in batches) == b"".join(
                one.to_line() for one in found
            )
            assert [id_ for each in batches for id_ in each.ids()] == [one.id for one in found]


@pytest.mark.parametrize("twin", TWINS)
@pytest.mark.parametrize("length", [0, 1, 20, 30, 31, 39, 40, 48, 100, 5000])
def test_an_id_of_any_length_is_that_of_one_sample(monkeypatch, twin, length):
    monkeypatch.setattr(module, "_lines", twin)
    found = [
        Sample(LOAD, 1, text * length, 0.0, 7, 60.0, "a", ("v", "i", 7)) for text in ("x", "ñ")
    ]

    (batch,) = batches_of(found)

    assert batch.ids() == [one.id for one in found]


@pytest.mark.parametrize("twin", TWINS)
def test_any_character_at_any_place_of_a_text_is_written_as_json_writes_it(monkeypatch, twin):
    monkeypatch.setattr(module, "_lines", twin)
    found = [
        Sample(LOAD, 1, "x" * place + character + "y" * 9, 0.0, 7, 60.0, "a", ())
        for place in (0, 3, 7, 8, 13)
        for character in (*map(chr, range(256)), "\u20ac", "\U0001f600")
    ]

    (batch,) = batches_of(found)

    assert batch.lines() == b"".join(one.to_line() for one in found)


def test_samples_come_back_from_a_batch_one_by_one_and_in_parts():
    found = [
        Sample(
            LOAD if n % 2 else READ, n, f"disk:{n}", 600.25, 10, 60.0, "a", ("v", "i", 10),
            {"n": n}, project_id="p" if n else None, source=f"s{n % 2}",
        )
        for n in range(5)
    ]  # fmt: skip

    (batch,) = batches_of(found)

    assert list(batch) == found
    assert batch[-1] == found[-1]
    assert list(batch[1:4]) == found[1:4]
    assert batch[1:4].lines() == b"".join(one.to_line() for one in found[1:4])
    assert [len(each) for each in batches_of([*found, *found])] == [10]


def test_what_cannot_be_written_as_json_is_refused_by_name():
    with pytest.raises(BadArgument, match=r"load of web1:a cannot be written as JSON"):
        Measured.of([Measurement(LOAD, 1, "web1:a", {"odd": object()})], "web1")


def test_what_was_measured_is_divided_by_where_it_goes_and_the_parts_stay_the_same_objects():
    measured = Measured.of(
        [
            Measurement(LOAD, 1.5),
            Measurement(READ, 2, "web1:sda"),
            Measurement(Meter("odd", MeterType.GAUGE, ""), 3),
            Measurement(READ, 4, "web1:sdb"),
        ],
        "web1",
    )
    sources = {"load": "cpu", "disk.read": "disks"}
    targets = {"load": ("file:///a",), "disk.read": ("file:///b",)}

    def divided():
        return {
            urls: (part, told)
            for part, told, urls in parted(measured, sources.get, targets.__getitem__)
        }

    found = divided()

    assert {urls: [one.volume for one in part] for urls, (part, _) in found.items()} == {
        ("file:///a",): [1.5],
        ("file:///b",): [2, 4],
    }
    part, told = found["file:///b",]
    batch = Batch(part.series, part.volumes, 0.0, 7, 60.0, "a", (), told)
    assert [(one.resource_id, one.source) for one in batch] == [
        ("web1:sda", "disks"),
        ("web1:sdb", "disks"),
    ]
    assert divided()["file:///b",][0].series is part.series


def test_a_line_is_one_line_of_json_whatever_a_name_holds():
    (batch,) = batches_of(
        [Sample(LOAD, 1, 'a\n"b"\\\x7f\u2028', 0.0, 7, 60.0, "a", (), {"k\n": "v\n"})]
    )

    (line,) = batch.lines().splitlines()

    assert json.loads(line)["resource_id"] == 'a\n"b"\\\x7f\u2028'
