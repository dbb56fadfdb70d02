"""What publishers write of a batch is what they would write of its samples one by one."""

import gzip
import io
import math

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as parse

from hashring import clock
from hashring.telemetry.model.batch import Batch, Measured, batches_of
from hashring.telemetry.model.sample import Measurement, Meter, MeterType, Sample
from hashring.telemetry.publishers.last_values import LastValues
from hashring.telemetry.publishers.otlp import OTLPPublisher
from hashring.telemetry.publishers.otlp_message import Encoder
from hashring.telemetry.publishers.prometheus import PrometheusPublisher
from hashring.telemetry.publishers.remotewrite_message import EncoderV1, EncoderV2
from hashring.telemetry.publishers.series_labels import ALL, SeriesLabels
from hashring.telemetry.publishers.udp import Datagrams
from tests.properties import examples
from tests.telemetry import otlp_oracle
from tests.telemetry.publishing import SETTINGS, Sink, samples

LOAD = Meter("load", MeterType.GAUGE, "")

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
keys = st.text("ab_ñ.", min_size=1, max_size=4)
values = st.none() | st.booleans() | st.integers() | texts | st.floats() | st.lists(texts)
any_samples = st.builds(
    Sample,
    meter=st.builds(Meter, st.text("ab.", min_size=1), st.sampled_from(MeterType), texts),
    volume=st.integers(-(2**70), 2**70) | st.floats(),
    resource_id=texts,
    timestamp=st.sampled_from([0.0, 600.25, 1_778_400_000.123456]),
    window=st.integers(0, 3),
    interval=st.sampled_from([60.0, 0.5]),
    member=st.sampled_from(["a", "ñ"]),
    token=st.sampled_from([(), ("v", "i", 7)]),
    metadata=st.dictionaries(keys, values, max_size=3),
    project_id=st.none() | texts,
    user_id=st.none() | texts,
    source=st.sampled_from(["", "tanks"]),
)  # fmt: skip


def in_order(request):
    """Every point of a request, by what it says; the order of attributes says nothing."""
    found = []
    for part in ExportMetricsServiceRequest.FromString(request).resource_metrics:
        about = str(part.resource), str([scope.scope for scope in part.scope_metrics])
        for metric in part.scope_metrics[0].metrics:
            data = metric.gauge if metric.HasField("gauge") else metric.sum
            points = list(data.data_points)
            del data.data_points[:]
            for point in points:
                attributes = sorted(map(str, point.attributes))
                del point.attributes[:]
                found.append((*about, str(metric), str(point), attributes))
    return sorted(found)


@given(found=st.lists(any_samples, max_size=8))
@examples(150)
def test_an_otlp_request_is_the_one_that_opentelemetrys_encoder_makes(found):
    assert in_order(Encoder().encoded(batches_of(found))) == in_order(otlp_oracle.encoded(found))


def poll(count, window=7, series=None, timestamp=None):
    """One poll's batch; of the series of an earlier one, where that is given."""
    found = Measured.of(
        [Measurement(LOAD, n + 0.5, f"web1:{n}", {"n": n}) for n in range(count)], "web1"
    )
    at = clock.wall() if timestamp is None else timestamp
    token = ("v", "i", window)
    return Batch(series or found.series, found.volumes, at, window, 60.0, "a", token, ("web",))


@pytest.mark.parametrize(
    "make",
    [
        Encoder,
        lambda: EncoderV1(SeriesLabels(ALL)),
        lambda: EncoderV2(SeriesLabels(ALL)),
        Datagrams,
    ],
)
def test_what_was_measured_is_written_out_once_for_all_polls_and_their_parts(make, monkeypatch):
    first = poll(10)
    encoder = make()
    encode = encoder.of if isinstance(encoder, Datagrams) else lambda one: encoder.encoded([one])
    whole = list(encode(first))
    asked = []
    about = type(first.series).about
    monkeypatch.setattr(
        type(first.series), "about", lambda series, row: asked.append(row) or about(series, row)
    )

    again, part = list(encode(first)), list(encode(first[3:7]))

    assert again == whole
    assert part
    assert asked == []


@given(found=st.lists(any_samples, max_size=8))
@examples(100)
def test_a_datagram_has_what_the_sample_has(found):
    for batch in batches_of(found):
        for one, datagram in zip(batch, Datagrams().of(batch), strict=True):
            if isinstance(datagram, Exception):
                assert isinstance(one.volume, int)
                assert not -(2**63) <= one.volume < 2**64
                continue
            told = msgpack.unpackb(datagram)
            assert len(told) == 17
            assert told["id"] == told["message_id"] == one.id
            assert repr(told["counter_volume"]) == repr(one.volume)
            assert told["timestamp"] == one.to_json()["timestamp"]
            assert [told[f"counter_{name}"] for name in ("name", "type", "unit")] == [
                one.meter.name,
                str(one.meter.type),
                one.meter.unit,
            ]
            assert told["token"] == list(one.token)
            assert told["resource_metadata"].keys() == one.metadata.keys()
            for name in ("source", "resource_id", "project_id", "user_id", "window", "member"):
                assert told[name] == getattr(one, name)


def test_one_batch_is_one_request_of_otlp_that_is_compressed():
    with Sink().running() as sink:
        publisher = OTLPPublisher(f"otlp+http://127.0.0.1:{sink.port}", SETTINGS)
        publisher.publish_batches([poll(1500)])
        publisher.close()

    (request,) = sink.requests
    (part,) = ExportMetricsServiceRequest.FromString(gzip.decompress(request.body)).resource_metrics
    (metric,) = part.scope_metrics[0].metrics
    assert len(metric.gauge.data_points) == 1500
    assert len(request.body) < 100_000


