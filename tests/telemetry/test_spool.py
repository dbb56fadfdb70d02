import dataclasses
import functools
import json
import os
import random
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from hashring.errors import BadArgument
from hashring.telemetry.delivery import columns
from hashring.telemetry.delivery.spool import Spool
from hashring.telemetry.errors import SpoolBroken, SpoolFull
from hashring.telemetry.model.batch import batches_of
from hashring.telemetry.model.sample import Meter, MeterType, Sample

METER = Meter("tank.level", MeterType.GAUGE, "l")
A, B, C = "http://a/", "http://b/", "file:///c"
MIB = 1024 * 1024
FIRST = 10_000  # from here on to 99,999 all samples have one size
# A folder in memory, where there is one: each end of a spool syncs its file to disk.
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None


def samples(count, start=0, **metadata):
    return [
        Sample(METER, window, "plant:north", 0.0, window, 1.0, "a", ("v", "i", window), metadata)
        for window in range(start, start + count)
    ]


def to(urls, found):
    return [(sample, urls) for sample in found]


@functools.cache
def size_of_one():
    """The bytes that a sample takes whose window has five digits."""
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        spool = Spool(Path(folder), max_bytes=MIB)
        spool.put(to((A,), samples(1, FIRST)))
        size = spool.bytes
        spool.close()
    return size


def windows(found):
    return [sample.window for sample in found]


def delivered(spool, url, limit=50):
    """Take and have done whatever waits for a publisher."""
    found = []
    while (batch := spool.take(url, limit)) is not None:
        found += batch.samples
        spool.done(batch)
    return found


def files(folder, suffix=".spool"):
    return sorted(folder.glob(f"*{suffix}"))


@pytest.fixture
def opened(tmp_path):
    """Open spools in one folder; close them in the end."""
    spools = []

    def open_(**options):
        spool = Spool(tmp_path, **{"max_bytes": MIB} | options)
        spools.append(spool)
        return spool

    yield open_
    for spool in spools:
        spool.close()


@pytest.fixture
def orphan(opened, tmp_path):
    """Leave samples behind, as a process that ended would; return their spool's path."""

    def leave(found, urls=(A,), **options):
        before = set(files(tmp_path))
        spool = opened(**options)
        spool.put(to(urls, found))
        spool.close()
        (path,) = set(files(tmp_path)) - before
        return path

    return leave


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
    for start in range(0, 30_000, 1000):
        spool.put(to((A,), samples(1000, start, filler="x" * 1000)))
    before = size()

    half = []
    for _ in range(50):
        batch = spool.take(A, 500)
        half += batch.samples
        spool.done(batch)
    between = size()
    rest = delivered(spool, A, limit=500)

    assert windows(half + rest) == list(range(30_000))
    assert before > 30 * MIB
    assert between < 25 * MIB  # a sixth still waits
    assert size() < 6 * MIB  # a log of at most 4 MiB, and nothing else of weight


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


def test_a_damaged_orphan_is_set_aside_and_the_others_are_delivered(
    opened, orphan, tmp_path, caplog
):
    damaged = orphan(samples(1000))
    content = bytearray(damaged.read_bytes())
    content[:50] = b"x" * 50
    damaged.write_bytes(content)
    orphan(samples(3))
    spool = opened()

    assert spool.adopt() == 1

    kept = damaged.with_suffix(".broken")
    assert kept.read_bytes() == bytes(content)
    assert not damaged.exists()
    assert str(damaged) in caplog.text
    assert str(kept) in caplog.text
    assert windows(delivered(spool, A)) == [0, 1, 2]


def test_an_sqlite_file_of_another_program_is_set_aside(opened, tmp_path, caplog):
    path = tmp_path / "00001-a-1.spool"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE things (thing)")
    connection.close()
    spool = opened()

    spool.adopt()

    assert "not a spool" in caplog.text
    assert files(tmp_path, ".broken")


def test_a_spool_of_a_later_version_is_left_for_it_and_reported_once(
    opened, orphan, tmp_path, caplog
):
    path = orphan(samples(3))
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    spool = opened()

    assert [spool.adopt(), spool.adopt()] == [0, 0]

    assert caplog.text.count("layout 99") == 1
    assert path.exists()


def test_a_spool_that_is_damaged_in_use_is_set_aside_and_a_new_one_begun(opened, tmp_path):
    spool = opened(max_bytes=64 * MIB)
    for start in range(0, 12_000, 1000):
        spool.put(to((A,), samples(1000, start, filler="x" * 1000)))  # more than SQLite caches
    (path,) = files(tmp_path)
    with path.open("r+b") as file:
        file.seek(8192)
        file.write(random.Random(7).randbytes(path.stat().st_size - 8192))

    with pytest.raises(SpoolBroken) as caught:
        delivered(spool, A)

    assert str(path) in str(caught.value)
    assert str(path.with_suffix(".broken")) in str(caught.value)
    assert path.with_suffix(".broken").exists()
    assert spool.waiting == {}
    spool.put(to((A,), samples(3)))
    assert windows(delivered(spool, A)) == [0, 1, 2]


