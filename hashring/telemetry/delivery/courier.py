"""Courier: the thread of one publisher. It takes from the spool, publishes, lets the spool forget.

It knows what a publisher's errors mean, and how long it rests after each; neither how a spool keeps
samples nor how a publisher sends them.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
import traceback
from typing import TYPE_CHECKING

from hashring.backoff import Backoff, jittered
from hashring.clock import boottime
from hashring.errors import HashringError
from hashring.telemetry.delivery.outlet import Tally, close_publisher
from hashring.telemetry.delivery.spool import Parcel
from hashring.telemetry.errors import OutputClosed, OutputFailed, SinkUnusable, SpoolBroken
from hashring.telemetry.plugin import Publisher
from hashring.url import masked, secrets_in, without_secrets

if TYPE_CHECKING:
    from hashring.telemetry.delivery.delivery import Delivery

__all__ = ["Courier"]

log = logging.getLogger(__name__)

_LONGEST_ASKED = 300.0
"""The longest pause in seconds that a sink gets because it asked for it."""


@dataclasses.dataclass
class _Outage:
    """A publisher fails: since when, and what the next pauses are."""

    since: float
    pauses: Backoff


class Courier:
    """The thread of one publisher: takes, publishes, lets the spool forget."""

    def __init__(self, delivery: Delivery, url: str, tally: Tally) -> None:
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
        self._published: Parcel | None = None  # the spool could not note it yet
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
        """Deliver one parcel, or rest after a failure.

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
            parcel = self._spool.take(self._url, self._delivery._batch_size)
            if parcel is None or not self._publish(parcel):
                return
            self._published = parcel
        # Where this fails, the parcel is not published again and again meanwhile.
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

    def _publish(self, parcel: Parcel) -> bool:
        """Publish a parcel; whether it was taken. Otherwise rest."""
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
                publisher.publish_batches(parcel.batches)
            except OutputClosed as error:
                self._end(error)
            except OutputFailed as error:
                self._fail(error, error.retry_after)
            except Exception as error:  # a plug-in may raise anything
                self._fail(error, None)
            else:
                refused = publisher.refused - refused
                self._recover()
                self._count(sent=len(parcel) - refused, dropped=refused)
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
            close_publisher(publisher, self.name)

    def _hide(self, text: object) -> str:
        return without_secrets(str(text), self._secrets)
