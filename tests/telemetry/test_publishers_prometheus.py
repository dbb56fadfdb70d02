import gzip
import socket
import threading
import urllib.error
import urllib.request

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as parse

from hashring.errors import BadURL
from hashring.telemetry.errors import OutputFailed
from hashring.telemetry.model.sample import Meter, MeterType
from hashring.telemetry.publishers.prometheus import PrometheusPublisher, family_name, label_name
from tests.servers.process import free_port
from tests.telemetry.publishing import SETTINGS, sample

LEVEL = Meter("tank.level", MeterType.GAUGE, "l")
FLOW = Meter("tank.flow-in", MeterType.CUMULATIVE, "l")
CHANGE = Meter("tank.change", MeterType.DELTA, "l")


@pytest.fixture
def clocks(monkeypatch):
    """Both clocks, at a moment within window 10 of 60 s; a test moves them on."""

    class Clocks:
        now = 630.0

    monkeypatch.setattr("hashring.clock.wall", lambda: Clocks.now)
    monkeypatch.setattr("hashring.clock.boottime", lambda: Clocks.now + 5000)
    return Clocks


@pytest.fixture
def make(clocks):
    made = []

    def make(url="prometheus://127.0.0.1:0"):
        made.append(PrometheusPublisher(url, SETTINGS))
        return made[-1]

    yield make
    for publisher in made:
        publisher.close()


def scrape(publisher, path="/metrics", host="127.0.0.1", **headers):
    request = urllib.request.Request(f"http://{host}:{publisher.port}{path}", headers=headers)
    with urllib.request.urlopen(request, timeout=60) as response:
        body = response.read()
        return gzip.decompress(body) if response.headers.get("Content-Encoding") else body


def shown(publisher, **how):
    """Every series by its name and the resource's id."""
    return {
        (one.name, one.labels["resource_id"]): one.value
        for family in parse(scrape(publisher, **how).decode())
        for one in family.samples
    }


def test_the_last_value_of_each_meter_and_resource_is_shown(make):
    publisher = make()

    publisher.publish(
        [
            sample(1, meter=LEVEL, resource_id="north"),
            sample(2, meter=LEVEL, resource_id="south"),
            sample(3, meter=FLOW, resource_id="north"),
        ]
    )
    publisher.publish([sample(4, meter=LEVEL, resource_id="north", timestamp=601.0)])

    assert shown(publisher) == {
        ("tank_level", "north"): 4,
        ("tank_level", "south"): 2,
        ("tank_flow_in_total", "north"): 3,
    }


def test_types_and_units_are_told_to_prometheus(make):
    publisher = make()

    publisher.publish([sample(1, meter=meter) for meter in (LEVEL, FLOW, CHANGE)])

    families = {found.name: found for found in parse(scrape(publisher).decode())}
    assert {name: found.type for name, found in families.items()} == {
        "tank_level": "gauge",
        "tank_flow_in": "counter",
        "tank_change": "unknown",
    }
    assert families["tank_flow_in"].documentation == "tank.flow-in in l"


def test_a_scraper_may_ask_for_openmetrics_and_for_gzip(make):
    publisher = make()
    publisher.publish([sample(1, meter=meter) for meter in (LEVEL, FLOW, CHANGE)])

    accept = {"Accept": "application/openmetrics-text; version=1.0.0", "Accept-Encoding": "gzip"}
    found = scrape(publisher, **accept).decode()

    assert sorted(family.name for family in parse_openmetrics(found)) == [
        "tank_change",
        "tank_flow_in",
        "tank_level",
    ]


def test_labels_are_those_of_ceilometer_and_those_that_are_asked_for(make):
    publisher = make("prometheus://127.0.0.1:0?labels=display-name,up,serial")
    odd = 'a"b\\c\nd\udcff'

    publisher.publish(
        [
            sample(
                1,
                resource_id="i-1",
                project_id="p",
                metadata={"display-name": odd, "up": True, "other": 1},
            )
        ]
    )

    (family,) = parse(scrape(publisher).decode())
    assert family.samples[0].labels == {
        "resource_id": "i-1",
        "project_id": "p",
        "user_id": "",
        "display_name": 'a"b\\c\nd?',
        "up": "true",
        "serial": "",
    }