def test_a_folder_that_cannot_be_used_is_named(tmp_path):
    (tmp_path / "file").touch()

    with pytest.raises(SpoolBroken, match=r"file/spool.*name a folder"):
        Spool(tmp_path / "file" / "spool", max_bytes=MIB)


FULL_DISK = """
import resource, sys
from pathlib import Path
from hashring.telemetry.model.sample import Meter, MeterType, Sample
from hashring.telemetry.delivery.spool import Spool
from hashring.telemetry.errors import SpoolBroken
meter = Meter("tank.level", MeterType.GAUGE, "l")
def put(window):
    sample = Sample(meter, 1, "plant:north", 0.0, window, 1.0, "a", (), {"filler": "x" * 1000})
    spool.put([(sample, ("http://a/",))])
spool = Spool(Path(sys.argv[1]), max_bytes=2**30)
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
kept = 0
try:
    while True:
        put(kept)
        kept += 1
except SpoolBroken as error:
    print(error)
waiting = spool.waiting["http://a/"]
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
put(kept)
found = []
while batch := spool.take("http://a/", 50):
    found += [sample.window for sample in batch.samples]
    spool.done(batch)
assert waiting == kept > 10, (waiting, kept)
assert found == list(range(kept + 1)), found
"""


LAYOUT_1 = """
CREATE TABLE routes (
    route INTEGER NOT NULL, url TEXT NOT NULL, cursor INTEGER NOT NULL, PRIMARY KEY (route, url)
) WITHOUT ROWID;
CREATE TABLE samples (id INTEGER PRIMARY KEY, payload BLOB NOT NULL);
PRAGMA application_id = 0x68727370;
PRAGMA user_version = 1;
"""


def of_layout_1(folder, payloads, cursors):
    """Leave a spool behind as the versions with a row a sample did; return its path."""
    path = folder / "00001-former-1.spool"
    connection = sqlite3.connect(path)
    connection.executescript(LAYOUT_1)
    route = 1 << 44
    connection.executemany(
        "INSERT INTO routes VALUES (1, ?, ?)",
        [(url, route + cursor) for url, cursor in cursors.items()],
    )
    connection.executemany(
        "INSERT INTO samples VALUES (?, ?)",
        [(route + n, json.dumps(values).encode()) for n, values in enumerate(payloads, 1)],
    )
    connection.commit()
    connection.close()
    return path


def fields(sample):
    """A sample as layout 1 kept it."""
    return [
        *(sample.meter, sample.volume, sample.resource_id, sample.timestamp, sample.window),
        *(sample.interval, sample.member, sample.token, dict(sample.metadata)),
        *(sample.project_id, sample.user_id, sample.source),
    ]


def test_a_spool_of_the_layout_before_is_delivered_from_where_each_publisher_was(opened, tmp_path):
    put = samples(10, disk="sda")
    path = of_layout_1(tmp_path, map(fields, put), {A: 0, B: 4})
    spool = opened()

    assert spool.adopt() == 1

    assert spool.waiting == {A: 10, B: 6}
    assert delivered(spool, A, limit=3) == put
    assert delivered(spool, B, limit=4) == put[4:]
    assert not path.exists()


def test_a_spool_of_the_layout_before_may_be_handed_on_half_delivered(opened, tmp_path):
    put = samples(10)
    of_layout_1(tmp_path, map(fields, put), {A: 0})
    first = opened()
    first.adopt()
    first.done(first.take(A, 4))
    first.close()
    second = opened()

    assert second.adopt() == 1
    assert delivered(second, A) == put[4:]


def poll(count, window=7):
    """The samples of one poll: one row of the spool."""
    return [
        Sample(
            METER, n / 3, f"plant:{n}", 5.5, window, 1.0, "a", ("v", "i", window), {"tank": str(n)}
        )
        for n in range(count)
    ]


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


def test_a_disk_that_is_full_is_an_error_and_what_was_kept_stays(tmp_path):
    # The kernel refuses to let files grow, as it does on a full disk.
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path)], capture_output=True, text=True, timeout=90
    )

    assert done.returncode == 0, done.stderr
    assert str(tmp_path) in done.stdout
    assert "disk is full" in done.stdout


def test_a_forked_child_neither_uses_nor_keeps_its_parents_spool(opened):
    spool = opened()
    spool.put(to((A,), samples(3)))
    ready, told = os.pipe()
    hold, release = os.pipe()
    child = os.fork()
    if child == 0:  # lives on, until the test lets it go
        try:
            spool.put(to((A,), samples(1)))
        except SpoolBroken:
            os.write(told, b"refused")
        os.read(hold, 1)
        os._exit(0)
    try:
        assert os.read(ready, 7) == b"refused"
        spool.close()
        heir = opened()

        assert heir.adopt() == 1
        assert windows(delivered(heir, A)) == [0, 1, 2]
    finally:
        os.write(release, b".")
        os.waitpid(child, 0)
        for descriptor in (ready, told, hold, release):
            os.close(descriptor)


