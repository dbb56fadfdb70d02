"""Direct: the outlet without a spool. What a sink does not take at once is lost, and counted."""

from __future__ import annotations

import logging
import threading
import traceback
from collections.abc import Callable, Collection, Mapping, Sequence

from hashring.errors import HashringError
from hashring.telemetry.delivery.items import Item, batched
from hashring.telemetry.delivery.outlet import Counts, Tally, close_publisher, counts_of
from hashring.telemetry.errors import OutputClosed
from hashring.telemetry.model.batch import Batch
from hashring.telemetry.plugin import Publisher
from hashring.url import masked, secrets_in, without_secrets

__all__ = ["Direct"]

log = logging.getLogger(__name__)


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
        self._tallies: dict[str, Tally] = {}
        self._causes: dict[str, str] = {}  # why a publisher fails now
        self._is_closed = False
        try:
            for url in urls:
                self._publishers[url] = make(url)
                self._tallies[url] = Tally()
        except BaseException:
            self.close()
            raise

    def put(self, items: Sequence[Item]) -> None:
        """Publish samples: see :class:`Outlet`.

        Raises:
            OutputClosed: one of the publishers will take no more; the others have been served.
        """
        batches: dict[str, list[Batch]] = {}
        for batch, urls in batched(items):
            for url in dict.fromkeys(urls):
                batches.setdefault(url, []).append(batch)
        ends: list[OutputClosed] = []
        with self._lock:
            if self._is_closed:
                raise OutputClosed("the outlet is closed: it takes no more samples")
            for url, found in batches.items():
                try:
                    self._publish(url, found)
                except OutputClosed as end:
                    ends.append(end)
        if ends:
            raise ends[0]

    def _publish(self, url: str, batches: list[Batch]) -> None:
        count = sum(map(len, batches))
        tally = self._tallies.setdefault(url, Tally())
        try:
            if tally.is_closed:
                raise OutputClosed(self._causes[url])  # noqa: TRY301
            if url not in self._publishers:
                self._publishers[url] = self._make(url)
            publisher = self._publishers[url]
            refused = publisher.refused
            publisher.publish_batches(batches)
            refused = publisher.refused - refused
        except OutputClosed as end:
            self._causes[url] = str(end)
            tally.is_closed = True
            tally.dropped += count
            raise
        except Exception as error:  # a plug-in may raise anything
            tally.failed += 1
            tally.dropped += count
            self._say(url, error, count)
        else:
            tally.sent += count - refused
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
                close_publisher(self._publishers.pop(url), masked(url))

    def flush(self, timeout: float) -> bool:
        """Return True at once: nothing ever waits."""
        return True

    def close(self, timeout: float = 0.0) -> None:
        """Close the publishers. Idempotent."""
        with self._lock:
            self._is_closed = True
            while self._publishers:
                url, publisher = self._publishers.popitem()
                close_publisher(publisher, masked(url))

    @property
    def counts(self) -> Mapping[str, Counts]:
        """What became of the samples: see :class:`Outlet`."""
        with self._lock:
            return counts_of(self._tallies, {})

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
