import dataclasses
import json
import re
from collections import Counter
from pathlib import Path

import pytest
import yaml
from prometheus_client import (
    CollectorRegistry,
    Gauge,
    Histogram,
    Summary,
    exposition,
    start_http_server,
)
from prometheus_client import Counter as PrometheusCounter
from prometheus_client.openmetrics import exposition as openmetrics

from hashring.telemetry.config.definitions import load_polling
from hashring.telemetry.errors import BadExposition, FetchFailed
from hashring.telemetry.model.resource import Resource
from hashring.telemetry.model.settings import Settings
from hashring.telemetry.sources.web.exposition import ExpositionPollster, measurements
from hashring.telemetry.sources.web.targets import ExpositionTargets, HTTPTargets, static_resource
from tests.servers.http import Answer, HTTPServer
from tests.telemetry.prometheus_messages import CLIENT, GAUGE, delimited, family, metric

DOCS = Path(__file__).parents[2] / "docs" / "agents"
TARGET = Resource("prometheus+http://web1/metrics", "exposition")
SETTINGS = Settings(backend_url="memory://", member="a", host="web1", poll_timeout=60.0)


@pytest.fixture
def server():
    with HTTPServer() as found:
        yield found


@pytest.fixture
def pollster():
    found = ExpositionPollster(SETTINGS)
    yield found
    found.close()


def registry():
    found = CollectorRegistry()
    Gauge("room_temperature_celsius", "of a room", ["room"], registry=found).labels("kitchen").set(
        21.5
    )
    PrometheusCounter("requests", "served", ["method"], registry=found).labels("GET").inc(17)
    summary = Summary("wait_seconds", "in the queue", registry=found)
    summary.observe(2)
    histogram = Histogram("body_bytes", "of requests", registry=found, buckets=(10, 100))
    histogram.observe(50)
    return found


TOLD = {
    ("room_temperature_celsius", "gauge", "C", '#{room="kitchen"}', 21.5),
    ("requests_total", "cumulative", "", '#{method="GET"}', 17),
    ("wait_seconds_count", "cumulative", "", "", 1),
    ("wait_seconds_sum", "cumulative", "s", "", 2),
    ("body_bytes_bucket", "cumulative", "", '#{le="10.0"}', 0),
    ("body_bytes_bucket", "cumulative", "", '#{le="100.0"}', 1),
    ("body_bytes_bucket", "cumulative", "", '#{le="+Inf"}', 1),
    ("body_bytes_count", "cumulative", "", "", 1),
    ("body_bytes_sum", "cumulative", "B", "", 50),
}


def told(found, resource=TARGET):
    return {
        (
            each.meter.name.removeprefix("prometheus."),
            str(each.meter.type),
            each.meter.unit,
            (each.resource_id or resource.id).removeprefix(resource.id),
            each.volume,
        )
        for each in found
        if not each.meter.name.endswith("_created")
    }


@pytest.mark.parametrize("form", [exposition, openmetrics], ids=["text", "OpenMetrics"])
def test_both_formats_tell_the_same(server, pollster, form):
    server.answer(
        "/metrics", form.generate_latest(registry()), content_type=form.CONTENT_TYPE_LATEST
    )
    resource = static_resource(f"prometheus+{server.url}")

    assert told(pollster.poll(resource), resource) == TOLD
    assert server.counts() == {"/metrics": 1}


def test_a_real_exporter_without_protobuf_answers_as_text(pollster):
    exporter, thread = start_http_server(0, addr="127.0.0.1", registry=registry())
    try:
        url = f"http://127.0.0.1:{exporter.server_port}/metrics"
        resource = static_resource(f"prometheus+{url}")

        assert told(pollster.poll(resource), resource) == TOLD
    finally:
        exporter.shutdown()
        exporter.server_close()
        thread.join()


PROTOBUF = "application/vnd.google.protobuf"
MESSAGE = "proto=io.prometheus.client.MetricFamily"


@pytest.mark.parametrize(
    ("protocols", "accept"),
    [
        (
            Settings.scrape_protocols,
            f"{PROTOBUF};{MESSAGE};encoding=delimited,text/plain;version=0.0.4;q=0.9,"
            "application/openmetrics-text;version=1.0.0;q=0.8,*/*;q=0.1",
        ),
        (("PrometheusText0.0.4",), "text/plain;version=0.0.4,*/*;q=0.1"),
    ],
)
def test_a_target_is_asked_for_the_formats_of_the_option_in_their_order(server, protocols, accept):
    server.answer("/metrics", "a 1\n", content_type="text/plain")
    pollster = ExpositionPollster(dataclasses.replace(SETTINGS, scrape_protocols=protocols))

    assert len(pollster.poll(static_resource(f"prometheus+{server.url}"))) == 1
    assert [asked.headers["accept"] for asked in server.log] == [accept]
    pollster.close()


