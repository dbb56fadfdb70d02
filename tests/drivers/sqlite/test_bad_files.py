"""A SQLite file that cannot serve is refused, and the error says what to do."""

from __future__ import annotations

import contextlib
import os
import resource
import sqlite3
import tempfile
from pathlib import Path

import pytest

from hashring.driver import load
from hashring.errors import (
    StoreUnavailable,
    StoreUnusable,
)
from tests.drivers.patience import until_it_works
from tests.drivers.sqlite.conftest import RECORD, TTL, in_child


def test_a_file_that_is_no_database_is_named_with_what_to_do(path, connect):
    path.parent.mkdir()
    path.write_bytes(b"this is a letter to my aunt, and no database at all\n" * 100)
    with pytest.raises(StoreUnusable, match="not a SQLite database") as caught:
        connect()
    assert str(path) in str(caught.value)
    assert path.read_bytes().startswith(b"this is a letter")


def test_a_corrupt_file_is_named_with_what_to_do(path, connect):
    driver = connect()
    for index in range(200):
        driver.join("g", f"m{index}", RECORD * 20)
    driver.close()
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xa5" * (path.stat().st_size - 4096))
    with pytest.raises(StoreUnusable, match="is corrupt") as caught:
        connect().read("g")
    assert str(path) in str(caught.value)
    assert "move the file away" in str(caught.value)


def test_another_programs_database_is_refused_and_left_as_it_was(path, connect):
    path.parent.mkdir()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE photos (name TEXT)")
        connection.commit()
    content = path.read_bytes()
    with pytest.raises(StoreUnusable, match="another program's"):
        connect()
    assert path.read_bytes() == content


def test_a_file_of_a_later_version_is_refused(path, connect):
    connect().close()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreUnusable, match="layout 99"):
        connect()


def test_a_folder_in_the_files_place_is_refused(path, connect):
    path.mkdir(parents=True)
    with pytest.raises(StoreUnusable, match="not a file"):
        connect()


def test_a_link_into_nowhere_is_refused(path, connect):
    path.parent.mkdir()
    path.symlink_to("nowhere/at/all.db")
    with pytest.raises(StoreUnusable, match="does not exist"):
        connect()


def test_a_parent_that_is_a_file_is_refused(path, connect):
    path.parent.write_text("in the way")
    with pytest.raises(StoreUnusable, match="cannot be opened"):
        connect()


@pytest.mark.parametrize("what", ["file", "folder", "new file"])
def test_what_may_not_be_written_is_refused(what):
    # Not under tmp_path, which other users cannot enter: the root user writes wherever it likes,
    # so the attempt is made as another.
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "group.db"
        if what != "new file":
            driver = load(f"sqlite://{path}", ttl=TTL)
            driver.open()
            driver.close()
        path.parent.chmod(0o755 if what == "file" else 0o555)
        if what != "new file":
            path.chmod(0o444 if what == "file" else 0o666)

        def attempt():
            if os.getuid() == 0:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
            load(f"sqlite://{path}", ttl=TTL).open()

        answer = in_child(attempt)
        path.parent.chmod(0o755)
    assert answer.startswith("StoreUnusable: sqlite:///")
    assert "right to write" in answer


def test_a_disk_that_takes_no_more_is_an_error_that_passes(path, connect):
    def child():
        limited = load(f"sqlite://{path}", ttl=60.0)
        limited.open()
        limited.join("g", "before", RECORD)
        # The kernel lets this process write no file beyond 64 KiB, the log included.
        resource.setrlimit(resource.RLIMIT_FSIZE, (65536, resource.RLIM_INFINITY))
        refused = 0
        for turn in range(20):
            try:
                limited.join("g", f"m{turn}", b"x" * 40_000)
            except StoreUnavailable:
                refused += 1
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        limited.heartbeat()
        limited.join("g", "after", RECORD)
        return refused

    assert 0 < int(in_child(child)) <= 20
    assert connect().read("g").records.keys() >= {"before", "after"}


def test_a_file_that_stays_locked_is_unavailable_within_the_timeout(path, connect):
    driver = until_it_works(lambda: connect("?timeout=0.1"))
    until_it_works(lambda: driver.join("g", "a", RECORD))
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        for attempt in (
            driver.heartbeat,
            lambda: driver.publish("g", "a", RECORD),
            lambda: driver.leave("g", "b"),
        ):
            with pytest.raises(StoreUnavailable, match="locked"):
                attempt()
        assert driver.read("g").records.keys() == {"a"}
    until_it_works(lambda: driver.join("g", "a", RECORD))


def test_a_network_file_system_is_refused(connect, file_module, monkeypatch, tmp_path):
    device = tmp_path.stat().st_dev
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "21 1 0:99 / /proc rw - proc proc rw\n"
        f"22 1 {os.major(device)}:{os.minor(device)} / / rw shared:1 - nfs4 server:/export rw\n"
    )
    monkeypatch.setattr(file_module, "_MOUNTS", mounts)
    with pytest.raises(StoreUnusable, match="nfs4"):
        connect()
