"""Delivery: takes samples to their publishers, and does not lose them while a sink is away.

Each publisher has a thread of its own, so that one sink's outage holds up no other. A thread takes
a batch from the spool, publishes it, and only then lets the spool forget it: a sample may arrive
twice, if the process dies in between, but it does arrive; its id is the same both times.

This module knows when couriers begin and end; neither how a spool keeps samples nor how a courier
works.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Self

from hashring.clock import boottime
from hashring.errors import BadArgument
from hashring.telemetry.delivery import leftovers
from hashring.telemetry.delivery.courier import Courier
from hashring.telemetry.delivery.direct import Direct
from hashring.telemetry.delivery.items import BatchItem, Item, batched
from hashring.telemetry.delivery.outlet import Counts, Outlet, Tally, counts_of
from hashring.telemetry.delivery.spool import Spool
from hashring.telemetry.delivery.spool_state import SpoolState, state_of
from hashring.telemetry.errors import (
    OutputClosed,
    SpoolBroken,
    SpoolFull,
)
from hashring.telemetry.plugin import Publisher
from hashring.url import masked

__all__ = ["Counts", "Delivery", "Direct", "Outlet"]

log = logging.getLogger(__name__)

_GRACE = 5.0
"""Seconds beyond the timeout of a close that a publisher's call in flight is waited for."""


