"""The text formats, beside a real Prometheus that reads the same bytes."""

import contextlib
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashring.telemetry.errors import BadExposition
from hashring.telemetry.model.resource import Resource
from hashring.telemetry.model.sample import Sample
from hashring.telemetry.publishers.prometheus import PrometheusPublisher
from hashring.telemetry.sources.web.exposition import measurements
from hashring.telemetry.sources.web.exposition_text import MAX_LINE, metrics_of, samples_of
from tests.servers.http import HTTPServer
from tests.servers.prometheus import PrometheusServer
from tests.telemetry.conftest import until
from tests.telemetry.publishing import SETTINGS

TARGET = Resource("prometheus+http://web1/metrics", "exposition")

TEXTS = {
    "a counter's lines stand apart": """\
# TYPE x_total counter
x_total{c="a"} 1
# TYPE y gauge
y 2
x_total{c="b"} 3
""",
    "later groups of a histogram": """\
# TYPE h histogram
h_bucket{v="a",le="1"} 1
h_bucket{v="a",le="+Inf"} 2
h_sum{v="a"} 3
h_count{v="a"} 2
# TYPE y gauge
y 2
h_bucket{v="b",le="1"} 1
h_bucket{v="b",le="+Inf"} 2
h_sum{v="b"} 3
h_count{v="b"} 2
""",
    "later groups of a summary": """\
# TYPE s summary
s{quantile="0.5"} 1
y 2
s_sum 3
s_count 4
""",
    "a type after the first sample": """\
x_total{c="a"} 1
# TYPE x_total counter
x_total{c="b"} 2
""",
    "a type at the end": "x_total 1\ny 2\n# TYPE x_total counter\n",
    "a counter f with f_total": "# TYPE f counter\nf_total 1\n",
    "a counter f with f": "# HELP f of something\n# TYPE f counter\nf 1\n",
    "a name of its own within a histogram's": """\
# TYPE wait histogram
wait_bucket{le="+Inf"} 1
wait_sum 1
wait_count 1
# TYPE wait_count_max gauge
wait_count_max 1
""",
    "blanks and comments": '\n#\n# a note\n# TYPE  x\tcounter\n\nx{a="b",}\t1\n',
    "a line feed alone ends a line": '# TYPE x gauge\nx{a="\u2028 \x0b \x85"} 1\n',
}

OPENMETRICS = {
    "metrics that stand apart": """\
# TYPE x counter
# UNIT x_seconds seconds
x_total{c="a"} 1.0 # {trace_id="abc def"} 0.5 1520879607.789
# TYPE y gauge
y 2
x_total{c="b"} 3
x_created{c="b"} 1.5e9
# EOF
""",
    "groups that are mixed": """\
# TYPE h histogram
h_bucket{v="a",le="1.0"} 1
h_bucket{v="b",le="1.0"} 1
h_bucket{v="a",le="+Inf"} 2
h_bucket{v="b",le="+Inf"} 2
h_count{v="a"} 2
h_count{v="b"} 2
# EOF
""",
}

CUMULATIVE = {
    "a counter's lines stand apart": {"x_total"},
    "later groups of a histogram": {"h_bucket", "h_sum", "h_count"},
    "later groups of a summary": {"s_sum", "s_count"},
    "a type after the first sample": {"x_total"},
    "a type at the end": {"x_total"},
    "a counter f with f_total": {"f_total"},
    "a counter f with f": {"f"},
    "a name of its own within a histogram's": {"wait_bucket", "wait_sum", "wait_count"},
    "blanks and comments": {"x"},
    "metrics that stand apart": {"x_total"},
    "groups that are mixed": {"h_bucket", "h_count"},
}

ALL = {
    **{name: (text, False) for name, text in TEXTS.items()},
    **{name: (text, True) for name, text in OPENMETRICS.items()},
}


@pytest.fixture(scope="module")
def prometheus():
    with HTTPServer() as served:
        for number, (text, is_openmetrics) in enumerate(ALL.values()):
            kind = "application/openmetrics-text; version=1.0.0" if is_openmetrics else "text/plain"
            served.answer(f"/{number}", text, content_type=f"{kind}; charset=utf-8")
        targets = {f"j{number}": f"127.0.0.1:{served.port}/{number}" for number in range(len(ALL))}
        with PrometheusServer.scraping(targets) as found:

            def have_all_been_scraped():
                health = found.health()
                return len(health) == len(ALL) and ("unknown", "") not in health.values()

            until(have_all_been_scraped, "every target has been scraped")
            yield found


