"""The face for an event loop: the same rules, awaited."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import inspect
import signal
import threading
import uuid
from collections.abc import AsyncIterator

import pytest

import hashring
from hashring.errors import BadArgument, BadURL, MemberExists
from tests.servers.process import wait_until

KEYS = [f"resource-{number}" for number in range(300)]
TTL = 30.0
LONG = 60.0


async def until(condition) -> None:
    async with asyncio.timeout(LONG):
        while not condition():
            await asyncio.sleep(0.005)


def other_tasks() -> set[asyncio.Task]:
    return asyncio.all_tasks() - {asyncio.current_task()}


@contextlib.asynccontextmanager
async def joined(
    url: str, member: str = "a", ttl: float | None = TTL
) -> AsyncIterator[hashring.AsyncPartition]:
    async with await hashring.ajoin(url, "group", member, ttl=ttl) as partition:
        assert await partition.wait_settled(LONG)
        yield partition


async def both_settled(*both) -> None:
    await until(lambda: all(len(p.members) == 2 and p.state == "settled" for p in both))


def run(main) -> None:
    async def whole() -> None:
        await main()
        await until(lambda: not other_tasks())

    asyncio.run(whole())


def test_both_faces_take_the_same_arguments() -> None:
    assert (
        inspect.signature(hashring.ajoin).parameters == inspect.signature(hashring.join).parameters
    )
    methods = ("cycle", "wait_settled", "wait_changed", "drain", "leave", "stop", "leading")
    for name in (*methods, "cycles", "changes"):
        threads, loop = getattr(hashring.Partition, name), getattr(hashring.AsyncPartition, name)
        assert inspect.signature(threads).parameters == inspect.signature(loop).parameters, name


def test_errors_are_those_of_join_and_name_the_users_line(url: str) -> None:
    async def main() -> None:
        with pytest.raises(BadURL):
            await hashring.ajoin("no url", "group")
        async with joined(url) as partition:
            with pytest.raises(MemberExists):
                await hashring.ajoin(url, "group", "a", ttl=TTL)
            assert __file__ in partition._partition._worker._caller

    run(main)


def test_members_on_one_loop_share_windows_so_that_each_key_is_worked_once(url: str) -> None:
    worked: list[tuple[int, str]] = []
    missed: dict[str, int] = {}

    async def work(partition: hashring.AsyncPartition) -> None:
        cycles = partition.cycles(interval=0.4)
        async for cycle in cycles:
            missed[partition.member] = cycles.missed
            async for key in cycle.owned(KEYS, spread=0.8):
                worked.append((cycle.window, key))

    async def main() -> None:
        async with joined(url, "a") as a:
            tasks = [asyncio.create_task(work(a))]
            async with joined(url, "b") as b:
                tasks.append(asyncio.create_task(work(b)))
                await until(lambda: len({window for window, _ in worked}) > 3)
                b.stop()
                await tasks[1]
            await until(lambda: len({window for window, _ in worked}) > 6)
            a.stop()
            await asyncio.gather(*tasks)

    run(main)
    assert len(worked) == len(set(worked)), "no key twice in a window"
    windows = sorted({window for window, _ in worked})
    for window in windows[1:-1]:
        whole = {key for number, key in worked if number == window} == set(KEYS)
        assert whole or any(missed.values()), "but where the machine stood still"


def test_a_cycle_pins_what_it_says_until_its_block_ends(url: str) -> None:
    async def main() -> None:
        async with joined(url, "a") as a:
            async with a.cycle() as cycle:
                assert list(cycle.owned(KEYS)) == KEYS
                async with await hashring.ajoin(url, "group", "b", ttl=TTL) as b:
                    await until(lambda: "a" in b.waiting_for)
                    assert cycle.valid
                    assert not b.held
                    cycle._pin.end()  # as the end of the block does
                    await both_settled(a, b)
            assert not cycle.valid

    run(main)


def test_leaving_the_block_drains_and_so_does_a_cancelled_program(url: str) -> None:
    async def main() -> None:
        async with joined(url, "stays") as stays:

            async def other(began: asyncio.Event) -> None:
                async with joined(url, "goes") as goes:
                    async for _ in goes.cycles(interval=0.2):
                        began.set()

            began = asyncio.Event()
            task = asyncio.create_task(other(began))
            await began.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await until(lambda: stays.records.keys() == {"stays"})
            assert await stays.wait_settled(LONG)
            assert stays.owned(KEYS) == KEYS

    run(main)


def test_a_drain_that_is_cancelled_leaves_at_once(url: str) -> None:
    async def main() -> None:
        async with joined(url, "a") as a, joined(url, "b") as b:
            await both_settled(a, b)
            pinned, end = asyncio.Event(), asyncio.Event()

            async def work() -> None:
                async with a.cycle():
                    pinned.set()
                    await end.wait()

            worker = asyncio.create_task(work())
            await pinned.wait()
            drain = asyncio.create_task(a.drain(600))
            await until(lambda: a.state == "draining")
            drain.cancel()
            with pytest.raises(asyncio.CancelledError):
                await drain
            assert a.state == "left"
            end.set()
            await worker

    run(main)


def test_a_join_that_waits_and_is_cancelled_leaves_no_thread(url: str) -> None:
    async def main() -> None:
        async with joined(url, "a"):
            task = asyncio.create_task(hashring.ajoin(url, "group", "a", ttl=TTL, wait=600))
            await until(
                lambda: [t for t in threading.enumerate() if t.name == "hashring-join-group"]
            )
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert not [t for t in threading.enumerate() if t.name == "hashring-join-group"]

    run(main)


def test_a_blocked_loop_costs_no_lease(url: str) -> None:
    async def main() -> None:
        async with joined(url, "a", ttl=4.0) as a, joined(url, "b", ttl=4.0) as b:
            await both_settled(a, b)
            mine, incarnation, fence = a.held, a.incarnation, a.deadline
            async with a.cycle() as cycle:
                # The loop is blocked, on purpose, until the lease in hand is over.
                wait_until(lambda: hashring.clock.boottime() > fence + 0.4)
                assert cycle.valid
            assert a.held == mine
            assert a.incarnation == incarnation

    run(main)


def test_a_process_that_stands_still_for_two_ttl_wakes_up_fenced_and_recovers(tmp_path) -> None:
    # A call into C that keeps the interpreter's lock stops the heartbeats as well.
    stand_still = ctypes.PyDLL(None).usleep
    url = f"sqlite:///{tmp_path}/group.db"

    async def main() -> None:
        async with joined(url, "a", ttl=0.6) as a:
            async for cycle in a.cycles(interval=0.2):
                stand_still(1_300_000)
                assert not cycle.valid
                assert [key async for key in cycle.owned(KEYS)] == []
                # Its threads may have run by now, and joined anew.
                assert not a.owned(KEYS) or a.incarnation != cycle.token.incarnation
                break
            await until(lambda: a.owned(KEYS) == KEYS)

    run(main)


def test_changes_are_told_on_the_loop_and_pinned_until_done(url: str) -> None:
    async def main() -> None:
        async with joined(url, "a") as a:
            changes = a.changes(KEYS)
            assert (await anext(changes)).gained == set(KEYS)
            async with await hashring.ajoin(url, "group", "b", ttl=TTL) as b:
                change = await anext(changes)
                assert change.lost == set(hashring.HashRing(["a", "b"]).owned("b", KEYS))
                await until(lambda: "a" in b.waiting_for)
                assert not b.owned(change.lost)
                change.done()
                await both_settled(a, b)
                assert set(b.owned(KEYS)) == change.lost
            a.stop()
            lost: set[str] = set()
            async for change in changes:
                lost |= change.lost
            assert lost >= set(KEYS) - set(hashring.HashRing(["a", "b"]).owned("b", KEYS))

    run(main)


def test_each_key_has_one_task_which_is_cancelled_before_its_slot_is_let_go(url: str) -> None:
    at_work: dict[str, list[str]] = {key: [] for key in KEYS}
    twice: list[str] = []

    def worker(member: str):
        async def work(key: str, stop: hashring.AsyncStop) -> None:
            if at_work[key]:
                twice.append(key)
            at_work[key].append(member)
            try:
                await stop.wait()
            finally:
                await asyncio.sleep(0.01)  # the end takes its time
                at_work[key].remove(member)

        return work

    def of(member: str) -> set[str]:
        return {key for key, members in at_work.items() if members == [member]}

    async def main() -> None:
        async with joined(url, "a") as a, a.keep(worker("a"), KEYS) as workers:
            await until(lambda: of("a") == set(KEYS))
            async with joined(url, "b") as b, b.keep(worker("b"), KEYS, grace=5):
                await until(lambda: of("b") == set(hashring.HashRing(["a", "b"]).owned("b", KEYS)))
                assert set(workers.running) == of("a")
            await until(lambda: of("a") == set(KEYS))
            workers.remove(KEYS[0])
            await until(lambda: of("a") == set(KEYS[1:]))
            workers.add(KEYS[0])
            await until(lambda: of("a") == set(KEYS))
            a.stop()
            assert await workers.wait(LONG)
            assert not of("a")

    run(main)
    assert twice == []


def test_a_task_that_fails_is_started_again_and_one_that_is_deaf_to_stop_is_cancelled(
    url: str,
) -> None:
    begun: list[str] = []

    async def work(key: str, stop: hashring.AsyncStop) -> None:
        begun.append(key)
        if begun.count(key) < 3:
            raise ValueError("no connection")
        await asyncio.sleep(3600)

    async def main() -> None:
        async with joined(url) as a, a.keep(work, ["one"], grace=0.05, first_pause=0.01):
            await until(lambda: len(begun) == 3)

    run(main)


def test_a_task_may_close_all_workers(url: str) -> None:
    async def closes(key: str, stop: hashring.AsyncStop) -> None:
        await workers.close()
        await stop.wait()

    async def main() -> None:
        nonlocal workers
        async with joined(url) as a:
            workers = a.keep(closes, KEYS, grace=20)
            async with workers:
                assert await workers.wait(LONG)

    workers: hashring.AsyncWorkers
    run(main)


def test_one_of_all_members_leads_on_a_loop_as_well(url: str) -> None:
    async def main() -> None:
        async with joined(url) as a:
            async with a.leading("report") as term:
                assert term.valid
                assert a.leads("report")
                assert not await term.wait(0.01)
                asyncio.get_running_loop().call_later(0.01, a.stop)
                assert await term.wait(LONG)
            async with a.leading("report") as none:
                assert not none
        await until(lambda: not a._membership.handoff.is_pinned)

    run(main)


def test_many_keys_are_awaited_at_once_and_results_come_in_order(url: str) -> None:
    running, most = 0, 0

    async def poll(key: str) -> str:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001)
        running -= 1
        if key == KEYS[7]:
            raise ValueError(key)
        return key

    async def main() -> None:
        async with joined(url) as a, a.cycle() as cycle:
            results = cycle.map(poll, KEYS, in_flight=20)
            found = []
            while True:
                try:
                    found.append(await anext(results))
                except ValueError as error:
                    found.append(str(error))
                except StopAsyncIteration:
                    break
            assert found == KEYS
            unordered = [key async for key in cycle.map(poll, KEYS[10:], ordered=False)]
            assert sorted(unordered) == sorted(KEYS[10:])
            assert 1 < most <= 100

    run(main)


def test_a_map_that_is_left_is_cancelled_and_its_slots_stay_until_no_call_runs(url: str) -> None:
    ended: list[str] = []

    async def poll(key: str) -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0.01)
            ended.append(key)

    async def main() -> None:
        async with joined(url) as a:
            async for cycle in a.cycles(interval=0.2):
                cycle.map(poll, KEYS, in_flight=10)
                await asyncio.sleep(0)
                break
            await until(lambda: len(ended) == 10)
            with contextlib.suppress(ZeroDivisionError):
                async with a.cycle() as plain:
                    plain.map(poll, KEYS, in_flight=10)
                    await asyncio.sleep(0)
                    _ = 1 / 0
            assert len(ended) == 20
            await until(lambda: not a._membership.handoff.is_pinned)

    run(main)


def test_mistakes_are_said(url: str) -> None:
    async def main() -> None:
        async with joined(url) as a:
            async for cycle in a.cycles(interval=0.2):
                with pytest.raises(BadArgument, match="async for"):
                    list(cycle.owned(KEYS, spread=0.5))
                with pytest.raises(BadArgument, match="in_flight"):
                    cycle.map(asyncio.sleep, [], in_flight=0)
                break
            block = a.cycle()
            async with block:
                pass
            with pytest.raises(BadArgument, match="begun before"):
                await block.__aenter__()
            error = await asyncio.to_thread(lambda: _raised(a.wait_changed(1)))
            assert "another event loop" in str(error)

    run(main)


def _raised(awaitable) -> BaseException | None:
    async def main() -> None:
        await awaitable

    try:
        asyncio.run(main())
    except BadArgument as error:
        return error
    return None


def test_a_change_wakes_who_waits_for_one(url: str) -> None:
    async def main() -> None:
        async with joined(url) as a:
            assert not await a.wait_changed(0.01)
            waiting = asyncio.create_task(a.wait_changed(LONG))
            await asyncio.sleep(0)
            async with await hashring.ajoin(url, "group", "b", ttl=TTL):
                assert await waiting

    run(main)


def test_a_signal_handler_may_stop_it(url: str) -> None:
    async def main() -> None:
        async with joined(url) as a:
            before = signal.signal(signal.SIGUSR1, lambda *_: a.stop())
            try:
                async for _ in a.cycles(interval=0.2):
                    signal.raise_signal(signal.SIGUSR1)
            finally:
                signal.signal(signal.SIGUSR1, before)

    run(main)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_program_that_is_dropped_in_the_middle_ends_by_itself() -> None:
    url = f"memory://{uuid.uuid4().hex}"
    loop = asyncio.new_event_loop()

    async def main() -> None:
        async with await hashring.ajoin(url, "group", "a", ttl=TTL) as a:
            async for _ in a.cycles(interval=0.2):
                loop.stop()
                await asyncio.sleep(3600)

    coroutine = main()
    task = loop.create_task(coroutine)
    loop.run_forever()
    del task
    coroutine.close()
    loop.close()

    wait_until(lambda: not [t for t in threading.enumerate() if t.name.startswith("hashring-")])