# ---- the exporter ----------------------------------------------------------------------------


def shown(last):
    """What a scraper reads, by resource, in either format."""
    found = []
    for is_openmetrics, read in ((False, parse), (True, parse_openmetrics)):
        text = last.rendered(is_openmetrics=is_openmetrics).decode()
        found.append(
            {
                one.labels["resource_id"]: one.value
                for family in read(text)
                for one in family.samples
            }
        )
    assert found[0] == found[1]
    return found[0]


def test_a_poll_of_the_same_series_replaces_the_numbers_alone(monkeypatch):
    last = LastValues(None, ("n",), 100)
    first = poll(10)
    last.add(first)
    monkeypatch.setattr(
        LastValues, "_take_over", lambda *args, **kwargs: pytest.fail("it looks at each row")
    )

    assert last.add(poll(10, 8, first.series)) == []

    assert shown(last) == {f"web1:{n}": n + 0.5 for n in range(10)}


def test_series_that_share_resources_show_each_of_them_once_with_its_newest_value():
    last = LastValues(None, (), 100)
    now = clock.wall()
    large, small = poll(10, timestamp=now), poll(4, timestamp=now + 1)
    last.add(large)
    last.add(Batch(small.series, [7] * 4, now + 1, 7, 60.0, "a", (), ("web",)))
    assert shown(last) == {f"web1:{n}": 7 if n < 4 else n + 0.5 for n in range(10)}

    last.add(Batch(large.series, [8] * 10, now + 0.5, 7, 60.0, "a", (), ("web",)))
    assert shown(last) == {f"web1:{n}": 7 if n < 4 else 8 for n in range(10)}

    last.add(Batch(large.series, [9] * 10, now + 2, 7, 60.0, "a", (), ("web",)))
    assert shown(last) == {f"web1:{n}": 9 for n in range(10)}
    assert len(last._blocks) == 1  # nothing is left of the small one

    last.add(Batch(small.series, [6] * 4, now + 1.5, 7, 60.0, "a", (), ("web",)))
    assert shown(last) == {f"web1:{n}": 9 for n in range(10)}


def test_parts_of_a_series_are_shown_each():
    last = LastValues(None, (), 100)
    first = poll(10)

    for window in (7, 8):
        again = poll(10, window, first.series)
        assert last.add(again[:6]) == last.add(again[6:]) == []

    assert shown(last) == {f"web1:{n}": n + 0.5 for n in range(10)}


@given(
    found=st.lists(
        st.builds(
            Sample,
            meter=st.just(LOAD),
            volume=st.integers(0, 9),
            resource_id=st.sampled_from("abcd"),
            timestamp=st.sampled_from([1000.0, 1000.5, 1001.0]),
            window=st.integers(16, 18),
            interval=st.just(60.0),
            member=st.just("a"),
            token=st.just(()),
        ),
        max_size=20,
    ),
    size=st.integers(1, 6),
)
@examples(200)
def test_in_whatever_pieces_samples_come_the_newest_of_each_is_shown(found, size):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clock, "wall", lambda: 1001.0)
        last = LastValues(None, (), 100)
        newest = {}
        for start in range(0, len(found), size):
            piece = found[start : start + size]
            for batch in batches_of(piece):
                assert last.add(batch) == []
            for one in piece:
                order = one.window, one.timestamp
                if one.resource_id not in newest or newest[one.resource_id][0] <= order:
                    newest[one.resource_id] = order, one.volume

        assert shown(last) == {key: volume for key, (_, volume) in newest.items()}
        assert sum(block.count for block in last._blocks.values()) == len(newest)


def test_numbers_are_such_as_prometheus_reads():
    last = LastValues(None, (), 100)
    volumes = [1, -5, 0.1, 1e300, 1e-7, math.inf, -math.inf, 2**70, 10**400, -(10**400)]
    one = poll(len(volumes))

    last.add(Batch(one.series, volumes, one.timestamp, 7, 60.0, "a", (), ("web",)))

    assert list(shown(last).values()) == [*volumes[:8], math.inf, -math.inf]


def test_a_scraper_may_ask_for_some_names_alone():
    publisher = PrometheusPublisher("prometheus://127.0.0.1:0", SETTINGS)
    try:
        publisher.publish(
            [
                Sample(Meter(name, kind, ""), 1, "x", clock.wall(), 7, 60.0, "a", ())
                for name, kind in (("a", MeterType.GAUGE), ("b", MeterType.CUMULATIVE))
            ]
        )
        answers = {}
        for query in ("", "name[]=a", "name[]=b_total&name[]=c"):
            environ = {"PATH_INFO": "/metrics", "REQUEST_METHOD": "GET", "QUERY_STRING": query}
            body = b"".join(publisher._serve(environ, lambda *_: io.BytesIO().write))
            answers[query] = [family.name for family in parse(body.decode())]
    finally:
        publisher.close()

    assert answers == {"": ["a", "b"], "name[]=a": ["a"], "name[]=b_total&name[]=c": ["b"]}


def test_samples_one_by_one_are_published_as_well():
    with Sink().running() as sink:
        publisher = OTLPPublisher(f"otlp+http://127.0.0.1:{sink.port}", SETTINGS)
        publisher.publish(samples(3))
        publisher.close()

    assert len(sink.requests) == 1
