"""Changes: what is gained and lost is told, and stays pinned until it is let go."""

from __future__ import annotations

import contextlib
import math
import os
import queue
import threading

import pytest

import hashring
from hashring import clock
from hashring.errors import BadKey, LeaseLost
from hashring.partition.partition import Partition
from tests.servers.process import wait_until

KEYS = [f"resource-{number}" for number in range(300)]
TTL = 30.0


def both_settled(a: Partition, b: Partition) -> None:
    wait_until(lambda: all(len(p.members) == 2 and p.state == "settled" for p in (a, b)))


def test_the_first_change_has_what_is_held_already(a: Partition) -> None:
    with a.changes() as changes:
        change = next(changes)

        assert change.gained == a.held
        assert not change.lost
        assert change.valid
        assert change.deadline == math.inf


def test_what_is_lost_is_nobody_elses_before_it_is_done(a: Partition, url: str) -> None:
    changes = a.changes()
    next(changes)
    with changes, hashring.join(url, "group", "b", ttl=TTL) as b:
        change = next(changes)
        wait_until(lambda: len(b.members) == 2)

        assert change.lost == b.ring.slots("b")
        assert clock.boottime() < change.deadline <= a.deadline
        assert 0 < change.remaining <= TTL
        wait_until(lambda: "a" in b.waiting_for, what="b waits for a")
        assert b.held.isdisjoint(change.lost)

        change.done()
        both_settled(a, b)
        assert b.held == change.lost


def test_the_next_iteration_says_that_what_was_lost_is_done(a: Partition, url: str) -> None:
    told: queue.SimpleQueue[hashring.Change] = queue.SimpleQueue()

    def follow() -> None:
        for change in a.changes():
            told.put(change)

    thread = threading.Thread(target=follow)
    thread.start()
    with hashring.join(url, "group", "b", ttl=TTL) as b:
        both_settled(a, b)
        share = b.held
    a.stop()
    thread.join(60)

    changes = [told.get() for _ in range(told.qsize())]
    mine = [set(), *[set(change.gained) for change in changes]][0]
    for change in changes:
        assert mine.isdisjoint(change.gained)
        assert mine >= set(change.lost)
        mine = (mine | set(change.gained)) - set(change.lost)
    assert not thread.is_alive()
    assert mine == set(), "all that was gained is told as lost at the end"
    assert set(share) in [set(change.lost) for change in changes]


def test_of_keys_it_tells_those_that_were_given_and_pins_no_slots_but_theirs(
    a: Partition, url: str
) -> None:
    key = next(key for key in KEYS if hashring.HashRing(["a", "b"]).owner(key) == "a")
    with a.changes([key]) as changes:
        assert next(changes).gained == {key}
        # Nobody iterates: whatever has none of our keys goes all the same.
        with hashring.join(url, "group", "b", ttl=TTL) as b:
            both_settled(a, b)
            assert len(b.held) > 10_000


def test_members_that_follow_have_every_key_once(a: Partition, url: str) -> None:
    with hashring.join(url, "group", "b", ttl=TTL) as b:
        both_settled(a, b)
        shares = [next(partition.changes(hashring.Keys(KEYS))).gained for partition in (a, b)]

    assert not shares[0] & shares[1]
    assert shares[0] | shares[1] == set(KEYS)


def test_objects_are_told_by_what_gives_their_key(a: Partition) -> None:
    with a.changes(range(10), key=str) as changes:
        assert next(changes).gained == set(range(10))
    keys = hashring.Keys(range(10), key=str)
    with a.changes(keys) as changes:
        assert next(changes).gained == set(range(10))


@pytest.mark.parametrize("wrong", [[1, 2], "one"])
def test_a_key_that_is_no_key_is_refused_at_once(a: Partition, wrong) -> None:
    with pytest.raises(BadKey, match=r"key=str|use a list"):
        a.changes(wrong)
    with pytest.raises(BadKey, match="hashed already"):
        a.changes(hashring.Keys(KEYS), key=str)


def test_at_the_fence_all_is_lost_at_once_and_gained_again_when_it_is_over(cut) -> None:
    driver = cut()
    with hashring.join(driver, "group", "a") as a:
        assert a.wait_settled(60)
        with a.changes(KEYS) as changes:
            first = next(changes)
            driver.down = True
            lost = next(changes)

            assert lost.lost == first.gained == set(KEYS)
            assert a.state == "fenced"
            assert not first.valid
            assert lost.deadline == -math.inf
            assert lost.remaining == 0

            driver.down = False
            assert next(changes).gained == set(KEYS)


def test_a_drain_waits_for_what_is_told_as_lost(a: Partition, url: str) -> None:
    with hashring.join(url, "group", "b", ttl=TTL) as b, a.changes() as changes:
        both_settled(a, b)
        assert next(changes).gained == a.held
        drained: list[bool] = []
        thread = threading.Thread(target=lambda: drained.append(a.drain(60)))
        thread.start()
        change = next(changes)

        assert change.lost
        assert 0 < change.remaining <= 60
        assert thread.is_alive()
        assert b.held.isdisjoint(change.lost)

        change.done()
        thread.join(60)
        assert drained == [True]
        assert list(changes) == []


def test_a_loop_that_is_left_lets_everything_go(a: Partition, url: str) -> None:
    for _ in a.changes():
        break
    with contextlib.suppress(ZeroDivisionError):
        for _ in a.changes():
            _ = 1 / 0

    with hashring.join(url, "group", "b", ttl=TTL) as b:
        both_settled(a, b)


def test_changes_of_who_drains_in_their_block_do_not_keep_it_waiting(a: Partition) -> None:
    for _ in a.changes():
        assert a.drain(60)

    assert a.state == "left"


def test_a_forked_child_is_told_of_nothing(a: Partition) -> None:
    changes = a.changes()
    next(changes)
    child = os.fork()
    if child == 0:  # pragma: no cover - in the child
        with contextlib.suppress(LeaseLost):
            a.changes()
            os._exit(1)
        os._exit(0 if list(changes) == [] else 2)
    assert os.waitpid(child, 0)[1] == 0
    changes.close()
