"""What is damaged, foreign or of another version is set aside."""

import random
import sqlite3

import pytest

from hashring.telemetry.delivery.spool import Spool
from hashring.telemetry.errors import SpoolBroken
from tests.telemetry.spool.holding import MIB, A, delivered, files, samples, to, windows


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