@pytest.mark.parametrize("name", ALL)
def test_samples_and_types_are_those_that_prometheus_reads(prometheus, name):
    text, is_openmetrics = ALL[name]
    job = f"j{list(ALL).index(name)}"

    found = {
        (one.name, tuple(sorted(one.labels.items()))): float(one.value)
        for one in samples_of(text, is_openmetrics=is_openmetrics)
        if one.timestamp is None or is_openmetrics
    }

    # A busy machine may answer a scrape too late: then there is nothing until the next one.
    until(lambda: prometheus.health()[job] == ("up", ""), "it can be read")
    until(lambda: prometheus.series(job) == found, "what it reads is the same")
    metrics = metrics_of(text)
    told = {name: kind.replace("unknown", "untyped") for name, kind in metrics._types.items()}
    until(lambda: prometheus.types(job).items() >= told.items(), "and so are the types")


@pytest.mark.parametrize("name", ALL)
def test_what_grows_is_cumulative_wherever_its_lines_stand(name):
    text, is_openmetrics = ALL[name]

    found = list(measurements(text, TARGET, is_openmetrics=is_openmetrics))

    growing = {one.meter.name.removeprefix("prometheus.") for one in found
               if one.meter.type == "cumulative"}  # fmt: skip
    assert growing == CUMULATIVE.get(name, set())
    types = {(one.meter.name, one.meter.type) for one in found}
    assert len(types) == len({name for name, _ in types})  # each name has one type


@pytest.mark.parametrize("name", ALL)
def test_no_series_is_lost_at_an_exporter(name):
    text, is_openmetrics = ALL[name]
    publisher = PrometheusPublisher("prometheus://127.0.0.1:0?stale=1e9", SETTINGS)
    found = list(measurements(text, TARGET, is_openmetrics=is_openmetrics))

    publisher.publish(
        [
            Sample(
                meter=one.meter,
                volume=one.volume,
                resource_id=one.resource_id or TARGET.id,
                timestamp=1.0,
                window=1,
                interval=60.0,
                member="a",
                token=("v", "i", 1),
                metadata=one.metadata,
            )
            for one in found
        ]
    )

    assert publisher.refused == 0
    publisher.close()


def test_the_unit_of_openmetrics_goes_by_name_too():
    text = "# TYPE x_parsecs counter\ny 1\nx_parsecs_total 1\n# UNIT x_parsecs parsecs\n# EOF\n"

    units = {
        one.meter.name: one.meter.unit for one in measurements(text, TARGET, is_openmetrics=True)
    }

    assert units == {"prometheus.y": "", "prometheus.x_parsecs_total": "parsecs"}


def test_a_name_in_quotes_is_one():
    text = '# TYPE "a.b" counter\n{"a.b",c="d"} 1\n'

    assert [(one.name, one.labels) for one in samples_of(text)] == [("a.b", {"c": "d"})]
    assert metrics_of(text).of("a.b").type == "counter"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f'a{{b="{"c" * MAX_LINE}"}} 1\n', f"more than {MAX_LINE} characters"),
        (f'a{{b="{"c" * MAX_LINE}"}} 1', f"more than {MAX_LINE} characters"),
        ("a" * 10_000_000, f"more than {MAX_LINE} characters"),
        ("a 1\n# EOF", None),
        ("a 1\n", "missing at the end"),
        ("# EOF\na 1\n# EOF\n", "a line follows"),
    ],
)
def test_lines_are_bounded_and_an_end_is_wanted(text, said):
    if said is None:
        assert len(list(samples_of(text, is_openmetrics=True))) == 1
        return
    with pytest.raises(BadExposition, match=said):
        list(samples_of(text, is_openmetrics=True))


def test_reading_is_looked_at_all_the_while_and_can_be_ended():
    turns = itertools.count()

    def look():
        if next(turns) >= 3:
            raise TimeoutError

    # The parser finds nothing in comments: it would not come back to be asked.
    with pytest.raises(TimeoutError):
        list(samples_of("# a comment\n" * 1_000_000, look=look))
    assert next(turns) == 4
    with pytest.raises(TimeoutError):
        metrics_of("a 1\n" * 1_000_000, look=look)


@given(st.text(alphabet='ab{}",=\\ \n\t#12.+-eTYPENOF_', max_size=80), st.booleans())
def test_whatever_a_target_says_is_read_or_refused(text, is_openmetrics):
    with contextlib.suppress(BadExposition):
        list(measurements(text, TARGET, is_openmetrics=is_openmetrics))
