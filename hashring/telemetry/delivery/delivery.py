"""Delivery: takes samples to their publishers, and does not lose them while a sink is away.

Each publisher has a thread of its own, so that one sink's outage holds up no other. A thread takes
a batch from the spool, publishes it, and only then lets the spool forget it: a sample may arrive
twice, if the process dies in between, but it does arrive; its id is the same both times.
:class:`Direct` is the outlet without a spool: what a sink does not take at once is lost.

This room knows when publishers are called and what their errors mean; neither how a spool keeps
samples nor how a publisher sends them.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
import traceback
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Protocol, Self

from hashring.backoff import Backoff, jittered
from hashring.clock import boottime
from hashring.errors import BadArgument, HashringError
from hashring.telemetry.delivery import leftovers
from hashring.telemetry.delivery.spool import Batch, Item, Spool
from hashring.telemetry.errors import (
    OutputClosed,
    OutputFailed,
    SinkUnusable,
    SpoolBroken,
    SpoolFull,
)
from hashring.telemetry.model.sample import Sample
from hashring.telemetry.plugin import Publisher
from hashring.url import masked, secrets_in, without_secrets

__all__ = ["Counts", "Delivery", "Direct", "Outlet"]

log = logging.getLogger(__name__)

_LONGEST_ASKED = 300.0
"""The longest pause in seconds that a sink gets because it asked for it."""

_GRACE = 5.0
"""Seconds beyond the timeout of a close that a publisher's call in flight is waited for."""


@dataclasses.dataclass(frozen=True)
class Counts:
    """What became of one publisher's samples.

    Attributes:
        sent: samples that it has taken.
        waiting: samples that wait for it in the spool.
        failed: calls of it that failed; their samples are tried again, but for ``Direct``.
        dropped: samples that it will never get.
    """

    sent: int = 0
    waiting: int = 0
    failed: int = 0
    dropped: int = 0


class Outlet(Protocol):
    """Where an agent puts its samples."""

    def put(self, items: Sequence[Item]) -> None:
        """Hand over samples, each with the URLs of its publishers. From any thread.

        Raises:
            SpoolFull: the spool's bound would be passed: none of them was kept.
            SpoolBroken: the spool cannot be written: none of them was kept.
            OutputClosed: nobody will take any more.
        """

    def keep(self, urls: Collection[str]) -> None:
        """Let go of all publishers but these, each once nothing waits for it.

        A publisher that is let go of is made anew should samples come for it.
        """

    def flush(self, timeout: float) -> bool:
        """Wait until nothing waits any more, at most so many seconds; whether that is so."""

    def close(self, timeout: float) -> None:
        """Take no more, deliver what can be delivered within so many seconds, and end."""

    @property
    def counts(self) -> Mapping[str, Counts]:
        """What became of the samples, by publisher; secrets in URLs are masked."""

    @property
    def closed(self) -> frozenset[str]:
        """The publishers that will never take any more; secrets in URLs are masked."""

    @property
    def finished(self) -> bool:
        """Whether all publishers that were used so far will never take any more."""


@dataclasses.dataclass
class _Tally:
    """The counts of one publisher while they are being made."""

    sent: int = 0
    failed: int = 0
    dropped: int = 0
    is_closed: bool = False


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
        batch_size: int = 50,
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
        self._couriers: dict[str, _Courier] = {}
        self._let_go: list[_Courier] = []  # that are ending
        self._tallies: dict[str, _Tally] = {}  # also of those that were let go of
        self._refused = 0  # samples, since the spool became full
        self._closing = False  # no more is put; what waits is tried at once
        self._stopping = False  # threads end
        self._left: Mapping[str, int] | None = None  # what waited when it was closed
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
        try:
            self._spool.put(items)
        except SpoolFull as error:
            self._refuse(items, error)
            raise
        with self._changed:
            for urls in {urls for _, urls in items}:
                self._start_couriers(urls)
            self._changed.notify_all()
            refused, self._refused = self._refused, 0
        if refused:
            log.warning("the spool has room again; %d samples were lost meanwhile", refused)

    def _refuse(self, items: Sequence[Item], error: SpoolFull) -> None:
        """Count what a full spool has no room for, and say so at once, once each time."""
        with self._changed:
            is_first = not self._refused
            self._refused += sum(1 for _, urls in items if urls)
            for _, urls in items:
                for url in dict.fromkeys(urls):
                    self._tally(url).dropped += 1
        if is_first:
            log.error("samples are lost: %s", error)

    def keep(self, urls: Collection[str]) -> None:
        """Let go of all publishers but these, once nothing waits for them: see :class:`Outlet`."""
        with self._changed:
            for url, courier in self._couriers.items():
                courier.is_kept = url in urls
            self._changed.notify_all()

    def _tally(self, url: str) -> _Tally:
        return self._tallies.setdefault(url, _Tally())

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
            return _counts(self._tallies, waiting)

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
                if self._changed.wait_for(lambda: self._closing, self._adopt_every):
                    return

    def _start_couriers(self, urls: Iterable[str]) -> None:
        for url in urls:
            if url not in self._couriers and not self._stopping:
                self._couriers[url] = _Courier(self, url, self._tally(url))


