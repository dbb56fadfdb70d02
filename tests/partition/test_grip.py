"""Grips: what is held is kept for some seconds, and nobody else gains it before they are over."""

from __future__ import annotations

import asyncio
import gc
import os

import pytest

import hashring
from hashring import clock
from hashring.errors import BadArgument, BadKey, LeaseLost
from hashring.partition.partition import Partition
from tests.servers.process import wait_until

TTL = 30.0
KEYS = [f"key-{number}" for number in range(200)]


def wait_for(partition: Partition, other: str) -> None:
    wait_until(lambda: other in partition.waiting_for, what=f"{partition.member} waits")


def test_what_a_grip_pins_is_nobody_elses_before_it_is_released(a: Partition, url: str) -> None:
    grip = a.grip(60)
    assert list(grip.owned(KEYS)) == KEYS
    assert not grip.over
    with hashring.join(url, "group", "b", ttl=TTL) as b:
        wait_for(b, "a")
        assert not b.owned(KEYS)
        wait_until(lambda: grip.over, what="a sees that b waits for it")
        assert grip.valid
        assert all(map(grip.owns, KEYS))
        mine = a.owned(KEYS)
        assert 0 < len(mine) < len(KEYS), "what b is to have is closed to new work at once"

        grip.release()

        assert not grip.valid
        assert not grip.remaining
        assert not grip.owns(KEYS[0])
        assert b.wait_settled(60)
        assert sorted(b.owned(KEYS) + mine) == sorted(KEYS)


def test_a_grip_ends_by_itself_and_the_next_owner_gains_then(a: Partition, url: str) -> None:
    began = clock.boottime()
    grip = a.grip(0.4)
    with hashring.join(url, "group", "b", ttl=TTL) as b:
        assert b.wait_settled(60)
        assert clock.boottime() - began >= 0.4
        assert not grip.valid
        assert not a._membership.grips


def test_a_grip_that_was_dropped_lasts_for_its_seconds_all_the_same(a: Partition, url: str) -> None:
    began = clock.boottime()
    a.grip(0.4)
    gc.collect()
    with hashring.join(url, "group", "b", ttl=TTL) as b:
        assert b.wait_settled(60)
        assert clock.boottime() - began >= 0.4


def test_a_grip_can_be_renewed_until_it_has_ended_and_not_after(url: str) -> None:
    # What remains ends at the fence, too: on a busy machine that of a short lease comes near.
    with hashring.join(url, "renewed", "a", ttl=600.0) as a:
        assert a.wait_settled(60)
        grip = a.grip(100)
        assert grip.renew(400)
        assert grip.remaining > 100.5
        assert grip.renew(1), "it is not made shorter"
        assert grip.remaining > 100.5
        grip.release()
        assert not grip.renew(60)
        short = a.grip(0.001)
        wait_until(lambda: not short.valid)
        assert not short.renew(60)
        assert not short.owned(KEYS)


def test_iteration_over_gripped_keys_stops_where_the_grip_ends(a: Partition) -> None:
    a.wait_settled(60)
    with a.grip(60) as grip:
        worked = []
        for key in grip.owned(KEYS):
            worked.append(key)
            if len(worked) == 3:
                grip.release()
    assert worked == KEYS[:3]


def test_a_grip_is_over_at_the_fence_and_stays_so(cut) -> None:
    driver = cut()
    with hashring.join(driver, "group", "a") as a:
        assert a.wait_settled(60)
        grip = a.grip(60)
        driver.down = True
        wait_until(lambda: not grip.valid)
        driver.down = False
        wait_until(lambda: a.state == "settled")
        assert not grip.valid
        assert not grip.renew(60)
        wait_until(lambda: a.grip(60).valid, what="another one")
        a.leave()


def test_a_drain_waits_for_what_is_gripped(a: Partition, url: str) -> None:
    a.wait_settled(60)
    with hashring.join(url, "group", "b", ttl=TTL) as b:
        assert b.wait_settled(60)
        began = clock.boottime()
        a.grip(0.5)
        assert a.drain(60)
        assert clock.boottime() - began >= 0.5
        # The store has its mark before it is told so itself.
        wait_until(lambda: b.owned(KEYS) == KEYS, what="what a gave up")


def test_a_partition_on_an_event_loop_has_grips_too(url: str) -> None:
    async def main() -> None:
        async with await hashring.ajoin(url, "group", "a", ttl=TTL) as a:
            await a.wait_settled(60)
            with a.grip(60) as grip:
                assert grip.owns("key")
                assert grip.token.incarnation == a.incarnation

    asyncio.run(main())


def test_a_forked_child_has_no_grip(a: Partition) -> None:
    grip = a.grip(60)
    child = os.fork()
    if child == 0:
        try:
            fails = False
            try:
                a.grip(1)
            except LeaseLost:
                fails = True
            grip.release()
            os._exit(0 if fails and not grip.valid and not grip.renew(1) else 1)
        except BaseException:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert grip.valid
    grip.release()


def test_what_is_no_number_of_seconds_and_no_key_is_refused(a: Partition) -> None:
    for seconds in (0, -1, float("inf"), float("nan"), "3", True):
        with pytest.raises(BadArgument, match="seconds"):
            a.grip(seconds)  # type: ignore[arg-type]
    with a.grip(1) as grip:
        with pytest.raises(BadArgument, match="seconds"):
            grip.renew(0)
        with pytest.raises(BadKey, match="key="):
            grip.owns(17)  # type: ignore[call-overload]
        with pytest.raises(BadKey):
            grip.owned([17])
        assert "Grip on" in repr(grip)
