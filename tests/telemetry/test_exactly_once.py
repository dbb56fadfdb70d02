"""Fleets of agents on real stores: what they are asked to poll is polled once a window.

The judge is the server that is polled: its log says what it was asked, and when. For instances,
which have no server that counts, the samples are.
"""

import contextlib
import json
import math
import time
from collections import Counter

import pytest

from tests.servers.http import Answer, HTTPServer
from tests.servers.libvirt import write_domains
from tests.servers.memcached import MemcachedServer
from tests.servers.process import free_port
from tests.servers.redis import RedisServer
from tests.servers.zookeeper import ZooKeeperServer
from tests.standstill import judged
from tests.telemetry.conftest import until
from tests.telemetry.fleet import Windows, excusable, fleet, late_in

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]

INTERVAL = 4.0
RESOURCES = 500
INSTANCES = 40

# How long each store takes to come back, its lease must outlast.
STORES = {
    "redis": (RedisServer, "redis://{address}", 8.0),
    "memcached": (MemcachedServer, "memcached://{address}?timeout=8", 8.0),
    "zookeeper": (ZooKeeperServer, "zookeeper://{address}", 10.0),
}

LOAD = {
    "name": "web.load",
    "sample_type": "gauge",
    "unit": "request",
    "value_attribute": "load",
}


@pytest.fixture
def web():
    with HTTPServer() as server:
        server.otherwise(lambda asked: Answer({"load": 0.5}))
        yield server


def urls(web, number=RESOURCES, of=""):
    return [f"{web.url}/{of}{n}" for n in range(number)]


def sources(web, **changes):
    return [
        {
            "name": "web",
            "interval": INTERVAL,
            "meters": ["web.*"],
            "resources": urls(web),
            "local": False,  # the one server stands for many, which all agents reach
        }
        | changes,
        {"name": "instances", "interval": INTERVAL, "meters": ["cpu", "vcpus", "power.state"]},
    ]


def asked(web):
    """What the server was asked, and when it was."""
    return [(f"{web.url}{asked.path}", asked.at) for asked in web.log]


@pytest.fixture(
    params=[
        pytest.param(name, marks=() if name == "redis" else pytest.mark.long)
        for name in sorted(STORES)
    ]
)
def store(request):
    return STORES[request.param]


class Pairs:
    """Agents of both kinds, a pair for each number, and what happened to them in which window."""

    def __init__(self, agents, windows):
        self.agents, self.windows = agents, windows
        self.events = []  # for whoever reads a failure

    def note(self, what):
        self.events.append((what, self.windows.next_start() - 1))

    @contextlib.contextmanager
    def told(self):
        """Add them to a failure in a block."""
        try:
            yield
        except AssertionError as error:
            error.add_note(str(self.events))
            raise

    def settle(self, *numbers):
        self.agents.settle(*(f"central-{n}" for n in numbers))
        self.agents.settle(*(f"compute-{n}" for n in numbers))
        self.note(f"settled {numbers}")

    def start(self, *numbers):
        self.note(f"start {numbers}")
        for n in numbers:
            self.agents.start("central", f"central-{n}")
            self.agents.start("compute", f"compute-{n}")

    def stop(self, n):
        self.note(f"stop {n}")
        self.agents.stop(f"central-{n}")
        self.agents.stop(f"compute-{n}")

    def kill(self, n):
        self.note(f"kill {n}")
        self.agents.kill(f"central-{n}")
        self.agents.kill(f"compute-{n}")


def play(store, web, folder):
    """Agents join, drain and restart, the store restarts, an agent is killed."""
    make, url, ttl = store
    with make() as server:
        sections = {
            "DEFAULT": {"libvirt_uri": write_domains(folder / "hypervisor.xml", INSTANCES)},
            "compute": {"workload_partitioning": True},
            "hashring": {"ttl": ttl, "spread": 0.3},
        }
        url = url.format(address=server.address)
        options = {"definitions": [LOAD], "sections": sections}
        with fleet(folder, url, sources(web), **options) as agents:
            windows = Windows(INTERVAL)
            pairs = Pairs(agents, windows)
            come_and_go(pairs, server, web)
            lose_one(pairs, web, ttl)


def come_and_go(pairs, server, web):
    agents, windows = pairs.agents, pairs.windows
    pairs.start(1, 2)
    pairs.settle(1, 2)
    # The window in which they settle is polled late, all at once: some of it in the next one.
    first = windows.sleep(2)

    pairs.start(3)  # a join
    pairs.settle(1, 2, 3)
    windows.sleep(1)

    pairs.stop(1)  # a drain
    pairs.settle(2, 3)
    pairs.start(1)
    pairs.settle(1, 2, 3)

    for n in (2, 3):  # the rest of a rolling restart
        pairs.stop(n)
        pairs.start(n)
        pairs.settle(1, 2, 3)
    windows.sleep(1)

    pairs.note("restart of the store")
    server.stop()
    server.start()
    last = windows.sleep(2)
    pairs.settle(1, 2, 3)

    with pairs.told():
        windows.check(asked(web), urls(web), first, last)
        windows.check(taken(agents), instance_meters(agents), first, last)