PUTTER = """
import sys, threading
from pathlib import Path
from hashring.telemetry.model.sample import Meter, MeterType, Sample
from hashring.telemetry.delivery.spool import Spool
meter = Meter("tank.level", MeterType.GAUGE, "l")
spool = Spool(Path(sys.argv[1]), max_bytes=2**30, owner="putter")
said = threading.Lock()
def put(name):
    for window in range(10**9):
        sample = Sample(meter, 1, f"plant:{name}", 0.0, window, 1.0, "a", ("v", "i", window))
        spool.put([(sample, ("http://a/", "http://b/"))])
        with said:
            sys.stdout.write(f"{sample.id}\\n")
            sys.stdout.flush()
for name in "xyz":
    threading.Thread(target=put, args=(name,)).start()
"""


def test_after_kill_9_every_sample_that_was_put_is_there_once(opened, tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", PUTTER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as child:
        said = [child.stdout.readline().strip() for _ in range(2000)]
        child.kill()
        said += [line.strip() for line in child.stdout if line.endswith("\n")]
    spool = opened(max_bytes=2**30)

    assert spool.adopt() == 1

    for url in (A, B):
        found = [sample.id for sample in delivered(spool, url)]
        assert len(found) == len(set(found))
        assert set(found) >= set(said)


POLLER = """
import dataclasses, sys
from pathlib import Path
from hashring.telemetry.model.batch import batches_of
from hashring.telemetry.model.sample import Meter, MeterType, Sample
from hashring.telemetry.delivery.spool import Spool
meter = Meter("tank.level", MeterType.GAUGE, "l")
spool = Spool(Path(sys.argv[1]), max_bytes=2**30, owner="poller")
polls = [
    batches_of(
        Sample(meter, 1, f"plant:{name}:{n}", 0.0, 0, 1.0, "a", (), {"tank": n}) for n in range(500)
    )[0]
    for name in "xyz"
]
for window in range(10**9):
    for poll in polls:
        spool.put([(dataclasses.replace(poll, window=window), ("http://a/", "http://b/"))])
        if window % 3:
            spool.done(spool.take("http://b/", 300))
    print(window, flush=True)
"""


def test_after_kill_9_at_full_speed_every_poll_that_was_put_is_there_whole_and_once(
    opened, tmp_path
):
    with subprocess.Popen(
        [sys.executable, "-c", POLLER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as child:
        said = [int(child.stdout.readline()) for _ in range(60)]
        child.kill()
        said += [int(line) for line in child.stdout if line.endswith("\n")]
    spool = opened(max_bytes=2**30)

    assert spool.adopt() == 1

    found = []
    while (parcel := spool.take(A, 5000)) is not None:
        found += [(part.window, id_) for part in parcel.batches for id_ in part.ids()]
        spool.done(parcel)
    assert len(found) == len(set(found))
    whole = Counter(window for window, _ in found)
    assert all(whole[window] == 1500 for window in said)
    rest = sum(len(part) for part in delivered_batches(spool, B))
    assert 0 < rest < len(found)


def delivered_batches(spool, url):
    """Take and have done whatever waits for a publisher, as columns."""
    while (parcel := spool.take(url, 5000)) is not None:
        yield from parcel.batches
        spool.done(parcel)


class AgainstLists(RuleBasedStateMachine):
    """A spool behaves as one list for each publisher, however often its process ends."""

    def __init__(self):
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(dir=MEMORY)
        self.lists = {url: [] for url in (A, B, C)}
        self.count = 0
        self.open()

    def open(self):
        self.spool = Spool(Path(self.folder.name), max_bytes=MIB)
        self.spool.adopt()

    @rule(
        destinations=st.lists(
            st.sets(st.sampled_from([A, B, C]), max_size=3).map(tuple), min_size=1, max_size=6
        )
    )
    def put(self, destinations):
        items = []
        for urls in destinations:
            (sample,) = samples(1, FIRST + self.count)
            self.count += 1
            items.append((sample, urls))
            for url in urls:
                self.lists[url].append(sample)
        self.spool.put(items)

    @rule(url=st.sampled_from([A, B, C]), limit=st.integers(1, 5))
    def take(self, url, limit):
        batch = self.spool.take(url, limit)
        if batch is None:
            assert not self.lists[url]
        else:
            # A batch ends where a file does.
            count = len(batch.samples)
            assert 1 <= count <= limit
            assert list(batch.samples) == self.lists[url][:count]
            self.spool.done(batch)
            del self.lists[url][:count]

    @precondition(lambda self: self.count > 5)
    @rule(url=st.sampled_from([A, B, C]))
    def drop(self, url):
        assert self.spool.drop(url) == len(self.lists[url])
        self.lists[url].clear()

    @rule()
    def end_and_start_anew(self):
        self.spool.close()
        self.open()

    @invariant()
    def holds_what_the_lists_hold(self):
        assert self.spool.waiting == {url: len(found) for url, found in self.lists.items() if found}
        kept = {sample.window for found in self.lists.values() for sample in found}
        assert self.spool.bytes == len(kept) * size_of_one()

    def teardown(self):
        self.spool.close()
        self.folder.cleanup()


AgainstLists.TestCase.settings = settings(max_examples=30, stateful_step_count=25, deadline=None)
test_a_spool_behaves_as_lists_do = AgainstLists.TestCase
