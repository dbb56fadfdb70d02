"""Remote write 2.0, to a receiver made of the protobuf library's classes, and to a real Prometheus.

The Prometheus that Debian has speaks 1.0 alone, and takes a message of 2.0 as an empty one.
"""

import logging
import random

import cramjam
import pytest

from hashring import clock
from hashring.errors import BadURL
from hashring.telemetry.errors import OutputFailed
from hashring.telemetry.model.batch import Batch, Measured, batches_of
from hashring.telemetry.model.resource import Resource
from hashring.telemetry.model.sample import Measurement, Meter, MeterType
from hashring.telemetry.publishers import remotewrite
from hashring.telemetry.publishers.remotewrite import RemoteWritePublisher
from hashring.telemetry.publishers.remotewrite_message import EncoderV1, EncoderV2
from hashring.telemetry.publishers.series_labels import ALL, SeriesLabels
from hashring.telemetry.sources.web.exposition import measurements
from tests.servers.prometheus import PrometheusServer
from tests.telemetry.prometheus_messages import WRITE_V1, WRITE_V2
from tests.telemetry.publishing import SETTINGS, Answer, Sink, sample

NOW = 1_778_400_000.0
V1, V2 = "application/x-protobuf", "application/x-protobuf;proto=io.prometheus.write.v2.Request"
WRITTEN = "X-Prometheus-Remote-Write-Samples-Written"


def series_v1(body):
    """The series of a message of 1.0: labels, and values by time."""
    for one in WRITE_V1["WriteRequest"].FromString(body).timeseries:
        labels = {label.name: label.value for label in one.labels}
        yield labels, {value.timestamp: value.value for value in one.samples}


def series_v2(body):
    """The series of a message of 2.0: labels, values by time, and the metric's type and unit."""
    request = WRITE_V2["Request"].FromString(body)
    assert request.symbols[0] == ""
    assert len(set(request.symbols)) == len(request.symbols)
    for one in request.timeseries:
        texts = [request.symbols[ref] for ref in one.labels_refs]
        labels = dict(zip(texts[::2], texts[1::2], strict=True))
        assert list(labels) == sorted(labels)
        assert one.HasField("metadata")
        about = one.metadata.type, request.symbols[one.metadata.unit_ref]
        yield labels, {value.timestamp: value.value for value in one.samples}, about


class Receiver:
    """Receives remote write as the specification of 2.0 says; samples of a series in order.

    Args:
        speaks: the content types that it knows.
    """

    def __init__(self, speaks=(V1, V2)):
        self.speaks = speaks
        self.values = {}
        self.about = {}
        self.bytes = 0

    def __call__(self, request):
        kind = request.headers["content-type"]
        assert request.headers["content-encoding"] == "snappy"
        assert request.headers["user-agent"].startswith("hashring/")
        spoken = request.headers["x-prometheus-remote-write-version"]
        assert spoken == {V1: "0.1.0", V2: "2.0.0"}[kind]
        if kind not in self.speaks:
            return Answer(415, body=b"I do not know it")
        self.bytes += len(request.body)
        body = bytes(cramjam.snappy.decompress_raw(request.body))
        written, refused = 0, 0
        for labels, values, *about in (series_v2 if kind == V2 else series_v1)(body):
            known = self.values.setdefault(tuple(labels.items()), {})
            self.about[labels["__name__"]] = about
            for time, value in values.items():
                if known and time < max(known):
                    refused += 1
                else:
                    known[time] = value
                    written += 1
        headers = {WRITTEN: str(written)} if V2 in self.speaks else {}
        return Answer(400 if refused else 204, headers, b"out of order" if refused else b"")

    def found(self, name):
        return {
            dict(labels)["resource_id"]: list(values.values())
            for labels, values in self.values.items()
            if dict(labels)["__name__"] == name
        }


@pytest.fixture
def sink():
    with Sink().running() as found:
        yield found


@pytest.fixture
def make(sink):
    made = []

    def make(options=""):
        url = f"remotewrite+http://127.0.0.1:{sink.port}{options}"
        made.append(RemoteWritePublisher(url, SETTINGS))
        return made[-1]

    yield make
    for publisher in made:
        publisher.close()


def kinds(sink):
    return [request.headers["content-type"] for request in sink.requests]


def exposed(count, number=0, at=NOW):
    """A poll of a target, as a batch."""
    target = Resource(
        f"prometheus+http://web{number}/metrics", "exposition", {"labels": {"a": "b"}}
    )
    text = "".join(f'x_seconds_total{{cpu="{n}",mode="idle"}} {n}.5\n' for n in range(count))
    measured = Measured.of(
        measurements(f"# TYPE x_seconds_total counter\n{text}up 1\n", target), target.id
    )
    token = ("v", "i", 7)
    return Batch(measured.series, measured.volumes, at, 7, 60.0, "a", token, ("nodes",) * 2)


