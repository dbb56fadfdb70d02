"""A settled member sleeps in the store until something happens there, or here."""

import contextlib

import pytest

from hashring.driver import DriverURL
from hashring.drivers.memory import MemoryDriver
from tests.partition.embedded.members import PATIENCE, settled, until


class Deaf(MemoryDriver):
    """A store whose waits end by an interrupt alone, once ``deaf`` is set."""

    deaf = False
    waits = False

    def wait(self, group, timeout):
        store = self._attached()
        if not self.deaf:
            super().wait(group, timeout)
            return
        with store.changed:
            self.waits = True
            store.changed.wait_for(lambda: self._interrupted)
            self._interrupted = False


class Counting(MemoryDriver):
    """A store that counts what it is asked."""

    readings = waits = 0
    meanwhile = contextlib.nullcontext

    def read_since(self, group, cursor):
        self.readings += 1
        with self.meanwhile():
            return super().read_since(group, cursor)

    def wait(self, group, timeout):
        self.waits += 1
        super().wait(group, timeout)


@pytest.fixture
def deaf(url, join):
    driver = Deaf(DriverURL.parse(url), ttl=600.0)
    partition = join("a", url=driver)
    settled(partition)
    driver.deaf = True
    until(lambda: driver.waits)
    return partition


def test_a_drain_ends_the_wait(deaf):
    deaf.drain(PATIENCE)

    assert deaf.state == "left"


def test_a_leave_ends_the_wait(deaf):
    deaf.leave()

    assert deaf.state == "left"


def test_other_meta_are_published_at_once(url, deaf):
    looker = MemoryDriver(DriverURL.parse(url), ttl=600.0)
    looker.open()

    deaf.publish_meta({"polls": 7})

    until(lambda: b'"polls":7' in looker.read("group").records["a"])
    looker.close()


def test_a_settled_member_waits_about_once_for_each_reading(url, join):
    driver = Counting(DriverURL.parse(url), ttl=600.0)
    partition = join("a", url=driver)
    settled(partition)
    read, waited = driver.readings, driver.waits

    until(lambda: driver.readings >= read + 4)

    assert driver.waits - waited <= 8


def test_a_cycle_that_ends_while_a_settled_member_reads_leads_to_no_other_reading(url, join):
    driver = Counting(DriverURL.parse(url), ttl=600.0)
    partition = join("a", url=driver)
    settled(partition)
    driver.meanwhile = partition.cycle
    until(lambda: driver.waits)
    read, waited = driver.readings, driver.waits

    until(lambda: driver.readings >= read + 4)

    assert driver.waits - waited >= 3
