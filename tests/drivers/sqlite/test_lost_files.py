"""A SQLite file that is removed, replaced, put back or named twice under living members."""

from __future__ import annotations

import contextlib
import math
import os
import sqlite3
import subprocess
import sys
import threading
import time

import pytest

import hashring
from hashring.driver import load
from hashring.errors import (
    LeaseLost,
    StoreUnavailable,
    StoreUnusable,
)
from tests.drivers.patience import are_shared_out
from tests.drivers.sqlite.conftest import PATIENCE, RECORD, TTL
from tests.servers.process import wait_until


def test_a_file_removed_under_living_members_is_a_store_that_forgot(path, connect):
    before = connect()
    before.join("g", "a", RECORD)
    for name in path.parent.iterdir():
        name.unlink()
    began = time.monotonic()
    after = connect()
    reading = after.read("g")
    assert reading.records == {}
    assert reading.memory_age <= time.monotonic() - began
    # The old members notice at their next call, whichever it is, and move over.
    with pytest.raises(LeaseLost):
        before.heartbeat()
    before.join("g", "a", RECORD)
    assert after.read("g").records.keys() == {"a"}
    assert before.read("g").memory_age < math.inf


def test_a_member_that_could_not_open_the_new_file_counts_as_alive_for_whoever_can(path, connect):
    before = connect()
    before.join("g", "a", RECORD)
    for name in path.parent.iterdir():
        name.unlink()
    path.mkdir()  # nothing can be opened here for a while, and a still holds what it held
    with pytest.raises(StoreUnusable, match="is not a file"):
        before.read("g")
    path.rmdir()

    assert connect().read("g").memory_age < math.inf


def test_a_file_removed_when_nobody_used_it_is_a_fresh_start(path, connect):
    connect().close()
    for name in path.parent.iterdir():
        name.unlink()
    assert connect().read("g").memory_age == math.inf


def test_another_store_in_the_same_folder_does_not_matter(path, connect):
    other = load(f"sqlite://{path.parent}/other.db", ttl=TTL)
    other.open()
    assert connect().read("g").memory_age == math.inf
    other.close()


@pytest.mark.usefixtures("notices")
def test_a_waiting_member_notices_that_its_file_was_removed(path, connect):
    here = connect(ttl=PATIENCE)
    here.join("g", "a", RECORD)
    here.read("g")
    threading.Timer(0.1, path.unlink).start()
    began = time.monotonic()
    here.wait("g", PATIENCE)
    assert time.monotonic() - began < PATIENCE
    assert here.read("g").records == {}


@pytest.mark.parametrize("removed", [["-wal", "-shm"], ["-shm"]])
def test_a_newcomer_to_a_file_whose_wal_or_shm_was_deleted_has_a_young_memory(
    path, connect, worker, removed, caplog
):
    here = connect(ttl=PATIENCE)
    here.join("g", "here", RECORD)
    for end in removed:
        path.with_name(path.name + end).unlink()
    # Another process: in this one SQLite would share what it has open.
    joining = worker("there", ttl=PATIENCE)
    assert joining.stdout.readline() == "joined\n"
    asking = "import sqlite3, sys; print(*sqlite3.connect(sys.argv[1]).execute(sys.argv[2]))"
    asked = [sys.executable, "-c", asking, path, "SELECT since IS NOT NULL FROM store"]
    assert subprocess.run(asked, capture_output=True, text=True, check=True).stdout == "(1,)\n"
    # Whoever had the old ones open notices at the next call, and joins anew there.
    with pytest.raises(LeaseLost):
        here.heartbeat()
    here.join("g", "here", RECORD)
    reading = here.read("g")
    assert reading.records.keys() == {"here", "there"}
    assert reading.memory_age < PATIENCE
    assert len([text for text in caplog.messages if "removed or replaced" in text]) == 1


@pytest.mark.parametrize("removed", [["-wal", "-shm"], ["-shm"], ["-wal"]])
def test_a_member_notices_that_wal_or_shm_was_deleted_though_nobody_joins(path, connect, removed):
    here, other = connect(ttl=PATIENCE), connect(ttl=PATIENCE)
    here.join("g", "here", RECORD)
    other.join("g", "other", RECORD)
    for end in removed:
        path.with_name(path.name + end).unlink()
    for driver, member in ((here, "here"), (other, "other")):
        with pytest.raises(LeaseLost):
            driver.heartbeat()
        driver.join("g", member, RECORD)
    assert here.read("g").records.keys() == {"here", "other"}
    assert here.read("g").memory_age < PATIENCE
    assert path.with_name(path.name + "-shm").exists()


def test_a_file_with_a_second_name_is_refused_at_open(path, connect):
    here = connect()
    second = path.with_name("second.db")
    os.link(path, second)
    for name in (path, second):
        with pytest.raises(StoreUnusable, match=r"2 names \(hard links\)"):
            load(f"sqlite://{name}", ttl=TTL).open()
    second.unlink()
    here.join("g", "a", RECORD)


def test_a_member_whose_file_gets_a_second_name_is_told_at_its_next_heartbeat(path, connect):
    here = connect(ttl=PATIENCE)
    here.join("g", "a", RECORD)
    second = path.with_name("second.db")
    os.link(path, second)
    with pytest.raises(StoreUnavailable, match="hard links"):
        here.heartbeat()
    second.unlink()
    here.heartbeat()  # it passes by itself


