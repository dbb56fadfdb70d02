"""Remote write, to a real Prometheus: what was written is found by query."""

import time

import cramjam
import pytest

from hashring.errors import BadURL
from hashring.telemetry.errors import OutputFailed
from hashring.telemetry.model.batch import Batch, Measured, batches_of
from hashring.telemetry.model.resource import Resource
from hashring.telemetry.model.sample import Meter, MeterType
from hashring.telemetry.publishers.remotewrite import RemoteWritePublisher
from hashring.telemetry.publishers.remotewrite_message import write_request
from hashring.telemetry.sources.web.exposition import measurements
from tests.servers.process import free_port
from tests.servers.prometheus import PrometheusServer
from tests.telemetry.publishing import SETTINGS, sample

NOW = float(int(time.time()))


@pytest.fixture(scope="module")
def prometheus():
    with PrometheusServer.receiving() as found:
        yield found


@pytest.fixture
def make(prometheus):
    made = []

    def make(options=""):
        publisher = RemoteWritePublisher(
            f"remotewrite+http://{prometheus.address}{options}", SETTINGS
        )
        made.append(publisher)
        return publisher

    yield make
    for publisher in made:
        publisher.close()


def found(prometheus, name, at=NOW):
    """The values of a metric, by labels but its name."""
    return {
        tuple(sorted(item for item in one["metric"].items() if item[0] != "__name__")): float(
            one["value"][1]
        )
        for one in prometheus.ask("query", query=name, time=str(at))["result"]
    }


def test_every_sample_of_a_poll_is_found_by_query(prometheus, make):
    target = Resource("prometheus+http://web1/metrics", "exposition", {"labels": {"job": "node"}})
    text = "".join(f'written_total{{cpu="{n}",mode="idle"}} {n}.5\n' for n in range(3000))
    measured = Measured.of(measurements(f"# TYPE written_total counter\n{text}", target), target.id)
    batch = Batch(measured.series, measured.volumes, NOW, 7, 60.0, "a", ("v", "i", 7), ("nodes",))

    make("?batch_size=1000").publish_batches([batch])

    values = found(prometheus, "written_total")
    assert sorted(values.values()) == [n + 0.5 for n in range(3000)]
    assert (
        values[
            ("cpu", "7"),
            ("job", "node"),
            ("mode", "idle"),
            ("resource_id", 'prometheus+http://web1/metrics#{cpu="7",mode="idle"}'),
        ]
        == 7.5
    )


def test_names_and_labels_are_such_as_prometheus_allows(prometheus, make):
    one = sample(
        2**70,
        meter=Meter("1st-level.ñ", MeterType.GAUGE, "l"),
        timestamp=NOW,
        metadata={"display-name": "n\u00f6rd\n", "__a": 1, "b": [1], "none": None, "empty": ""},
        project_id="p",
    )

    make().publish([one])

    assert found(prometheus, "_1st_level__") == {
        (
            ("a", "1"),
            ("b", "[1]"),
            ("display_name", "n\u00f6rd\n"),
            ("project_id", "p"),
            ("resource_id", "plant:tank:north"),
        ): float(2**70)
    }


def test_only_the_named_keys_of_the_metadata_become_labels(prometheus, make):
    one = sample(
        1, meter=Meter("few", MeterType.GAUGE, ""), timestamp=NOW, metadata={"a": "1", "b": "2"}
    )

    make("?labels=b").publish([one])

    assert list(found(prometheus, "few")) == [(("b", "2"), ("resource_id", "plant:tank:north"))]


def test_a_sample_that_comes_too_late_is_set_aside_and_the_others_are_taken(
    prometheus, make, caplog
):
    publisher = make()
    meter = Meter("late", MeterType.GAUGE, "")

    def at(seconds, volume, name):
        return sample(volume, meter=meter, timestamp=NOW + seconds, resource_id=name)

    publisher.publish([at(0, 1, "x"), at(0, 1, "y")])
    publisher.publish([at(-5, 2, "x"), at(5, 3, "y"), at(5, 4, "z")])

    assert publisher.refused == 1
    assert "(late of x), status 400" in caplog.text
    assert {
        dict(labels)["resource_id"]: value
        for labels, value in found(prometheus, "late", NOW + 6).items()
    } == {"x": 1.0, "y": 3.0, "z": 4.0}


def test_samples_that_are_sent_again_do_no_harm(prometheus, make):
    publisher = make()
    one = sample(5, meter=Meter("again", MeterType.GAUGE, ""), timestamp=NOW)

    publisher.publish([one])
    publisher.publish([one])

    assert publisher.refused == 0
    assert list(found(prometheus, "again").values()) == [5.0]


def test_a_receiver_that_is_away_is_a_failure_and_names_no_secret():
    port = free_port()
    publisher = RemoteWritePublisher(
        f"remotewrite+http://app:s3cret@127.0.0.1:{port}?max_retries=0", SETTINGS
    )

    with pytest.raises(OutputFailed, match=f"127.0.0.1:{port}/api/v1/write") as caught:
        publisher.publish([sample(1)])

    assert "s3cret" not in str(caught.value)
    publisher.close()
    with pytest.raises(OutputFailed, match="closed"):
        publisher.publish([sample(1)])
    with pytest.raises(BadURL, match="names no host"):
        RemoteWritePublisher("remotewrite+http://", SETTINGS)


def test_a_request_is_the_message_that_the_specification_gives():
    one = sample(1.5, meter=Meter("m", MeterType.GAUGE, ""), resource_id="r", timestamp=0.25)

    message = write_request(batches_of([one]))

    series = (
        b"\x0a\x0d\x0a\x08__name__\x12\x01m"
        b"\x0a\x10\x0a\x0bresource_id\x12\x01r"
        b"\x12\x0c\x09\x00\x00\x00\x00\x00\x00\xf8\x3f\x10\xfa\x01"
    )
    assert message == b"\x0a" + bytes([len(series)]) + series
    assert bytes(cramjam.snappy.decompress_raw(cramjam.snappy.compress_raw(message))) == message
