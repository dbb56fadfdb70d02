"""Listener: events from a message queue, by oslo.messaging, into the database.

What Ceilometer publishes with ``notifier://?topic=alarm.all`` comes here, as it comes to
aodh-listener. A message is taken from the queue once its events are committed; while the database
is away it goes back. One that comes again changes nothing, so any number of listeners may run.
"""

from __future__ import annotations

import functools
import logging
import threading
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from oslo_config import cfg

from hashring import clock
from hashring.alarms.database.engine import Database
from hashring.alarms.database.events import Events
from hashring.alarms.errors import BadEvents, DatabaseUnavailable, DatabaseUnusable
from hashring.alarms.event import Event, events_of
from hashring.alarms.settings import Settings
from hashring.errors import BadArgument, MissingDependency
from hashring.url import masked_prose

__all__ = ["Endpoint", "Listener"]

log = logging.getLogger(__name__)

_PAUSE = 1.0
"""Seconds before messages are given back while the database is away: they come again at once."""


@functools.cache
def library() -> Any:
    """Return oslo.messaging, once it is needed: it changes what a process does when it forks.

    Raises:
        MissingDependency: it is not installed.
    """
    try:
        with warnings.catch_warnings():
            # They import eventlet, which says at once that it is deprecated. It is not used here.
            warnings.simplefilter("ignore")
            from oslo_service import backend

            backend.init_backend(backend.BackendType.THREADING)

            import oslo_messaging
    except ImportError as error:
        raise MissingDependency("hashring alarm listener", "oslo.messaging", "messaging") from error
    return oslo_messaging


class Endpoint:
    """What oslo.messaging calls with batches of notifications, of whatever priority.

    Args:
        database: where events go.
    """

    def __init__(self, database: Database) -> None:
        self._events = Events(database)
        self._ended = threading.Event()
        self._complained = False

    def sample(self, notifications: Sequence[dict[str, Any]]) -> Any:
        """Keep the events of some notifications.

        Returns:
            Whether the queue is to keep the messages, as oslo.messaging spells it.
        """
        found: list[Event] = []
        for notification in notifications:
            found += _events(notification.get("payload"))
        try:
            self._events.keep(found, clock.wall())
        except (DatabaseUnavailable, DatabaseUnusable) as error:
            if not self._complained:
                log.error("events stay in the queue: %s", error)  # noqa: TRY400
            self._complained = True
            self._ended.wait(_PAUSE)
            return library().NotificationResult.REQUEUE
        self._complained = False
        return library().NotificationResult.HANDLED

    audit = debug = info = warn = error = critical = sample

    def end(self) -> None:
        """Wait no longer for the database."""
        self._ended.set()


def _events(payload: Any) -> list[Event]:
    """Return the events of a message; what is wrong is told, and does not come again."""
    found = []
    for one in payload if isinstance(payload, list) else [payload]:
        try:
            found += events_of(one)
        except BadEvents as error:
            log.warning("an event is dropped: %s", error)
    return found


class Listener:
    """Takes events from the queue for as long as its block runs.

    Args:
        settings: the topic, the size of batches, the files with the transport's own options.
        database: where events go.
        transport_url: of the queue; ``None``: the files say.

    Raises:
        BadArgument: there is no such transport.
        MissingDependency: oslo.messaging is not installed.
    """

    def __init__(
        self, settings: Settings, database: Database, transport_url: str | None = None
    ) -> None:
        oslo_messaging = library()
        self._endpoint = Endpoint(database)
        try:
            self._transport = oslo_messaging.get_notification_transport(
                _configured(settings.config_files, settings.config_dirs), url=transport_url
            )
            self._listener = oslo_messaging.get_batch_notification_listener(
                self._transport,
                [oslo_messaging.Target(topic=settings.event_topic)],
                [self._endpoint],
                executor="threading",
                allow_requeue=True,
                batch_size=settings.event_batch,
                batch_timeout=settings.event_batch_timeout,
            )
        except (oslo_messaging.MessagingException, ValueError) as error:
            raise BadArgument(
                f"no events can be taken from a queue: {masked_prose(str(error))}; name it in "
                "[DEFAULT] transport_url"
            ) from None

    def __enter__(self) -> Self:
        self._listener.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._endpoint.end()
        self._listener.stop()
        self._listener.wait()
        self._transport.cleanup()


def _configured(files: Sequence[Path], folders: Sequence[Path]) -> cfg.ConfigOpts:
    """Return the configuration as oslo.messaging reads it."""
    found = cfg.ConfigOpts()
    found(
        [],
        project="aodh",
        default_config_files=[str(path) for path in files],
        default_config_dirs=[str(path) for path in folders],
    )
    return found
