"""``sqlite://``: what changed since a cursor, on files that others write, replace and put back."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from drivers.sqlite.tables import JOURNAL
from hashring.driver import Driver, load
from tests.drivers.sqlite.conftest import RECORD


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "group.db"


@pytest.fixture
def driver(path: Path) -> Iterator[Driver]:
    driver = load(f"sqlite://{path}", ttl=60.0)
    driver.open()
    yield driver
    driver.close()


def test_the_journal_stays_small_however_many_members_come_and_go(path, driver):
    driver.join("g", "stays", RECORD)
    before = driver.read_since("g", None)
    for number in range(600):
        driver.join("g", f"passing-{number}", RECORD)
        driver.leave("g", f"passing-{number}")

    after = driver.read_since("g", before.cursor)
    assert after.complete
    assert dict(after.changed) == {"stays": RECORD}
    with sqlite3.connect(path) as looks:
        assert looks.execute("SELECT count(*) FROM changes").fetchone()[0] <= 1024
        assert looks.execute("SELECT count(*) FROM marks").fetchone()[0] <= 1024
    looks.close()


def test_what_an_earlier_release_writes_into_the_file_is_told_as_well(path, driver):
    owner = load(f"sqlite://{path}", ttl=60.0)
    owner.open()
    owner.join("g", "a", RECORD)
    owner.join("g", "b", RECORD)
    owner.close()
    cursor = driver.read_since("g", None).cursor
    # Its statements, which know nothing of a journal.
    earlier = sqlite3.connect(path, isolation_level=None)
    earlier.execute("BEGIN IMMEDIATE")
    earlier.execute("UPDATE leases SET record = ? WHERE member = 'a'", (RECORD + b" ",))
    earlier.execute("UPDATE counter SET last = last + 1")
    earlier.execute("INSERT OR REPLACE INTO versions SELECT 'g', last FROM counter")
    earlier.execute("COMMIT")
    earlier.execute("BEGIN IMMEDIATE")
    earlier.execute("DELETE FROM leases WHERE member = 'b'")
    earlier.execute("UPDATE counter SET last = last + 1")
    earlier.execute("INSERT OR REPLACE INTO versions SELECT 'g', last FROM counter")
    earlier.execute("COMMIT")
    earlier.close()

    changes = driver.read_since("g", cursor)
    assert not changes.complete
    assert dict(changes.changed) == {"a": RECORD + b" "}
    assert list(changes.gone) == ["b"]


def test_a_file_that_loses_its_journal_while_it_is_open_is_read_whole(path, driver):
    driver.join("g", "a", RECORD)
    cursor = driver.read_since("g", None).cursor
    drop_journal(path)
    for turn in range(1, 4):
        driver.publish("g", "a", RECORD + b" " * turn)
        changes = driver.read_since("g", cursor)
        cursor = changes.cursor
        assert changes.complete
        assert dict(changes.changed) == {"a": RECORD + b" " * turn}


def test_a_file_of_an_earlier_release_gets_a_journal_when_it_is_opened(path, driver):
    driver.join("g", "a", RECORD)
    driver.close()
    drop_journal(path)

    driver.open()
    first = driver.read_since("g", None)
    driver.publish("g", "a", RECORD + b" ")
    second = driver.read_since("g", first.cursor)
    driver.publish("g", "a", RECORD + b"\n")
    third = driver.read_since("g", second.cursor)
    assert [dict(each.changed) for each in (first, second, third)] == [
        {"a": RECORD},
        {"a": RECORD + b" "},
        {"a": RECORD + b"\n"},
    ]
    assert [each.complete for each in (first, second, third)] == [True, True, False]


def drop_journal(path: Path) -> None:
    """Leave the file as an earlier release made it."""
    earlier = sqlite3.connect(path, isolation_level=None)
    for statement in reversed(JOURNAL):
        kind, name = statement.split()[1], statement.split(" EXISTS ")[1].split()[0]
        if kind == "TABLE":
            earlier.execute(f"DROP {kind} {name}")
    earlier.execute("DROP TRIGGER counted")
    for name in ("lease_made", "lease_changed", "lease_gone"):
        earlier.execute(f"DROP TRIGGER {name}")
    earlier.close()


@pytest.mark.parametrize("more", [0, 1, 5])
def test_an_older_copy_that_was_put_back_brings_everything(path, driver, tmp_path, more):
    driver.join("g", "a", RECORD)
    driver.join("g", "gone", RECORD)
    driver.close()
    copy = tmp_path / "copy.db"
    shutil.copy(path, copy)
    driver.open()
    driver.leave("g", "gone")
    driver.publish("g", "a", RECORD + b" ")
    cursor = driver.read_since("g", None).cursor
    driver.close()
    # Others write on in the copy, until it has changed as often as the file had, or more.
    for beside in tmp_path.glob("group.db-*"):
        beside.unlink()
    shutil.copy(copy, path)
    other = load(f"sqlite://{path}", ttl=60.0)
    other.open()
    for _ in range(more):
        other.join("h", "x", RECORD)

    changes = other.read_since("g", cursor)
    assert changes.complete
    assert dict(changes.changed) == dict(other.read("g").records)
    assert changes.changed["a"] == RECORD
    other.close()