@pytest.mark.parametrize("parameters", [f"; {MESSAGE}; encoding=delimited", "", ";x=y"])
def test_an_answer_in_protobuf_is_read_by_its_content_type(server, pollster, parameters):
    body = delimited([family(CLIENT, "up", GAUGE, metric(CLIENT, {"a": "b"}, gauge={"value": 2}))])
    server.answer("/metrics", body, content_type=PROTOBUF + parameters)
    resource = static_resource(f"prometheus+{server.url}")

    for _ in range(2):
        assert told(pollster.poll(resource), resource) == {("up", "gauge", "", '#{a="b"}', 2)}


@pytest.mark.parametrize(
    ("content_type", "said"),
    [
        (f"{PROTOBUF}; {MESSAGE}; encoding=text", "cannot be read: it is .*encoding=text"),
        (f"{PROTOBUF}; proto=another.Message", "where messages io.prometheus.client.MetricFamily"),
        (PROTOBUF, "is not in protobuf: a message ends before it should"),
        ("text/plain", "is not in the text format"),
    ],
)
def test_an_answer_that_is_not_what_its_content_type_says_is_an_error(
    server, pollster, content_type, said
):
    server.answer("/metrics", b"\x7f[up]\n", content_type=content_type)

    with pytest.raises(BadExposition, match=said):
        pollster.poll(static_resource(f"prometheus+{server.url}"))


def test_a_counter_keeps_its_name_whether_or_not_it_ends_in_total():
    text = "# TYPE a counter\na 1\n#  TYPE  b_total  counter\nb_total 2\n# TYPE c gauge\nc 3\n"

    assert told(measurements(text, TARGET)) == {
        ("a", "cumulative", "", "", 1),
        ("b_total", "cumulative", "", "", 2),
        ("c", "gauge", "", "", 3),
    }


def test_what_has_no_type_is_a_gauge():
    assert told(measurements("up 1\nx_total 2\n", TARGET)) == {
        ("up", "gauge", "", "", 1),
        ("x_total", "gauge", "", "", 2),
    }


def test_creation_times_are_gauges_in_seconds():
    text = "# TYPE a_bytes counter\na_bytes_total 1\na_bytes_created 1520872607.5\n# EOF\n"

    found = list(measurements(text, TARGET, is_openmetrics=True))

    assert [(each.meter.name, str(each.meter.type), each.meter.unit) for each in found] == [
        ("prometheus.a_bytes_total", "cumulative", "B"),
        ("prometheus.a_bytes_created", "gauge", "s"),
    ]


def test_openmetrics_may_name_a_unit():
    text = "# TYPE a_parsecs gauge\n# UNIT a_parsecs parsecs\na_parsecs 1\n# EOF\n"

    [found] = measurements(text, TARGET, is_openmetrics=True)

    assert found.meter.unit == "parsecs"


def test_ids_are_unique_and_the_same_whatever_the_order_of_labels():
    text = 'm{b="2",a="1"} 1\nm{a="1",b="3"} 2\nm{a="q\\"\\\\\\n"} 3\nm 4\n'

    found = list(measurements(text, TARGET))

    assert [each.resource_id for each in found] == [
        'prometheus+http://web1/metrics#{a="1",b="2"}',
        'prometheus+http://web1/metrics#{a="1",b="3"}',
        'prometheus+http://web1/metrics#{a="q\\"\\\\\\n"}',
        None,
    ]


def test_labels_of_sample_and_target_become_metadata():
    target = Resource("t", "exposition", {"labels": {"job": "node", "team": "web"}})

    labelled, bare = measurements('m{job="x",cpu="0"} 1\nn 2\n', target)

    assert labelled.metadata == {"exported_job": "x", "cpu": "0", "job": "node", "team": "web"}
    assert labelled.resource_id == 't#{cpu="0",job="x"}'
    assert (bare.metadata, bare.resource_id) == ({"job": "node", "team": "web"}, None)


def test_values_that_are_not_finite_and_repeated_samples_are_skipped_and_counted():
    skipped = Counter()
    text = f'a NaN\nb +Inf\nc -Inf\nd 1\nd 2\ne{{x="y"}} 3\ne{{x="y"}} 4\nf 1e400\ng {"9" * 400}\n'

    found = list(measurements(text, TARGET, skipped=skipped))

    assert [(each.meter.name[-1], each.volume) for each in found] == [("d", 1), ("e", 3)]
    assert skipped == {"not finite": 5, "repeated": 2}


