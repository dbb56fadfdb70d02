"""The SQLite driver: the conformance suite, its URLs, its leases, and what it leaves behind."""

from __future__ import annotations

import contextlib
import math
import re
import sqlite3
import sys
import time
from pathlib import Path

import pytest

from hashring.driver import load
from hashring.errors import (
    BadURL,
)
from hashring.testing import DriverSuite
from tests.drivers.sqlite.conftest import PATIENCE, RECORD, TTL
from tests.servers.process import wait_until


class TestSQLiteStore(DriverSuite):
    ttl = 1.0

    @pytest.fixture
    def url(self, tmp_path):
        return f"sqlite://{tmp_path}/group.db"


# -- the address


@pytest.mark.parametrize("slashes", ["/", "//"])
def test_the_path_is_absolute_however_many_slashes_are_written(path, slashes):
    driver = load(f"sqlite://{slashes}{str(path)[1:]}", ttl=TTL)
    driver.open()
    driver.close()
    assert path.is_file()


@pytest.mark.parametrize(
    ("url", "right"),
    [
        ("sqlite://tmp/x.db", "sqlite:///tmp/x.db"),
        ("sqlite://x.db", "sqlite:///x.db"),
        ("sqlite://user:pw@tmp/x.db", "sqlite:///tmp/x.db"),
    ],
)
def test_a_host_in_the_url_is_an_error_that_shows_the_right_spelling(url, right):
    with pytest.raises(BadURL) as caught:
        load(url, ttl=TTL)
    assert right in str(caught.value)
    assert "pw" not in str(caught.value)


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///", "sqlite:///tmp/", "sqlite:///a%00b"])
def test_a_url_without_a_file_is_an_error(url):
    with pytest.raises(BadURL, match="name a file"):
        load(url, ttl=TTL)


def test_the_spelling_of_other_libraries_for_memory_points_to_memory():
    with pytest.raises(BadURL, match="memory://"):
        load("sqlite:///:memory:", ttl=TTL)


def test_nothing_is_touched_before_open_and_then_the_folder_is_made(path):
    driver = load(f"sqlite://{path}", ttl=TTL)
    assert not path.parent.exists()
    driver.open()
    assert path.is_file()
    driver.close()


def test_a_path_with_odd_characters_is_percent_encoded(tmp_path):
    driver = load(f"sqlite://{tmp_path}/a%20b%23c%3Fd%C3%A9.db", ttl=TTL)
    driver.open()
    driver.close()
    assert (tmp_path / "a b#c?d\N{LATIN SMALL LETTER E WITH ACUTE}.db").is_file()


# -- leases


def test_a_reboot_ends_every_lease(connect, file_module, monkeypatch, tmp_path):
    before = connect(ttl=1e6)
    before.join("g", "a", RECORD)
    before.close()
    other_boot = tmp_path / "boot_id"
    other_boot.write_text("01234567-89ab-cdef-0123-456789abcdef\n")
    monkeypatch.setattr(file_module, "_BOOT_ID", other_boot)
    after = connect()
    assert after.read("g").records == {}
    assert after.read("g").memory_age == math.inf
    after.join("g", "a", b'{"incarnation": "2"}')


def test_the_wall_clock_is_never_asked(connect, monkeypatch):
    def asked(*_):
        raise AssertionError("a lease must not depend on the wall clock")

    here, other = connect(ttl=4.0), connect()
    monkeypatch.setattr(time, "time", asked)
    monkeypatch.setattr(time, "time_ns", asked)
    here.join("g", "a", RECORD)
    here.heartbeat()
    here.publish("g", "a", RECORD)
    other.read("g")
    other.wait("g", PATIENCE)
    wait_until(lambda: other.read("g").records == {})


def test_leases_of_groups_that_nobody_reads_any_more_are_swept(path, connect):
    gone = connect(ttl=0.05)
    for number in range(20):
        gone.join(f"group {number}", "a", RECORD)
    ended = time.monotonic() + 0.1
    wait_until(lambda: time.monotonic() > ended)
    connect().close()
    with contextlib.closing(sqlite3.connect(path)) as onlooker:
        assert onlooker.execute("SELECT count(*) FROM leases").fetchone() == (0,)
        assert onlooker.execute("SELECT count(*) FROM versions").fetchone() == (0,)


def test_a_timeout_longer_than_the_lease_leaves_is_limited_and_that_is_said_once(path, caplog):
    for _ in range(2):
        driver = load(f"sqlite://{path}?timeout=60", ttl=1.5)
        driver.open()
        driver.close()
        assert driver.settings["timeout"] == 0.75
    assert len([text for text in caplog.messages if "is limited to 0.75 s" in text]) == 1


def test_no_statement_is_one_that_a_later_python_refuses():
    # 3.12.0 to 3.12.3 warn of "?1" with a sequence, others do not: so the source is looked at.
    source = Path(sys.modules[type(load("sqlite:///x", ttl=TTL)).__module__].__file__).read_text()
    assert not re.search(r"\?[0-9]", source)


def test_no_connection_and_no_descriptor_is_left_after_close(path):
    def descriptors():
        return len(list(Path("/proc/self/fd").iterdir()))

    before = descriptors()
    for _ in range(5):
        driver = load(f"sqlite://{path}", ttl=TTL)
        driver.open()
        driver.join("g", "a", RECORD)
        driver.wait("g", 0.0)
        driver.leave("g", "a")
        driver.close()
    # Those of tests before may be closed meanwhile.
    wait_until(lambda: descriptors() <= before, what="the end of every descriptor")
