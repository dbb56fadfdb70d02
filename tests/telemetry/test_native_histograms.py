"""Native histograms: their buckets as bounds and counts, and as a real Prometheus has them."""

import math
import random
from collections import Counter
from decimal import Decimal, localcontext

import pytest

from hashring.telemetry.errors import BadExposition
from hashring.telemetry.model.resource import Resource
from hashring.telemetry.model.settings import Settings
from hashring.telemetry.sources.web.exposition import ExpositionPollster, _meter
from hashring.telemetry.sources.web.exposition_series import ExpositionReader
from hashring.telemetry.sources.web.native_histograms import bound, buckets
from hashring.telemetry.sources.web.targets import static_resource
from tests.servers.http import HTTPServer
from tests.servers.prometheus import PrometheusServer
from tests.telemetry.conftest import until
from tests.telemetry.prometheus_messages import (
    CLIENT,
    CLIENT_PACKED,
    GAUGE_HISTOGRAM,
    HISTOGRAM,
    delimited,
    family,
    metric,
)

PROTOBUF = (
    "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
)


def encoded(classes=CLIENT, **fields):
    return classes["Histogram"](**fields).SerializeToString()


def bucket_of(value, schema):
    """The number of the bucket of a positive observation, by decimal logarithms."""
    with localcontext() as exact:
        exact.prec = 50
        found = Decimal(value).ln() / Decimal(2).ln() * Decimal(2) ** schema
        nearest = found.to_integral_value()
        # A power of two stands at a bucket's end; its logarithm is not exact.
        return int(nearest if abs(found - nearest) < Decimal("1e-30") else math.ceil(found))


def spans_of(counts):
    """Spans and the buckets' counts, of buckets by number."""
    spans = []
    at = 0
    for number in sorted(counts):
        if spans and number == at:
            spans[-1]["length"] += 1
        else:
            spans.append({"offset": number - at, "length": 1})
        at = number + 1
    return spans, [counts[number] for number in sorted(counts)]


def deltas(counts):
    return [count - before for count, before in zip(counts, [0, *counts], strict=False)]


def histogram(observations, schema, threshold=1e-3, is_float=False):
    """Observations as a native histogram."""
    sides = {"positive": Counter(), "negative": Counter()}
    zeros = 0
    for value in observations:
        if abs(value) <= threshold:
            zeros += 1
        else:
            sides["positive" if value > 0 else "negative"][bucket_of(abs(value), schema)] += 1
    found = {"schema": schema, "zero_threshold": threshold, "sample_sum": math.fsum(observations)}
    for name, side in sides.items():
        found[f"{name}_span"], counts = spans_of(side)
        found[f"{name}_{'count' if is_float else 'delta'}"] = counts if is_float else deltas(counts)
    ending = "_float" if is_float else ""
    return found | {f"sample_count{ending}": len(observations), f"zero_count{ending}": zeros}


def observations(seed):
    chance = random.Random(seed)
    return [
        chance.choice([1, 1, 1, -1]) * math.ldexp(chance.random(), chance.randrange(-12, 12))
        for _ in range(chance.choice([1, 20, 300]))
    ]


@pytest.mark.parametrize("schema", range(-4, 9))
def test_bounds_are_powers_of_the_schemas_base_rounded_once(schema):
    with localcontext() as exact:
        exact.prec = 50
        for number in (*range(-40, 41), -2000, 2000):
            power = Decimal(number) / Decimal(2) ** schema
            if -1022 < power < 1024:
                assert bound(schema, number) == float(Decimal(2) ** power)
    numbers = [bound(schema, number) for number in range(-600, 600)]
    assert numbers == sorted(numbers)
    if schema > -4:
        assert bound(schema, 6) == bound(schema - 1, 3)  # a coarser one has each second bound


