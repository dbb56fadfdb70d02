"""Join a group from an event loop: `ajoin`, and `AsyncPartition`, what its tasks ask."""

from __future__ import annotations

import asyncio
import functools
import math
import types
import weakref
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any, Self, TypeVar, overload

from hashring import clock
from hashring.driver import Driver, DriverURL
from hashring.partition import arguments, ending
from hashring.partition.aio.changes import AsyncChanges, AsyncLeading
from hashring.partition.aio.cycle import AsyncCycleBlock, AsyncCycles
from hashring.partition.aio.waiter import LoopWaiter, in_thread, this_task
from hashring.partition.aio.workers import AsyncStop, AsyncWorkers
from hashring.partition.changes import Teller
from hashring.partition.keeping import FIRST_PAUSE, LONGEST_PAUSE
from hashring.partition.literals import HandoffMode, OnCrash
from hashring.partition.notes import Flag
from hashring.partition.opening import joined
from hashring.partition.partition import Partition
from hashring.partition.requests import OnRequest
from hashring.partition.share import Share
from hashring.protocol.record import MAX_BACK
from hashring.ring.ring import HashRing, SlotSet

__all__ = ["AsyncPartition", "ajoin"]

K = TypeVar("K")

_LOOK = 0.5
"""The longest wait in seconds between two looks at the state: the fence passes without a word."""


async def ajoin(
    url: str | DriverURL | Driver,
    group: str,
    member: str | None = None,
    weight: float = 1.0,
    ttl: float | None = None,
    handoff: HandoffMode = "exclusive",
    *,
    meta: Mapping[str, Any] | None = None,
    ring: HashRing | str | None = None,
    heartbeat: float | None = None,
    wait: float = 0.0,
    gather: float | None = None,
    resume: float | None = None,
    on_request: OnRequest | None = None,
) -> AsyncPartition:
    """Join a group from an event loop, and return this member's partition of its key space.

    The user's loop::

        async with await hashring.ajoin("redis://127.0.0.1/0", "pollers") as partition:
            async for cycle in partition.cycles(interval=60):
                async for key in cycle.owned(keys, spread=0.8):
                    tasks.create_task(poll(key))

    Arguments and errors are those of :func:`hashring.join`. The heartbeats run on a thread: a loop
    that is blocked costs no lease. Cancelled, it leaves no lease and no thread behind.
    """
    interrupted = Flag()
    partition: list[Partition] = []

    def call() -> None:
        partition.append(
            joined(
                Partition,
                interrupted.wait,
                caller,
                url,
                group,
                member=member,
                weight=weight,
                ttl=ttl,
                handoff=handoff,
                meta=meta,
                ring=ring,
                heartbeat=heartbeat,
                wait=wait,
                gather=gather,
                resume=resume,
                on_request=on_request,
            )
        )
        if interrupted.is_set():
            partition.pop().leave()

    caller = ending.caller()
    try:
        await in_thread(call, f"hashring-join-{group}", interrupted.set)
    except asyncio.CancelledError:
        if partition:  # it had joined by then
            await in_thread(partition.pop().leave, f"hashring-leave-{group}")
        raise
    return AsyncPartition(partition.pop(), asyncio.get_running_loop())


