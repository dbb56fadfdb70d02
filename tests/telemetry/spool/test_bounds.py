"""What a spool keeps, for whom, and up to which bound."""

import threading

import pytest

from hashring.errors import BadArgument
from hashring.telemetry.errors import SpoolBroken, SpoolFull
from tests.telemetry.spool.holding import (
    FIRST,
    MIB,
    A,
    B,
    delivered,
    files,
    samples,
    size_of_one,
    to,
    windows,
)


def test_samples_come_back_as_they_were_and_in_order(opened):
    spool = opened()
    put = samples(120, disk="sda", sizes=[1, 2])

    spool.put(to((A,), put))

    assert delivered(spool, A) == put


def test_a_sample_stays_until_each_of_its_publishers_has_taken_it(opened):
    spool = opened()
    spool.put(to((A, B), samples(10)))

    assert windows(delivered(spool, A)) == list(range(10))
    assert spool.waiting == {B: 10}
    assert spool.bytes > 0
    assert windows(delivered(spool, B)) == list(range(10))
    assert spool.waiting == {}
    assert spool.bytes == 0


def test_what_was_taken_but_not_done_is_taken_again(opened):
    spool = opened()
    spool.put(to((A,), samples(5)))

    first = spool.take(A, 3)
    again = spool.take(A, 3)

    assert first.samples == again.samples
    assert spool.waiting_for(A) == 5


def test_samples_with_different_publishers_keep_their_order(opened):
    spool = opened()
    for window, urls in enumerate([(A,), (A, B), (B,), (B, A), (A, A)]):
        spool.put(to(urls, samples(1, window)))

    assert windows(delivered(spool, A, limit=2)) == [0, 1, 3, 4]
    assert windows(delivered(spool, B, limit=2)) == [1, 2, 3]


def test_a_sample_for_nobody_is_not_kept(opened):
    spool = opened()

    spool.put(to((), samples(3)))

    assert spool.bytes == 0


def test_at_the_bound_the_newest_are_refused_and_nothing_of_the_call_is_kept(opened):
    size = size_of_one()
    spool = opened(max_bytes=10 * size)
    spool.put(to((A,), samples(8, FIRST)))

    with pytest.raises(SpoolFull, match=rf"{8 * size} of {10 * size} bytes .* \(3 samples\)"):
        spool.put(to((A, B), samples(3, FIRST + 8)))
    assert spool.waiting == {A: 8}
    spool.put(to((A,), samples(2, FIRST + 8)))

    assert windows(delivered(spool, A)) == list(range(FIRST, FIRST + 10))


def test_there_is_room_again_once_samples_are_delivered(opened):
    spool = opened(max_bytes=size_of_one())

    for window in range(FIRST, FIRST + 10):
        spool.put(to((A,), samples(1, window)))
        assert windows(delivered(spool, A)) == [window]


def test_a_bound_that_holds_nothing_is_refused(opened):
    with pytest.raises(BadArgument, match="0 bytes"):
        opened(max_bytes=0)


def test_what_a_publisher_will_never_take_can_be_dropped_without_harm_to_the_others(opened):
    spool = opened()
    spool.put(to((A, B), samples(5)))
    spool.put(to((A,), samples(5, start=5)))

    assert spool.drop(A) == 10

    assert spool.waiting == {B: 5}
    assert windows(delivered(spool, B)) == list(range(5))
    assert spool.bytes == 0


def test_a_sample_that_is_not_json_is_refused_by_name(opened):
    spool = opened()

    with pytest.raises(BadArgument, match=r"tank\.level of plant:north.*metadata"):
        spool.put(to((A,), samples(1, odd=object())))

    assert spool.waiting == {}


def test_threads_put_at_once_and_each_call_is_whole(opened):
    spool = opened(max_bytes=8 * MIB)

    def put(start):
        for first in range(start, start + 400, 10):
            spool.put(to((A,), samples(10, first)))

    threads = [threading.Thread(target=put, args=(start,)) for start in range(0, 1600, 400)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    found = windows(delivered(spool, A, limit=33))
    assert sorted(found) == list(range(1600))
    for first in range(0, 1600, 10):
        place = found.index(first)
        assert found[place : place + 10] == list(range(first, first + 10))


def test_only_its_user_may_read_a_spool(opened, tmp_path):
    spool = opened(owner="../agent 7")
    spool.put(to((A,), samples(1)))

    found = {
        path.name.partition(".spool")[2]: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()
    }

    assert found.keys() >= {"", "-wal"}
    assert set(found.values()) == {0o600}
    assert "-agent_7-" in files(tmp_path)[0].name


def test_an_empty_spool_leaves_nothing_behind(opened, tmp_path):
    spool = opened()
    spool.put(to((A,), samples(3)))
    delivered(spool, A)

    spool.close()

    assert list(tmp_path.iterdir()) == []


def test_a_closed_spool_says_so(opened):
    spool = opened()
    spool.close()

    with pytest.raises(SpoolBroken, match="is closed"):
        spool.put(to((A,), samples(1)))


def test_a_file_shrinks_after_a_backlog(opened, tmp_path):
    def size():
        return sum(path.stat().st_size for path in tmp_path.iterdir())

    spool = opened(max_bytes=64 * MIB)
    for start in range(0, 12_000, 1000):
        spool.put(to((A,), samples(1000, start, filler="x" * 1000)))
    before = size()

    half = []
    for _ in range(20):
        batch = spool.take(A, 500)
        half += batch.samples
        spool.done(batch)
    between = size()
    rest = delivered(spool, A, limit=500)

    assert windows(half + rest) == list(range(12_000))
    assert before > 15 * MIB
    assert between < before - 3 * MIB  # a sixth still waits
    assert size() < 6 * MIB  # a log of at most 4 MiB, and nothing else of weight