@pytest.mark.parametrize("is_float", [False, True], ids=["integers", "floats"])
@pytest.mark.parametrize("classes", [CLIENT, CLIENT_PACKED], ids=["written out", "packed"])
def test_each_bucket_counts_the_observations_up_to_its_bound(classes, is_float):
    for seed in range(60):
        schema = seed % 13 - 4
        found = observations(seed)
        message = encoded(classes, **histogram(found, schema, is_float=is_float))

        told = buckets(message)

        assert [upper for upper, _ in told] == sorted(upper for upper, _ in told)
        assert told == [(upper, sum(value <= upper for value in found)) for upper, _ in told], seed
        assert told[-1][1] == len(found)


def test_gaps_between_spans_are_buckets_without_observations():
    message = encoded(
        positive_span=[{"offset": -1, "length": 1}, {"offset": 2, "length": 2}],
        positive_delta=[2, 1, -3],
        negative_span=[{"offset": 1, "length": 1}],
        negative_delta=[4],
        zero_count=1,
    )

    assert buckets(message) == [(-1.0, 4), (0.0, 5), (0.5, 7), (4.0, 10), (8.0, 10)]


def test_the_last_buckets_end_with_the_largest_number_and_with_infinity():
    message = encoded(
        positive_span=[{"offset": 1024, "length": 2}],
        positive_delta=[1, 0],
        negative_span=[{"offset": 1025, "length": 1}],
        negative_delta=[1],
    )

    largest = math.nextafter(math.inf, 0)
    # Observations of infinity are told with all observations, as those of NaN are.
    assert buckets(message) == [(-largest, 1), (0.0, 1), (largest, 2)]


WRONG = {
    "more buckets than spans have": {"positive_span": [{"length": 1}], "positive_delta": [1, 1]},
    "fewer buckets than spans have": {"negative_span": [{"length": 2}], "negative_delta": [1]},
    "spans without end": {"positive_span": [{"length": 2**32 - 1}], "positive_delta": [1]},
    "spans that overlap": {
        "positive_span": [{"length": 1}, {"offset": -1, "length": 1}],
        "positive_delta": [1, 1],
    },
    "less than no observations": {"positive_span": [{"length": 2}], "positive_delta": [1, -2]},
    "less than no observations, of floats": {
        "sample_count_float": 1,
        "positive_span": [{"length": 1}],
        "positive_count": [-1],
    },
    "too many": {"positive_span": [{"length": 5000}], "positive_delta": [1] * 5000},
    "too many spans": {"positive_span": [{}] * 5000},
}


@pytest.mark.parametrize("classes", [CLIENT, CLIENT_PACKED], ids=["written out", "packed"])
@pytest.mark.parametrize("name", WRONG)
def test_a_histogram_that_contradicts_itself_is_refused(name, classes):
    with pytest.raises(BadExposition, match="native histogram"):
        buckets(encoded(classes, **WRONG[name]))


def told(**fields):
    """The samples of a native histogram by name and bound."""
    type_ = fields.pop("type", HISTOGRAM)
    body = delimited([family(CLIENT, "h_seconds", type_, metric(CLIENT, {}, histogram=fields))])
    reader = ExpositionReader(_meter)
    first, again = (
        reader.read_messages(body, Resource("prometheus+http://web1", "exposition"))
        for _ in range(2)
    )
    assert again.series is first.series
    return {
        (one.meter.name.removeprefix("prometheus.h_seconds_"), one.metadata.get("le")): one.volume
        for one in first
    }, {str(one.meter.type) for one in first}


def test_a_histogram_becomes_buckets_a_sum_and_a_count():
    fields = histogram([0.75, 1.5, 1.5, -3.0, 0.0], 0)

    assert told(**fields) == (
        {
            ("bucket", "-2"): 1,
            ("bucket", "0.001"): 2,
            ("bucket", "1"): 3,
            ("bucket", "2"): 5,
            ("bucket", "+Inf"): 5,
            ("sum", None): 0.75,
            ("count", None): 5,
        },
        {"cumulative"},
    )
    assert told(type=GAUGE_HISTOGRAM, **fields)[1] == {"gauge"}


