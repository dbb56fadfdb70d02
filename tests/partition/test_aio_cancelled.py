"""Cancelled at any await, a program on an event loop leaves no pin, task, thread or lease."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import threading
import uuid

import pytest

import hashring
from hashring.driver import DriverURL
from hashring.drivers.memory import MemoryDriver

KEYS = [f"resource-{number}" for number in range(40)]
TTL = 30.0
LONG = 60.0


async def windows(a: hashring.AsyncPartition) -> None:
    async for cycle in a.cycles(interval=0.003):
        async for _ in cycle.owned(KEYS, spread=0.9):
            await asyncio.sleep(0)


async def one_cycle(a: hashring.AsyncPartition) -> None:
    async with a.cycle() as cycle:
        async for _ in cycle.owned(KEYS):
            await asyncio.sleep(0)


async def many_at_once(a: hashring.AsyncPartition) -> None:
    async with a.cycles(interval=0.01) as cycles:
        async for cycle in cycles:
            async for _ in cycle.map(lambda _: asyncio.sleep(0), KEYS, in_flight=5, spread=0.5):
                pass


async def followed(a: hashring.AsyncPartition) -> None:
    async for _ in a.changes(KEYS):
        await asyncio.sleep(0)


async def kept(a: hashring.AsyncPartition) -> None:
    async def worker(key: str, stop: hashring.AsyncStop) -> None:
        await stop.wait()

    async with a.keep(worker, KEYS[:5], grace=0.001) as workers:
        await workers.wait()


async def led(a: hashring.AsyncPartition) -> None:
    async with a.leading("report") as term:
        await term.wait()


async def waited(a: hashring.AsyncPartition) -> None:
    await a.wait_settled(LONG)
    await a.wait_changed(LONG)


PROGRAMS = (windows, one_cycle, many_at_once, followed, kept, led, waited)


async def cancelled_after(coroutine, turns: int) -> None:
    """Run a program, and cancel it after so many turns of the loop."""
    task = asyncio.create_task(coroutine)
    for _ in range(turns):
        if task.done():
            break
        await asyncio.sleep(0)
    else:
        # Among those that wait for a timer or a thread, a moment of the clock is the more telling.
        await asyncio.sleep(turns * 1e-5)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert task.done()


async def until(condition) -> None:
    async with asyncio.timeout(LONG):
        while not condition():
            await asyncio.sleep(0.002)


def others() -> set[asyncio.Task]:
    return asyncio.all_tasks() - {asyncio.current_task()}


async def in_a_membership(cancellations: int, seed: int) -> None:
    chance = random.Random(seed)
    url = f"memory://{uuid.uuid4().hex}"
    async with await hashring.ajoin(url, "group", "a", ttl=TTL) as a:
        assert await a.wait_settled(LONG)
        for number in range(cancellations):
            program = chance.choice(PROGRAMS)
            await cancelled_after(program(a), chance.randrange(60))
            if others():  # of calls that a dropped cycle had cancelled
                await until(lambda: not others())
            if number % 50 == 0 or number == cancellations - 1:
                gc.collect()
                await until(lambda: not a._membership.handoff.is_pinned)
        threads = [t.name for t in threading.enumerate() if t.name.startswith("hashring-")]
        assert sorted(threads) == ["hashring-heartbeat-group-a", "hashring-reconcile-group-a"]
        assert a.owned(KEYS) == KEYS


async def of_whole_lives(cancellations: int, seed: int) -> None:
    chance = random.Random(seed)
    url = f"memory://{uuid.uuid4().hex}"
    looker = MemoryDriver(DriverURL.parse(url), ttl=TTL)
    looker.open()

    async def life(leave) -> None:
        async with await hashring.ajoin(url, "group", "a", ttl=TTL, wait=LONG) as a:
            await a.wait_settled(LONG)
            await leave(a)

    async def drained(a: hashring.AsyncPartition) -> None:
        async with a.cycle():
            await a.drain(LONG)

    for _ in range(cancellations):
        leave = chance.choice((drained, windows, lambda a: a.leave(), lambda a: asyncio.sleep(0)))
        await cancelled_after(life(leave), chance.choice((chance.randrange(30), 2000)))
        assert not others()
        assert not looker.read("group").records
        assert not [t for t in threading.enumerate() if t.name.startswith("hashring-")]
    looker.close()


def test_a_program_that_is_cancelled_anywhere_leaves_nothing_behind() -> None:
    asyncio.run(in_a_membership(300, seed=1))


def test_a_whole_life_that_is_cancelled_anywhere_leaves_no_lease_and_no_thread() -> None:
    asyncio.run(of_whole_lives(25, seed=2))


@pytest.mark.long
@pytest.mark.parametrize("seed", range(4))
def test_ten_thousand_cancellations_leave_nothing_behind(seed: int) -> None:
    asyncio.run(in_a_membership(2300, seed=100 + seed))
    asyncio.run(of_whole_lives(200, seed=200 + seed))
