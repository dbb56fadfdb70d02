"""The agents' samples over HTTP: kept once, refused with a reason, taken after an outage."""

from __future__ import annotations

import gzip
import http.client
import json

import pytest
import sqlalchemy as sa

from hashring.alarms.database.engine import Database, default_url
from hashring.alarms.database.tables import SAMPLE
from hashring.alarms.intake import Intake
from hashring.errors import BadArgument
from hashring.telemetry.model.sample import Meter, MeterType, Sample
from hashring.telemetry.model.settings import Settings
from hashring.telemetry.publishers.http import HTTPPublisher

_SETTINGS = Settings(backend_url="", member="a", host="h")
GOOD = {"meter": "cpu", "resource_id": "web1", "volume": 1.5, "window": 10, "interval": 60.0}


@pytest.fixture
def intake(database):
    with Intake("127.0.0.1:0", database) as found:
        yield found


def post(intake, body, path="/v1/samples", method="POST", **headers):
    connection = http.client.HTTPConnection("127.0.0.1", intake.port, timeout=60)
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    found = answer.status, answer.read().decode()
    connection.close()
    return found


def kept(database):
    with database.reading() as connection:
        return [tuple(row) for row in connection.execute(sa.select(SAMPLE))]


def test_what_an_agent_publishes_is_kept_once_however_often_it_is_sent(intake, database):
    meter = Meter("cpu", MeterType.GAUGE, "%")
    samples = [Sample(meter, n, f"web{n}", 600.0, 10, 60.0, "a", ("v", "i", 10)) for n in range(5)]
    publisher = HTTPPublisher(f"http://127.0.0.1:{intake.port}/v1/samples", _SETTINGS)
    try:
        publisher.publish(samples[:3])
        publisher.publish(samples)
    finally:
        publisher.close()
    assert sorted(kept(database)) == [
        ("cpu", f"web{n}", 60_000_000, 600_000_000, float(n)) for n in range(5)
    ]


def test_a_body_may_be_compressed(intake, database):
    body = gzip.compress(json.dumps([GOOD]).encode())
    assert post(intake, body, **{"Content-Encoding": "gzip"})[0] == 200
    assert len(kept(database)) == 1


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"volume": "much"}, "volume must be a finite number"),
        ({"volume": True}, "volume must be a finite number"),
        ({"meter": ""}, "meter must be a text"),
        ({"resource_id": "x" * 256}, "resource_id must be a text"),
        ({"window": 1.5}, "window must be the number of a window"),
        ({"window": 2**60}, "window must be the number of a window"),
        ({"interval": 0}, "interval must be a number of seconds"),
    ],
)
def test_a_wrong_sample_is_refused_by_number_and_field_and_nothing_is_kept(
    intake, database, wrong, words
):
    status, text = post(intake, json.dumps([GOOD, GOOD | wrong]))
    assert (status, text[:10]) == (400, "sample 2: ")
    assert words in text
    assert kept(database) == []


@pytest.mark.parametrize("body", ["", "[", "3", "[null]", '{"a": NaN}', "[" * 100_000])
def test_what_is_no_list_of_samples_is_refused(intake, body):
    assert post(intake, body)[0] == 400


def test_a_bomb_is_refused(intake):
    bomb = gzip.compress(bytes(64 * 1024 * 1024))
    assert post(intake, bomb, **{"Content-Encoding": "gzip"})[0] == 413


def test_other_paths_and_methods_are_refused_and_health_is_told(intake):
    assert post(intake, "", "/v1/nothing")[0] == 404
    assert post(intake, None, method="GET")[0] == 405
    assert post(intake, None, "/healthcheck", "GET") == (200, "OK\n")


def test_while_the_database_cannot_be_used_agents_are_asked_to_wait(tmp_path):
    database = Database(default_url(tmp_path))  # without tables
    with Intake("127.0.0.1:0", database) as found:
        assert post(found, json.dumps([GOOD]))[0] == 503
    database.close()


@pytest.mark.parametrize("listen", ["nowhere:x", "256.0.0.1:1", "[::1"])
def test_an_address_that_is_no_place_to_listen_is_refused(database, listen):
    with pytest.raises(BadArgument, match="cannot listen on"):
        Intake(listen, database)
