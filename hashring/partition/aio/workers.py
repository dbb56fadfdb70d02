"""`AsyncWorkers`: a task for each key that this member holds, and one that sees to them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine, Iterable
from typing import Any, Generic, Self, TypeVar

from hashring.errors import BadArgument
from hashring.partition.aio.waiter import LoopWaiter, ended
from hashring.partition.keeping import Keeper, Order
from hashring.partition.loops import Loops
from hashring.partition.membership import Membership
from hashring.partition.pins import Pin

__all__ = ["AsyncStop", "AsyncWorkers"]

K = TypeVar("K")


class AsyncStop(Order):
    """Tells the worker of one key, in a task, that it is to end. True once it is."""

    def __init__(self, member: Membership, pin: Pin) -> None:
        super().__init__(member, pin)
        self._event = asyncio.Event()

    async def wait(self) -> None:
        """Wait until the worker is to end. For a limit there is ``asyncio.timeout``."""
        if not self.is_set():
            await self._event.wait()

    def tell(self) -> None:
        """Tell the worker to end."""
        super().tell()
        self._event.set()


class _Task:
    """A worker in a task of its own."""

    def __init__(
        self, task: asyncio.Task[object], stop: AsyncStop, grace: Callable[[], float]
    ) -> None:
        self._task = task
        self._stop = stop
        self._grace = grace
        self._timer: asyncio.TimerHandle | None = None
        task.add_done_callback(self._end)

    def _end(self, _: object) -> None:
        if self._timer is not None:
            self._timer.cancel()

    @property
    def ended(self) -> bool:
        return self._task.done()

    @property
    def error(self) -> BaseException | None:
        return None if self._task.cancelled() else self._task.exception()

    def tell(self) -> None:
        self._stop.tell()
        grace = self._grace()
        if self._task.done():
            return
        if self._timer is not None:
            self._timer.cancel()
        if grace > 0:
            self._timer = self._task.get_loop().call_later(grace, self._cancel)
        else:
            self._cancel()

    def _cancel(self) -> None:
        # Once: where all tasks of a loop are cancelled the worker is ending already, and a second
        # time would cut short what it awaits at its end.
        if not self._task.cancelling():
            self._task.cancel()


class AsyncWorkers(Generic[K]):
    """One task for each key that this member holds, while the ``async with`` block runs.

    What :meth:`AsyncPartition.keep` returns; it says the rules. For the loop's own thread.
    """

    def __init__(
        self,
        partition: object,
        member: Membership,
        loops: Loops,
        waiter: LoopWaiter,
        worker: Callable[[K, AsyncStop], Coroutine[Any, Any, object]],
        *,
        key: Callable[[Any], str | bytes] | None,
        grace: float,
        pauses: tuple[float, float],
    ) -> None:
        self._partition = partition
        self._member = member
        self._waiter = waiter
        self._worker = worker
        self._key = key
        self._grace = grace
        self._working: set[asyncio.Task[Any]] = set()
        self._keeper = Keeper(member, loops, self._begin, pauses)
        self._task: asyncio.Task[None] | None = None

    def _begin(self, key: Any, pin: Pin) -> _Task:
        stop = AsyncStop(self._member, pin)
        name = f"hashring-worker-{key!s:.100}"
        task: asyncio.Task[object] = asyncio.create_task(self._worker(key, stop), name=name)
        self._working.add(task)

        def end(task: asyncio.Task[object]) -> None:
            self._working.discard(task)
            self._waiter.wake()

        task.add_done_callback(end)
        return _Task(task, stop, lambda: self._grace)

    # ---- the keys --------------------------------------------------------------------------

    def add(self, *keys: K) -> None:
        """Keep workers for these keys too.

        Raises:
            BadKey: one is neither ``str`` nor ``bytes``, and there is no ``key``.
        """
        self._keeper.add(keys, self._key)
        self._waiter.wake()

    def remove(self, *keys: K) -> None:
        """Keep none for these keys any more: a worker of one is told to end."""
        self._keeper.remove(keys)
        self._waiter.wake()

    def replace(self, keys: Iterable[K]) -> None:
        """Keep workers for these keys, and for no others.

        Raises:
            BadKey: one is neither ``str`` nor ``bytes``, and there is no ``key``.
        """
        self._keeper.replace(keys, self._key)
        self._waiter.wake()

    @property
    def keys(self) -> Collection[K]:
        """All keys, whoever holds them."""
        return self._keeper.keys

    @property
    def running(self) -> list[K]:
        """The keys whose workers run here, those included that were told to end."""
        return self._keeper.running

    # ---- from the beginning to the end -----------------------------------------------------

    async def __aenter__(self) -> Self:
        if self._task is not None:
            raise BadArgument("these workers have begun before: ask the partition for others")
        name = f"hashring-workers-{self._member.group}-{self._member.member}"
        self._task = asyncio.create_task(self._keep(), name=name)
        return self

    async def __aexit__(self, raised: type[BaseException] | None, *_: object) -> None:
        if raised is not None and issubclass(raised, GeneratorExit):
            self._hurry()
            return
        await self.close()

    async def wait(self, timeout: float | None = None) -> bool:
        """Wait until no worker runs and none will: the partition was stopped, drains or has left.

        Args:
            timeout: seconds; ``None``: for as long as it takes.

        Returns:
            Whether it is so.

        Raises:
            GroupMismatch, MemberExists: this member can never take part.
        """
        if self._task is None:
            return False
        await asyncio.wait({self._task}, timeout=timeout)
        if not self._task.done():
            return False
        if self._keeper.failure is not None:
            raise self._keeper.failure
        return True

    async def close(self) -> None:
        """Tell all workers to end, and wait until they have. May be called again.

        Cancelled meanwhile, it cancels them at once, and still waits for their end. Where one of
        the workers calls it, it does not wait.
        """
        self._keeper.closing = True
        self._waiter.wake()
        if self._task is not None and asyncio.current_task() not in self._working:
            await ended(self._task, self._hurry)

    def _hurry(self) -> None:
        """Let every worker end without its grace."""
        self._grace = 0.0
        self._keeper.tell_all()
        self._waiter.wake()

    async def _keep(self) -> None:
        keeper = self._keeper
        while True:
            try:
                pause = keeper.turn()
                if pause is None:
                    return
                await self._waiter.wait(pause)
            except asyncio.CancelledError:
                # The loop ends, and cancels every task. This one ends when the workers have.
                self._hurry()
            except BaseException as error:
                keeper.failure = error
                keeper.tell_all()
                keeper.abandon()
                return
