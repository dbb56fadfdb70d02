"""A cycle's keys awaited many at once: how a map ends that the fence, its caller or a call ends.

The cycle is one of the test's own, whose fence passes when the test says so.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable

import pytest

from hashring.partition.aio.calls import AsyncMap

KEYS = [f"resource-{number}" for number in range(10)]
LONG = 60.0


class Fence:
    """What a map looks at of its cycle."""

    def __init__(self, valid: bool = True) -> None:
        self.valid = valid
        self.looks = 0

    def _nap_before(self, moment: float) -> float:
        self.looks += 1
        return 0.001 if self.looks < 3 else 0.0


class Run:
    """A map that has begun."""

    def __init__(
        self,
        function: Callable[[str], Awaitable[object]],
        fence: Fence | None = None,
        *,
        moments: list[float] | None = None,
        in_flight: int = 3,
        ordered: bool = True,
    ) -> None:
        self.fence = fence or Fence()
        self.ends = 0
        self.map = AsyncMap(
            self.fence, function, KEYS, moments, in_flight=in_flight, ordered=ordered
        )
        self.map.start(self._over)

    def _over(self) -> None:
        self.ends += 1


def run(main: Callable[[], Awaitable[None]]) -> None:
    async def whole() -> None:
        async with asyncio.timeout(LONG):
            await main()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(whole())


class Poll:
    """A call that waits to be let through."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.ended: list[str] = []
        self.open = asyncio.Event()
        self.all_begun = asyncio.Semaphore(0)

    async def __call__(self, key: str) -> str:
        self.begun.append(key)
        self.all_begun.release()
        try:
            await self.open.wait()
        finally:
            await asyncio.sleep(0)  # the end takes its time
            self.ended.append(key)
        return key

    async def have_begun(self, count: int) -> None:
        for _ in range(count):
            await self.all_begun.acquire()


@pytest.mark.parametrize("ordered", [True, False])
def test_no_call_begins_after_the_fence_and_those_in_flight_have_their_results(
    ordered: bool,
) -> None:
    async def main() -> None:
        poll = Poll()
        running = Run(poll, ordered=ordered)
        await poll.have_begun(3)
        assert running.map.runs
        running.fence.valid = False
        poll.open.set()
        assert sorted([result async for result in running.map]) == KEYS[:3]
        assert poll.begun == KEYS[:3]
        await running.map.over()
        assert not running.map.runs
        assert running.ends == 1

    run(main)


def test_each_call_waits_for_its_moment() -> None:
    async def main() -> None:
        poll = Poll()
        poll.open.set()
        running = Run(poll, moments=[0.0] * len(KEYS))
        assert [result async for result in running.map] == KEYS
        assert running.fence.looks == len(KEYS) + 2, "a nap is followed by another look"

    run(main)


def test_no_call_begins_where_the_fence_passes_before_its_moment() -> None:
    async def main() -> None:
        poll = Poll()
        running = Run(poll, moments=[0.0] * len(KEYS), in_flight=1)
        await poll.have_begun(1)
        running.fence._nap_before = lambda moment: -1.0  # type: ignore[method-assign]
        poll.open.set()
        assert [result async for result in running.map] == KEYS[:1]
        assert poll.begun == KEYS[:1]

    run(main)


def test_what_a_call_raises_comes_in_its_place_a_cancellation_of_its_own_making_too() -> None:
    async def poll(key: str) -> str:
        if key == KEYS[1]:
            raise ValueError(key)
        if key == KEYS[2]:
            raise asyncio.CancelledError
        return key

    async def main() -> None:
        results = Run(poll).map
        found: list[object] = []
        while True:
            try:
                found.append(await anext(results))
            except StopAsyncIteration:
                break
            except (ValueError, asyncio.CancelledError) as error:
                found.append(type(error))
        assert found == [KEYS[0], ValueError, asyncio.CancelledError, *KEYS[3:]]

    run(main)


def test_an_error_that_nobody_asked_for_is_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async def poll(key: str) -> None:
        if key in KEYS[:2]:
            raise ValueError(key)

    async def main() -> None:
        await Run(poll).map.over()

    run(main)
    assert "2 calls of cycle.map failed, and nobody asked" in caplog.text
    assert "ValueError('resource-0')" in caplog.text


def test_a_defect_ends_the_map_and_is_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Fence):
        @property
        def valid(self) -> bool:
            raise ZeroDivisionError("a defect")

        @valid.setter
        def valid(self, _: bool) -> None: ...

    async def main() -> None:
        poll = Poll()
        running = Run(poll, Broken())
        await running.map.over()
        assert poll.begun == []
        assert running.ends == 1

    run(main)
    assert caplog.text.count("a defect in cycle.map") == 3, "one a task"


def test_who_is_cancelled_while_a_cycle_ends_cancels_its_calls_and_waits_for_their_end() -> None:
    async def main() -> None:
        poll = Poll()
        running = Run(poll)
        await poll.have_begun(3)
        waiting = asyncio.create_task(running.map.over())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert sorted(poll.ended) == poll.begun == KEYS[:3]
        assert not running.map.runs

    run(main)


def test_a_map_may_be_cancelled_from_another_thread_and_more_than_once() -> None:
    async def main() -> None:
        poll = Poll()
        running = Run(poll)
        await poll.have_begun(3)
        threads = [threading.Thread(target=running.map.cancel) for _ in range(2)]
        for thread in threads:
            thread.start()
        await running.map.over()
        for thread in threads:
            thread.join()
        running.map.finish()  # which waits for nothing
        assert sorted(poll.ended) == KEYS[:3]

    run(main)


def test_a_map_that_was_cancelled_before_its_tasks_ran_calls_nothing() -> None:
    async def main() -> None:
        poll = Poll()
        running = Run(poll)
        running.map.cancel()
        await running.map.over()
        assert poll.begun == []
        running.map.cancel()
        assert [result async for result in running.map] == []

    run(main)


def test_a_map_whose_loop_is_closed_may_be_cancelled_all_the_same() -> None:
    loop = asyncio.new_event_loop()

    async def begin() -> AsyncMap[object]:
        begun = Run(lambda key: asyncio.sleep(LONG)).map
        await asyncio.sleep(0)
        return begun

    results = loop.run_until_complete(begin())
    tasks = asyncio.all_tasks(loop)
    loop.close()

    results.cancel()

    assert len(tasks) == 3
    for task in tasks:
        task._log_destroy_pending = False  # type: ignore[attr-defined]  # as is meant here
        task.get_coro().close()  # type: ignore[union-attr]
