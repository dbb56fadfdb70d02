"""Six faults on real groups, watched by a real Prometheus: six alerts, each its own, no other."""

from __future__ import annotations

import contextlib
import re
import threading
import time
import uuid

import prometheus_client
import pytest
import yaml

import hashring
import hashring.page
from hashring.drivers.memory import MemoryDriver
from hashring.errors import StoreUnavailable
from tests.operations.test_dashboards import RULES
from tests.page.scenes import served
from tests.servers.process import wait_until
from tests.servers.prometheus import PrometheusServer
from tests.telemetry.conftest import Agents

TTL = 8.0  # long enough that a busy machine fences nobody by itself


class Cut(MemoryDriver):
    """The memory store, which can be away."""

    down = False

    def heartbeat(self):
        if self.down:
            raise StoreUnavailable("cut by the test")
        super().heartbeat()

    def read(self, group):
        if self.down:
            raise StoreUnavailable("cut by the test")
        return super().read(group)


class Scene:
    """Groups of this process, each with a fault of its own, and one server for all of them."""

    def __init__(self, stack):
        self.url = f"memory://{uuid.uuid4().hex}"
        self.registry = prometheus_client.CollectorRegistry()
        self.stopping = threading.Event()
        self._stack = stack

    def join(self, group, member, *, driver=None, is_watched=True):
        partition = hashring.join(driver or self.url, group, member, ttl=TTL)
        self._stack.callback(partition.leave)
        if is_watched:
            hashring.metrics.register(partition, self.registry)
        assert partition.wait_settled(60)
        return partition

    def cut(self):
        return Cut(hashring.driver.DriverURL.parse(self.url), ttl=TTL)

    def run(self, work):
        thread = threading.Thread(target=work)
        thread.start()
        self._stack.callback(thread.join)
        self._stack.callback(self.stopping.set)  # before the join

    def gather(self):
        """Let all groups be there, and well."""
        self.lost, self.fenced = self.cut(), self.cut()
        self.join("lost", "a")
        self.join("lost", "b", driver=self.lost, is_watched=False)
        self.join("fenced", "a", driver=self.fenced)
        self.waiting = self.join("waiting", "a")
        self.join("unreadable", "a")
        self.late = self.join("late", "a")

    def break_all(self):
        """Let each group have its fault."""
        self.lost.down = True

        def outage():
            self.fenced.down = True
            self.stopping.wait(1.5 * TTL)
            self.fenced.down = False

        self.run(outage)

        def one_long_cycle():
            with self.waiting.cycle():
                self.stopping.wait()

        self.run(one_long_cycle)
        newcomer = hashring.join(self.url, "waiting", "b", ttl=TTL)
        self._stack.callback(newcomer.leave)
        hashring.metrics.register(newcomer, self.registry)

        def late_cycles():
            for cycle in self.late.cycles(0.5):
                if self.stopping.wait(1.3) or not cycle:
                    return

        self.run(late_cycles)
        stranger = MemoryDriver(hashring.driver.DriverURL.parse(self.url), ttl=TTL)
        stranger.open()
        self._stack.callback(stranger.close)
        stranger.join("unreadable", "stranger", b"no record of ours")

        def keep_alive():
            while not self.stopping.wait(TTL / 4):
                stranger.heartbeat()

        self.run(keep_alive)

        def recover():
            self.lost.down = self.fenced.down = False

        self._stack.callback(recover)  # before anybody leaves


def quick_rules(path):
    """The rules as they are, but for how long they wait."""
    rules = yaml.safe_load(RULES.read_text())
    for rule in rules["groups"][0]["rules"]:
        rule["expr"] = re.sub(r"\[\d+m\]", "[1m]", rule["expr"])
        if "for" in rule:
            rule["for"] = "3s"
    path.write_text(yaml.safe_dump(rules))


@pytest.mark.long
def test_six_faults_raise_six_alerts_and_no_other(tmp_path):
    with contextlib.ExitStack() as stack:
        scene = Scene(stack)
        agents = Agents(tmp_path)
        stack.callback(agents.end)
        page = hashring.page.Page(registry=scene.registry)
        address = stack.enter_context(served(page)).removeprefix("http://").removesuffix("/ring")
        agent = start_agent_whose_sink_is_away(agents, tmp_path)
        server = PrometheusServer.scraping(
            {"groups": f"{address}/metrics", "agent": f"{agent}/metrics"}, every="200ms"
        )
        quick_rules(server.folder / "rules.yml")
        stack.enter_context(server.with_rules("rules.yml", every="1s"))
        server.wait_ready()
        scene.gather()
        wait_until(lambda: len(server.series("groups")) > 100, what="all are seen while well")
        scene.break_all()

        expected = {
            ("lost", "HashringMemberLost"),
            ("fenced", "HashringFenced"),
            ("waiting", "HashringNotSettling"),
            ("unreadable", "HashringUnreadableRecord"),
            ("late", "HashringWindowsMissed"),
            ("agent", "HashringSpoolFilling"),
        }
        raised = set()

        def all_raised():
            for one in server.ask("alerts")["alerts"]:
                if one["state"] == "firing":
                    labels = one["labels"]
                    raised.add((labels.get("group", labels.get("job")), labels["alertname"]))
            return expected <= raised

        try:
            wait_until(all_raised, within=150.0, what="each fault has its alert")
        except AssertionError as error:
            error.add_note(f"raised: {sorted(raised)}")
            raise
        deadline = time.monotonic() + 8.0
        while time.monotonic() < deadline:  # long enough for any other that waits to fire
            all_raised()
            time.sleep(0.5)
        assert raised == expected


def start_agent_whose_sink_is_away(agents, folder):
    """Start an agent that fills its spool; return the address where it listens."""
    from tests.servers.process import free_port

    port = free_port()
    (folder / "pipeline.yaml").write_text(
        yaml.safe_dump(
            {
                "sources": [{"name": "all", "meters": ["*"], "sinks": ["away"]}],
                "sinks": [
                    {"name": "away", "publishers": [f"http://127.0.0.1:{free_port()}/samples"]}
                ],
            }
        )
    )
    (folder / "polling.yaml").write_text(
        yaml.safe_dump({"sources": [{"name": "all", "interval": 3, "meters": ["hardware.*"]}]})
    )
    (folder / "agent.conf").write_text(
        f"[DEFAULT]\npipeline_cfg_file = {folder}/pipeline.yaml\n"
        f"[coordination]\nbackend_url = memory://\n"
        f"[polling]\ncfg_file = {folder}/polling.yaml\n"
        f"[hashring]\nstate_dir = {folder}/state\nspool_bytes = 65536\nlisten = 127.0.0.1:{port}\n"
    )
    agents.start_configured("s", folder / "agent.conf")
    return f"127.0.0.1:{port}"