def lose_one(pairs, web, ttl):
    agents, windows = pairs.agents, pairs.windows
    killed_in = windows.next_start()
    pairs.kill(2)
    settled_in = math.ceil((time.time() + ttl + INTERVAL) / INTERVAL)
    last = windows.sleep(settled_in - killed_in + 2)
    with pairs.told():
        missed, _ = windows.account(asked(web), urls(web), killed_in, last)
        excusable(max(missed, default=0) < settled_in, missed)
        # Nobody else's share.
        excusable(max(missed.values(), default=0) < 0.7 * RESOURCES, missed)
        missed, _ = windows.account(taken(agents), instance_meters(agents), killed_in, last)
        excusable(max(missed, default=0) < settled_in, missed)


def test_each_resource_is_asked_once_a_window_whoever_comes_and_goes(store, web, tmp_path):
    judged(lambda folder: play(store, web, folder), tmp_path, late_in)


def instance_meters(agents):
    """Each meter of each instance, as :func:`taken` names it."""
    found = {what for what, _ in taken(agents)}
    assert len(found) == 3 * INSTANCES
    return found


def taken(agents):
    """What was sampled of the instances, and in which window."""
    return [
        (f"{sample['meter']} of {sample['resource_id']}", sample["window"] * INTERVAL)
        for sample in agents.samples()
        if sample["source"] == "instances"
    ]


def test_sub_groups_poll_side_by_side_each_resource_once(web, tmp_path):
    judged(lambda folder: play_sub_groups(web, folder), tmp_path, late_in)


def play_sub_groups(web, folder):
    with RedisServer() as server:
        url = f"redis://{server.address}"
        first = [dict(sources(web)[0], resources=urls(web, 100, "first-"))]
        second = [dict(sources(web)[0], meters=["web2.load"], resources=urls(web, 100, "second-"))]
        definitions = [LOAD, LOAD | {"name": "web2.load"}]
        with fleet(folder, url, first, definitions=definitions) as agents:
            polling = agents.write_sources(second, "second.yaml")
            sections = {"hashring": {"ttl": 8.0, "spread": 0.3}}
            one = agents.write_config(
                url, sections | {"polling": {"partitioning_group_prefix": "one"}}, "one.conf"
            )
            two = agents.write_config(
                url,
                sections | {"polling": {"partitioning_group_prefix": "two", "cfg_file": polling}},
                "two.conf",
            )
            windows = Windows(INTERVAL)
            for n in (1, 2):
                agents.start("central", f"one-{n}", config=one)
                agents.start("central", f"two-{n}", config=two)
            agents.settle("one-1", "one-2")
            agents.settle("two-1", "two-2")
            begin = windows.sleep(2)
            agents.stop("one-1")
            agents.start("central", "two-3", config=two)
            agents.settle("two-1", "two-2", "two-3")
            last = windows.sleep(2)

            wanted = [*urls(web, 100, "first-"), *urls(web, 100, "second-")]
            windows.check(asked(web), wanted, begin, last)

            # A third sub-group with a meter of the first: refused by name, and the first is told.
            three = agents.write_config(
                url, sections | {"polling": {"partitioning_group_prefix": "three"}}, "three.conf"
            )
            refused = agents.start("central", "three-1", config=three)
            assert refused.wait(60) != 0
            assert "web.load" in agents.said("three-1")
            assert "'one'" in agents.said("three-1")
            assert "one-2" in agents.said("three-1")

            agents.start("central", "three-2", "--allow-overlap", config=three)
            agents.settle("three-2")
            until(lambda: "three-2" in agents.said("one-2"), "the other side is told as well")
            assert "web.load" in agents.said("one-2")


def test_what_was_polled_before_a_kill_arrives_after_it(web, tmp_path):
    sink_port = free_port()
    with (
        RedisServer() as server,
        fleet(
            tmp_path,
            f"redis://{server.address}",
            [dict(sources(web)[0], resources=urls(web, 50))],
            definitions=[LOAD],
            publishers=[f"http://127.0.0.1:{sink_port}/samples"],
            sections={"hashring": {"ttl": 8.0, "spread": 0.2}},
        ) as agents,
    ):
        agents.start("central", "a")
        agents.settle("a")
        polled = Counter()

        def all_are_kept():
            # Read in this order: what was asked until then has then been sampled, and kept.
            samples = agents.status("a").get("samples", 0)
            polled.clear()
            polled.update(url for url, _ in asked(web))
            return samples == polled.total() >= 5 * 50

        until(all_are_kept, "five windows have been polled, and none is being polled")
        agents.kill("a")

        with HTTPServer(sink_port) as sink:
            sink.otherwise(lambda asked: Answer(status=204))
            agents.start("central", "b")

            def arrived():
                windows = {
                    (sample["resource_id"], sample["window"])
                    for asked in sink.log
                    for sample in json.loads(asked.body)
                    if sample["member"] == "a"
                }
                return Counter(url for url, _ in windows)

            until(lambda: polled <= arrived(), "every sample has arrived")
            agents.stop("b")
