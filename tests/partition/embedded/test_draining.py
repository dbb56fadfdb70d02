"""A drain that is asked for, interrupted, or made inside a cycle."""

import pytest

from hashring import clock
from hashring.driver import DriverURL
from tests.partition.embedded.members import ALL, KEYS, PATIENCE, Flaky, settled, until


def test_when_drain_returns_the_others_have_taken_over(join):
    a, b = join("a"), join("b")
    until(lambda: len(a.members) == len(b.members) == 2)
    settled(a, b)

    assert a.drain(PATIENCE)

    assert len(a.held) == 0
    until(lambda: len(b.held) == ALL)  # the store has its mark before it is told so itself


def test_a_drain_waits_for_a_store_that_is_away_for_a_part_of_the_lease_only(
    url, join, monkeypatch
):
    monkeypatch.setattr("hashring.partition.worker._AWAY", 0.01)
    driver = Flaky(DriverURL.parse(url), ttl=60.0)
    partition = join("a", url=driver)
    settled(partition)
    driver.down = True
    fence = partition.deadline

    assert not partition.drain(600)

    assert partition.state == "left"
    assert clock.boottime() < fence, "it waited for the fence"


def test_leave_is_idempotent_and_ends_cycles(join):
    a = join("a")
    settled(a)
    windows = a.cycles(0.05)
    next(windows)

    a.leave()
    a.leave()

    assert list(windows) == []
    assert a.state == "left"
    assert a.owned(KEYS) == []
    assert not a.drain()  # nobody took over
    assert not a.wait_settled(0.1)


def test_a_drain_inside_the_own_cycle_does_not_wait_for_itself(join):
    a, b = join("a"), join("b")
    until(lambda: len(a.members) == len(b.members) == 2)
    settled(a, b)

    with a.cycle() as cycle:
        assert a.drain(PATIENCE)
        assert not cycle.valid

    until(lambda: len(b.held) == ALL)


def test_a_drain_that_is_interrupted_leaves_all_the_same(join, monkeypatch):
    a, b = join("a"), join("b")
    until(lambda: len(a.members) == len(b.members) == 2)
    settled(a, b)

    def interrupted(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(a._membership.ended, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        a.drain(PATIENCE)

    assert a.state == "left"
    until(lambda: len(b.held) == 65536)


def test_a_drain_may_be_given_all_the_time_in_the_world(join):
    a = join("a")
    settled(a)

    assert a.drain(float("inf"))
    assert a.drain()  # and says so again
