"""What hardly ever comes up on an event loop: the same ends as with threads, awaited."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

import hashring
from hashring.errors import BadArgument, GroupMismatch
from tests.partition.conftest import TTL, records

KEYS = [f"resource-{number}" for number in range(80)]
LONG = 60.0


@contextlib.asynccontextmanager
async def joined(url: str, member: str = "a", **options) -> AsyncIterator[hashring.AsyncPartition]:
    async with await hashring.ajoin(url, "group", member, ttl=TTL, **options) as partition:
        assert await partition.wait_settled(LONG)
        yield partition


def run(main: Callable[[], Awaitable[None]]) -> None:
    async def whole() -> None:
        async with asyncio.timeout(LONG):
            await main()
        while asyncio.all_tasks() != {asyncio.current_task()}:
            await asyncio.sleep(0.005)

    asyncio.run(whole())


async def until(condition: Callable[[], object]) -> None:
    while not condition():
        await asyncio.sleep(0.005)


async def cancelled(awaitable: Awaitable[object]) -> None:
    """Await something that has to wait, and cancel it there."""
    task = asyncio.ensure_future(awaitable)
    for _ in range(10):
        await asyncio.sleep(0)
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def is_unpinned(partition: hashring.AsyncPartition) -> None:
    await until(lambda: not partition._membership.handoff.is_pinned)


def dropped_while_it_waits(url: str, work: Callable[[hashring.AsyncPartition], Awaitable]) -> None:
    """Run a program until it waits for ever, and drop its coroutine there. The member goes on."""
    loop = asyncio.new_event_loop()
    kept: list[hashring.AsyncPartition] = []

    async def program() -> None:
        kept.append(await hashring.ajoin(url, "group", "a", ttl=TTL))
        await kept[0].wait_settled(LONG)
        await work(kept[0])

    coroutine = program()
    task = loop.create_task(coroutine)
    loop.run_until_complete(_until_pinned(kept))
    coroutine.close()
    task._log_destroy_pending = False  # it is what this is about
    loop.run_until_complete(is_unpinned(kept[0]))
    loop.run_until_complete(kept[0].leave())
    assert asyncio.all_tasks(loop) == {task}
    loop.close()


async def _until_pinned(kept: list[hashring.AsyncPartition]) -> None:
    await until(lambda: kept and kept[0]._membership.handoff.is_pinned)
    for _ in range(10):
        await asyncio.sleep(0)


# ---- the membership --------------------------------------------------------------------------


def test_a_wait_ends_when_its_time_is_up_or_the_member_has_left(url: str) -> None:
    async def main() -> None:
        async with joined(url) as a, a.cycle():
            b = await hashring.ajoin(url, "group", "b", ttl=TTL)
            assert not await b.wait_settled(0.01)
            await b.leave()
            assert not await b.wait_settled()
            assert not await b.wait_changed(0.0)

    run(main)


def test_a_block_that_ends_with_a_member_that_can_never_take_part_leaves(url: str) -> None:
    async def main() -> None:
        async with joined(url) as a:
            a._partition._worker._fail(GroupMismatch("another ring"))
            with pytest.raises(GroupMismatch):
                await a.wait_changed(LONG)
        assert a.state == "left"

    run(main)
    assert records(url) == set()


def test_a_drain_may_keep_the_share_for_a_while(url: str) -> None:
    async def main() -> None:
        async with joined(url) as a, joined(url, "b") as b:
            await until(lambda: len(a.members) == 2 and a.state == b.state == "settled")
            held = a.held
            with pytest.raises(BadArgument, match="resume"):
                await b.drain(LONG, resume=-1)
            assert await b.drain(LONG, resume=LONG)
            assert a.held == held
            await a.leave()  # for nobody is there to keep its share

    run(main)


# ---- windows ---------------------------------------------------------------------------------


def test_a_loop_may_be_told_to_end_after_the_window_in_hand(url: str) -> None:
    async def main() -> None:
        async with joined(url) as a, a.cycles(interval=0.05) as cycles:
            async for _ in cycles:
                cycles.finish()
            assert [cycle async for cycle in cycles] == []
            await is_unpinned(a)

    run(main)


def test_a_loop_that_is_cancelled_while_it_waits_is_closed(url: str) -> None:
    async def main() -> None:
        async with joined(url) as a:
            cycles = a.cycles(interval=3600)
            await anext(cycles)  # at any time of an hour; the next one comes in the next hour
            await cancelled(anext(cycles))
            assert await anext(cycles, None) is None

    run(main)


@pytest.mark.parametrize("closed", ["by aclose", "by the end of a block", "by an error"])
def test_the_calls_of_a_window_end_with_its_loop(url: str, closed: str) -> None:
    ended: list[str] = []

    async def poll(key: str) -> None:
        try:
            await asyncio.sleep(LONG if closed != "by the end of a block" else 0.01)
        finally:
            ended.append(key)

    async def main() -> None:
        async with joined(url) as a:
            cycles = a.cycles(interval=0.05)
            if closed == "by aclose":
                (await anext(cycles)).map(poll, KEYS[:3])
                await asyncio.sleep(0)
                await cycles.aclose()
                await a.cycles(interval=0.05).aclose()  # of which nothing has begun
            else:
                with contextlib.suppress(ZeroDivisionError):
                    async with cycles:
                        (await anext(cycles)).map(poll, KEYS[:3])
                        await asyncio.sleep(0)
                        if closed == "by an error":
                            raise ZeroDivisionError
            assert sorted(ended) == KEYS[:3]
            await is_unpinned(a)

    run(main)


@pytest.mark.parametrize("spread", [0.0, 0.5])
def test_keys_stop_where_their_cycle_does(url: str, spread: float) -> None:
    async def main() -> None:
        async with joined(url) as a:
            async for cycle in a.cycles(interval=0.2):
                worked = []
                async for key in cycle.owned(KEYS, spread=spread):
                    worked.append(key)
                    if len(worked) == 3:
                        cycle._pin.end()
                assert len(worked) == 3
                keys = aiter(cycle.owned(KEYS))
                with pytest.raises(StopAsyncIteration):
                    await anext(keys)
                break

    run(main)


def test_other_tasks_get_a_turn_among_many_keys(url: str) -> None:
    async def main() -> None:
        turns = 0

        async def other() -> None:
            nonlocal turns
            turns += 1

        async with joined(url) as a, a.cycle() as cycle:
            task = asyncio.create_task(other())
            assert [key async for key in cycle.owned(KEYS)] == KEYS
            assert turns == 1
            assert list(cycle.owned(KEYS)) == KEYS
            await task

    run(main)


def test_a_cycle_that_is_dropped_with_its_coroutine_cancels_its_calls(url: str) -> None:
    async def work(a: hashring.AsyncPartition) -> None:
        async with a.cycle() as cycle:
            cycle.map(lambda key: asyncio.sleep(LONG), KEYS)
            await asyncio.sleep(LONG)

    dropped_while_it_waits(url, work)


def test_a_loop_that_is_dropped_with_its_coroutine_cancels_its_calls(url: str) -> None:
    async def work(a: hashring.AsyncPartition) -> None:
        async with a.cycles(interval=0.05) as cycles:
            async for cycle in cycles:
                cycle.map(lambda key: asyncio.sleep(LONG), KEYS)
                await asyncio.sleep(LONG)

    dropped_while_it_waits(url, work)


# ---- changes and leads -----------------------------------------------------------------------


def test_changes_that_are_left_keep_nothing(url: str) -> None:
    async def main() -> None:
        async with joined(url) as a:
            async with a.changes(KEYS) as changes:
                assert (await anext(changes)).gained == set(KEYS)
                await cancelled(anext(changes))
                await is_unpinned(a)
            changes = a.changes(KEYS)
            await anext(changes)
            await changes.aclose()
            await is_unpinned(a)
            assert await anext(changes, None) is None

    run(main)


def test_a_wait_for_the_lead_may_end_without_it(url: str) -> None:
    async def main() -> None:
        async with joined(url) as a, joined(url, "b") as b:
            await until(lambda: all(len(one.members) == 2 for one in (a, b)))
            name = next(name for name in map(str, range(99)) if b.owner(name) == "a")
            async with b.leading(name, timeout=0.01) as none:
                assert not none
                assert await none.wait()
            leading = b.leading(name)
            await cancelled(leading.__aenter__())
            with pytest.raises(BadArgument, match="waited for before"):
                await leading.__aenter__()
            with pytest.raises(BadArgument, match="non-empty"):
                b.leading("")
            with pytest.raises(BadArgument, match="timeout"):
                b.leading(name, timeout=-1)

    run(main)


def test_at_a_lost_lease_all_is_lost_at_once_and_gained_again(url: str) -> None:
    async def main() -> None:
        async with joined(url, heartbeat=0.05) as a:
            changes = a.changes(KEYS)
            assert (await anext(changes)).gained == set(KEYS)
            a._membership.driver.leave("group", "a")  # the store forgets it
            change = await anext(changes)
            assert change.lost == set(KEYS)
            assert not change.valid
            assert (await anext(changes)).gained == set(KEYS)
            changes.close()

    run(main)


def test_a_block_that_was_never_left_ends_when_it_is_dropped(url: str) -> None:
    async def main() -> None:
        async with joined(url) as a:
            block = a.cycle()
            await block.__aenter__()
            assert a._membership.handoff.is_pinned
            del block
            gc.collect()
            await is_unpinned(a)

    run(main)


# ---- workers ---------------------------------------------------------------------------------


async def stays(key: str, stop: hashring.AsyncStop) -> None:
    await stop.wait()
    await stop.wait()  # at once, now that it is told


def test_workers_begin_once_and_can_be_waited_for_only_then(url: str) -> None:
    async def main() -> None:
        async with joined(url) as a:
            workers = a.keep(stays, grace=LONG)
            assert not await workers.wait(0.01)
            await workers.close()
            async with a.keep(stays, KEYS[:1], grace=LONG) as others:
                assert not await others.wait(0.01)
                others.replace(KEYS[:2])
                await until(lambda: len(others.running) == 2)
                assert set(others.keys) == set(KEYS[:2])
                with pytest.raises(BadArgument, match="begun before"):
                    await others.__aenter__()
            assert others.running == []

    run(main)


def test_a_member_that_can_never_take_part_ends_its_tasks_with_the_error(url: str) -> None:
    async def main() -> None:
        async with joined(url) as a, a.keep(stays, KEYS, grace=LONG) as workers:
            await until(lambda: len(workers.running) == len(KEYS))
            a._partition._worker._fail(GroupMismatch("another ring"))
            with pytest.raises(GroupMismatch):
                await workers.wait(LONG)
            assert workers.running == []

    run(main)


def test_where_no_task_can_be_started_nothing_stays_pinned(url: str) -> None:
    def no_coroutine(key: str, stop: hashring.AsyncStop):
        if key == KEYS[1]:
            raise ZeroDivisionError
        return stays(key, stop)

    async def main() -> None:
        async with joined(url) as a, a.keep(no_coroutine, KEYS[:1], grace=LONG) as workers:
            await until(lambda: workers.running == KEYS[:1])
            workers.add(KEYS[1])
            with pytest.raises(ZeroDivisionError):
                await workers.wait(LONG)
            await is_unpinned(a)

    run(main)


def test_a_close_that_is_cancelled_cancels_the_workers_and_waits_for_their_end(url: str) -> None:
    ended: list[str] = []

    async def deaf(key: str, stop: hashring.AsyncStop) -> None:
        try:
            await asyncio.sleep(LONG)
        finally:
            ended.append(key)

    async def main() -> None:
        async with joined(url) as a, a.keep(deaf, KEYS[:3], grace=LONG) as workers:
            await until(lambda: len(workers.running) == 3)
            await asyncio.sleep(0)
            await cancelled(workers.close())
            assert sorted(ended) == KEYS[:3]

    run(main)


def test_a_worker_that_ends_in_the_turn_in_which_all_are_told_is_left_alone(url: str) -> None:
    gate = asyncio.Event()

    async def ends_by_itself(key: str, stop: hashring.AsyncStop) -> None:
        await gate.wait()

    async def main() -> None:
        async with joined(url) as a, a.keep(ends_by_itself, KEYS[:1], grace=LONG) as workers:
            await until(lambda: workers.running == KEYS[:1])
            await asyncio.sleep(0)
            gate.set()
            await asyncio.sleep(0)  # it has ended, and nobody has looked yet
            assert workers.running == KEYS[:1]
            workers._keeper.tell_all()
            assert await workers.wait(LONG)

    run(main)


def test_where_every_task_of_a_loop_is_cancelled_the_workers_end_before_their_keeper(
    url: str,
) -> None:
    ended: list[str] = []

    async def deaf(key: str, stop: hashring.AsyncStop) -> None:
        try:
            await asyncio.sleep(LONG)
        finally:
            await asyncio.sleep(0.05)  # a second cancellation would cut this short
            ended.append(key)

    async def main() -> None:
        async with joined(url) as a, a.keep(deaf, KEYS[:3], grace=LONG) as workers:
            await until(lambda: len(workers.running) == 3)
            await asyncio.sleep(0)
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()  # as asyncio.run does in the end
            assert await workers.wait(LONG)
            assert sorted(ended) == KEYS[:3]
            await is_unpinned(a)

    run(main)


def test_workers_whose_coroutine_is_dropped_end_without_their_grace(url: str) -> None:
    async def work(a: hashring.AsyncPartition) -> None:
        async with a.keep(stays, KEYS[:3], grace=LONG):
            await asyncio.sleep(LONG)

    dropped_while_it_waits(url, work)
