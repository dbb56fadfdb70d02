"""A store that is away, leases that end, records that are garbage: a member fences and recovers."""

import contextlib

import pytest

import hashring
from hashring import clock
from hashring.driver import DriverURL
from hashring.drivers.memory import MemoryDriver
from hashring.errors import LeaseLost, MemberExists
from hashring.protocol.record import Member
from tests.partition.embedded.members import ALL, KEYS, PATIENCE, TTL, Flaky, flaky, settled, until


def test_a_cycle_pins_its_slots_until_it_ends(join):
    a = join("a")
    settled(a)

    with a.cycle() as cycle:
        b = join("b")
        until(lambda: len(a.members) == len(b.members) == 2)
        mine = set(cycle.owned(KEYS))
        assert mine == set(KEYS)
        assert not b.wait_settled(0.3)
        assert len(b.held) == 0
        assert cycle.valid

    assert not cycle.valid
    settled(a, b)
    assert len(a.held) + len(b.held) == 65536


def test_a_store_that_is_away_fences_and_one_that_comes_back_restores_the_share(join, url):
    driver = flaky(url, 2.0)
    a = join("a", url=driver)
    settled(a)

    driver.down = True
    until(lambda: a.state == "fenced")
    before = (a.incarnation, a._membership.handoff.lease_number)
    assert len(a.held) == 0
    assert a.owned(KEYS) == []
    driver.down = False

    until(lambda: a.state == "settled" and len(a.held) == ALL)
    # Back within the last tenth of the lease it is the same membership; later it is a new one.
    with a._membership.lock:
        after = (a.incarnation, a._membership.handoff.lease_number)
    assert (after[0] == before[0]) == (after[1] == before[1])


def test_an_expired_member_comes_back_as_another_incarnation(join, url):
    driver = flaky(url, 1.0)
    a = join("a", url=driver)
    b = join("b", ttl=1.0)
    until(lambda: len(a.members) == len(b.members) == 2)
    settled(a, b)
    before = a.incarnation

    driver.down = True
    until(lambda: set(b.members) == {"b"} and len(b.held) == ALL)
    assert len(a.held) == 0
    driver.down = False

    until(
        lambda: (
            set(b.members) == {"a", "b"}
            and a.state == b.state == "settled"
            and len(a.held) + len(b.held) == ALL
        )
    )
    assert a.incarnation != before


def test_a_slow_iteration_stops_at_the_fence(join, url):
    driver = flaky(url, 1.0)
    a = join("a", url=driver)
    settled(a)
    polled = []

    with a.cycle() as cycle:
        driver.down = True
        for key in cycle.owned(KEYS):
            polled.append(key)
            if len(polled) == 3:
                until(lambda: clock.boottime() > a.deadline)

    assert len(polled) <= 3  # fewer where the machine stood still before
    assert not cycle.valid
    driver.down = False


def test_a_cycle_that_was_fenced_stays_invalid(join, url):
    driver = flaky(url, 1.5)
    a = join("a", url=driver)
    settled(a)

    with a.cycle() as cycle:
        driver.down = True
        until(lambda: not cycle.valid)
        driver.down = False
        until(lambda: len(a.held) == 65536)
        assert not cycle.valid
        assert list(cycle.owned(KEYS)) == []


def test_a_member_whose_id_another_process_took_gives_up(join, url):
    driver = flaky(url, 0.5)
    a = join("a", url=driver)
    settled(a)
    driver.down = True
    # The other one's lease does not end: its heartbeats might come late on a busy machine.
    other = MemoryDriver(DriverURL.parse(url), ttl=600.0)
    other.open()
    spec = hashring.HashRing().spec
    record = Member(id="a", incarnation="i", weight=1.0, ring=spec, ttl=0.5).to_json()

    def taken():
        with contextlib.suppress(MemberExists):
            other.join("group", "a", record)
            return True

    until(taken)
    driver.down = False

    with pytest.raises(MemberExists):
        a.wait_settled(PATIENCE)

    assert other.read("group").records == {"a": record}
    other.close()


def test_a_lost_lease_that_the_driver_reports_is_recovered_from(join, url):
    class Forgetful(Flaky):
        lost = False

        def heartbeat(self):
            if self.lost:
                self.lost = False
                raise LeaseLost("by the test")
            super().heartbeat()

    driver = Forgetful(DriverURL.parse(url), ttl=1.0)
    a = join("a", url=driver)
    settled(a)

    driver.lost = True
    until(lambda: not driver.lost)

    until(lambda: a.state == "settled" and len(a.held) == 65536)


def test_a_defect_in_a_driver_is_logged_and_survived(join, url, caplog):
    class Broken(Flaky):
        broken = False

        def read(self, group):
            if self.broken:
                self.broken = False
                raise RuntimeError("a defect")
            return super().read(group)

    driver = Broken(DriverURL.parse(url), ttl=TTL)
    a = join("a", url=driver)
    settled(a)

    driver.broken = True

    until(lambda: "a defect" in caplog.text)
    until(lambda: a.state == "settled")


def test_a_record_that_is_garbage_is_reported_and_blocks_gains(join, url, caplog):
    a = join("a")
    settled(a)
    stranger = MemoryDriver(DriverURL.parse(url), ttl=TTL)
    stranger.open()
    stranger.join("group", "stranger", b"garbage")

    b = join("b")
    until(lambda: "stranger" in b.problems)
    assert not b.wait_settled(0.3)
    assert len(b.held) == 0
    stranger.leave("group", "stranger")
    stranger.close()

    settled(b)
    assert "stranger" in caplog.text