def test_a_volume_is_a_number_of_64_bits_or_a_float():
    text = f"a {2**64 - 1}\nb {2**64}\nc -{2**63}\n"

    found = [each.volume for each in measurements(text, TARGET)]

    assert found == [2**64 - 1, 2.0**64, -(2**63)]
    assert [type(volume) for volume in found] == [int, float, int]


def test_skipped_samples_are_logged_once_for_each_reason(server, pollster, caplog):
    caplog.set_level("INFO")
    server.answer("/metrics", "a NaN\nb 1\n", content_type="text/plain")
    resource = static_resource(f"prometheus+{server.url}")
    for _ in range(3):
        pollster.poll(resource)

    assert pollster.skipped == {"not finite": 3}
    assert len([line for line in caplog.messages if "skipped" in line]) == 1


@pytest.mark.parametrize(
    ("text", "is_openmetrics"),
    [
        ("<html>", False),
        ('a{b="c} 1\n', False),
        ("a{b=c} 1\n", False),
        ("a one\n", False),
        ("# TYPE a nonsense\na 1\n", False),
        ("a 1\n", True),
        ("", True),
        ("# EOF\na 1\n# EOF\n", True),
        ("# TYPE a\na 1\n", False),
        (f'a{{b="{"c" * 65_536}"}} 1\n', False),
    ],
)
def test_what_is_not_in_the_format_is_an_error(text, is_openmetrics):
    with pytest.raises(BadExposition, match=r"web1/metrics: the answer is not in"):
        list(measurements(text, TARGET, is_openmetrics=is_openmetrics))


def test_an_empty_exposition_is_no_measurement():
    assert list(measurements("", TARGET)) == []


def test_an_answer_that_is_wrong_somewhere_or_an_error_costs_all_its_samples(server, pollster):
    server.answer("/wrong", "a 1\nb one\n", content_type="text/plain")
    server.answer("/binary", b"a 1\n\xff 2\n", content_type="text/plain")
    server.answer("/500", "a 1\n", status=500)

    for path, error, said in (
        ("/wrong", BadExposition, "not in the text format"),
        ("/binary", BadExposition, "not UTF-8"),
        ("/500", FetchFailed, "status 500"),
    ):
        with pytest.raises(error, match=said):
            pollster.poll(static_resource(f"prometheus+{server.url}{path}"))


def test_a_target_that_drips_is_cut_at_the_time_limit(server):
    server.answer("/metrics", "a 1\n" * 1000, drip=0.05, content_type="text/plain")
    pollster = ExpositionPollster(
        Settings(backend_url="m://", member="a", host="h", poll_timeout=0.5)
    )

    with pytest.raises(FetchFailed, match="in time"):
        pollster.poll(static_resource(f"prometheus+{server.url}"))
    pollster.close()


def test_targets_of_a_file_are_asked_for_what_their_labels_say(server, pollster, tmp_path):
    server.otherwise(lambda asked: Answer("a 1\n", content_type="text/plain"))
    path = tmp_path / "targets.json"
    labels = {"__metrics_path__": "/snmp", "__param_target": "switch1", "job": "switch"}
    path.write_text(
        json.dumps([{"targets": [server.url.removeprefix("http://")], "labels": labels}])
    )

    [resource] = ExpositionTargets(SETTINGS).discover(str(path))
    [found] = pollster.poll(resource)

    assert server.counts() == {"/snmp?target=switch1": 1}
    assert found.metadata == {"job": "switch"}
    assert pollster.kinds == {resource.kind}


def blocks(language):
    pages = ((DOCS / name).read_text() for name in ("http.md", "prometheus.md"))
    return [
        block
        for page in pages
        for block in re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)
    ]


@pytest.mark.parametrize("example", [block for block in blocks("yaml") if "sources" in block])
def test_every_source_in_the_docs_can_be_used(tmp_path, example):
    path = tmp_path / "polling.yaml"
    path.write_text(example)

    sources = load_polling(path).sources

    assert len(sources) == len(yaml.safe_load(example)["sources"])
    for source in sources:
        for resource in source.resources:
            assert static_resource(resource).kind in ("http", "exposition")


@pytest.mark.parametrize("example", blocks("json"))
def test_every_file_of_targets_in_the_docs_can_be_used(tmp_path, example):
    path = tmp_path / "targets.json"
    path.write_text(example)
    discovery = HTTPTargets if "http://" in example else ExpositionTargets

    assert len(discovery(SETTINGS).discover(str(path))) == 3