def test_an_older_sample_never_takes_the_place_of_a_newer_one(make):
    publisher = make()

    publisher.publish([sample(2, window=10, timestamp=600.0)])
    publisher.publish([sample(1, window=9, timestamp=605.0)])  # late; its clock went wrong too
    publisher.publish([sample(0, window=10, timestamp=599.0)])

    assert list(shown(publisher).values()) == [2]


def test_a_series_without_samples_is_shown_no_longer_after_two_and_a_half_intervals(make, clocks):
    publisher = make()
    publisher.publish(
        [sample(1, timestamp=600.0), sample(2, resource_id="fast", timestamp=620.0, interval=10.0)]
    )

    clocks.now = 644.0
    assert len(shown(publisher)) == 2
    clocks.now = 646.0
    assert list(shown(publisher).values()) == [1]
    clocks.now = 749.0
    assert list(shown(publisher).values()) == [1]
    clocks.now = 751.0
    assert shown(publisher) == {}

    publisher.publish([sample(3, window=12, timestamp=751.0)])
    assert list(shown(publisher).values()) == [3]


def test_staleness_may_be_named(make, clocks):
    publisher = make("prometheus://127.0.0.1:0?stale=5")
    publisher.publish([sample(1, timestamp=630.0)])

    clocks.now = 634.0
    assert len(shown(publisher)) == 1
    clocks.now = 636.0
    assert shown(publisher) == {}


def test_a_sample_that_has_waited_too_long_elsewhere_is_not_shown_at_all(make):
    publisher = make()

    publisher.publish([sample(1, window=5, timestamp=300.0)])

    assert shown(publisher) == {}
    assert publisher.refused == 0


def test_the_number_of_series_is_bounded_and_stale_ones_make_room(make, clocks, caplog):
    publisher = make("prometheus://127.0.0.1:0?max_series=3&stale=60")

    publisher.publish([sample(n, resource_id=f"r{n}", timestamp=630.0) for n in range(5)])
    publisher.publish([sample(9, resource_id="r0", timestamp=631.0)])

    assert sorted(shown(publisher).values()) == [1, 2, 9]
    assert publisher.refused == 2
    assert "there are too many series" in caplog.text

    clocks.now = 700.0
    publisher.publish([sample(n, resource_id=f"s{n}", timestamp=700.0) for n in range(3)])
    assert sorted(shown(publisher).values()) == [0, 1, 2]
    assert publisher.refused == 2


@pytest.mark.parametrize(
    "second",
    [
        Meter("tank-level", MeterType.GAUGE, "l"),
        Meter("tank.level", MeterType.CUMULATIVE, "l"),
    ],
)
def test_two_meters_that_would_have_one_name_are_not_mixed_up(make, caplog, second):
    publisher = make()

    publisher.publish([sample(1, meter=LEVEL), sample(2, meter=second)])

    assert shown(publisher) == {("tank_level", "plant:tank:north"): 1}
    assert publisher.refused == 1
    assert "another meter has its name: the gauge meter 'tank.level' is shown" in caplog.text


def test_one_meter_in_two_units_is_one_meter(make):
    publisher = make()

    publisher.publish(
        [sample(1, meter=LEVEL), sample(2, meter=LEVEL._replace(unit="gal"), resource_id="b")]
    )

    assert len(shown(publisher)) == 2


@given(st.text(max_size=20), st.sampled_from(MeterType), st.text(max_size=20))
def test_every_meter_and_label_has_a_legal_name(meter, kind, key):
    name = family_name(Meter(meter, kind, ""))
    label = label_name(key)

    for found in (name, label):
        assert found.isascii()
        assert found.replace("_", "a").isalnum()
        assert not found[0].isdigit()
    assert not label.startswith("__")


