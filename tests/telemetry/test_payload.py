"""Batches as bytes: what an agent of the layout before has kept is read, and a damage is found."""

import collections
import contextlib
import sqlite3
import zlib

import pytest

from hashring.telemetry.delivery import payload
from hashring.telemetry.delivery.spool import Spool
from hashring.telemetry.errors import SpoolBroken
from hashring.telemetry.model.batch import batches_of
from hashring.telemetry.model.sample import Meter, MeterType, Sample

METER = Meter("tank.level", MeterType.GAUGE, "l")
URL = "http://a/"
HEAD = payload._HEAD


def poll(count, window=7):
    return [
        Sample(METER, n / 3, f"plant:{n}", 5.5, window, 1.0, "a", ("v", "i", window), {"tank": n})
        for n in range(count)
    ]


def as_layout_2(data, columns):
    """What layout 2 would have kept of a payload of today's."""
    mark, _, size = HEAD.unpack_from(data)
    head, own = data[HEAD.size : HEAD.size + size], data[HEAD.size + size :]
    check = zlib.crc32(own or columns, zlib.crc32(head))
    return HEAD.pack({0x03: 0x01, 0x04: 0x02}[mark], check, size) + head + own


@pytest.fixture
def left_by_layout_2(tmp_path):
    """The file of an agent of layout 2 that died, with a small poll and a large one."""
    spool = Spool(tmp_path, max_bytes=2**24)
    spool.put([(one, (URL,)) for one in (*poll(3), *poll(300, window=8))])
    (path,) = spool.waiting_by_file
    spool.close()
    with contextlib.closing(sqlite3.connect(path)) as file, file:
        rows = file.execute(
            "SELECT batches.id, payload, columns FROM batches "
            "LEFT JOIN series ON batches.series = series.id"
        ).fetchall()
        assert len({columns is None for _, _, columns in rows}) == 2
        for id_, data, columns in rows:
            file.execute(
                "UPDATE batches SET payload = ? WHERE id = ?", (as_layout_2(data, columns), id_)
            )
        file.execute("PRAGMA user_version = 2")
    payload._series.clear()  # as in another process
    return path


@pytest.fixture
def heir(tmp_path):
    spool = Spool(tmp_path, max_bytes=2**24)
    yield spool
    spool.close()


def test_a_spool_of_layout_2_is_delivered(left_by_layout_2, heir):
    assert heir.adopt() == 1

    parcel = heir.take(URL, 1000)
    assert list(parcel.samples) == [*poll(3), *poll(300, window=8)]
    heir.done(parcel)
    assert not left_by_layout_2.exists()


def test_an_agent_of_a_layout_before_leaves_a_file_of_this_one(tmp_path):
    spool = Spool(tmp_path, max_bytes=2**20)
    spool.put([(one, (URL,)) for one in poll(3)])
    (path,) = spool.waiting_by_file
    spool.close()

    with contextlib.closing(sqlite3.connect(path)) as file:
        assert file.execute("PRAGMA user_version").fetchone() == (3,)


@pytest.mark.parametrize("layout", [2, 3])
@pytest.mark.parametrize("what", ["head", "columns"])
@pytest.mark.parametrize("count", [3, 300])
def test_a_changed_bit_is_found(layout, what, count):
    (batch,) = batches_of(poll(count))
    data, columns = payload.encoded(batch)
    if layout == 2:
        data = as_layout_2(data, columns)
    if what == "columns" and columns is not None:
        columns = _changed(columns, len(columns) // 2)
    else:
        data = _changed(data, HEAD.size + 5 if what == "head" else len(data) - 5)

    with pytest.raises(ValueError, match="checksum"):
        payload.decoded(data, columns)


def test_a_changed_bit_of_columns_is_found_that_nobody_has_in_memory(tmp_path):
    spool = Spool(tmp_path, max_bytes=2**24)
    spool.put([(one, (URL,)) for one in poll(300)])
    (path,) = spool.waiting_by_file
    spool.close()
    payload._series.clear()  # as in another process
    with contextlib.closing(sqlite3.connect(path)) as file, file:
        ((columns,),) = file.execute("SELECT columns FROM series").fetchall()
        file.execute("UPDATE series SET columns = ?", (_changed(columns, 2000),))
    heir = Spool(tmp_path, max_bytes=2**24)
    heir.adopt()

    with pytest.raises(SpoolBroken, match="checksum"):
        heir.take(URL, 1000)
    heir.close()
    assert path.with_suffix(".broken").exists()


def test_the_checksum_of_columns_is_made_once(monkeypatch):
    (batch,) = batches_of(poll(300))
    payload.encoded(batch)
    sizes = []
    crc32 = zlib.crc32
    monkeypatch.setattr(
        payload.zlib, "crc32", lambda data, *rest: sizes.append(len(data)) or crc32(data, *rest)
    )

    data, columns = payload.encoded(batch)
    payload.decoded(data, columns)

    assert max(sizes) < len(columns)


def test_columns_of_a_small_poll_are_not_read_anew_right_after_they_were_put(monkeypatch):
    (batch,) = batches_of(poll(1))
    want = batch.samples()
    data, _ = payload.encoded(batch)
    del batch  # whoever put it holds it no more

    monkeypatch.setattr(payload, "_series_of", None)  # to call it is an error

    assert payload.decoded(data).samples() == want


def test_no_more_columns_are_held_for_that_than_a_few_small_ones(monkeypatch):
    monkeypatch.setattr(payload, "_recent", collections.deque(maxlen=10))

    for window in range(20):
        for batch in batches_of(poll(1, window=window) + poll(300, window=window + 100)):
            payload.encoded(batch)

    assert len(payload._recent) == 10
    assert {len(series) for series in payload._recent} == {1}


def _changed(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


def test_a_poll_is_cut_only_where_it_alone_is_more_than_a_publisher_takes(tmp_path):
    spool = Spool(tmp_path, max_bytes=2**24)
    for count in (30, 30, 100):
        spool.put([(batch, (URL,)) for batch in batches_of(poll(count))])
    sizes = []
    while (parcel := spool.take(URL, 50)) is not None:
        sizes.append([len(batch) for batch in parcel.batches])
        spool.done(parcel)
    spool.close()

    assert sizes == [[30], [30], [50], [50]]


def test_a_part_of_a_poll_knows_the_whole(tmp_path):
    (batch,) = batches_of(poll(100))

    part = batch[20:90][10:30]

    assert part.series.whole == (batch.series, 30)
    assert list(part) == list(batch)[30:50]