@dataclasses.dataclass
class _Outage:
    """A publisher fails: since when, and what the next pauses are."""

    since: float
    pauses: Backoff


class _Courier:
    """The thread of one publisher: takes, publishes, lets the spool forget."""

    def __init__(self, delivery: Delivery, url: str, tally: _Tally) -> None:
        self.name = masked(url)
        self.tally = tally
        self.is_kept = True
        self.is_unwanted = False  # what waits now is to be dropped
        self._url = url
        self._secrets = secrets_in(url)
        self._delivery = delivery
        self._spool = delivery._spool
        self._changed = delivery._changed
        self._publisher: Publisher | None = None
        self._published: Batch | None = None  # the spool could not note it yet
        self._outage: _Outage | None = None
        self._traced: set[str] = set()  # errors whose traceback was logged
        self._said = ""  # of the spool, last
        self._saw_closing = False  # the delivery was closing when the last try began
        self._is_hopeless = False  # the last try failed in a way that does not heal by itself
        self._thread = threading.Thread(
            target=self._run, name=f"deliver to {self.name}", daemon=True
        )
        self._thread.start()

    def join(self, timeout: float) -> bool:
        """Wait for the thread's end; whether it has ended."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    @property
    def has_given_up(self) -> bool:
        """Whether it was tried since the delivery began to close, and cannot work as things are."""
        return self._is_hopeless and self._saw_closing

    def _run(self) -> None:
        try:
            while self._wait_for_work():
                try:
                    self._work()
                except SpoolBroken as error:
                    self._say_of_the_spool(error)
                    self._rest(self._delivery._first_pause)
                except Exception:
                    # A thread that ended here would leave its samples waiting, and nobody told.
                    log.exception("%s: an error that is not the publisher's", self.name)
                    self._rest(self._delivery._longest_pause)
        finally:
            self._close_publisher()

    def _wait_for_work(self) -> bool:
        delivery = self._delivery
        with self._changed:
            self._changed.wait_for(
                lambda: delivery._stopping or not self.is_kept or self._spool.waiting_for(self._url)
            )
            self._saw_closing = delivery._closing
            if delivery._stopping:
                return False
            if not self.is_kept and not self._published and not self._spool.waiting_for(self._url):
                # From here on samples for this publisher start another courier.
                del delivery._couriers[self._url]
                delivery._let_go = [one for one in delivery._let_go if one._thread.is_alive()]
                delivery._let_go.append(self)
                self.tally.is_closed = False
                return False
            return True

    def _work(self) -> None:
        """Deliver one batch, or rest after a failure.

        Raises:
            SpoolBroken: the spool cannot be read or written now.
        """
        if self._published is None:
            if self.is_unwanted:
                self._drop_once()
                return
            if self.tally.is_closed:
                self._count(dropped=self._spool.drop(self._url))
                return
            batch = self._spool.take(self._url, self._delivery._batch_size)
            if batch is None or not self._publish(batch):
                return
            self._published = batch
        # Where this fails, the batch is not published again and again meanwhile.
        self._spool.done(self._published)
        self._published = None
        with self._changed:
            self._changed.notify_all()

    def _drop_once(self) -> None:
        """Drop what waits now, since somebody asked for that; later samples are delivered."""
        count = self._spool.drop(self._url)
        with self._changed:
            self.is_unwanted = False
        self._count(dropped=count)
        log.warning("%s: %d samples for it are dropped, as was asked for", self.name, count)

    def _publish(self, batch: Batch) -> bool:
        """Publish a batch; whether it was taken. Otherwise rest."""
        try:
            publisher = self._made()
        except OutputClosed as error:
            self._end(error)
        except SinkUnusable as error:
            self._is_hopeless = True
            self._fail(error, None)
        except OutputFailed as error:
            self._is_hopeless = False
            self._fail(error, error.retry_after)
        except Exception as error:  # a plug-in may raise anything
            self._is_hopeless = True
            self._fail(error, self._delivery._make_pause, asked=False)
        else:
            self._is_hopeless = False
            refused = publisher.refused
            try:
                publisher.publish(batch.samples)
            except OutputClosed as error:
                self._end(error)
            except OutputFailed as error:
                self._fail(error, error.retry_after)
            except Exception as error:  # a plug-in may raise anything
                self._fail(error, None)
            else:
                refused = publisher.refused - refused
                self._recover()
                self._count(sent=len(batch.samples) - refused, dropped=refused)
                return True
        return False

    def _made(self) -> Publisher:
        if self._publisher is None:
            self._publisher = self._delivery._make(self._url)
        return self._publisher

    def _end(self, error: OutputClosed) -> None:
        """Nobody will ever take what is for this publisher: drop it now and from now on."""
        with self._changed:
            self.tally.is_closed = True
        count = self._spool.waiting_for(self._url)
        log.warning("%s: %s: %d samples for it are dropped", self.name, self._hide(error), count)
        self._close_publisher()
        self._count(dropped=self._spool.drop(self._url))

    def _fail(self, error: Exception, least: float | None, *, asked: bool = True) -> None:
        """Note a failure, say so once an outage, and rest.

        Args:
            error: what happened.
            least: the shortest pause that may follow, in seconds.
            asked: whether the sink asked for that pause; then not even a close cuts it short.
        """
        self._count(failed=1)
        delivery = self._delivery
        outage = self._outage
        expected = isinstance(error, HashringError)
        if outage is None:
            outage = self._outage = _Outage(
                boottime(), Backoff(delivery._first_pause, delivery._longest_pause)
            )
            log.error(
                "%s fails: %s; %d samples wait in the spool, and are tried again",
                self.name,
                self._hide(error) if expected else self._hide(repr(error)),
                self._spool.waiting_for(self._url),
            )
        if not expected and repr(error) not in self._traced:
            self._traced.add(repr(error))
            found = "".join(traceback.format_exception(error))
            log.error(
                "%s: not an error that a publisher should raise: %s", self.name, self._hide(found)
            )
        pause = max(delivery._first_pause, next(outage.pauses))
        if least is None:
            self._rest(pause)
        elif asked:
            self._rest(max(pause, min(least, _LONGEST_ASKED)), hurry=False)
        else:
            self._rest(jittered(least))

    def _recover(self) -> None:
        if self._outage is not None:
            log.warning(
                "%s takes samples again after %.1f s; %d waited",
                self.name,
                boottime() - self._outage.since,
                self._spool.waiting_for(self._url),
            )
            self._outage = None
            self._traced.clear()

    def _say_of_the_spool(self, error: SpoolBroken) -> None:
        if str(error) != self._said:
            self._said = str(error)
            log.error("%s: %s", self.name, error)

    def _rest(self, seconds: float, *, hurry: bool = True) -> None:
        """Wait. Once the delivery closes, try at once, and from then on without long pauses."""
        delivery = self._delivery
        with self._changed:
            if hurry and self._saw_closing:
                seconds = min(seconds, delivery._first_pause)
            self._changed.wait_for(
                lambda: (
                    delivery._stopping
                    or self.is_unwanted
                    or (hurry and delivery._closing and not self._saw_closing)
                ),
                seconds,
            )

    def _count(self, *, sent: int = 0, failed: int = 0, dropped: int = 0) -> None:
        with self._changed:
            self.tally.sent += sent
            self.tally.failed += failed
            self.tally.dropped += dropped
            self._changed.notify_all()

    def _close_publisher(self) -> None:
        publisher, self._publisher = self._publisher, None
        if publisher is not None:
            _close(publisher, self.name)

    def _hide(self, text: object) -> str:
        return without_secrets(str(text), self._secrets)


class Direct:
    """Publishes samples at once, in the caller's thread, and keeps none: the outlet without spool.

    What a publisher does not take is lost and counted as dropped, and logged once for each cause.

    Args:
        make: makes a publisher from its URL.
        urls: publishers that are made now, so that a wrong one is an error now.

    Raises:
        HashringError: one of urls cannot be made into a publisher.
    """

    def __init__(self, make: Callable[[str], Publisher], urls: Sequence[str] = ()) -> None:
        self._make = make
        self._lock = threading.Lock()  # a publisher is called by one thread at a time
        self._publishers: dict[str, Publisher] = {}
        self._tallies: dict[str, _Tally] = {}
        self._causes: dict[str, str] = {}  # why a publisher fails now
        self._is_closed = False
        try:
            for url in urls:
                self._publishers[url] = make(url)
                self._tallies[url] = _Tally()
        except BaseException:
            self.close()
            raise

    def put(self, items: Sequence[Item]) -> None:
        """Publish samples: see :class:`Outlet`.

        Raises:
            OutputClosed: one of the publishers will take no more; the others have been served.
        """
        samples: dict[str, list[Sample]] = {}
        for sample, urls in items:
            for url in dict.fromkeys(urls):
                samples.setdefault(url, []).append(sample)
        ends: list[OutputClosed] = []
        with self._lock:
            if self._is_closed:
                raise OutputClosed("the outlet is closed: it takes no more samples")
            for url, batch in samples.items():
                try:
                    self._publish(url, batch)
                except OutputClosed as end:
                    ends.append(end)
        if ends:
            raise ends[0]

    def _publish(self, url: str, batch: list[Sample]) -> None:
        tally = self._tallies.setdefault(url, _Tally())
        try:
            if tally.is_closed:
                raise OutputClosed(self._causes[url])  # noqa: TRY301
            if url not in self._publishers:
                self._publishers[url] = self._make(url)
            publisher = self._publishers[url]
            refused = publisher.refused
            publisher.publish(batch)
            refused = publisher.refused - refused
        except OutputClosed as end:
            self._causes[url] = str(end)
            tally.is_closed = True
            tally.dropped += len(batch)
            raise
        except Exception as error:  # a plug-in may raise anything
            tally.failed += 1
            tally.dropped += len(batch)
            self._say(url, error, len(batch))
        else:
            tally.sent += len(batch) - refused
            tally.dropped += refused
            if self._causes.pop(url, None) is not None:
                log.warning("%s takes samples again", masked(url))

    def _say(self, url: str, error: Exception, count: int) -> None:
        cause = repr(error)
        if self._causes.get(url) != cause:
            self._causes[url] = cause
            text = (
                str(error)
                if isinstance(error, HashringError)
                else "".join(traceback.format_exception(error))
            )
            log.error(
                "%s fails: %s; %d samples are lost (further ones are counted, not logged)",
                masked(url),
                without_secrets(text, secrets_in(url)),
                count,
            )

    def keep(self, urls: Collection[str]) -> None:
        """Close all publishers but these: see :class:`Outlet`."""
        with self._lock:
            for url in set(self._publishers) - set(urls):
                _close(self._publishers.pop(url), masked(url))

    def flush(self, timeout: float) -> bool:
        """Return True at once: nothing ever waits."""
        return True

    def close(self, timeout: float = 0.0) -> None:
        """Close the publishers. Idempotent."""
        with self._lock:
            self._is_closed = True
            while self._publishers:
                url, publisher = self._publishers.popitem()
                _close(publisher, masked(url))

    @property
    def counts(self) -> Mapping[str, Counts]:
        """What became of the samples: see :class:`Outlet`."""
        with self._lock:
            return _counts(self._tallies, {})

    @property
    def closed(self) -> frozenset[str]:
        """The publishers that will never take any more: see :class:`Outlet`."""
        with self._lock:
            return frozenset(masked(url) for url, tally in self._tallies.items() if tally.is_closed)

    @property
    def finished(self) -> bool:
        """Whether no publisher that was used will take any more: see :class:`Outlet`."""
        with self._lock:
            tallies = list(self._tallies.values())
        return bool(tallies) and all(tally.is_closed for tally in tallies)


def _close(publisher: Publisher, name: str) -> None:
    try:
        publisher.close()
    except Exception:
        log.exception("%s cannot be closed", name)


def _counts(tallies: Mapping[str, _Tally], waiting: Mapping[str, int]) -> dict[str, Counts]:
    """Return counts by masked URL; two that differ only in a secret are counted together."""
    found: dict[str, Counts] = {}
    for url in {**tallies, **waiting}:
        tally = tallies.get(url, _Tally())
        before = found.get(masked(url), Counts())
        found[masked(url)] = Counts(
            before.sent + tally.sent,
            before.waiting + waiting.get(url, 0),
            before.failed + tally.failed,
            before.dropped + tally.dropped,
        )
    return found