class AsyncPartition(Share):
    """This member's part of a group's key space, for an event loop. Made by :func:`ajoin`.

    The states, the promises and what can be asked at once (``owns``, ``owned``, ``members`` ...)
    are those of :class:`hashring.Partition`. What waits is awaited, on the loop that joined. A
    cancelled await leaves nothing pinned, no task and no thread.
    """

    def __init__(self, partition: Partition, loop: asyncio.AbstractEventLoop) -> None:
        self.group = partition.group
        self.member = partition.member
        self.ttl = partition.ttl
        self._partition = partition  # whose end is a drop of the membership, should nobody leave
        self._membership = partition._membership
        self._loops = partition._loops
        self._reports = partition._reports
        self._waiter = LoopWaiter(self._membership, loop)
        self._seen: weakref.WeakKeyDictionary[asyncio.Task[Any], Any] = weakref.WeakKeyDictionary()

    # ---- waiting ---------------------------------------------------------------------------

    async def wait_settled(self, timeout: float | None = None) -> bool:
        """Wait until everything that the latest view gives this member is held.

        See :meth:`hashring.Partition.wait_settled`.
        """
        if self._membership.is_child:
            return False
        deadline = math.inf if timeout is None else clock.boottime() + timeout
        while (decided := self._is_settled()) is None:
            left = deadline - clock.boottime()
            if left <= 0:
                return False
            await self._waiter.wait(min(left, _LOOK))
        return decided

    async def wait_changed(self, timeout: float | None = None) -> bool:
        """Wait until the slots held, the members or the state are others than this task saw.

        See :meth:`hashring.Partition.wait_changed`.
        """
        if self._membership.is_child:
            return False
        deadline = math.inf if timeout is None else clock.boottime() + timeout
        task = asyncio.current_task()
        assert task is not None
        before = self._seen.get(task) or self._facts()
        while True:
            self._membership.check()
            now = self._facts()
            left = deadline - clock.boottime()
            if now != before or left <= 0 or now[0] == "left":
                self._seen[task] = now
                return bool(now != before)
            await self._waiter.wait(min(left, _LOOK))

    # ---- cycles ----------------------------------------------------------------------------

    def cycle(self) -> AsyncCycleBlock:
        """Pin what is held while the block runs: nobody else can hold it before the block ends.

        See :meth:`hashring.Partition.cycle`; here it is ``async with``.
        """
        return AsyncCycleBlock(self, self._membership, self._loops)

    def cycles(
        self,
        interval: float,
        *,
        on_crash: OnCrash = "repeat",
        jitter: float = 0.0,
        name: str | None = None,
    ) -> AsyncCycles:
        """Iterate over windows: each key is worked by one member in each of them.

        Arguments, errors and rules are those of :meth:`hashring.Partition.cycles`. A loop whose
        wait for a window was cancelled is closed.
        """
        jitter = arguments.checked_number("jitter", jitter, most=1)
        self._membership.check_parent()
        loop = self._loops.add(interval, on_crash=on_crash, jitter=jitter, name=name)
        return AsyncCycles(self, self._membership, self._loops, loop, self._waiter)

    # ---- work that is no polling -----------------------------------------------------------

    @overload
    def changes(self) -> AsyncChanges[SlotSet]: ...
    @overload
    def changes(self, keys: None) -> AsyncChanges[SlotSet]: ...
    @overload
    def changes(self, keys: Iterable[str]) -> AsyncChanges[frozenset[str]]: ...
    @overload
    def changes(self, keys: Iterable[bytes]) -> AsyncChanges[frozenset[bytes]]: ...
    @overload
    def changes(
        self, keys: Iterable[K], *, key: Callable[[K], str | bytes] | None = None
    ) -> AsyncChanges[frozenset[K]]: ...
    def changes(
        self,
        keys: Iterable[Any] | None = None,
        *,
        key: Callable[[Any], str | bytes] | None = None,
    ) -> AsyncChanges[Any]:
        """Iterate over what this member gains and loses, for work that goes on between windows.

        Arguments, errors and rules are those of :meth:`hashring.Partition.changes`.
        """
        teller: Teller[Any] = Teller(self._membership, self._loops, keys, key)
        return AsyncChanges(self, teller, self._waiter)

    def keep(
        self,
        worker: Callable[[K, AsyncStop], Coroutine[Any, Any, object]],
        keys: Iterable[K] = (),
        *,
        key: Callable[[K], str | bytes] | None = None,
        grace: float = 0.0,
        first_pause: float = FIRST_PAUSE,
        longest_pause: float = LONGEST_PAUSE,
    ) -> AsyncWorkers[K]:
        """Keep one worker, in a task of its own, running for each key that this member holds.

        ::

            async def consume(key, stop):
                async with connect(key) as connection:
                    async for message in connection:
                        await handle(message)

            async with partition.keep(consume, keys) as workers:
                await workers.wait()

        The rules are those of :meth:`hashring.Partition.keep`. A task that is to end is told so by
        ``stop`` and cancelled.

        Args:
            worker: a coroutine function, called with a key and an :class:`AsyncStop`.
            keys: the keys; more can be added and removed later.
            key: for other objects, which must be hashable: what gives an object's key.
            grace: seconds from ``stop`` to the cancellation, for who ends by itself.
            first_pause: seconds before a worker that ended by itself is started again.
            longest_pause: the bound of these pauses; one that ran for longer begins anew.

        Raises:
            BadKey: a key is neither ``str`` nor ``bytes``.
            BadArgument: a number is out of range.
        """
        first = arguments.checked_number("first_pause", first_pause, least=0.001)
        longest = arguments.checked_number("longest_pause", longest_pause, least=first)
        workers: AsyncWorkers[K] = AsyncWorkers(
            self,
            self._membership,
            self._loops,
            self._waiter,
            worker,
            key=key,
            grace=arguments.checked_number("grace", grace),
            pauses=(first, longest),
        )
        workers.replace(keys)
        return workers

    def leading(self, name: str, *, timeout: float | None = None) -> AsyncLeading:
        """Wait until this member is the one that may act for a name, and keep it so in the block.

        Arguments, errors and rules are those of :meth:`hashring.Partition.leading`; here it is
        ``async with``, and ``await term.wait(seconds)``.
        """
        if timeout is not None:
            timeout = arguments.checked_number("timeout", timeout)
        return AsyncLeading(self, self._membership, self._loops, self._waiter, name, timeout)

    # ---- leaving ---------------------------------------------------------------------------

    def stop(self) -> None:
        """Ask all loops to end; safe in a signal handler: see :meth:`hashring.Partition.stop`."""
        super().stop()
        self._waiter.notify()

    async def drain(self, timeout: float | None = None, *, resume: float | None = None) -> bool:
        """Leave with hand-over: see :meth:`hashring.Partition.drain`.

        Cycles and loops of the calling task are ended first. Cancelled, it leaves at once.
        """
        if resume is not None:
            self._membership.resume = arguments.checked_number("resume", resume, most=MAX_BACK)
        if self._membership.is_child:
            return True
        self.stop()
        self._loops.end_own(this_task())
        return await self._in_thread(
            functools.partial(self._partition._worker.drain, self._drain_seconds(timeout)), "drain"
        )

    async def leave(self) -> None:
        """Leave at once: hold nothing, end the lease, end both threads. Idempotent."""
        if not self._membership.is_child:
            self.stop()
            await self._in_thread(self._partition.leave, "leave")

    async def _in_thread(self, call: Callable[[], K], what: str) -> K:
        name = f"hashring-{what}-{self.group}-{self.member}"
        try:
            return await in_thread(call, name, self._membership.ended.set)
        finally:
            self._waiter.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: types.TracebackType | None,
    ) -> None:
        if exc_type is not None and issubclass(exc_type, GeneratorExit):
            # A coroutine that is collected cannot await: the member's threads see to the end.
            self.stop()
            self._membership.notes.drop()
        elif self._membership.failure is not None:
            await self.leave()
        else:
            await self.drain()