def test_a_symbolic_link_leads_to_the_same_group(path, connect):
    here = connect(ttl=PATIENCE)
    here.join("g", "a", RECORD)
    elsewhere = path.parent.parent / "elsewhere"
    elsewhere.mkdir()
    link = elsewhere / "link.db"
    link.symlink_to(path)
    other = load(f"sqlite://{link}", ttl=PATIENCE)
    other.open()
    other.join("g", "b", RECORD)
    assert here.read("g").records.keys() == other.read("g").records.keys() == {"a", "b"}
    assert other.read("g").memory_age == math.inf
    assert [name.name for name in elsewhere.iterdir()] == ["link.db"]  # no -wal of its own
    # Those who came by the link count for those who came by the file itself, and the other way.
    path.unlink()
    assert connect().read("g").memory_age < math.inf
    other.close()


def test_the_very_file_that_was_moved_away_and_comes_back_is_a_store_that_forgot(path, connect):
    first = connect(ttl=PATIENCE)
    first.join("g", "a", RECORD)
    first.publish("g", "a", b'{"incarnation": "1", "applied": "old"}')
    aside = path.with_name("aside.db")
    with contextlib.closing(sqlite3.connect(path)) as checkpoint:
        checkpoint.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    path.rename(aside)
    for end in ("-wal", "-shm"):
        path.with_name(path.name + end).unlink()
    with pytest.raises(LeaseLost):
        first.heartbeat()
    first.join("g", "a", b'{"incarnation": "1", "applied": "new"}')
    aside.replace(path)
    for end in ("-wal", "-shm"):
        path.with_name(path.name + end).unlink()
    newcomer = load(f"sqlite://{path}", ttl=PATIENCE)
    newcomer.open()
    try:
        assert newcomer.read("g").memory_age < PATIENCE
    finally:
        newcomer.close()
    # What the old file says of the lease is not true any more: it is joined anew.
    with pytest.raises(LeaseLost):
        first.heartbeat()
    assert first.read("g").memory_age < PATIENCE


@pytest.mark.parametrize("how", ["in place", "by rename"])
def test_an_older_copy_of_the_file_is_a_store_that_forgot(path, connect, how, caplog):
    here, other = connect(ttl=PATIENCE), connect(ttl=PATIENCE)
    here.join("g", "here", RECORD)
    other.join("g", "other", RECORD)
    copy = path.with_name("copy.db")
    with contextlib.closing(sqlite3.connect(path)) as source:
        source.execute("VACUUM INTO ?", (str(copy),))
    here.publish("g", "here", b'{"incarnation": "1", "applied": "new"}')
    other.heartbeat()
    here.heartbeat()
    if how == "by rename":
        copy.replace(path)
    else:
        with (
            contextlib.closing(sqlite3.connect(copy)) as old,
            contextlib.closing(sqlite3.connect(path)) as now,
        ):
            old.backup(now)  # as `sqlite3 group.db ".restore copy.db"`
    went = time.monotonic()
    assert other.read("g").memory_age <= time.monotonic() - went
    for driver, member in ((here, "here"), (other, "other")):
        with pytest.raises(LeaseLost):
            driver.heartbeat()
        driver.join("g", member, RECORD)
    assert here.read("g").records.keys() == {"here", "other"}
    assert here.read("g").memory_age < PATIENCE
    told = [text for text in caplog.messages if "stand still for one ttl" in text]
    assert 1 <= len(told) <= 2  # one for each driver at most


def test_members_go_on_after_an_older_copy_came_back_and_never_share_a_slot(path):
    keys = [f"key {number}" for number in range(200)]
    with contextlib.ExitStack() as stack:
        url = f"sqlite://{path}"
        members = [
            stack.enter_context(hashring.join(url, "g", name, ttl=3.0)) for name in ("a", "b")
        ]
        assert all(member.wait_settled(PATIENCE) for member in members)
        copy = path.with_name("copy.db")
        with contextlib.closing(sqlite3.connect(path)) as source:
            source.execute("VACUUM INTO ?", (str(copy),))
        members.append(stack.enter_context(hashring.join(url, "g", "c", ttl=3.0)))
        wait_until(lambda: are_shared_out(members, keys))
        copy.replace(path)
        back = time.monotonic()
        wait_until(lambda: (are_shared_out(members, keys), time.monotonic() - back > 6.0)[1])
        wait_until(lambda: are_shared_out(members, keys))


def test_a_file_that_is_opened_while_another_thread_looks_is_not_taken_for_a_replaced_one(
    path, connect, file_module, monkeypatch
):
    path.parent.mkdir()
    path.touch()  # SQLite has not made the files beside it yet
    look, first = file_module.look, []

    def look_and_be_overtaken(at):
        found = look(at)
        if not first:
            first.append(None)
            first[0] = connect()
            first[0].join("g", "a", RECORD)
        return found

    monkeypatch.setattr(file_module, "look", look_and_be_overtaken)
    second = connect()

    first[0].heartbeat()
    assert second.read("g").records == {"a": RECORD}