def test_every_sample_arrives_with_its_labels_its_type_and_its_unit(sink, make):
    sink.answer = receiver = Receiver()

    make("?batch_size=100").publish_batches([exposed(300), exposed(10, 1)])

    assert set(kinds(sink)) == {V2}
    assert receiver.about == {"x_seconds_total": [(1, "s")], "up": [(2, "")]}
    found = receiver.found("x_seconds_total")
    assert len(found) == 310
    assert found['prometheus+http://web0/metrics#{cpu="7",mode="idle"}'] == [7.5]
    [labels] = [dict(one) for one in receiver.values if dict(one).get("cpu") == "299"]
    assert labels == {
        "__name__": "x_seconds_total",
        "a": "b",
        "cpu": "299",
        "mode": "idle",
        "resource_id": 'prometheus+http://web0/metrics#{cpu="299",mode="idle"}',
    }


def test_both_versions_say_the_same_of_whatever_is_measured_and_however_it_is_cut():
    chance = random.Random(1)
    encoders = EncoderV1(SeriesLabels(ALL)), EncoderV2(SeriesLabels(ALL))
    units = ["", "s", "B"]

    def poll(number):
        return Measured.of(
            [
                Measurement(
                    Meter(f"m{n % 5}", chance.choice(list(MeterType)), chance.choice(units)),
                    chance.choice([n, n / 7, 2**70, 10**400]),
                    f"r{n}" if n % 3 else None,
                    {"a": chance.choice(["", "x", "y" * 200, "ñ\ud800"]), "b": n % 4},
                    project_id=chance.choice([None, "p"]),
                )
                for n in range(40 * number)
            ],
            f"web{number}",
        )

    polls = [poll(number) for number in range(1, 5)]
    for window in range(8):
        batches = [
            Batch(one.series, one.volumes, NOW + window, window, 60.0, "a", (), ("",) * 99)
            for one in chance.sample(polls, chance.randrange(1, 5))
        ]
        cut = chance.randrange(1, 20)
        batches = [
            part for one in batches for part in (one[:cut], one[cut:], one[cut:]) if len(part)
        ]
        first, second = (encoder.encoded(batches) for encoder in encoders)
        assert [one[:2] for one in series_v2(second)] == list(series_v1(first))
        units_of = [
            one.series.meters[number].unit for one in batches for number in one.series.meter_of
        ]
        assert [about[1] for _, _, about in series_v2(second)] == units_of
        assert encoders[1].encoded(batches) == second


def test_a_text_that_many_series_have_stands_in_a_request_once():
    batches = [exposed(100), exposed(100, 1)]

    first, second = (make(SeriesLabels(ALL)).encoded(batches) for make in (EncoderV1, EncoderV2))

    assert (first.count(b"x_seconds_total"), second.count(b"x_seconds_total")) == (200, 1)
    assert len(second) < 0.7 * len(first)


def test_a_sample_that_comes_too_late_is_set_aside_and_the_others_are_taken(sink, make, caplog):
    sink.answer = receiver = Receiver()
    publisher = make()
    late = Meter("late", MeterType.GAUGE, "")

    def at(seconds, volume, name):
        return sample(volume, meter=late, timestamp=NOW + seconds, resource_id=name)

    publisher.publish([at(0, 1, "x"), at(0, 1, "y")])
    publisher.publish([at(-5, 2, "x"), at(5, 3, "y"), at(5, 4, "z")])

    assert set(kinds(sink)) == {V2}
    assert publisher.refused == 1
    assert "(late of x), status 400" in caplog.text
    assert receiver.found("late") == {"x": [1.0], "y": [1.0, 3.0], "z": [4.0]}


def test_a_receiver_that_answers_415_gets_the_same_samples_by_1_0(sink, make, caplog):
    caplog.set_level(logging.INFO)
    sink.answer = receiver = Receiver(speaks=(V1,))
    publisher = make()

    for seconds in range(3):
        publisher.publish_batches([exposed(5, at=NOW + seconds)])

    assert kinds(sink) == [V2, V1, V1, V1]
    assert {len(values) for values in receiver.found("x_seconds_total").values()} == {3}
    assert publisher.refused == 0
    assert len([line for line in caplog.messages if "does not know remote write 2.0" in line]) == 1