def test_the_path_may_be_named_and_others_lead_nowhere(make):
    publisher = make("prometheus://127.0.0.1:0/telemetry")
    publisher.publish([sample(1)])

    assert len(shown(publisher, path="/telemetry")) == 1
    with pytest.raises(urllib.error.HTTPError, match="404") as failure:
        scrape(publisher, path="/metrics")
    assert failure.value.read() == b"the metrics are at /telemetry\n"
    failure.value.close()


def test_without_an_address_it_listens_on_the_loopback_alone_and_says_so_once(make, caplog):
    publisher = make("prometheus://:0")

    assert publisher._server.server_address[0] == "127.0.0.1"
    assert scrape(publisher, host="127.0.0.1") == b""
    (said,) = [record.getMessage() for record in caplog.records]
    assert "names no address: it listens on 127.0.0.1 alone" in said
    assert "prometheus://0.0.0.0:" in said


def test_every_address_is_listened_on_where_that_is_asked_for(make, caplog):
    of_both_kinds, of_ipv4 = make("prometheus://[::]:0"), make("prometheus://0.0.0.0:0")

    assert scrape(of_both_kinds, host="127.0.0.1") == scrape(of_both_kinds, host="[::1]") == b""
    assert of_ipv4._server.server_address[0] == "0.0.0.0"
    assert not caplog.records


def test_an_address_of_ipv6_is_listened_on(make):
    assert scrape(make("prometheus://[::1]:0"), host="[::1]") == b""


def test_a_port_that_is_taken_is_an_error_that_says_what_to_do(make):
    first = make()

    with pytest.raises(OutputFailed, match=rf"port {first.port}.*Address already in use.*ports="):
        make(f"prometheus://127.0.0.1:{first.port}")


def test_agents_on_one_host_may_share_a_range_of_ports(make):
    first = make()
    url = f"prometheus://127.0.0.1:{first.port}?ports=10"

    second, third = make(url), make(url)

    assert len({first.port, second.port, third.port}) == 3
    assert all(0 < one.port - first.port < 10 for one in (second, third))


def test_an_address_that_is_not_of_this_host_is_an_error(make):
    with pytest.raises(OutputFailed, match=r"cannot listen on 192\.0\.2\.1, port 9464"):
        make("prometheus://192.0.2.1:9464")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("prometheus://", "names no port: write prometheus://:9464"),
        ("prometheus://gw:9091/metrics/job/ceilometer", "is the address of a Pushgateway"),
        ("prometheus://gw/metrics/job/ceilometer", "is the address of a Pushgateway"),
        ("prometheus://a:b@h:1", "there is no user or password"),
        ("prometheus://:1?stale=0", "must be a positive number of seconds"),
        ("prometheus://:1?labels=a.b,a_b", "two labels would have one name"),
        ("prometheus://:1?labels=user_id", "two labels would have one name"),
    ],
)
def test_what_is_wrong_with_a_url_is_said(url, said):
    with pytest.raises(BadURL, match=said):
        PrometheusPublisher(url, SETTINGS)


def test_closing_ends_the_threads_and_frees_the_port(make):
    # Not a port of those that the kernel gives to whoever asks for any.
    port = free_port()
    publisher = make(f"prometheus://127.0.0.1:{port}")
    scrape(publisher)

    publisher.close()
    publisher.close()

    assert not [thread for thread in threading.enumerate() if thread.name == f"prometheus:{port}"]
    socket.create_server(("127.0.0.1", port)).close()


def test_scrapes_and_samples_do_not_get_into_each_others_way(make):
    publisher = make()
    failures = []
    done = threading.Event()

    def keep_scraping():
        while not done.is_set():
            try:
                list(parse(scrape(publisher).decode()))
            except Exception as error:
                failures.append(error)

    scraper = threading.Thread(target=keep_scraping)
    scraper.start()
    for turn in range(20):
        publisher.publish(
            [sample(turn, resource_id=f"r{turn}-{n}", timestamp=630.0) for n in range(100)]
        )
    done.set()
    scraper.join()

    assert failures == []
    assert len(shown(publisher)) == 2000
