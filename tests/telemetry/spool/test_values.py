"""Whatever a sample holds comes back, and what is no sample is found."""

import dataclasses
import sqlite3

import pytest

from hashring.telemetry.errors import SpoolBroken
from hashring.telemetry.model.sample import MeterType, Sample
from tests.telemetry.spool.holding import (
    METER,
    A,
    delivered,
    fields,
    of_layout_1,
    poll,
    samples,
    to,
)


def test_a_number_of_any_size_and_a_text_that_is_no_unicode_come_back(opened):
    spool = opened()
    put = [
        dataclasses.replace(one, volume=2**70, resource_id="disk:\udcff", metadata={"n": 2**80})
        for one in poll(2)
    ]

    spool.put(to((A,), put))

    assert delivered(spool, A) == put


def test_a_changed_byte_is_found_by_the_checksum(opened, orphan, tmp_path):
    path = orphan(poll(3))
    connection = sqlite3.connect(path)
    ((payload,),) = connection.execute("SELECT payload FROM batches").fetchall()
    connection.execute("UPDATE batches SET payload = ?", (payload[:-1] + b"\x07",))
    connection.commit()
    connection.close()
    spool = opened()
    spool.adopt()

    with pytest.raises(SpoolBroken, match="checksum"):
        spool.take(A, 10)

    assert path.with_suffix(".broken").exists()


def test_every_field_of_a_sample_comes_back(opened):
    spool = opened()
    sample = Sample(
        METER, 0.1 + 0.2, "plant:ñorth", 1e9 / 3, 7, 0.5, "a", ("v", "i", 7), {"a": [1, None]},
        project_id="p", user_id="u", source="tanks",
    )  # fmt: skip
    spool.put([(sample, (A,))])

    (found,) = delivered(spool, A)

    assert found == sample
    assert found.id == sample.id
    assert isinstance(found.meter.type, MeterType)


def test_a_sample_of_a_version_with_fewer_fields_has_defaults_for_the_rest(opened, tmp_path):
    put = samples(2)
    of_layout_1(tmp_path, [fields(one)[:9] for one in put], {A: 0})
    spool = opened()
    spool.adopt()

    assert delivered(spool, A) == put


@pytest.mark.parametrize("values", [["what?"], {"a": 1}, []])
def test_a_spool_with_what_is_not_a_sample_is_set_aside(opened, tmp_path, values):
    path = of_layout_1(tmp_path, [values], {A: 0})
    spool = opened()
    spool.adopt()

    with pytest.raises(SpoolBroken, match="not a sample"):
        spool.take(A, 10)

    assert path.with_suffix(".broken").exists()
    assert spool.take(A, 10) is None