def test_one_that_takes_2_0_without_saying_what_it_wrote_gets_1_0(sink, make):
    receiver = Receiver(speaks=(V1,))

    def old(request):
        # All fields of 2.0 are unknown to it: an empty request, which is fine.
        return Answer(204) if request.headers["content-type"] == V2 else receiver(request)

    sink.answer = old
    make().publish_batches([exposed(5)])

    assert kinds(sink) == [V2, V1]
    assert len(receiver.found("x_seconds_total")) == 5


@pytest.mark.parametrize("status", [400, 422, 500, 501])
def test_one_that_fails_at_2_0_before_it_ever_spoke_it_gets_1_0(sink, make, status):
    receiver = Receiver(speaks=(V1,))

    def old(request):
        return Answer(status) if request.headers["content-type"] == V2 else receiver(request)

    sink.answer = old
    publisher = make()
    publisher.publish_batches([exposed(5)])
    publisher.publish_batches([exposed(5, at=NOW + 1)])

    assert kinds(sink) == [V2, V1, V1]
    assert publisher.refused == 0


def test_one_that_has_spoken_2_0_and_fails_is_asked_again_in_2_0(sink, make):
    sink.answer = receiver = Receiver()
    publisher = make()
    publisher.publish_batches([exposed(5)])
    sink.answer = lambda request: Answer(500)

    with pytest.raises(OutputFailed, match="500"):
        publisher.publish_batches([exposed(5, at=NOW + 1)])
    sink.answer = receiver
    publisher.publish_batches([exposed(5, at=NOW + 1)])

    assert kinds(sink) == [V2] * 3
    assert {len(values) for values in receiver.found("x_seconds_total").values()} == {2}


@pytest.mark.parametrize("status", [401, 404, 429, 503])
def test_what_says_nothing_of_the_message_is_a_failure_and_not_tried_in_1_0(sink, make, status):
    sink.answer = lambda request: Answer(status)

    with pytest.raises(OutputFailed, match=str(status)):
        make().publish_batches([exposed(5)])

    assert kinds(sink) == [V2]


def test_a_receiver_is_asked_again_whether_it_speaks_2_0(sink, make, monkeypatch):
    sink.answer = receiver = Receiver(speaks=(V1,))
    publisher = make()
    publisher.publish_batches([exposed(5)])
    receiver.speaks = (V1, V2)
    publisher.publish_batches([exposed(5, at=NOW + 1)])
    assert kinds(sink) == [V2, V1, V1]

    later = clock.boottime() + remotewrite._AGAIN
    monkeypatch.setattr(remotewrite.clock, "boottime", lambda: later + 1)
    publisher.publish_batches([exposed(5, at=NOW + 2)])

    assert kinds(sink) == [V2, V1, V1, V2]


def test_who_asks_for_one_version_gets_that_alone(sink, make):
    sink.answer = Receiver(speaks=(V1,))

    make("?protocol=1.0").publish_batches([exposed(5)])
    with pytest.raises(OutputFailed, match=r"does not know remote write 2\.0 .* out of the URL"):
        make("?protocol=2.0").publish_batches([exposed(5)])

    assert kinds(sink) == [V1, V2]
    with pytest.raises(BadURL, match=r"must be one of auto, 2\.0, 1\.0"):
        make("?protocol=3")


def test_samples_that_it_says_it_has_not_written_count_as_refused(sink, make, caplog):
    sink.answer = lambda request: Answer(200, {WRITTEN: "2"})
    publisher = make()

    for _ in range(2):
        publisher.publish_batches([exposed(4)])

    assert publisher.refused == 6
    assert len([line for line in caplog.messages if "wrote 2 of 5 samples" in line]) == 1


def test_a_request_is_the_message_that_the_specification_gives():
    one = sample(1.5, meter=Meter("m", MeterType.GAUGE, "l"), resource_id="r", timestamp=0.25)

    message = EncoderV2(SeriesLabels(ALL)).encoded(batches_of([one]))

    symbols = b'"\x00"\x08__name__"\x01m"\x0bresource_id"\x01r"\x01l'
    series = b"\x0a\x04\x01\x02\x03\x04" + b"\x2a\x04\x08\x02\x20\x05"
    series += b"\x12\x0c\x09\x00\x00\x00\x00\x00\x00\xf8\x3f\x10\xfa\x01"
    assert message == symbols + b"\x2a" + bytes([len(series)]) + series


def test_a_prometheus_that_speaks_1_0_alone_has_every_sample():
    with PrometheusServer.receiving() as prometheus:
        publisher = RemoteWritePublisher(f"remotewrite+http://{prometheus.address}", SETTINGS)
        publisher.publish_batches([exposed(100, at=float(int(clock.wall())))])
        publisher.close()

        found = prometheus.ask("query", query="count(x_seconds_total)")["result"]

    assert [one["value"][1] for one in found] == ["100"]
