"""Polls, whose columns are kept once however many polls they serve."""

import dataclasses
import random

import pytest

from hashring.telemetry.delivery import columns
from hashring.telemetry.delivery.spool import Spool
from hashring.telemetry.errors import SpoolFull
from hashring.telemetry.model.batch import batches_of
from tests.telemetry.spool.holding import MIB, A, B, delivered, poll, to


def test_one_polls_samples_are_taken_in_parts_and_each_part_once(opened):
    spool = opened()
    spool.put(to((A, B), poll(10)))

    first = spool.take(A, 4)
    spool.done(first)

    assert len(first) == 4
    assert spool.waiting == {A: 6, B: 10}
    assert [*first.samples, *delivered(spool, A, limit=4)] == poll(10)
    assert delivered(spool, B, limit=3) == poll(10)
    assert spool.bytes == 0


def test_a_part_that_was_taken_before_the_process_ended_is_not_given_to_its_heir(opened):
    first = opened()
    first.put(to((A, B), poll(10)))
    first.done(first.take(A, 4))
    first.close()
    second = opened()

    assert second.adopt() == 1

    assert second.waiting == {A: 6, B: 10}
    assert delivered(second, A, limit=5) == poll(10)[4:]
    assert delivered(second, B) == poll(10)


def test_what_was_measured_is_written_out_once_however_many_polls_it_serves(opened):
    (batch,) = batches_of(poll(500))
    spool = opened()
    spool.put([(batch, (A,))])
    packed = batch.series.packed

    spool.put([(dataclasses.replace(batch, window=8, volumes=[1] * 500), (A,))])

    assert batch.series.packed is packed
    found = spool.take(A, 1000).batches
    assert [part.window for part in found] == [7, 8]
    assert all(part.series is batch.series for part in found)


def test_an_heir_reads_columns_that_are_kept_apart(opened, orphan):
    orphan(poll(500), (A, B))
    spool = opened()

    assert spool.adopt() == 1

    assert delivered(spool, A, limit=300) == poll(500)
    assert delivered(spool, B) == poll(500)
    assert spool.bytes == 0


def test_polls_of_the_same_series_take_little_more_than_their_numbers(opened, tmp_path):
    spool = opened()
    (first,) = batches_of(poll(500))
    spool.put([(first, (A,))])
    one = spool.bytes

    for window in range(8, 28):
        spool.put([(dataclasses.replace(first, window=window), (A,))])

    assert (spool.bytes - one) / 20 < one / 3
    assert len(delivered(spool, A)) == 21 * 500
    assert spool.bytes == 0


def test_a_bound_counts_columns_that_wait_once_and_those_that_do_not_no_more(opened):
    (batch,) = batches_of(poll(500))
    spool = opened()
    spool.put([(batch, (A,))])
    size = spool.bytes
    spool.close()
    spool = opened(max_bytes=size)

    for _ in range(3):
        spool.put([(batch, (A,))])
        with pytest.raises(SpoolFull, match="500 samples"):
            spool.put([(batch, (A,))])
        assert delivered(spool, A) == poll(500)


def test_columns_that_no_poll_has_any_more_leave_the_file(opened, tmp_path, monkeypatch):
    monkeypatch.setattr(columns, "_KEPT", 40_000)
    spool = opened(max_bytes=8 * MIB)
    for start in range(30):
        found = [
            dataclasses.replace(one, resource_id=f"{start}{one.resource_id}") for one in poll(500)
        ]
        spool.put(to((A, B), found))
        assert delivered(spool, A) == delivered(spool, B) == found

    assert spool._own._columns._idle_bytes <= 40_000
    assert len(spool._own._columns._stored) <= 2


def test_columns_that_wait_for_long_are_in_the_file_alone(opened, monkeypatch):
    monkeypatch.setattr(columns, "_IN_MEMORY", 40_000)
    spool = opened(max_bytes=8 * MIB)
    polls = [
        [dataclasses.replace(one, resource_id=f"{n}:{one.resource_id}") for one in poll(500)]
        for n in range(9)
    ]
    for each in [*polls, *polls]:
        spool.put(to((A,), each))

    assert spool._own._columns._held_bytes <= 40_000
    assert delivered(spool, A, limit=700) == [one for each in [*polls, *polls] for one in each]
    assert spool.bytes == 0
    assert not spool._own._columns._stored.keys() - spool._own._columns._held.keys()


def test_polls_large_and_small_behave_as_lists_do_whoever_holds_them(tmp_path):
    chance = random.Random(5)
    lists = {A: [], B: []}
    polls = [batches_of(poll(size))[0] for size in (1, 3, 150, 400)]
    spool = Spool(tmp_path, max_bytes=8 * MIB)
    for window in range(150):
        urls = chance.choice([(A,), (B,), (A, B)])
        batch = dataclasses.replace(chance.choice(polls), window=window)
        spool.put([(batch, urls)])
        for url in urls:
            lists[url] += list(batch)
        url = chance.choice([A, B])
        for _ in range(chance.randrange(3)):
            if (parcel := spool.take(url, chance.choice([7, 100, 1000]))) is not None:
                assert list(parcel.samples) == lists[url][: len(parcel)]
                spool.done(parcel)
                del lists[url][: len(parcel)]
        if chance.random() < 0.1:
            spool.close()
            spool = Spool(tmp_path, max_bytes=8 * MIB)
            spool.adopt()
        assert spool.waiting == {url: len(found) for url, found in lists.items() if found}
    for url, found in lists.items():
        assert delivered(spool, url, limit=1000) == found
    assert spool.bytes == 0
    spool.close()