class Delivery:
    """Takes samples from a spool to their publishers, from threads of its own.

    ::

        with Delivery(Spool(folder, max_bytes=2**28), make) as delivery:
            delivery.put([(sample, ("https://sink.example/samples",))])

    A publisher that fails is tried again after growing pauses; its samples wait. One that raises
    OutputClosed is done: what waits for it is dropped and counted, since nobody will ever take it.
    One that cannot be made (unknown scheme, broken plug-in) is tried again seldom; its samples
    wait, for an agent that can. Spools of processes that died are adopted every few seconds.

    Args:
        spool: is closed with the delivery.
        make: makes a publisher from its URL; called from the thread that will use it.
        batch_size: samples that are published together, at most.
        first_pause: seconds before a publisher that failed is tried again; doubles each time.
        longest_pause: the longest such pause; a sink that asks for a longer one gets it.
        make_pause: seconds before a publisher that cannot be made is tried again.
        adopt_every: seconds between two looks for spools of processes that died.
        close_timeout: seconds that leaving the ``with`` block gives to :meth:`close`.
    """

    def __init__(
        self,
        spool: Spool,
        make: Callable[[str], Publisher],
        *,
        batch_size: int = 5000,
        first_pause: float = 0.5,
        longest_pause: float = 30.0,
        make_pause: float = 60.0,
        adopt_every: float = 5.0,
        close_timeout: float = 10.0,
    ) -> None:
        if batch_size < 1:
            raise BadArgument(
                f"a batch of {batch_size} samples delivers nothing: give it 1 or more"
            )
        self._spool = spool
        self._make = make
        self._batch_size = batch_size
        self._first_pause = first_pause
        self._longest_pause = longest_pause
        self._make_pause = make_pause
        self._adopt_every = adopt_every
        self._close_timeout = close_timeout
        # Everything below changes under this condition, which also tells of changes in the spool.
        self._changed = threading.Condition()
        self._couriers: dict[str, Courier] = {}
        self._let_go: list[Courier] = []  # that are ending
        self._tallies: dict[str, Tally] = {}  # also of those that were let go of
        self._refused = 0  # samples, since the spool became full
        self._closing = False  # no more is put; what waits is tried at once
        self._stopping = False  # threads end
        self._left: Mapping[str, int] | None = None  # what waited when it was closed
        self._keeps_no_more = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="adopt spools", daemon=True)
        self._keeper.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close(self._close_timeout)

    def put(self, items: Sequence[Item]) -> None:
        """Keep samples until their publishers have taken them: see :class:`Outlet`."""
        with self._changed:
            if self._closing:
                raise OutputClosed("the delivery is closed: it takes no more samples")
        batches = batched(items)
        try:
            self._spool.put(batches)
        except SpoolFull as error:
            self._refuse(batches, error)
            raise
        with self._changed:
            for urls in {urls for _, urls in batches}:
                self._start_couriers(urls)
            self._changed.notify_all()
            refused, self._refused = self._refused, 0
        if refused:
            log.warning("the spool has room again; %d samples were lost meanwhile", refused)

    def _refuse(self, items: Sequence[BatchItem], error: SpoolFull) -> None:
        """Count what a full spool has no room for, and say so at once, once each time."""
        with self._changed:
            is_first = not self._refused
            self._refused += sum(len(batch) for batch, urls in items if urls)
            for batch, urls in items:
                for url in dict.fromkeys(urls):
                    self._tally(url).dropped += len(batch)
        if is_first:
            log.error("samples are lost: %s", error)

    def keep(self, urls: Collection[str]) -> None:
        """Let go of all publishers but these, once nothing waits for them: see :class:`Outlet`."""
        with self._changed:
            for url, courier in self._couriers.items():
                courier.is_kept = url in urls
            self._changed.notify_all()

    def _tally(self, url: str) -> Tally:
        return self._tallies.setdefault(url, Tally())

    def flush(self, timeout: float) -> bool:
        """Wait until no sample waits in the spool: see :class:`Outlet`."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._spool.waiting, timeout)

    def close(self, timeout: float) -> None:
        """Take no more, deliver what can be within so many seconds, and end all threads.

        A publisher that cannot work as things are is tried once, and not waited for. The rest
        stays in the spool for the next process. Idempotent.
        """
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._keeps_no_more.set()
        end = boottime() + timeout
        self._keeper.join(timeout)  # an orphan that is just being adopted is ours to deliver too
        with self._changed:
            self._changed.wait_for(lambda: not self._may_go(), max(0.0, end - boottime()))
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
            couriers = [*self._couriers.values(), *self._let_go]
        deadline = boottime() + _GRACE
        for courier in couriers:
            if not courier.join(max(0.0, deadline - boottime())):
                log.error("%s does not return: it is left behind", courier.name)
        self._keeper.join(max(0.0, deadline - boottime()))
        if self._left is None:
            self._left = self._spool.waiting
            if self._left:
                log.warning(
                    "samples stay in the spool, for the next agent: %s",
                    ", ".join(f"{n} for {masked(url)}" for url, n in sorted(self._left.items())),
                )
        self._spool.close()

    def _may_go(self) -> bool:
        """Return whether samples wait for a publisher that may yet take them."""
        return any(
            url not in self._couriers or not self._couriers[url].has_given_up
            for url in self._spool.waiting
        )

    @property
    def counts(self) -> Mapping[str, Counts]:
        """What became of the samples: see :class:`Outlet`."""
        waiting = self._spool.waiting if self._left is None else self._left
        with self._changed:
            return counts_of(self._tallies, waiting)

    @property
    def spool_state(self) -> SpoolState:
        """How full the spool is, and how old what waits in it."""
        return state_of(self._spool)

    @property
    def closed(self) -> frozenset[str]:
        """The publishers that will never take any more: see :class:`Outlet`."""
        with self._changed:
            return frozenset(
                masked(url) for url, courier in self._couriers.items() if courier.tally.is_closed
            )

    @property
    def finished(self) -> bool:
        """Whether no publisher that was used will take any more: see :class:`Outlet`."""
        with self._changed:
            tallies = [courier.tally for courier in self._couriers.values()]
        return bool(tallies) and all(tally.is_closed for tally in tallies)

    def _keep(self) -> None:
        """Adopt the spools of processes that died, now and every few seconds."""
        while True:
            try:
                self._spool.adopt()
            except SpoolBroken:
                return  # it was closed
            leftovers.tell(self._spool)
            unwanted = leftovers.requested(self._spool)
            with self._changed:
                self._start_couriers(self._spool.waiting)
                for url in unwanted & self._couriers.keys():
                    self._couriers[url].is_unwanted = True
                self._changed.notify_all()
            # Not under the condition: that tells of each batch.
            if self._keeps_no_more.wait(self._adopt_every):
                return

    def _start_couriers(self, urls: Iterable[str]) -> None:
        for url in urls:
            if url not in self._couriers and not self._stopping:
                self._couriers[url] = Courier(self, url, self._tally(url))