def test_where_there_are_usual_buckets_too_these_are_told_as_the_text_format_does():
    fields = histogram([0.75, 1.5], 0) | {"bucket": [{"upper_bound": 1, "cumulative_count": 1}]}

    found, _ = told(**fields)

    assert [le for _, le in found if le] == ["1", "+Inf"]


def test_of_a_schema_that_is_unknown_all_observations_are_told():
    found, _ = told(**histogram([0.75, 1.5], 0) | {"schema": -53})

    assert found == {("bucket", "+Inf"): 2, ("sum", None): 2.25, ("count", None): 2}


def test_one_without_observations_has_its_zero_bucket():
    found, _ = told(positive_span=[{}], zero_threshold=0.5)

    assert found == {
        **{("bucket", "0.5"): 0, ("bucket", "+Inf"): 0},
        **{("sum", None): 0, ("count", None): 0},
    }


# ---- a real Prometheus ------------------------------------------------------------------------

SEEN = {f"h{schema + 4}": histogram(observations(schema), schema) for schema in (-4, -1, 0, 3, 8)}
SEEN["floats"] = histogram(observations(7), 2, is_float=True)


@pytest.fixture(scope="module")
def served():
    """A target of native histograms."""
    families = [
        family(CLIENT, name, HISTOGRAM, metric(CLIENT, {"a": "b"}, histogram=fields))
        for name, fields in SEEN.items()
    ]
    with HTTPServer() as server:
        server.answer("/metrics", delimited(families), content_type=PROTOBUF)
        yield server


@pytest.fixture(scope="module")
def prometheus(served):
    target = {"native": f"127.0.0.1:{served.port}/metrics"}
    with PrometheusServer.scraping(target).with_feature("native-histograms") as found:
        yield found


@pytest.fixture
def poll():
    """Poll a target in a format, and return what it says by meter and resource."""
    made = []

    def poll(target, protocol):
        settings = Settings(
            backend_url="memory://",
            member="a",
            host="web1",
            poll_timeout=60.0,
            scrape_protocols=(protocol,),
        )
        made.append(ExpositionPollster(settings))
        return {
            (one.meter, one.resource_id): one.volume
            for one in made[-1].poll(static_resource(f"prometheus+http://{target}/metrics"))
        }

    yield poll
    for one in made:
        one.close()


@pytest.mark.parametrize("name", SEEN)
def test_buckets_are_those_that_prometheus_has(prometheus, served, poll, name):
    def asked():
        found = prometheus.ask("query", query=name)["result"]
        return found and found[0]["histogram"][1]

    theirs = until(asked, "Prometheus has the histogram")
    ours = {
        key[0].name.removeprefix(f"prometheus.{name}_"): volume
        for key, volume in poll(f"127.0.0.1:{served.port}", "PrometheusProto").items()
        if key[0].name.startswith(f"prometheus.{name}_") and key[0].name[-7:] != "_bucket"
    }
    upper = buckets(encoded(**SEEN[name]))

    assert ours == {"sum": float(theirs["sum"]), "count": float(theirs["count"])}
    total = 0.0
    for _, _, end, count in theirs["buckets"]:
        total += float(count)
        [cumulative] = [
            number for each, number in upper if math.isclose(each, float(end), rel_tol=1e-12)
        ]
        assert cumulative == total
    assert total == upper[-1][1]


def test_both_forms_of_one_target_say_the_same(prometheus, poll, until):
    forms = ("PrometheusText0.0.4", "PrometheusProto", "PrometheusText0.0.4")
    polled = []

    def are_alike():
        # It counts its own answers, and what it does meanwhile: that makes new series, at first.
        polled[:] = [poll(prometheus.address, protocol) for protocol in forms]
        return polled[0].keys() == polled[1].keys() == polled[2].keys()

    until(are_alike, "three polls in a row tell of the same series")
    before, found, after = polled
    assert len(found) > 200
    steady = {key: volume for key, volume in before.items() if after[key] == volume}
    assert len(steady) > 100
    assert {key: found[key] for key in steady} == steady
