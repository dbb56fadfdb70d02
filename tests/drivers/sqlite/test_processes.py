"""Several processes on one SQLite file: killed, paused, forked, waiting for each other."""

from __future__ import annotations

import contextlib
import math
import signal
import sqlite3
import threading
import time

import pytest

from hashring.driver import load
from hashring.errors import (
    HashringError,
    LeaseLost,
    MemberExists,
    StoreUnavailable,
    StoreUnusable,
)
from tests.drivers.sqlite.conftest import BRIEF, PATIENCE, RECORD, TTL, in_child
from tests.servers.process import wait_until

pytestmark = pytest.mark.slow


def test_processes_see_each_other_and_a_killed_one_is_gone_after_its_lease(connect, worker):
    here = connect()
    here.join("g", "here", RECORD)
    victim = worker("there", ttl=5.0)  # longer than a busy machine stands still
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

    wait_until(gone)
    here.join("g", "there", b'{"incarnation": "2"}')


def test_a_process_paused_past_its_lease_wakes_up_without_it(connect, worker):
    here = connect()
    sleeper = worker("there", ttl=BRIEF)
    assert sleeper.stdout.readline() == "joined\n"
    # Not in the middle of a write: SQLite's lock would be held for as long as the pause.
    while True:
        sleeper.send_signal(signal.SIGSTOP)
        try:
            here.leave("g", "nobody")
            break
        except StoreUnavailable:
            sleeper.send_signal(signal.SIGCONT)
    wait_until(lambda: "there" not in here.read("g").records)
    here.join("g", "there", b'{"incarnation": "2"}')
    sleeper.send_signal(signal.SIGCONT)
    _, errors = sleeper.communicate(timeout=PATIENCE)
    assert "LeaseLost" in errors


def test_a_file_survives_writers_killed_at_any_moment(path, connect, worker):
    here = connect(ttl=60.0)
    here.join("g", "here", RECORD)
    for turn in range(6):
        writer = worker(f"w{turn}", mode="busy", ttl=3.0)
        assert writer.stdout.readline() == "joined\n"
        wait_until(lambda member=f"w{turn}": b"turn" in here.read("g").records.get(member, b""))
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        here.publish("g", "here", RECORD)
        here.heartbeat()
    wait_until(lambda: here.read("g").records.keys() == {"here"})
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
    here, other = connect(), connect(ttl=BRIEF)
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
