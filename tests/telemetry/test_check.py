"""What `hashring agent check` prints, and its exit code: read by operators and by scripts."""

import json
import os
import re
from pathlib import Path

import pytest

import hashring
from hashring.telemetry.cli.check import problems, report
from hashring.telemetry.config.plan import make_plan
from hashring.telemetry.model.sample import Meter, MeterType
from hashring.telemetry.sources.web.targets import static_resource
from tests import begun
from tests.telemetry.plant import TTL, Heats, Levels, LocalTanks, Tanks, plan, plugins, settings

CEILOMETER = Path(__file__).with_name("ceilometer")


def run(*arguments, folder):
    return begun.run(
        *("agent", "check", *arguments),
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith("OS_")},
            "XDG_STATE_HOME": str(folder),
        },
    )


@pytest.fixture
def definitions(tmp_path):
    """Return settings with a polling definition and, if wanted, a pipeline."""

    def write(*sources, publishers=None, **changes):
        polling = tmp_path / "polling.yaml"
        whole = [
            {"name": f"s{number}", "interval": 60, "meters": ["*"]} | found
            for number, found in enumerate(sources)
        ]
        polling.write_text(json.dumps({"sources": whole}))
        if publishers is not None:
            pipeline = tmp_path / "pipeline.yaml"
            sinks = [{"name": name, "publishers": urls} for name, (_, urls) in publishers.items()]
            wanted = [
                {"name": f"to {name}", "meters": meters, "sinks": [name]}
                for name, (meters, _) in publishers.items()
            ]
            pipeline.write_text(json.dumps({"sources": wanted, "sinks": sinks}))
            changes["pipeline_file"] = pipeline
        return settings(**{"group": None, "polling_file": polling, "host": "web1"} | changes)

    return write


def told(given, found, **options):
    return "\n".join(report(given, found, **options))


def test_it_says_what_is_polled_how_often_by_whom_and_to_where(definitions):
    given = definitions(
        {"discovery": ["tanks"], "meters": ["tank.*"], "interval": 30},
        {"discovery": ["sheds"], "meters": ["tank.heat"]},
        publishers={
            "levels": (["tank.level"], ["stdout://"]),
            "all": (["*"], ["file:///var/samples"]),
        },
        backend_url="redis://cache",
        group_prefix="blue",
    )
    found = plan(given, Levels(given), Heats(given), tanks=Tanks(given), sheds=LocalTanks(given))

    lines = told(given, found, look=False).splitlines()

    assert lines[lines.index("group blue-discovery:tanks") :] == [
        "group blue-discovery:tanks",
        "    resources: discovery tanks",
        "    polled by: all agents of this store with this prefix, each resource by one of them",
        "    every 30 s",
        "        source 's0': tank.heat",
        "            to file:///var/samples",
        "        source 's0': tank.level",
        "            to stdout://, file:///var/samples",
        "",
        "group blue-discovery:sheds@web1",
        "    resources: discovery sheds",
        "    polled by: the agents of web1, each resource by one of them",
        "    every 60 s",
        "        source 's1': tank.heat",
        "            to file:///var/samples",
    ]
    assert f"polling: {given.polling_file}" in lines
    assert f"pipeline: {given.pipeline_file}" in lines
    assert "partitioning_group_prefix: blue" in lines


def test_what_goes_nowhere_and_what_nobody_tells_is_said(definitions):
    given = definitions(
        {"discovery": ["tanks"], "meters": ["tank.level", "cpu"]},
        publishers={"heats": (["tank.heat"], ["stdout://"])},
    )
    found = plan(given)

    text = told(given, found, look=False)

    assert "to no sink: not published" in text
    assert "source 's0': no pollster here tells cpu" in text
    assert problems(found) == []


def test_a_store_of_one_host_is_called_one(definitions):
    given = definitions({})

    text = told(given, plan(given), look=False)

    assert "agents of other hosts are not seen" in text
    assert "the agents of web1 on this store" in text


def test_secrets_are_masked_wherever_they_stand(definitions):
    given = definitions(
        {"resources": ["tank://me:hunter2@switch"], "discovery": ["tanks://me:hunter2@sd"]},
        publishers={"coop": (["*"], ["pigeon://me:hunter2@coop?password=hunter2"])},
        backend_url="redis://:hunter2@127.0.0.1:1/0?connect_timeout=0.2",
    )
    found = plan(given)

    text = told(given, found)

    assert "hunter2" not in text
    assert "cannot be told" in text  # nobody answers there
    assert static_resource("snmp://me:hunter2@switch").id == "snmp://me:***@switch"
    [problem] = problems(found)
    assert f"problem: {problem}" in text


def test_who_polls_now_is_read_from_the_store(definitions, tmp_path):
    given = definitions({}, backend_url=f"sqlite://{tmp_path}/group.db")
    found = plan(given)

    assert "(now: nobody)" in told(given, found)
    with (
        hashring.join(given.backend_url, "discovery:tanks", "web1-1", ttl=TTL) as first,
        hashring.join(given.backend_url, "discovery:tanks", "watcher", weight=0, ttl=TTL),
    ):
        assert first.wait_settled(60)

        assert "(now: web1-1)" in told(given, found)
        assert "now:" not in told(given, found, look=False)


