import gzip
import json
import socket
import ssl
import subprocess
import sys

import pytest
import trustme
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    AGGREGATION_TEMPORALITY_CUMULATIVE,
    AGGREGATION_TEMPORALITY_DELTA,
)

from hashring.errors import BadURL
from hashring.telemetry.errors import OutputFailed
from hashring.telemetry.model.sample import Meter, MeterType
from hashring.telemetry.publishers.otlp import OTLPPublisher
from tests.servers.process import free_port
from tests.telemetry.publishing import SETTINGS, Answer, Sink, sample, samples


@pytest.fixture
def sink():
    with Sink().running() as found:
        yield found


@pytest.fixture
def make(sink):
    made = []

    def make(options="", userinfo=""):
        made.append(
            OTLPPublisher(f"otlp+http://{userinfo}127.0.0.1:{sink.port}{options}", SETTINGS)
        )
        return made[-1]

    yield make
    for publisher in made:
        publisher.close()


def decoded(request):
    body = request.body
    if request.headers.get("content-encoding") == "gzip":
        body = gzip.decompress(body)
    return ExportMetricsServiceRequest.FromString(body)


def metrics(request):
    """Every metric of a request by the member that is its resource, and its name."""
    return {
        (attributes(part.resource)["service.instance.id"], metric.name): metric
        for part in decoded(request).resource_metrics
        for scope in part.scope_metrics
        for metric in scope.metrics
    }


def points(request):
    return [point for metric in metrics(request).values() for point in metric.gauge.data_points]


def attributes(message):
    return {
        one.key: getattr(one.value, one.value.WhichOneof("value")) for one in message.attributes
    }


def test_a_sample_is_a_data_point_with_its_own_time_and_id(sink, make):
    one = sample(
        12.5,
        timestamp=1_700_000_000.123456,
        metadata={"name": "web", "vcpus": 2, "up": True, "flavor": {"disk": 20}, "none": None},
        project_id="p1",
        user_id="u1",
        source="tanks",
    )

    make().publish([one])

    (request,) = sink.requests
    assert request.path == "/v1/metrics"
    assert request.headers["content-type"] == "application/x-protobuf"
    metric = metrics(request)["a", "tank.level"]
    assert metric.unit == "l"
    (point,) = metric.gauge.data_points
    assert point.as_double == 12.5
    assert point.time_unix_nano == 1_700_000_000_123_456_000
    assert attributes(point) == {
        "resource_id": "plant:tank:north",
        "hashring.sample.id": one.id,
        "hashring.token": '["v", "i", 10]',
        "hashring.source": "tanks",
        "project_id": "p1",
        "user_id": "u1",
        "metadata.name": "web",
        "metadata.vcpus": 2,
        "metadata.up": True,
        "metadata.flavor": '{"disk": 20}',
    }
    (part,) = decoded(request).resource_metrics
    assert attributes(part.resource) == {
        "service.name": "hashring",
        "service.instance.id": "a",
    }
    assert part.scope_metrics[0].scope.name == "hashring.telemetry"


def test_each_type_of_meter_is_what_opentelemetry_has_for_it(sink, make):
    found = [
        sample(1, meter=Meter("g", MeterType.GAUGE, "l")),
        sample(2, meter=Meter("c", MeterType.CUMULATIVE, "l"), resource_id="x"),
        sample(3, meter=Meter("c", MeterType.CUMULATIVE, "l"), resource_id="y"),
        sample(4, meter=Meter("d", MeterType.DELTA, "l")),
    ]

    make().publish(found)

    sent = metrics(sink.requests[0])
    assert [point.as_int for point in sent["a", "g"].gauge.data_points] == [1]
    total = sent["a", "c"].sum
    assert [point.as_int for point in total.data_points] == [2, 3]
    assert total.is_monotonic
    assert total.aggregation_temporality == AGGREGATION_TEMPORALITY_CUMULATIVE
    assert {point.start_time_unix_nano for point in total.data_points} == {0}  # not known
    change = sent["a", "d"].sum
    assert not change.is_monotonic
    assert change.aggregation_temporality == AGGREGATION_TEMPORALITY_DELTA
    (point,) = change.data_points
    assert point.time_unix_nano - point.start_time_unix_nano == 60 * 10**9


def test_samples_that_another_member_took_are_told_apart(sink, make):
    make().publish([sample(1, member="a"), sample(2, member="b")])

    assert sorted(metrics(sink.requests[0])) == [("a", "tank.level"), ("b", "tank.level")]


def test_values_that_protobuf_does_not_have_are_sent_as_near_as_can_be(sink, make):
    publisher = make()

    publisher.publish([sample(1 << 70, metadata={"mount": "/mnt/\udcff", "serial": 1 << 70})])

    (point,) = points(sink.requests[0])
    assert point.as_double == 2.0**70
    found = attributes(point)
    assert (found["metadata.mount"], found["metadata.serial"]) == ("/mnt/?", str(1 << 70))
    assert publisher.refused == 0


