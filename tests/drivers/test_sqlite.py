"""``sqlite:///path``: the conformance suite, then processes, crashes, reboots and bad files."""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import re
import resource
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

import hashring
from hashring.driver import load
from hashring.errors import (
    BadURL,
    HashringError,
    LeaseLost,
    MemberExists,
    StoreUnavailable,
    StoreUnusable,
)
from hashring.testing import DriverSuite

PATIENCE = 30.0
TTL = 1.0
RECORD = b'{"incarnation": "1"}'


class TestSQLiteStore(DriverSuite):
    ttl = 1.0

    @pytest.fixture
    def url(self, tmp_path):
        return f"sqlite://{tmp_path}/group.db"


@pytest.fixture
def driver_module():
    return sys.modules[type(load("sqlite:///x", ttl=TTL)).__module__]


@pytest.fixture(params=["inotify", "polling"])
def notices(request, monkeypatch, driver_module):
    """Where the kernel grants no more inotify watches, waiting polls; all else is the same."""
    if request.param == "polling":
        monkeypatch.setattr(driver_module, "_watch", lambda path: None)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state" / "group.db"


@pytest.fixture
def connect(path):
    """A function that makes open drivers on the file; all are closed in the end."""
    with contextlib.ExitStack() as closing:

        def make(options="", ttl=TTL):
            driver = load(f"sqlite://{path}{options}", ttl=ttl)
            closing.callback(driver.close)
            driver.open()
            return driver

        yield make


