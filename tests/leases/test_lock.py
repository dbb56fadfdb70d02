"""Locks: one holder of a name, who sees that it lost it; on a store in memory, with cuts."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import uuid

import pytest

import hashring
from hashring.driver import DriverURL, Reading
from hashring.drivers.memory import MemoryDriver
from hashring.errors import BadArgument, BadName, LeaseLost, NotAcquired, StoreUnavailable
from hashring.leases import leases as module
from tests.servers.process import wait_until

TTL = 120.0  # what was given back is had long before its lease would end


class CutDriver(MemoryDriver):
    """The memory store behind a network that can be cut, and that can forget."""

    down = False
    age = float("inf")

    def _reach(self) -> None:
        if self.down:
            raise StoreUnavailable("cut by the test")

    def heartbeat(self) -> None:
        self._reach()
        super().heartbeat()

    def join(self, group, member, record) -> None:
        self._reach()
        super().join(group, member, record)

    def read(self, group):
        self._reach()
        return Reading(super().read(group).records, self.age)

    def forget(self) -> None:
        """As a store that comes back empty."""
        with self._store.changed:
            self._store.groups.clear()
        self.age = 0.0


@pytest.fixture(autouse=True)
def _no_thread_is_left():
    yield
    wait_until(
        lambda: not [one for one in threading.enumerate() if one.name.startswith("hashring-")],
        what="the end of all threads",
    )


@pytest.fixture
def url() -> str:
    return f"memory://{uuid.uuid4().hex}"


def cut(url: str, ttl: float) -> CutDriver:
    return CutDriver(DriverURL.parse(url), ttl=ttl)


def test_one_of_all_holds_a_lock_and_the_next_gets_it_when_it_is_released(url: str) -> None:
    with hashring.lock(url, "report", TTL) as lock:
        assert lock.owned
        assert lock.acquired
        assert 0 < lock.remaining <= TTL
        assert lock.token
        with hashring.lock(url, "another", TTL):
            pass
        second = hashring.lock(url, "report", TTL)
        assert not second.acquire(blocking=False)
        assert not second.acquire(0.05)
        assert not second.owned
        threading.Timer(0.1, lock.release).start()
        assert second.acquire(60)
        assert not lock.owned
        assert second.release()
        assert not second.release(), "it had none any more"
        second.close()


def test_a_block_is_not_run_without_the_lock(url: str) -> None:
    with hashring.lock(url, "report", TTL):
        other = hashring.lock(url, "report", TTL, timeout=0.05)
        with pytest.raises(NotAcquired, match=r"'report' was not acquired in 0\.05 s.*alive"):
            other.__enter__()
    with (
        pytest.raises(TimeoutError),
        hashring.lock(url, "x", TTL),
        hashring.lock(url, "x", TTL, timeout=0),
    ):
        raise AssertionError("never run")


def test_a_lock_is_not_re_entrant_and_excludes_threads_of_one_process_too(url: str) -> None:
    lock = hashring.lock(url, "report", TTL)
    inside, most = 0, 0
    guard = threading.Lock()

    def work() -> None:
        nonlocal inside, most
        for _ in range(5):
            assert lock.acquire(60)
            with guard:
                inside += 1
                most = max(most, inside)
            with guard:
                inside -= 1
            lock.release()

    assert lock.acquire()
    assert not lock.acquire(0.05), "not even by who has it"
    lock.release()
    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    lock.close()


def test_an_owner_that_is_cut_off_sees_that_it_lost_the_lock_before_another_gets_it(
    url: str,
) -> None:
    driver = cut(url, 0.6)
    lock, other = hashring.lock(driver, "report"), hashring.lock(url, "report", 0.6)
    assert lock.acquire()
    token = lock.token
    driver.down = True
    watcher = threading.Thread(target=lock.wait)
    watcher.start()
    assert other.acquire(60)
    assert not lock.owned
    watcher.join(60)
    assert not watcher.is_alive(), "it is told as well"
    driver.down = False
    wait_until(lambda: not lock._leases._held or len(lock._leases._held) == 1)
    assert not lock.owned, "what was lost stays so"
    assert not lock.release()
    other.release()
    assert lock.acquire(60)
    assert lock.token != token
    lock.close()
    other.close()


def test_a_lock_goes_on_where_the_store_forgot_it_and_its_owner_is_back_in_time(url: str) -> None:
    driver = cut(url, 4.0)
    lock = hashring.lock(driver, "report")
    assert lock.acquire()
    driver.forget()
    wait_until(lambda: any(name.startswith("=") for name in driver.read(lock._group).records))
    assert lock.owned
    assert not lock.wait(0.0)
    assert not hashring.lock(url, "report", 4.0).acquire(blocking=False)
    gc.collect()
    lock.close()


def test_a_lock_is_lost_where_its_lease_is_gone_and_the_store_forgets_nothing(url: str) -> None:
    driver = cut(url, 0.9)
    lock = hashring.lock(driver, "report")
    assert lock.acquire()
    driver.forget()
    driver.age = 1000.0
    assert lock.wait(60)
    assert "=report" not in driver.read(lock._group).records
    lock.close()


def test_nobody_gets_a_lock_while_the_store_may_have_forgotten_who_has_it(url: str) -> None:
    driver = cut(url, 5.0)
    lock = hashring.lock(driver, "report")
    driver.age = 4.0
    assert not lock.acquire(blocking=False)
    assert "=report" not in driver.read(lock._group).records, "nor is it in the owner's way"
    waited = threading.Timer(0.1, lambda: setattr(driver, "age", 5.0))
    waited.start()
    assert lock.acquire(60)
    lock.close()


def test_a_store_that_is_away_is_told_from_a_lock_that_another_has(url: str) -> None:
    driver = cut(url, TTL)
    lock = hashring.lock(driver, "report")
    driver.down = True
    with pytest.raises(StoreUnavailable):
        lock.acquire(0.1)
    driver.down = False
    assert lock.acquire(60)
    lock.close()


def test_a_lock_that_was_dropped_is_given_back(url: str) -> None:
    lock = hashring.lock(url, "report", TTL)
    assert lock.acquire()
    del lock
    gc.collect()
    with hashring.lock(url, "report", TTL, timeout=60) as other:
        assert other.owned


def test_a_process_that_ends_gives_its_locks_back(tmp_path) -> None:
    url = f"sqlite:///{tmp_path}/locks.db"
    program = f"import hashring; lock = hashring.lock({url!r}, 'report', {TTL}); lock.acquire()"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=150)
    with hashring.lock(url, "report", TTL, timeout=60) as lock:
        assert lock.owned


def test_a_forked_child_owns_nothing_of_its_parents(url: str) -> None:
    with hashring.lock(url, "report", TTL) as lock:
        child = os.fork()
        if child == 0:
            try:
                try:
                    lock.acquire(0.1)
                except LeaseLost:
                    os._exit(1 if lock.owned or lock.release() else 0)
                os._exit(2)
            except BaseException:
                os._exit(3)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert lock.owned


def test_what_a_lock_cannot_be_is_refused_at_once(url: str) -> None:
    with pytest.raises(BadName):
        hashring.lock(url, "")
    with pytest.raises(BadArgument, match="timeout"):
        hashring.lock(url, "report", timeout=-1)
    with pytest.raises(BadArgument, match="ttl"):
        hashring.lock(url, "report", ttl=0)
    assert "not owned" in repr(hashring.lock(url, "report"))


def test_presence_is_one_record_a_process_and_group(url: str) -> None:
    lock = hashring.lock(url, "report", TTL)
    for _ in range(3):
        assert lock.acquire()
        lock.release()
    records = lock._leases.read(lock._group)[0]
    assert [name[0] for name in records] == [module._PRESENCE]
    lock.close()
