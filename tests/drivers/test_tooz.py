"""The tooz bridge beyond the conformance suite: what it refuses, and how it keeps leases."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tooz import coordination

from hashring.driver import Driver, load
from hashring.errors import BadURL, LeaseLost, MemberExists, StoreUnavailable
from tests.drivers.patience import until_it_works
from tests.servers.etcd import EtcdServer
from tests.servers.process import SilentServer, free_port, wait_until

Open = Callable[..., Driver]


def record(incarnation: str, **more: object) -> bytes:
    return json.dumps({"v": 1, "incarnation": incarnation, **more}).encode()


@pytest.fixture
def connect() -> Iterator[Open]:
    with contextlib.ExitStack() as stack:

        def connect(url: str, ttl: float = 10.0) -> Driver:
            driver = load(url, ttl=ttl)
            driver.open()
            stack.callback(driver.close)
            return driver

        yield connect


@pytest.fixture
def files(tmp_path: Path) -> str:
    return f"tooz+file://{tmp_path}?poll=0.02"


@pytest.fixture(scope="module")
def etcd() -> Iterator[EtcdServer]:
    with EtcdServer() as server:
        yield server


# -- what it refuses


@pytest.mark.parametrize(
    ("backend", "instead"),
    [
        ("redis://localhost:6379", "redis://"),
        ("memcached://localhost", "memcached://"),
        ("ipc://", "sqlite://"),
        ("postgresql://localhost/tooz", "locks"),
        ("mysql://localhost/tooz", "locks"),
        ("kubernetes://", "locks"),
        ("zake://", "tooz\\+file"),
    ],
)
def test_a_backend_that_forgets_or_has_no_groups_is_refused_with_what_to_use(
    backend: str, instead: str
) -> None:
    with pytest.raises(BadURL, match=instead):
        load(f"tooz+{backend}", ttl=1.0)


def test_a_ttl_that_a_zookeeper_session_may_not_last_is_refused() -> None:
    with pytest.raises(BadURL, match="too long"):
        load("tooz+zookeeper://localhost", ttl=60.0)


def test_a_missing_library_of_a_backend_names_it() -> None:
    program = (
        "import sys; sys.modules['etcd3gw'] = None\n"
        "from hashring.driver import load\n"
        "from hashring.errors import HashringError\n"
        "driver = load('tooz+etcd3+http://localhost', ttl=60.0)\n"
        "try: driver.open()\n"
        "except HashringError as error: assert 'etcd3gw' in str(error), error\n"
        "else: sys.exit(1)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], timeout=150, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()


# -- leases


def test_a_member_that_slept_past_its_lease_does_not_come_back(files: str, connect: Open) -> None:
    sleeper, reader = connect(files, ttl=4.0), connect(files)
    sleeper.join("group", "a", record("1"))
    wait_until(lambda: not reader.read("group").records, what="the end of the lease")

    with pytest.raises(LeaseLost):  # though its entry is still there
        sleeper.heartbeat()
    with pytest.raises(LeaseLost):
        sleeper.publish("group", "a", record("1"))

    assert reader.read("group").records == {}
    sleeper.join("group", "a", record("2"))
    assert reader.read("group").records == {"a": record("2")}


def test_a_reader_that_is_new_waits_one_lease_before_it_takes_a_member_for_dead(
    files: str, connect: Open
) -> None:
    dead = connect(files, ttl=2.0)
    dead.join("group", "a", record("1"))
    dead.close()
    old = connect(files)
    wait_until(lambda: not old.read("group").records, what="the end of the lease")

    new = connect(files)
    began = time.monotonic()
    with pytest.raises(MemberExists):
        new.join("group", "a", record("2"))
    wait_until(lambda: joined(new, "a"), what="the new member's turn")
    assert time.monotonic() - began > 1.0
    assert old.read("group").records == {"a": record("2")}


def joined(driver: Driver, member: str) -> bool:
    with contextlib.suppress(MemberExists):
        driver.join("group", member, record("2"))
        return True
    return False


def test_what_dead_members_leave_on_the_file_backend_is_swept_away(
    tmp_path: Path, files: str, connect: Open
) -> None:
    for number in range(6):
        dead = connect(files, ttl=1.5)
        dead.join("group", f"dead-{number}", record("1"))
        dead.close()
    reader = connect(files)

    def left() -> int:
        reader.read("group")
        return len(list(tmp_path.glob("**/*.raw")))

    wait_until(lambda: left() == 0, what="an empty folder")


def test_tooz_users_own_groups_are_not_ours(tmp_path: Path, files: str, connect: Open) -> None:
    other = coordination.get_coordinator(f"file://{tmp_path}", b"other")
    other.start()
    try:
        other.join_group_create(b"group", {"theirs": True})
        driver = connect(files)
        driver.join("group", "a", record("1"))
        assert driver.read("group").records == {"a": record("1")}
        assert other.get_members(b"group").get() == {b"other"}
    finally:
        other.stop()


def test_a_strangers_entry_in_our_group_is_shown_as_a_member_that_says_nothing(
    tmp_path: Path, files: str, connect: Open
) -> None:
    driver = connect(files)
    driver.join("group", "a", record("1"))
    stranger = coordination.get_coordinator(f"file://{tmp_path}", b"stranger")
    stranger.start()
    try:
        stranger.join_group(b"hashring:group", {"number": "none"}).get()
        assert driver.read("group").records == {"a": record("1"), "stranger": b""}
    finally:
        stranger.stop()


def test_a_strangers_entry_in_our_group_is_not_swept_away(
    tmp_path: Path, files: str, connect: Open
) -> None:
    reader = connect(files, ttl=1.5)
    stranger = coordination.get_coordinator(f"file://{tmp_path}", b"stranger")
    stranger.start()
    try:
        reader.join("group", "a", record("1"))
        stranger.join_group(b"hashring:group", {"number": "none"}).get()
        reader.leave("group", "a")
        reader.read("group")
        # Ours is seen later than the stranger's, and with the same lease: it is swept later, too.
        dead = connect(files, ttl=1.5)
        dead.join("group", "dead", record("1"))
        dead.close()

        def left() -> set[bytes]:
            reader.read("group")
            return set(stranger.get_members(b"hashring:group").get())

        wait_until(lambda: len(left()) < 2, what="the end of the dead member's entry")
        assert left() == {b"stranger"}
    finally:
        stranger.stop()


# -- a backend that stalls


def test_a_write_whose_outcome_is_unknown_never_lands_over_a_later_one(connect: Open) -> None:
    with EtcdServer() as server:
        url = f"{server.url}?timeout=1&api_version=v3"
        driver, reader = connect(url, ttl=30.0), connect(server.url, ttl=30.0)
        until_it_works(lambda: driver.join("group", "a", record("1")))
        server.pause()
        with pytest.raises(StoreUnavailable):
            driver.publish("group", "a", record("1", late=True))
        server.resume()
        until_it_works(lambda: driver.publish("group", "a", record("1", final=True)))
        for _ in range(20):
            assert reader.read("group").records == {"a": record("1", final=True)}
        until_it_works(driver.heartbeat)
        until_it_works(lambda: driver.leave("group", "a"))
        assert reader.read("group").records == {}


def test_what_is_given_up_with_a_call_does_not_prolong_it(
    connect: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    with EtcdServer() as server:
        driver = connect(f"{server.url}?timeout=10&api_version=v3", ttl=30.0)
        driver.join("group", "a", record("1"))
        stop, stopping = threading.Event(), threading.Event()
        coordinator = driver._leases["group", "a"].seat.coordinator

        def slow() -> None:
            stopping.set()
            stop.wait(60.0)

        monkeypatch.setattr(coordinator, "stop", slow)
        server.pause()
        began = time.monotonic()
        with pytest.raises(StoreUnavailable):
            driver.leave("group", "a")
        took = time.monotonic() - began
        server.resume()
        assert stopping.wait(60.0)
        stop.set()
    assert took < 19.5  # ten, and some for a machine that is busy; with the other's time, twenty


def test_heartbeats_that_fail_for_longer_than_the_lease_have_lost_it(connect: Open) -> None:
    def beat() -> None:
        while True:
            with contextlib.suppress(StoreUnavailable):
                driver.heartbeat()

    with EtcdServer() as server:
        driver = connect(f"{server.url}?timeout=10&api_version=v3", ttl=2.0)
        until_it_works(lambda: driver.join("group", "a", record("1")))
        server.pause()
        resuming = threading.Timer(3.0, server.resume)  # a reader may have taken it for dead
        resuming.start()

        with pytest.raises(LeaseLost):
            beat()

        resuming.join()


@pytest.mark.parametrize("wrong", ["port", "silence"])
@pytest.mark.parametrize("backend", ["etcd3+http", "zookeeper"])
def test_a_server_that_is_none_is_an_error_in_time(backend: str, wrong: str, connect: Open) -> None:
    before = set(threading.enumerate())
    with contextlib.ExitStack() as stack:
        silent = stack.enter_context(SilentServer())
        port = silent.port if wrong == "silence" else free_port()
        began = time.monotonic()
        with pytest.raises(StoreUnavailable, match=str(port)):
            connect(f"tooz+{backend}://127.0.0.1:{port}?timeout=1", ttl=1.0)
        assert time.monotonic() - began < 60.0  # far from the hang that this is about
    wait_until(lambda: not set(threading.enumerate()) - before, what="the end of the threads")


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path, connect: Open) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailable, match="file"):
        connect(f"tooz+file://{tmp_path}/file/folder")


@pytest.mark.parametrize("poll", ["0", "-1", "nan", "inf"])
def test_a_poll_that_is_no_time_to_wait_is_refused(poll: str, tmp_path: Path) -> None:
    with pytest.raises(BadURL, match="poll"):
        load(f"tooz+file://{tmp_path}?poll={poll}")
