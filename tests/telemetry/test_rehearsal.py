"""What is found of sinks before an agent starts: by `hashring agent check`, and at the start."""

import json
import os
import re
import socket

import pytest

from hashring import plugins
from hashring.errors import BadURL, HashringError, MissingDependency
from hashring.telemetry.agent.launch import Launch
from hashring.telemetry.cli.check import problems, report
from hashring.telemetry.config import options
from hashring.telemetry.config.plan import make_plan
from hashring.telemetry.config.rehearsal import check_sinks, rehearse
from hashring.telemetry.delivery.delivery import Delivery
from hashring.telemetry.delivery.spool import Spool
from hashring.telemetry.errors import OutputFailed, SinkUnusable
from hashring.telemetry.plugin import Publisher
from hashring.telemetry.publishers.lines import FilePublisher
from hashring.telemetry.publishers.prometheus import PrometheusPublisher
from tests import begun
from tests.telemetry.publishing import SETTINGS, sample

SECRET = "hunter2SECRET"


@pytest.fixture
def configured(tmp_path):
    """Return the launch of an agent whose pipeline has these publishers."""

    def make(*publishers, state_dir="state"):
        files = {
            "polling.yaml": {
                "sources": [{"name": "load", "interval": 60, "meters": ["hardware.cpu.load.*"]}]
            },
            "pipeline.yaml": {
                "sources": [{"name": "all", "meters": ["*"], "sinks": ["out"]}],
                "sinks": [{"name": "out", "publishers": list(publishers)}],
            },
        }
        for name, content in files.items():
            (tmp_path / name).write_text(json.dumps(content))
        configuration = tmp_path / "ceilometer.conf"
        configuration.write_text(
            "[DEFAULT]\npolling_namespaces = central\npipeline_cfg_file = pipeline.yaml\n"
            "[polling]\ncfg_file = polling.yaml\n"
            f"[hashring]\nttl = 2\nstate_dir = {tmp_path / state_dir}\n"
        )
        settings = options.load([configuration], environment=False)
        return Launch(settings, True, {"member": settings.member})

    return make


