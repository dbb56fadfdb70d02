"""Who has acked and gains nothing leaves the processor and the store to those who do."""

import pytest

from hashring.driver import DriverURL
from hashring.drivers.memory import MemoryDriver
from hashring.partition import listening
from hashring.partition.waiting import WaitPlan, plan_wait
from tests.partition.embedded.members import ALL, TTL, settled, until

LONG = 600.0


class Noting(MemoryDriver):
    """A store that keeps in mind which calls came after the latest publish."""

    since_publish = ()
    published = 0

    def read_since(self, group, cursor):
        self.since_publish = (*self.since_publish, "read")
        return super().read_since(group, cursor)

    def publish(self, group, member, record):
        self.since_publish = ()
        self.published += 1
        return super().publish(group, member, record)


@pytest.fixture
def rest_long(monkeypatch):
    """Have all members rest for longer than the test, from the call on."""

    def plan(**named):
        return plan_wait(**named) if "acks" in named else WaitPlan(LONG, 0.0)

    return lambda: monkeypatch.setattr(listening, "plan_wait", plan)


@pytest.fixture
def driver(url):
    return Noting(DriverURL.parse(url), ttl=TTL)


@pytest.fixture
def giver(driver, join):
    partition = join("a", url=driver)
    settled(partition)
    return partition


def test_who_gains_waits_for_no_reading_of_those_who_gave(driver, giver, join, rest_long):
    rest_long()

    newcomer = join("b")

    settled(newcomer)
    assert 0 < len(newcomer.held) < ALL
    assert driver.since_publish == ()


def test_what_this_process_asks_for_ends_the_rest(driver, giver, join, rest_long):
    rest_long()
    settled(join("b"))
    before = driver.published

    giver.publish_meta({"polls": 7})

    until(lambda: driver.published > before)


def test_who_is_to_gain_does_not_rest(giver, join, rest_long):
    other = join("b")
    settled(giver, other)
    rest_long()

    other.leave()

    until(lambda: len(giver.held) == ALL)