def test_everything_is_one_group_where_that_is_wanted(definitions):
    given = definitions({}, group="one")

    assert "group one" in told(given, make_plan(given, plugins(given))).splitlines()


# ---- the command, on the files that operators have


def test_ceilometers_own_polling_definition_is_explained(tmp_path):
    configuration = tmp_path / "ceilometer.conf"
    configuration.write_text(f"[polling]\ncfg_file = {CEILOMETER / 'polling.yaml'}\n")

    done = run(
        "--config-file", str(configuration), "--polling-namespaces", "central", folder=tmp_path
    )

    assert done.returncode == 0, done.stderr
    assert f"polling: {CEILOMETER / 'polling.yaml'}" in done.stdout
    # Of the names in it, those of the host are the central agent's here.
    [line] = re.findall(r"source 'some_pollsters': (hardware\.cpu\.util, .*)", done.stdout)
    assert line.split(", ") == [
        "hardware.cpu.util",
        "hardware.memory.buffer",
        "hardware.memory.cached",
        "hardware.memory.swap.avail",
        "hardware.memory.swap.total",
        "hardware.memory.total",
        "hardware.memory.used",
    ]
    assert set(re.findall(r"every (\S+) s", done.stdout)) == {"300"}
    unserved = re.search(r"source 'some_pollsters': no pollster here tells (.*)", done.stdout)[1]
    assert {"cpu", "hardware.network.ip.outgoing.datagrams"} <= set(unserved.split(", "))


def test_a_pipeline_that_names_a_publisher_nobody_has_fails_and_is_printed(tmp_path):
    pipeline = tmp_path / "pipeline.yaml"
    pipeline.write_text(
        json.dumps(
            {
                "sources": [
                    {"name": "old", "interval": 600, "meters": ["hardware.*"], "sinks": ["bus"]}
                ],
                "sinks": [{"name": "bus", "publishers": ["notifier://"]}],
            }
        )
    )
    configuration = tmp_path / "ceilometer.conf"
    configuration.write_text(f"[DEFAULT]\npipeline_cfg_file = {pipeline}\n")

    done = run(
        "--config-file", str(configuration), "--polling-namespaces", "central", folder=tmp_path
    )

    assert done.returncode == 1
    assert "every 600 s" in done.stdout
    assert "problem: sink 'bus': no publisher notifier:// is installed" in done.stdout


@pytest.mark.parametrize(
    ("content", "complaint"),
    [("[hashring]\ncolour = red\n", "colour"), ("[polling]\ncfg_file = /nowhere\n", "/nowhere")],
)
def test_a_configuration_that_is_wrong_is_one_line_and_exit_code_2(tmp_path, content, complaint):
    configuration = tmp_path / "ceilometer.conf"
    configuration.write_text(content)

    done = run("--config-file", str(configuration), folder=tmp_path)

    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert line.startswith("hashring: ")
    assert complaint in line


def test_options_of_the_first_form_are_refused_where_files_configure(tmp_path):
    done = begun.run("agent", "--interval", "5", "check")

    assert done.returncode == 2
    assert "--interval" in done.stderr


class Instances(Levels):
    """Tells what a compute agent does, by name."""

    kinds = frozenset({"instance"})
    meters = (Meter("cpu", MeterType.CUMULATIVE, "ns"),)
    default_discovery = "local_instances"


class Hosts(Levels):
    """Tells what an agent asks over SNMP, by name."""

    kinds = frozenset({"snmp"})
    meters = (Meter("hardware.cpu.util", MeterType.GAUGE, "%"),)
    default_discovery = "hosts"


def test_a_pipeline_of_old_is_explained_as_its_documentation_does():
    given = settings(
        group=None, pipeline_file=CEILOMETER / "pipeline_mitaka.yaml", backend_url="redis://cache"
    )
    found = plan(
        given, Instances(given), Hosts(given), local_instances=Tanks(given), hosts=Tanks(given)
    )

    text = told(given, found, look=False)

    by_group = dict(re.findall(r"^group (\S+)\n(.*?)(?=^\S|\Z)", text, re.MULTILINE | re.DOTALL))
    [static] = [name for name in by_group if name.startswith("resources:")]
    # Every minute and every ten: two sources, a group for each.
    cpu = [line.strip() for line in by_group["discovery:local_instances"].splitlines()]
    assert cpu[cpu.index("every 60 s") + 1] == "source 'cpu_source': cpu"
    cpu = [line.strip() for line in by_group["discovery:local_instances/600s"].splitlines()]
    assert cpu[cpu.index("every 600 s") + 1] == "source 'meter_source': cpu"
    # The other source's resources are polled for what the first one leaves out.
    assert "2 static resources" in by_group[static]
    assert "source 'network_source': hardware.cpu.util" in by_group[static]
    assert "every 600 s" in by_group[static]
    assert set(by_group) == {
        "discovery:local_instances",
        "discovery:local_instances/600s",
        static,
    }
    # Ceilometer's own bus is not ours, which an operator is told before the agent starts.
    assert any("no publisher notifier:// is installed" in problem for problem in problems(found))
