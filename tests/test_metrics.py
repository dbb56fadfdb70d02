"""What a program's partitions measure, as Prometheus and OpenTelemetry show it."""

from __future__ import annotations

import gc
import re
import shutil
import subprocess
import sys
import uuid
from pathlib import Path

import prometheus_client
import pytest
from prometheus_client.parser import text_string_to_metric_families

import hashring
import hashring.metrics
from hashring.alarms.metrics import ALARM_METRICS
from hashring.driver import Traffic
from hashring.drivers.memory import MemoryDriver
from hashring.errors import StoreUnavailable
from hashring.metrics import METRICS
from hashring.partition.timings import BOUNDS
from hashring.telemetry.agent.metrics import AGENT_METRICS
from tests.servers.process import wait_until

TTL = 30.0  # far longer than any of these tests
LEASE = 6.0  # is waited for, and long enough that a busy machine costs nobody his
PAGE = Path(__file__).parent.parent / "docs" / "operations" / "metrics.md"


@pytest.fixture
def url():
    return f"memory://{uuid.uuid4().hex}"


@pytest.fixture
def registry():
    return prometheus_client.CollectorRegistry()


@pytest.fixture
def shown(registry):
    """A function that returns what a registry shows now: values by name and labels."""

    def look():
        text = prometheus_client.generate_latest(registry).decode()
        return {
            (sample.name, *(value for name, value in sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    return look


def test_a_settled_member_shows_its_share_and_its_state(url, registry, shown):
    with (
        hashring.join(url, "pollers", "a", ttl=TTL) as a,
        hashring.join(url, "pollers", "b", ttl=TTL) as b,
    ):
        hashring.metrics.register(a, registry)
        wait_until(lambda: {a.state, b.state} == {"settled"} and len(a.members) == 2)

        found = shown()

        assert found["hashring_state", "pollers", "settled"] == 1
        assert found["hashring_state", "pollers", "fenced"] == 0
        assert found["hashring_slots_held", "pollers"] == len(a.ring.slots("a"))
        assert found["hashring_ownership_ratio", "pollers"] == pytest.approx(
            found["hashring_slots_due", "pollers"] / 65536
        )
        assert 0 < found["hashring_lease_remaining_seconds", "pollers"] <= TTL
        assert found["hashring_store_memory_age_seconds", "pollers"] == float("inf")
        assert (
            sum(
                found["hashring_members", "pollers", state]
                for state in ("joining", "settling", "settled", "draining")
            )
            == 2
        )
        # It is counted a moment after the member has settled.
        wait_until(lambda: shown()["hashring_settle_seconds_count", "pollers"] >= 1)
        a.leave()
        b.leave()


def test_who_is_waited_for_is_a_number_until_the_cycle_ends(url, registry, shown):
    with (
        hashring.join(url, "pollers", "a", ttl=TTL) as a,
        hashring.join(url, "pollers", "b", ttl=TTL) as b,
    ):
        wait_until(lambda: {a.state, b.state} == {"settled"} and len(a.members) == 2)
        with a.cycle(), hashring.join(url, "pollers", "c", ttl=TTL) as c:
            hashring.metrics.register(c, registry)
            wait_until(lambda: "a" in c.waiting_for)
            assert shown()["hashring_waiting_for_members", "pollers"] >= 1
            assert shown()["hashring_waiting_for_slots", "pollers"] > 0
            assert shown()["hashring_waiting_for", "pollers", "a"] == len(c.waiting_for["a"])
            c.leave()
        wait_until(lambda: a.state == "settled" and len(a.members) == 2)
        hashring.metrics.register(a, registry)
        wait_until(lambda: shown()["hashring_waiting_for_members", "pollers"] == 0)
        wait_until(lambda: shown()["hashring_cycle_seconds_count", "pollers"] == 1)
        a.leave()
        b.leave()


def test_windows_are_counted_by_their_outcome(url, registry, shown):
    with hashring.join(url, "pollers", ttl=TTL) as partition:
        hashring.metrics.register(partition, registry)
        cycles = partition.cycles(interval=0.1)
        for _, _ in zip(range(3), cycles, strict=False):
            pass
        cycles.close()

        found = shown()

        assert found["hashring_windows_total", "pollers", "on_time"] >= 3
        stats = partition.stats
        assert found["hashring_windows_total", "pollers", "missed"] <= stats.windows_missed
        partition.leave()


class Cut(MemoryDriver):
    """The memory store, whose heartbeats fail."""

    down = False

    def heartbeat(self):
        if self.down:
            raise StoreUnavailable("cut by the test")
        super().heartbeat()


def test_calls_on_the_store_are_timed_and_failures_counted(url, registry, shown):
    driver = Cut(hashring.driver.DriverURL.parse(url), ttl=TTL)
    with hashring.join(driver, "pollers", heartbeat=0.05) as partition:
        hashring.metrics.register(partition, registry)
        wait_until(lambda: shown()["hashring_store_call_seconds_count", "heartbeat", "pollers"] > 2)
        assert shown()["hashring_store_call_failures_total", "heartbeat", "pollers"] == 0

        driver.down = True

        wait_until(
            lambda: shown()["hashring_store_call_failures_total", "heartbeat", "pollers"] > 0
        )
        found = shown()
        assert found["hashring_store_call_seconds_count", "read", "pollers"] > 0
        driver.down = False
        partition.leave()


class Wired(MemoryDriver):
    """The memory store as one behind a network: each call is 100 bytes, each answer 1,000."""

    def __init__(self, url, *, ttl):
        super().__init__(url, ttl=ttl)
        self.traffic = Traffic()

    def publish(self, group, member, record):
        self.traffic.sends(100)
        self.traffic.receives(1000)
        return super().publish(group, member, record)


def test_bytes_to_and_from_the_store_are_shown_where_the_driver_counts_them(url, registry, shown):
    driver = Wired(hashring.driver.DriverURL.parse(url), ttl=TTL)
    with hashring.join(driver, "wired") as wired, hashring.join(url, "plain", ttl=TTL) as plain:
        hashring.metrics.register(wired, registry)
        hashring.metrics.register(plain, registry)
        assert wired.wait_settled(60)
        wait_until(lambda: shown()["hashring_store_sent_bytes_total", "wired"] >= 100)

        found = shown()

        sent = found["hashring_store_sent_bytes_total", "wired"]
        assert found["hashring_store_received_bytes_total", "wired"] >= 10 * sent - 1000
        assert ("hashring_store_sent_bytes_total", "plain") not in found
        assert plain.store_traffic is None
        wired.leave()
        plain.leave()


def test_a_member_that_vanishes_is_lost_and_one_that_drains_is_not(url, registry, shown):
    driver = Cut(hashring.driver.DriverURL.parse(url), ttl=LEASE)
    with hashring.join(url, "pollers", "a", ttl=LEASE) as a:
        hashring.metrics.register(a, registry)
        with hashring.join(url, "pollers", "b", ttl=LEASE) as b:
            wait_until(lambda: {a.state, b.state} == {"settled"} and len(a.members) == 2)
        wait_until(lambda: len(a.members) == 1)
        assert shown()["hashring_members_lost_total", "pollers"] == 0

        with hashring.join(driver, "pollers", "c") as c:
            wait_until(lambda: {a.state, c.state} == {"settled"} and len(a.members) == 2)
            driver.down = True
            wait_until(lambda: shown()["hashring_members_lost_total", "pollers"] == 1)
            driver.down = False
        a.leave()


def test_an_unreadable_record_is_counted_apart_from_other_problems(url, registry, shown):
    stranger = MemoryDriver(hashring.driver.DriverURL.parse(url), ttl=TTL)
    with hashring.join(url, "pollers", "a", ttl=TTL) as a:
        hashring.metrics.register(a, registry)
        stranger.open()
        stranger.join("pollers", "x", b"no record of ours")
        wait_until(lambda: shown()["hashring_unreadable_records", "pollers"] == 1)
        assert shown()["hashring_problems", "pollers"] == 1
        stranger.leave("pollers", "x")
        stranger.close()
        wait_until(lambda: shown()["hashring_unreadable_records", "pollers"] == 0)
        a.leave()


def test_two_members_of_one_group_in_a_process_are_added_up(url, registry, shown):
    with (
        hashring.join(url, "pollers", "a", ttl=TTL) as a,
        hashring.join(url, "pollers", "b", ttl=TTL) as b,
    ):
        hashring.metrics.register(a, registry)
        hashring.metrics.register(b, registry)
        hashring.metrics.register(b, registry)
        wait_until(lambda: shown()["hashring_slots_held", "pollers"] == 65536)
        wait_until(lambda: shown()["hashring_members", "pollers", "settled"] == 2)
        a.leave()
        b.leave()


def test_a_partition_that_left_or_was_dropped_is_shown_no_more(url, registry, shown):
    partition = hashring.join(url, "pollers", ttl=TTL)
    hashring.metrics.register(partition, registry)
    assert ("hashring_slots_held", "pollers") in shown()

    partition.leave()

    assert ("hashring_slots_held", "pollers") not in shown()
    del partition

    def is_forgotten():
        gc.collect()
        return shown() == {}

    wait_until(is_forgotten)


def test_promtool_accepts_what_is_shown(url, registry):
    promtool = shutil.which("promtool")
    assert promtool is not None, "tests/servers/install.sh installs prometheus"
    with hashring.join(url, "pollers", ttl=TTL) as partition:
        hashring.metrics.register(partition, registry)
        with partition.cycle():
            pass
        text = prometheus_client.generate_latest(registry)
        partition.leave()

    done = subprocess.run(
        [promtool, "check", "metrics"], input=text, capture_output=True, timeout=90, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == b""


def test_opentelemetry_shows_the_same(url, registry, shown):
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    with hashring.join(url, "pollers", ttl=TTL) as partition:
        assert partition.wait_settled(60)
        hashring.metrics.observe(partition, provider)
        hashring.metrics.register(partition, registry)

        data = reader.get_metrics_data().resource_metrics[0].scope_metrics[0].metrics
        found = {metric.name: metric.data.data_points for metric in data}
        partition.leave()
    provider.shutdown()

    expected = set()
    for metric in METRICS:
        endings = ("_count", "_sum") if metric.kind == "histogram" else ("",)
        expected |= {metric.name + ending for ending in endings}
    expected.remove("hashring_store_memory_age_seconds")  # it is infinite here
    expected.remove("hashring_waiting_for")  # nobody is waited for
    # Nothing is sent anywhere.
    expected -= {"hashring_store_sent_bytes", "hashring_store_received_bytes"}
    assert found.keys() == expected
    (held,) = found["hashring_slots_held"]
    assert (held.value, dict(held.attributes)) == (65536, {"group": "pollers"})


def test_every_metric_is_on_the_page_with_its_kind_and_meaning():
    page = PAGE.read_text("utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (.*?) \| (.*) \|$", page, re.MULTILINE)

    expected = [
        (
            metric.name + ("_total" if metric.kind == "counter" else ""),
            metric.kind,
            _labels({} if metric.label is None else {metric.label: metric.values}),
            metric.help,
        )
        for metric in METRICS
    ]
    expected += [
        (
            metric.name + ("_total" if metric.kind == "counter" else ""),
            metric.kind,
            _labels(metric.labels),
            metric.help,
        )
        for metric in (*AGENT_METRICS, *ALARM_METRICS)
    ]
    assert rows == expected
    assert ", ".join(f"{bound:g}" for bound in BOUNDS) in page


def _labels(labels):
    return "; ".join(
        f"`{label}`" + (f": {', '.join(values)}" if values else "")
        for label, values in labels.items()
    )


@pytest.mark.parametrize(
    ("call", "package", "extra"),
    [("register", "prometheus_client", "metrics"), ("observe", "opentelemetry", "otlp")],
)
def test_a_package_that_is_missing_is_named_with_the_command(call, package, extra):
    program = (
        f"import sys; sys.modules[{package!r}] = None\n"
        "import hashring, hashring.metrics\n"
        "from hashring.errors import MissingDependency\n"
        f"try: hashring.metrics.{call}(None)\n"
        "except MissingDependency as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=90, check=False
    )
    assert f"pip install 'hashring-ha[{extra}]'" in done.stdout, done.stderr
