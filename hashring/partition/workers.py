"""`Workers`: a thread for each key that this member holds, and one that sees to them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable
from typing import Any, Generic, Self, TypeVar

from hashring import clock
from hashring.errors import BadArgument
from hashring.partition.keeping import Keeper, Order
from hashring.partition.loops import Loops
from hashring.partition.membership import Membership
from hashring.partition.notes import Flag, Signal
from hashring.partition.pins import Pin

__all__ = ["Stop", "Workers"]

K = TypeVar("K")

_LOOK = 0.2
"""Seconds between two looks at the fence while a worker waits to be told to end."""


class Stop(Order):
    """Tells the worker of one key, in a thread, that it is to end. True once it is.

    A worker that blocks in a call for long should not: past :attr:`deadline` somebody else may
    work its key.
    """

    def __init__(self, member: Membership, pin: Pin) -> None:
        super().__init__(member, pin)
        self._event = threading.Event()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait at most so many seconds until the worker is to end; return whether it is.

        Args:
            timeout: seconds; ``None``: for as long as it takes.
        """
        until = None if timeout is None else clock.boottime() + timeout
        while not self.is_set():
            pause = min(_LOOK, max(0.001, self.remaining))
            if until is not None:
                left = until - clock.boottime()
                if left <= 0:
                    return False
                pause = min(pause, left)
            self._event.wait(pause)
        return True

    def tell(self) -> None:
        """Tell the worker to end."""
        super().tell()
        self._event.set()


class _Thread:
    """A worker in a thread of its own."""

    def __init__(
        self, worker: Callable[[Any, Stop], object], key: Any, stop: Stop, ended: Callable[[], None]
    ) -> None:
        self._worker, self._key, self._stop, self._ended = worker, key, stop, ended
        self.error: BaseException | None = None
        self._thread = threading.Thread(
            target=self._run, name=f"hashring-worker-{key!s:.100}", daemon=True
        )
        self._over = False
        self._thread.start()

    def _run(self) -> None:
        try:
            self._worker(self._key, self._stop)
        except BaseException as error:  # its keeper says so, and starts it again
            self.error = error
        finally:
            self._over = True
            self._ended()

    @property
    def ended(self) -> bool:
        if self._over:
            self._thread.join()  # it is in its last lines
        return self._over

    def tell(self) -> None:
        self._stop.tell()


class Workers(Generic[K]):
    """One thread for each key that this member holds, while the ``with`` block runs.

    What :meth:`hashring.Partition.keep` returns; it says the rules. Methods may be called from any
    thread.
    """

    def __init__(
        self,
        partition: object,
        member: Membership,
        loops: Loops,
        worker: Callable[[K, Stop], object],
        *,
        key: Callable[[Any], str | bytes] | None,
        pauses: tuple[float, float],
    ) -> None:
        self._partition = partition
        self._member = member
        self._worker = worker
        self._key = key
        self._wake = Signal()
        self._over = Flag()
        self._working: set[int] = set()  # the workers' threads
        self._keeper = Keeper(member, loops, self._begin, pauses)
        self._thread: threading.Thread | None = None

    def _begin(self, key: Any, pin: Pin) -> _Thread:
        def work(key: Any, stop: Stop) -> None:
            ident = threading.get_ident()
            self._working.add(ident)
            try:
                self._worker(key, stop)
            finally:
                self._working.discard(ident)

        return _Thread(work, key, Stop(self._member, pin), self._wake.set)

    # ---- the keys --------------------------------------------------------------------------

    def add(self, *keys: K) -> None:
        """Keep workers for these keys too.

        Raises:
            BadKey: one is neither ``str`` nor ``bytes``, and there is no ``key``.
        """
        self._keeper.add(keys, self._key)
        self._wake.set()

    def remove(self, *keys: K) -> None:
        """Keep none for these keys any more: a worker of one is told to end."""
        self._keeper.remove(keys)
        self._wake.set()

    def replace(self, keys: Iterable[K]) -> None:
        """Keep workers for these keys, and for no others.

        Raises:
            BadKey: one is neither ``str`` nor ``bytes``, and there is no ``key``.
        """
        self._keeper.replace(keys, self._key)
        self._wake.set()

    @property
    def keys(self) -> Collection[K]:
        """All keys, whoever holds them."""
        return self._keeper.keys

    @property
    def running(self) -> list[K]:
        """The keys whose workers run here, those included that were told to end."""
        return self._keeper.running

    # ---- from the beginning to the end -----------------------------------------------------

    def __enter__(self) -> Self:
        if self._thread is not None:
            raise BadArgument("these workers have begun before: ask the partition for others")
        self._thread = threading.Thread(
            target=self._keep,
            name=f"hashring-workers-{self._member.group}-{self._member.member}",
            daemon=True,
        )
        with self._member.lock:
            self._member.changed.listen(self._wake.set)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until no worker runs and none will: the partition was stopped, drains or has left.

        Args:
            timeout: seconds; ``None``: for as long as it takes.

        Returns:
            Whether it is so.

        Raises:
            GroupMismatch, MemberExists: this member can never take part.
        """
        until = None if timeout is None else clock.boottime() + timeout
        while not self._over.is_set():
            left = _LOOK if until is None else min(_LOOK, until - clock.boottime())
            if left <= 0:
                return False
            self._over.wait(left)
        if self._keeper.failure is not None:
            raise self._keeper.failure
        return True

    def close(self) -> None:
        """Tell all workers to end, and wait until they have. May be called again.

        Where one of the workers calls it, it does not wait.
        """
        if self._member.is_child:
            return
        self._keeper.closing = True
        self._wake.set()
        if self._thread is not None and threading.get_ident() not in self._working:
            self._thread.join()

    def _keep(self) -> None:
        keeper = self._keeper
        try:
            while (pause := keeper.turn()) is not None:
                self._wake.wait(pause)
                self._wake.clear()
        except BaseException as error:
            # No thread could be started, say. Whoever runs is told, and works no more than it
            # must; nothing stays pinned.
            keeper.failure = error
            keeper.tell_all()
            keeper.abandon()
        finally:
            with self._member.lock:
                self._member.changed.ignore(self._wake.set)
            self._over.set()
