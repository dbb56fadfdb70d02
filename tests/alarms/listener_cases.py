"""Events from a message queue, in an environment that has oslo.messaging: see ``test_listener``."""

from __future__ import annotations

import logging

import pytest
import sqlalchemy as sa
from oslo_config import cfg

from hashring.alarms.database.events import Events
from hashring.alarms.database.tables import EVENT
from hashring.alarms.errors import DatabaseUnavailable
from hashring.alarms.listener import Listener, library
from hashring.alarms.settings import Settings
from hashring.errors import BadArgument
from tests.alarms.test_events import event
from tests.servers.process import wait_until

SETTINGS = Settings(database="", backend_url="", member="a")
URL = "fake://"


def kept(database):
    with database.reading() as connection:
        return set(connection.execute(sa.select(EVENT.c.message_id)).scalars())


@pytest.fixture
def publish():
    """Publish events as Ceilometer's publisher ``notifier://?topic=alarm.all`` does."""
    conf = cfg.ConfigOpts()
    conf([])
    transport = library().get_notification_transport(conf, url=URL)
    notifier = library().Notifier(
        transport, driver="messagingv2", publisher_id="ceilometer", topics=["alarm.all"]
    )
    yield lambda *events: notifier.sample({}, event_type="event", payload=list(events))
    transport.cleanup()


def test_events_of_the_queue_are_kept_once(database, publish):
    with Listener(SETTINGS, database, URL):
        publish(event(1), event(2))
        publish(event(2))
        publish(event(3))
        wait_until(lambda: kept(database) == {"m-1", "m-2", "m-3"})


def test_while_the_database_is_away_messages_stay_in_the_queue(database, publish, monkeypatch):
    keep, tries = Events.keep, []

    def away(self, events, now):
        tries.append(len(events))
        if len(tries) <= 2:
            raise DatabaseUnavailable("away")
        return keep(self, events, now)

    monkeypatch.setattr(Events, "keep", away)
    monkeypatch.setattr("hashring.alarms.listener._PAUSE", 0.05)
    with Listener(SETTINGS, database, URL):
        publish(event(1))
        wait_until(lambda: kept(database) == {"m-1"})
    assert len(tries) == 3


def test_what_is_no_event_is_told_and_costs_no_other(database, publish, caplog):
    with caplog.at_level(logging.WARNING), Listener(SETTINGS, database, URL):
        publish({"event_type": "x"}, event(1))
        wait_until(lambda: kept(database) == {"m-1"})
    assert "an event is dropped: event 1: message_id must be" in caplog.text


def test_a_transport_that_there_is_not_is_told_without_its_password(database):
    with pytest.raises(BadArgument, match="transport_url") as raised:
        Listener(SETTINGS, database, "strange://user:s3cret@host/")
    assert "s3cret" not in str(raised.value)
