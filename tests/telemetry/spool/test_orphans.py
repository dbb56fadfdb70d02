"""What a process that ended left behind: adopted once, or left alone."""

import pytest

from hashring.telemetry.errors import SpoolFull
from tests.telemetry.spool.holding import (
    FIRST,
    A,
    B,
    delivered,
    files,
    samples,
    size_of_one,
    to,
    windows,
)


def test_the_spool_of_a_process_that_ended_is_adopted_delivered_and_removed(
    opened, orphan, tmp_path
):
    orphan(samples(5), (A, B))
    spool = opened()
    spool.put(to((A,), samples(5, start=5)))

    assert spool.adopt() == 1

    assert spool.waiting == {A: 10, B: 5}
    assert windows(delivered(spool, A)) == list(range(10))
    assert windows(delivered(spool, B)) == list(range(5))
    assert len(files(tmp_path)) == 1
    assert len(files(tmp_path, ".lock")) == 1


def test_orphans_are_delivered_oldest_first(opened, orphan):
    for start in range(0, 30, 10):
        orphan(samples(10, start))
    spool = opened()

    assert spool.adopt() == 3

    assert windows(delivered(spool, A)) == list(range(30))


def test_a_publisher_goes_on_in_an_orphan_where_it_was(opened, tmp_path):
    first = opened()
    first.put(to((A, B), samples(10)))
    first.done(first.take(A, 4))
    first.close()
    second = opened()
    second.adopt()

    assert windows(delivered(second, A)) == [4, 5, 6, 7, 8, 9]
    assert windows(delivered(second, B)) == list(range(10))


def test_a_spool_whose_process_lives_is_left_alone(opened):
    first, second = opened(), opened()
    first.put(to((A,), samples(3)))

    assert second.adopt() == 0

    assert second.waiting == {}
    assert first.waiting == {A: 3}


def test_an_orphan_has_one_heir(opened, orphan):
    orphan(samples(3))
    first, second = opened(), opened()

    assert (first.adopt(), second.adopt()) == (1, 0)

    first.close()
    assert second.adopt() == 1
    assert windows(delivered(second, A)) == [0, 1, 2]


def test_an_adopted_orphan_counts_against_the_bound(opened, orphan):
    path = orphan(samples(100, FIRST))
    held = 100 * size_of_one()
    assert path.stat().st_size > held
    spool = opened(max_bytes=held)

    assert spool.adopt() == 1

    with pytest.raises(SpoolFull):
        spool.put(to((A,), samples(1)))


def test_an_orphan_waits_while_it_would_pass_the_bound(opened, orphan):
    orphan(samples(1000))
    spool = opened(max_bytes=100_000)
    spool.put(to((A,), samples(1, start=1000)))

    assert spool.adopt() == 0
    assert windows(delivered(spool, A)) == [1000]
    assert spool.adopt() == 1

    assert windows(delivered(spool, A)) == list(range(1000))


def test_a_process_that_died_before_its_first_sample_leaves_nothing_behind(opened, tmp_path):
    (tmp_path / "00001-a-1.spool").touch()
    (tmp_path / "00002-a-2.lock").touch()
    spool = opened()

    assert spool.adopt() == 0

    assert len(files(tmp_path)) == 1
    assert len(files(tmp_path, ".lock")) == 1