@pytest.fixture
def taken():
    """Return a port of this host that something else listens on, which answers nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def found_by_check(launch):
    plan = make_plan(launch.settings)
    findings = list(rehearse(launch.settings, plan, while_agents_run=True))
    lines = list(report(launch.settings, plan, look=False, findings=findings))
    return problems(plan, findings), [line for line in lines if line.startswith("warning")]


NEVER = {
    "a Pushgateway": ("prometheus://gateway:9091/metrics/job/x", "address of a Pushgateway"),
    "an address of another host": ("prometheus://192.0.2.1:9464", "cannot listen on 192.0.2.1"),
    "a port that is taken": ("prometheus://127.0.0.1:{taken}", "Address already in use"),
    "a folder that is not there": ("file://{folder}/no/folder/x.jsonl", "No such file or dir"),
    "a file for a folder": ("file://{folder}/a_file/x.jsonl", "Not a directory"),
    "a folder for a file": ("file://{folder}", "Is a directory"),
    "no host": ("https:///in", "names no host"),
    "no port": ("prometheus://", "names no port"),
    "certificates that are none": ("https://sink/?ca={folder}/a_file", "for TLS cannot be used"),
    "no address": ("udp://sink/path", "is not an address"),
    "an unknown scheme": ("pigeon://coop", "no publisher pigeon:// is installed"),
}


@pytest.mark.parametrize("what", NEVER)
def test_a_sink_that_can_never_work_is_found_by_check_and_at_the_start(
    what, configured, taken, tmp_path
):
    (tmp_path / "a_file").write_text("not a certificate")
    url, said = NEVER[what]
    launch = configured(url.format(taken=taken, folder=tmp_path))

    told, _ = found_by_check(launch)
    with pytest.raises(HashringError) as refused:
        launch.agent()

    [problem] = told
    assert said in problem
    assert said in str(refused.value)


def test_check_ends_with_1_where_a_sink_can_never_work(configured, taken):
    launch = configured(f"prometheus://127.0.0.1:{taken}")

    done = begun.run(
        *("agent", "check", "--no-look", "--config-file", str(launch.settings.config_files[0])),
        env={name: value for name, value in os.environ.items() if not name.startswith("OS_")},
    )

    assert done.returncode == 1
    assert "problem: prometheus://127.0.0.1" in done.stdout
    assert "Address already in use" in done.stdout


def test_a_folder_for_the_spool_that_cannot_be_made_is_found_by_check(configured, tmp_path):
    (tmp_path / "a_file").touch()

    told, _ = found_by_check(configured("stdout://", state_dir="a_file/state"))

    assert len(told) == 1
    assert re.search("no spool can lie in '.*a_file/state/spool'", told[0])


def test_a_scheme_whose_extra_is_missing_is_found_by_check_and_at_the_start(
    configured, monkeypatch
):
    class Point:
        name, group, value, dist = "carrier", plugins.PUBLISHERS, "carrier:Pigeon", None

        def load(self):
            raise MissingDependency("carrier://", "pigeons", "telemetry")

    real = plugins._installed
    monkeypatch.setattr(
        plugins,
        "_installed",
        lambda group: [*real(group), *([Point()] if group == plugins.PUBLISHERS else [])],
    )
    launch = configured("carrier://coop")

    told, _ = found_by_check(launch)

    assert "pigeons" in told[0]
    with pytest.raises(MissingDependency):
        launch.agent()


def test_a_sink_that_is_away_is_no_error_since_it_may_come_back(configured, taken):
    launch = configured("http://127.0.0.1:1/in", f"http://127.0.0.1:{taken}/in", "udp://no.invalid")

    assert found_by_check(launch) == ([], [])
    launch.agent()._outlet.close(0)


def test_a_plugin_that_cannot_connect_when_it_is_made_is_a_warning_alone(configured, monkeypatch):
    class Away(FilePublisher):
        def __init__(self, url, settings):
            raise OutputFailed("the broker does not answer")

    monkeypatch.setattr("hashring.telemetry.publishers.FilePublisher", Away)
    launch = configured("file:///var/samples")

    told, warned = found_by_check(launch)

    assert told == []
    assert warned == ["warning: file:///var/samples: the broker does not answer"]
    check_sinks(["file:///var/samples"], launch.settings)


def test_a_rehearsal_leaves_nothing_behind(configured, tmp_path):
    old = tmp_path / "old.jsonl"
    old.write_text("kept\n")
    launch = configured(f"file://{tmp_path}/new.jsonl", f"file://{old}", "prometheus://127.0.0.1:0")
    before = sorted(tmp_path.rglob("*"))

    assert found_by_check(launch) == ([], [])

    assert sorted(tmp_path.rglob("*")) == before
    assert old.read_text() == "kept\n"


def test_a_port_that_a_running_agent_holds_is_a_warning_since_it_may_be_the_one_to_replace(
    configured,
):
    running = PrometheusPublisher("prometheus://127.0.0.1:0", SETTINGS)
    launch = configured(f"prometheus://127.0.0.1:{running.port}")
    try:
        told, warned = found_by_check(launch)
        with pytest.raises(SinkUnusable, match="Address already in use"):
            launch.agent()
    finally:
        running.close()

    assert told == []
    assert len(warned) == 1
    assert "an agent that runs now holds it" in warned[0]
    assert found_by_check(launch) == ([], [])


def test_a_reload_with_a_new_sink_that_can_never_work_changes_nothing(configured, tmp_path):
    launch = configured(f"file://{tmp_path}/x.jsonl")
    agent = launch.agent()
    try:
        configured(f"file://{tmp_path}/x.jsonl", "prometheus://gw:9091/metrics/job/x")
        with pytest.raises(BadURL, match="Pushgateway"):
            agent._load()
        configured(f"file://{tmp_path}/x.jsonl", f"file://{tmp_path}/y.jsonl")

        _, plan = agent._load()
    finally:
        agent._outlet.close(0)

    assert len(plan.targets) == 2


def test_no_secret_of_a_sink_is_in_what_check_says_or_what_the_start_says(configured):
    for url in (
        f"https://sink/in?api_key={SECRET}",
        f"https://{SECRET}@sink/in?timeout=soon",
        f"https://me:a/{SECRET}@sink/in",
        f"prometheus://me:{SECRET}@127.0.0.1:0",
        f"https://sink:{SECRET}/in",
    ):
        launch = configured(url)
        plan = make_plan(launch.settings)
        findings = list(rehearse(launch.settings, plan))
        lines = list(report(launch.settings, plan, look=False, findings=findings))
        with pytest.raises(HashringError) as refused:
            launch.agent()

        assert any(line.startswith("problem") for line in lines)
        assert SECRET not in f"{lines} {refused.value!r}", url


# -- an agent that ends


def test_an_agent_that_ends_does_not_wait_for_a_sink_that_can_never_work(tmp_path, until):
    made = []

    def make(url):
        made.append(url)
        raise SinkUnusable("the port is taken")

    spool = Spool(tmp_path, max_bytes=1 << 20)
    delivery = Delivery(spool, make, make_pause=600.0)
    delivery.put([(sample(), ("never://",))])
    until(lambda: made, "it was tried")

    def end():
        delivery.close(600.0)  # as long as a test never takes

    end()

    assert len(made) >= 2, "it was tried once more at the end"
    assert delivery.counts["never://"].waiting == 1


def test_an_agent_that_ends_still_waits_for_a_sink_that_may_come_back(tmp_path, until):
    class Shelf(Publisher):
        taken = 0

        def publish(self, samples):
            self.taken += len(samples)

        def close(self): ...

    shelf, tries = Shelf("away://", SETTINGS), []

    def make(url):
        tries.append(url)
        if len(tries) < 4:
            raise OutputFailed("no answer")
        return shelf

    delivery = Delivery(Spool(tmp_path, max_bytes=1 << 20), make, first_pause=0.02)
    delivery.put([(sample(), ("away://",))])
    until(lambda: tries, "it was tried")
    delivery.close(60.0)

    assert shelf.taken == 1
