import dataclasses
import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashring.telemetry.model.resource import on_host
from hashring.telemetry.model.sample import Meter, MeterType, Sample, sample_id

UTIL = Meter("hardware.cpu.util", MeterType.GAUGE, "%")


def sample(**changes):
    values = {
        "meter": UTIL,
        "volume": 12.5,
        "resource_id": "web1:host",
        "timestamp": 1_700_000_000.25,
        "window": 28_333_333,
        "interval": 60.0,
        "member": "a",
        "token": ("view", "incarnation", 28_333_333),
    }
    return Sample(**values | changes)


def test_the_id_is_the_same_whoever_takes_the_sample_and_whatever_is_measured():
    other = sample(member="b", volume=99, timestamp=1_700_000_030.0, token=("v", "i", 28_333_333))

    assert sample().id == other.id


def test_the_id_is_the_same_in_every_process():
    script = (
        "from hashring.telemetry.model.sample import sample_id; print(sample_id('m', 'r', 1, 60))"
    )
    found = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )

    assert found.stdout.strip() == sample_id("m", "r", 1, 60.0)


def test_the_id_is_pinned():
    # A sink that refuses repeats compares ids across versions of ours: the format is for ever.
    assert sample().id == "e42ba3fa-3fb6-51d7-9298-970b3d5957a6"


@given(
    st.tuples(st.text(), st.text(), st.integers(), st.sampled_from([1.0, 10.0, 60.0])),
    st.tuples(st.text(), st.text(), st.integers(), st.sampled_from([1.0, 10.0, 60.0])),
)
def test_two_samples_have_one_id_only_if_meter_resource_window_and_interval_are_equal(one, other):
    assert (sample_id(*one) == sample_id(*other)) == (one == other)


def test_a_line_holds_what_a_sink_needs_and_ends_with_a_newline():
    line = sample().to_line()

    assert line.endswith(b"}\n")
    assert line.count(b"\n") == 1
    assert json.loads(line) == {
        "id": sample().id,
        "meter": "hardware.cpu.util",
        "type": "gauge",
        "unit": "%",
        "volume": 12.5,
        "resource_id": "web1:host",
        "timestamp": "2023-11-14T22:13:20.250000+00:00",
        "window": 28_333_333,
        "interval": 60.0,
        "member": "a",
        "token": ["view", "incarnation", 28_333_333],
    }


def test_a_name_with_a_line_break_stays_on_one_line():
    assert sample(resource_id="web1:disk:a\nb\u2028c").to_line().count(b"\n") == 1


def test_what_a_discovery_adds_to_a_resource_does_not_make_it_another():
    plain = on_host("web1", "filesystem", "/dev/sda1")
    known = on_host("web1", "filesystem", "/dev/sda1", mountpoint="/")

    assert plain == known
    assert plain.id == known.id == "web1:filesystem:/dev/sda1"


def test_what_is_known_beside_is_part_of_the_line_and_what_is_not_is_left_out():
    known = sample(metadata={"host": "web1"}, project_id="p", user_id="u", source="all")

    plain = sample().to_json()
    more = {name: value for name, value in known.to_json().items() if name not in plain}

    assert {name: known.to_json()[name] for name in plain} == plain
    assert more == {
        "metadata": {"host": "web1"},
        "project_id": "p",
        "user_id": "u",
        "source": "all",
    }


@given(
    st.one_of(st.integers(-(2**53), 2**53), st.floats(allow_nan=False, allow_infinity=False)),
    st.text(),
    st.floats(0, 4e9),
    st.dictionaries(st.text(), st.one_of(st.none(), st.text(), st.integers())),
    st.one_of(st.none(), st.text(min_size=1)),
)
def test_a_sample_is_read_back_as_it_was_written(volume, id_, timestamp, metadata, owner):
    told = sample(
        volume=volume,
        resource_id=id_,
        timestamp=round(timestamp, 6),
        metadata=metadata,
        project_id=owner,
        user_id=owner,
        source=owner or "",
    )

    read = Sample.from_json(json.loads(told.to_line()))

    assert dataclasses.replace(read, timestamp=0) == dataclasses.replace(told, timestamp=0)
    assert abs(read.timestamp - told.timestamp) < 2e-6  # to the microsecond
    assert read.id == told.id


@pytest.mark.parametrize("broken", [{}, {"meter": "m"}])
def test_what_is_no_sample_is_refused(broken):
    with pytest.raises((KeyError, TypeError, ValueError)):
        Sample.from_json(broken)