def test_a_long_list_is_sent_in_batches(sink, make):
    make("?batch_size=4&compression=none").publish(samples(10))

    assert [len(points(request)) for request in sink.requests] == [4, 4, 2]
    assert "content-encoding" not in sink.requests[0].headers


def test_the_path_and_the_headers_may_be_named(sink, make, monkeypatch):
    monkeypatch.setenv("COLLECTOR_HEADERS", "X-Scope-OrgID: plant")

    make("/otlp/v1/metrics?headers_env=COLLECTOR_HEADERS", "app:s3cret@").publish(samples(1))

    (request,) = sink.requests
    assert request.path == "/otlp/v1/metrics"
    assert request.headers["x-scope-orgid"] == "plant"
    assert request.headers["authorization"].startswith("Basic ")


@pytest.mark.parametrize("status", [302, 401, 404, 500, 503])
def test_an_answer_that_blames_no_sample_is_a_failure_that_says_why(sink, make, status, caplog):
    sink.answer = lambda request: Answer(status, {"Retry-After": "7"}, b"not now")
    publisher = make("?timeout=60", "app:s3cret@")

    with pytest.raises(OutputFailed, match=rf"it answered {status}.*not now") as failure:
        publisher.publish(samples(2))

    assert failure.value.retry_after == 7
    assert "s3cret" not in str(failure.value)
    assert publisher.refused == 0
    assert caplog.records == []  # whoever catches the failure logs it


def test_a_refused_sample_is_set_aside_and_all_others_are_taken(sink, make):
    taken = []

    def answer(request):
        found = [point.as_int for point in points(request)]
        if 3 in found:
            return Answer(400, body=b"bad data")
        taken.extend(found)
        return Answer()

    sink.answer = answer
    publisher = make()

    publisher.publish(samples(8))

    assert sorted(taken) == [0, 1, 2, 4, 5, 6, 7]
    assert publisher.refused == 1


def test_what_the_sink_rejects_of_a_request_is_counted_and_said(sink, make, caplog):
    said = ExportMetricsServiceResponse()
    said.partial_success.rejected_data_points = 2
    said.partial_success.error_message = "too old"
    sink.answer = lambda request: Answer(body=said.SerializeToString())
    publisher = make()

    publisher.publish(samples(5))
    publisher.publish(samples(5))

    assert len(sink.requests) == 2
    assert publisher.refused == 4
    errors = [record.message for record in caplog.records]
    assert len(errors) == 1
    assert "rejected 2 of 5 samples: too old" in errors[0]


def test_an_answer_that_is_not_protobuf_takes_the_samples_all_the_same(sink, make):
    sink.answer = lambda request: Answer(body=json.dumps({"partialSuccess": {}}).encode())
    publisher = make()

    publisher.publish(samples(2))

    assert publisher.refused == 0


def test_a_sink_that_is_away_is_a_failure_that_says_so(caplog):
    port = free_port()
    publisher = OTLPPublisher(f"otlp+http://127.0.0.1:{port}?max_retries=1", SETTINGS)

    with pytest.raises(OutputFailed, match=r"cannot publish to http.*Connection refused"):
        publisher.publish(samples(1))
    assert caplog.records == []
    publisher.close()


def test_a_sink_that_does_not_answer_is_a_failure_after_the_timeout():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        publisher = OTLPPublisher(f"otlp+http://127.0.0.1:{port}?timeout=0.1", SETTINGS)

        with pytest.raises(OutputFailed, match=r"no whole answer within 0\.1 s"):
            publisher.publish(samples(1))
        publisher.close()


def test_a_closed_publisher_gives_no_sample_up(make):
    publisher = make()
    publisher.close()
    publisher.close()

    with pytest.raises(OutputFailed, match="the publisher is closed"):
        publisher.publish(samples(1))
    assert publisher.refused == 0


def test_a_certificate_is_checked_by_the_file_that_is_named(tmp_path):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(tls)
    with Sink(tls).running() as found:
        url = f"otlp+https://localhost:{found.port}?timeout=60"
        trusting = OTLPPublisher(f"{url}&ca={tmp_path}/ca.pem", SETTINGS)
        doubting = OTLPPublisher(url, SETTINGS)

        trusting.publish(samples(1))
        with pytest.raises(OutputFailed, match="certificate verify failed"):
            doubting.publish(samples(1))

        assert len(found.requests) == 1
        trusting.close()
        doubting.close()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("otlp+http://", "names no host: write otlp\\+http://host:port/path"),
        ("otlp+http://h?compression=zip", "must be one of none, deflate, gzip"),
        ("otlp+http://h?max_retries=x", "the option 'max_retries' cannot be 'x'"),
    ],
)
def test_what_is_wrong_with_a_url_is_said(url, said):
    with pytest.raises(BadURL, match=said):
        OTLPPublisher(url, SETTINGS)


def test_without_the_extra_the_error_names_the_command_that_brings_it():
    script = """
import sys
sys.modules["opentelemetry.proto"] = None
from hashring.errors import MissingDependency
try:
    import hashring.telemetry.publishers.otlp
except MissingDependency as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )

    assert "pip install 'hashring-ha[otlp]'" in done.stdout