def until(condition):
    deadline = time.monotonic() + PATIENCE
    while not (result := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return result


WORKER = """
import sys
from hashring.driver import load
url, member, ttl, mode = sys.argv[1:]
driver = load(url, ttl=float(ttl))
driver.open()
driver.join("g", member, b'{"incarnation": "1"}')
print("joined", flush=True)
turn = 0
while True:
    driver.heartbeat()
    if mode == "busy":
        turn += 1
        driver.publish("g", member, b'{"incarnation": "1", "turn": %d}' % turn)
    else:
        driver.wait("other", float(ttl) / 5)
        driver.read("other")
"""


@pytest.fixture
def worker(path):
    """A function that starts a process which joins and heartbeats; all are killed in the end."""
    processes = []

    def start(member, mode="calm", ttl=TTL):
        process = subprocess.Popen(
            [sys.executable, "-c", WORKER, f"sqlite://{path}", member, str(ttl), mode],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def in_child(work):
    """Run a function in a forked child; return what it returned, or its error's name and text."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            try:
                answer = work()
            except BaseException as error:
                answer = f"{type(error).__name__}: {error}"
            os.write(writer, str(answer).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as answers:
        answer = answers.read().decode()
    os.waitpid(pid, 0)
    return answer


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


# -- several processes


def test_processes_see_each_other_and_a_killed_one_is_gone_after_its_lease(connect, worker):
    here = connect()
    here.join("g", "here", RECORD)
    victim = worker("there")
    assert victim.stdout.readline() == "joined\n"
    here.join("g", "here", RECORD)
    assert here.read("g").records.keys() == {"here", "there"}
    with pytest.raises(MemberExists):
        here.join("g", "there", RECORD)
    victim.send_signal(signal.SIGKILL)
    victim.wait()

    def gone():
        with contextlib.suppress(LeaseLost):
            here.heartbeat()
        return "there" not in here.read("g").records

    until(gone)
    here.join("g", "there", b'{"incarnation": "2"}')


def test_a_process_paused_past_its_lease_wakes_up_without_it(connect, worker):
    here = connect()
    sleeper = worker("there")
    assert sleeper.stdout.readline() == "joined\n"
    # Not in the middle of a write: SQLite's lock would be held for as long as the pause.
    while True:
        sleeper.send_signal(signal.SIGSTOP)
        try:
            here.leave("g", "nobody")
            break
        except StoreUnavailable:
            sleeper.send_signal(signal.SIGCONT)
    until(lambda: "there" not in here.read("g").records)
    here.join("g", "there", b'{"incarnation": "2"}')
    sleeper.send_signal(signal.SIGCONT)
    _, errors = sleeper.communicate(timeout=PATIENCE)
    assert "LeaseLost" in errors


def test_a_file_survives_writers_killed_at_any_moment(path, connect, worker):
    here = connect(ttl=60.0)
    here.join("g", "here", RECORD)
    for turn in range(6):
        writer = worker(f"w{turn}", mode="busy", ttl=0.5)
        assert writer.stdout.readline() == "joined\n"
        until(lambda member=f"w{turn}": b"turn" in here.read("g").records[member])
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        here.publish("g", "here", RECORD)
        here.heartbeat()
    until(lambda: here.read("g").records.keys() == {"here"})
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_many_processes_may_make_the_file_at_once_and_none_has_to_wait(connect, worker):
    workers = [worker(f"w{index}", ttl=PATIENCE) for index in range(6)]
    for process in workers:
        assert process.stdout.readline() == "joined\n", process.stderr.read()
    reading = connect().read("g")
    assert reading.records.keys() == {f"w{index}" for index in range(6)}
    assert reading.memory_age == math.inf


@pytest.mark.usefixtures("notices")
def test_a_change_by_another_process_ends_a_wait(connect, worker):
    here = connect()
    here.read("g")
    began = time.monotonic()
    worker("there", ttl=PATIENCE)
    here.wait("g", PATIENCE)
    assert time.monotonic() - began < PATIENCE
    assert here.read("g").records.keys() == {"there"}


@pytest.mark.usefixtures("notices")
def test_heartbeats_of_others_do_not_end_a_wait(connect):
    here, other = connect(ttl=PATIENCE), connect(ttl=PATIENCE)
    other.join("g", "other", RECORD)
    here.read("g")
    stop = threading.Event()

    def beat():
        while not stop.is_set():
            other.heartbeat()

    beating = threading.Thread(target=beat)
    beating.start()
    began = time.monotonic()
    here.wait("g", 0.3)
    assert time.monotonic() - began >= 0.3
    stop.set()
    beating.join()


@pytest.mark.usefixtures("notices")
def test_a_lease_that_runs_out_ends_a_wait(connect):
    here, other = connect(), connect()
    other.join("g", "other", RECORD)
    here.read("g")
    began = time.monotonic()
    here.wait("g", PATIENCE)
    assert time.monotonic() - began < PATIENCE
    assert here.read("g").records == {}


@pytest.mark.usefixtures("notices")
def test_closing_ends_a_wait_in_another_thread(connect):
    here = connect()
    here.read("g")
    errors = []

    def wait():
        try:
            here.wait("g", 10 * PATIENCE)
        except HashringError as error:
            errors.append(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    here.close()
    waiting.join(PATIENCE)
    assert not waiting.is_alive()
    assert all(isinstance(error, StoreUnavailable) for error in errors)


def test_a_fork_is_told_that_it_cannot_take_the_driver_along(connect):
    here = connect(ttl=PATIENCE)
    here.join("g", "here", RECORD)

    def child():
        refused = 0
        for attempt in (
            here.open,
            here.heartbeat,
            lambda: here.join("g", "here", RECORD),
            lambda: here.publish("g", "here", RECORD),
            lambda: here.read("g"),
            lambda: here.wait("g", 0.0),
            lambda: here.leave("g", "here"),
        ):
            try:
                attempt()
            except StoreUnusable as error:
                refused += "make it in the new process" in str(error)
        here.close()
        return refused

    assert in_child(child) == "7"
    here.heartbeat()
    assert here.read("g").records.keys() == {"here"}


def test_a_fork_cannot_open_the_file_that_its_parent_had_open(connect):
    # SQLite's notes on locks are copied by a fork, the locks are not.
    here = connect(ttl=PATIENCE)
    stop = threading.Event()

    def beat():
        while not stop.is_set():
            here.join("g", "here", RECORD)

    beating = threading.Thread(target=beat)
    beating.start()
    answer = in_child(lambda: load(str(here.url), ttl=TTL).open())
    stop.set()
    beating.join()
    assert answer.startswith("StoreUnusable")
    assert "spawn" in answer


def test_a_fork_may_open_a_file_that_its_parent_had_closed(path, connect):
    connect().close()

    def child():
        driver = load(f"sqlite://{path}", ttl=PATIENCE)
        driver.open()
        driver.join("g", "child", RECORD)
        driver.close()
        return "joined"

    assert in_child(child) == "joined"
    assert connect().read("g").records.keys() == {"child"}


# -- clocks


def test_a_reboot_ends_every_lease(connect, driver_module, monkeypatch, tmp_path):
    before = connect(ttl=1e6)
    before.join("g", "a", RECORD)
    before.close()
    other_boot = tmp_path / "boot_id"
    other_boot.write_text("01234567-89ab-cdef-0123-456789abcdef\n")
    monkeypatch.setattr(driver_module, "_BOOT_ID", other_boot)
    after = connect()
    assert after.read("g").records == {}
    assert after.read("g").memory_age == math.inf
    after.join("g", "a", b'{"incarnation": "2"}')


def test_the_wall_clock_is_never_asked(connect, monkeypatch):
    def asked(*_):
        raise AssertionError("a lease must not depend on the wall clock")

    here, other = connect(), connect()
    monkeypatch.setattr(time, "time", asked)
    monkeypatch.setattr(time, "time_ns", asked)
    here.join("g", "a", RECORD)
    here.heartbeat()
    here.publish("g", "a", RECORD)
    other.read("g")
    other.wait("g", PATIENCE)
    until(lambda: other.read("g").records == {})


# -- files that go, come, or are wrong


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
            stack.enter_context(hashring.join(url, "g", name, ttl=1.5)) for name in ("a", "b")
        ]
        assert all(member.wait_settled(PATIENCE) for member in members)
        copy = path.with_name("copy.db")
        with contextlib.closing(sqlite3.connect(path)) as source:
            source.execute("VACUUM INTO ?", (str(copy),))
        members.append(stack.enter_context(hashring.join(url, "g", "c", ttl=1.5)))

        def shared_out():
            held = [set(member.owned(keys)) for member in members]
            assert not any(one & two for one, two in itertools.combinations(held, 2))
            return sum(map(len, held)) == len(keys) and all(held)

        until(shared_out)
        copy.replace(path)
        back = time.monotonic()
        until(lambda: (shared_out(), time.monotonic() - back > 3.0)[1])
        until(shared_out)


def test_leases_of_groups_that_nobody_reads_any_more_are_swept(path, connect):
    gone = connect(ttl=0.05)
    for number in range(20):
        gone.join(f"group {number}", "a", RECORD)
    ended = time.monotonic() + 0.1
    until(lambda: time.monotonic() > ended)
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
    driver = connect("?timeout=0.1")
    driver.join("g", "a", RECORD)
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
    driver.join("g", "a", RECORD)


def test_a_network_file_system_is_refused(connect, driver_module, monkeypatch, tmp_path):
    device = tmp_path.stat().st_dev
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "21 1 0:99 / /proc rw - proc proc rw\n"
        f"22 1 {os.major(device)}:{os.minor(device)} / / rw shared:1 - nfs4 server:/export rw\n"
    )
    monkeypatch.setattr(driver_module, "_MOUNTS", mounts)
    with pytest.raises(StoreUnusable, match="nfs4"):
        connect()


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
    assert descriptors() == before
