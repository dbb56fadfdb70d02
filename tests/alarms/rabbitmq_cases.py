"""Events from a real RabbitMQ, in an environment with oslo.messaging: see ``test_listener``."""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
import time
from collections import Counter

import pytest
import sqlalchemy as sa
from oslo_config import cfg

from hashring.alarms.database.definitions import sync
from hashring.alarms.database.tables import EVENT
from hashring.alarms.listener import library
from hashring.alarms.model import alarm_of
from tests.alarms.fleet import told
from tests.alarms.test_events import event
from tests.conftest import TREE
from tests.servers.process import wait_until
from tests.servers.rabbitmq import RabbitMQServer

EVENTS = 200
LIMIT = 120.0
"""Seconds for all of it to come about, on a busy machine."""


@pytest.fixture
def broker():
    with RabbitMQServer() as server:
        yield server


@pytest.fixture
def configuration(broker, database, tmp_path):
    path = tmp_path / "aodh.conf"
    path.write_text(
        f"[DEFAULT]\ntransport_url = {broker.url}\n[database]\n"
        f"connection = sqlite:///{database.file}\n[listener]\nbatch_size = 5\nbatch_timeout = 1\n"
        # Without it RabbitMQ forgets, as it restarts, the queue and what is in it.
        "[oslo_messaging_rabbit]\namqp_durable_queues = true\n"
    )
    return path


class Programs:
    """Listeners, and evaluators, as processes; none of them outlives the test."""

    def __init__(self, configuration):
        self._configuration = configuration
        self._numbers = itertools.count()
        self._logs = {}

    @property
    def running(self):
        return [*self._logs]

    def start(self, name, sign, *options):
        """Start one, and wait until its log has a sign: from then on it knows signals."""
        log = self._configuration.with_name(f"{name}-{next(self._numbers)}.log")
        command = [sys.executable, "-W", "ignore", "-m", "hashring", "alarm", name, *options]
        command += ["--config-file", str(self._configuration), "--log-level", "info"]
        with log.open("ab") as file:
            process = subprocess.Popen(command, stderr=file, cwd=TREE)
        self._logs[process] = log
        wait_until(lambda: sign in log.read_text(), within=LIMIT, what=f"{log}: {sign}")
        return process

    def listen(self):
        return self.start("listener", "events are taken from the topic")

    def stop(self):
        """Tell them to end, and wait for it."""
        for process in self._logs:
            process.terminate()
        for process, log in self._logs.items():
            assert process.wait(LIMIT) == 0, log.read_text()[-4000:]
        self._logs.clear()

    def kill(self, *processes):
        for process in processes:
            process.kill()
            process.wait()
            del self._logs[process]


@pytest.fixture
def programs(configuration):
    found = Programs(configuration)
    yield found
    found.kill(*found.running)


class Publisher(threading.Thread):
    """Publishes each event twice, as Ceilometer does; a call returns once the broker has it."""

    def __init__(self, configuration):
        super().__init__(name="publisher")
        conf = cfg.ConfigOpts()
        conf([], default_config_files=[str(configuration)], default_config_dirs=[])
        self._transport = library().get_notification_transport(conf)
        self._notifier = library().Notifier(
            self._transport, driver="messagingv2", publisher_id="x", topics=["alarm.all"]
        )
        self.acknowledged = 0
        self.error = None

    def run(self):
        try:
            for number in range(EVENTS):
                self._notifier.sample({}, event_type="event", payload=[event(number)])
                self._notifier.sample({}, event_type="event", payload=[event(number)])
                self.acknowledged += 1
                time.sleep(0.02)  # so that it goes on while others restart
        except Exception as error:
            self.error = error
        finally:
            self._transport.cleanup()


def count(database, table):
    with database.reading() as connection:
        return connection.execute(sa.select(sa.func.count()).select_from(table)).scalar()


def test_each_acknowledged_event_is_kept_and_told_once_through_restarts_of_broker_and_listeners(
    broker, database, configuration, programs, sink
):
    alarm = {"name": "x", "type": "event", "rule": {"event_type": "*"}, "repeat_actions": True}
    sync(database, [alarm_of(alarm | {"alarm_actions": [f"{sink.url}/in"]})], 0.0)
    programs.start("evaluator", "", "--state-dir", str(configuration.parent))
    programs.listen()
    doomed = programs.listen()
    publisher = Publisher(configuration)
    publisher.start()

    def kept(number):
        wait_until(lambda: count(database, EVENT) >= number, within=LIMIT, what=f"{number} events")

    try:
        kept(20)
        broker.stop()
        broker.start()
        kept(60)
        programs.kill(doomed)
        kept(100)
        broker.kill()
        broker.start()
        programs.listen()
        kept(EVENTS)
    finally:
        publisher.join(LIMIT)
    assert (publisher.error, publisher.acknowledged) == (None, EVENTS)
    sent = {f"m-{number}" for number in range(EVENTS)}
    with database.reading() as connection:
        ids = set(connection.execute(sa.select(EVENT.c.message_id)).scalars())
    assert ids == sent
    wait_until(lambda: len(told(sink)) >= EVENTS, within=LIMIT, what="all are told of")
    # What came twice leaves the queue too.
    wait_until(lambda: waiting(broker) == 0, within=LIMIT, what="an empty queue")
    programs.stop()
    assert Counter(heard(sink)) == Counter(sent)
    assert len({key for key, _ in told(sink)}) == EVENTS
    # While the broker is away a listener ends all the same when it is told to.
    programs.listen()
    broker.kill()
    programs.stop()


def heard(sink):
    """Return the ids of the events that the sink was told of, one for each request."""
    return [body["reason_data"]["event"]["message_id"] for _, body in told(sink)]


def waiting(broker):
    """Return how many messages are in the queue that no listener has been given."""
    import amqp

    with amqp.Connection(broker.address, "guest", "guest", connect_timeout=10) as connection:
        channel = connection.channel()
        return channel.queue_declare("alarm.all.sample", passive=True).message_count
