"""From an operator's ceilometer.conf to an agent's settings."""

from __future__ import annotations

import dataclasses
import logging
import pickle
from pathlib import Path

import pytest

from hashring.telemetry.config import declared, options
from hashring.telemetry.config.options import load
from hashring.telemetry.model.settings import Settings
from hashring.telemetry.sources.host import machine
from tests.telemetry.operators import Write, refused

pytestmark = pytest.mark.usefixtures("bare_machine")


# -- what is told


def test_without_any_file_an_agent_has_the_store_of_its_host_and_ceilometers_defaults(
    tmp_path: Path,
):
    settings = load()

    state = tmp_path / "state" / "hashring"
    assert settings == Settings(
        backend_url=f"sqlite://{state}/agents.db",
        member=settings.member,
        host=machine.host_id(),
        namespaces=("central", "compute"),
        heartbeat=1.0,
        libvirt_uri="qemu:///system",
        state_dir=state,
        spread=0.8,
    )
    assert options.is_embedded(settings.backend_url)
    assert not state.exists()


def test_two_agents_of_one_host_have_ids_of_their_own_that_begin_with_its_name(write: Write):
    file = write("[DEFAULT]\nhost = web1\n")

    members = {load([file]).member for _ in range(2)}

    assert len(members) == 2
    assert all(member.startswith("web1-") for member in members)


EVERY_OPTION = """
        [DEFAULT]
        host = web1
        polling_namespaces = compute
        pipeline_cfg_file = pipe.yaml
        libvirt_uri = test:///default
        [coordination]
        backend_url = redis://cache:6379?timeout=20
        heartbeat = 3
        retry_backoff = 2
        max_retry_interval = 20
        [polling]
        cfg_file = poll.yaml
        partitioning_group_prefix = east
        batch_size = 7
        pollsters_definitions_dirs = one.d
        pollsters_definitions_dirs = two.d
        [compute]
        workload_partitioning = True
        [hashring]
        member = agent1
        state_dir = /var/lib/agents
        spool_bytes = 1000000
        threads = 4
        max_in_flight = 500
        max_per_host = 8
        scrape_protocols = OpenMetricsText1.0.0, PrometheusText0.0.4
        poll_timeout = 2.5
        spread = 0.25
        on_crash = skip
        drain_timeout = 9
        interval = 30
        output = udp://sink:4952
        allow_overlap = yes
        status_file = /run/agent.json
        listen = :9465
        """


def test_every_option_of_a_file_reaches_the_settings(write: Write, tmp_path: Path):
    write("sources: []", "poll.yaml")
    write("sources: []", "pipe.yaml")
    (tmp_path / "one.d").mkdir()
    (tmp_path / "two.d").mkdir()
    file = write(EVERY_OPTION)

    settings = load([file])

    assert settings == Settings(
        backend_url="redis://cache:6379",
        member="agent1",
        host="web1",
        namespaces=("compute",),
        ttl=20.0,
        heartbeat=3.0,
        retry_backoff=2.0,
        max_retry_interval=20.0,
        group_prefix="east",
        allow_overlap=True,
        workload_partitioning=True,
        libvirt_uri="test:///default",
        polling_file=tmp_path / "poll.yaml",
        pipeline_file=tmp_path / "pipe.yaml",
        definition_dirs=(tmp_path / "one.d", tmp_path / "two.d"),
        interval=30.0,
        output="udp://sink:4952",
        state_dir=Path("/var/lib/agents"),
        spool_bytes=1_000_000,
        batch_size=7,
        threads=4,
        max_in_flight=500,
        max_per_host=8,
        scrape_protocols=("OpenMetricsText1.0.0", "PrometheusText0.0.4"),
        poll_timeout=2.5,
        spread=0.25,
        on_crash="skip",
        status_file=Path("/run/agent.json"),
        listen="127.0.0.1:9465",
        drain_timeout=9.0,
        config_files=(file,),
    )
    assert pickle.loads(pickle.dumps(settings)) == settings


def test_later_files_folders_the_environment_and_the_command_line_win(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    names = ("threads", "ttl", "interval", "poll_timeout", "drain_timeout")
    first = write("[hashring]\n" + "".join(f"{name} = 21\n" for name in names), "one.conf")
    second = write("[hashring]\n" + "".join(f"{name} = 22\n" for name in names[1:]), "two.conf")
    write("[hashring]\n" + "".join(f"{name} = 23\n" for name in names[2:]), "more/a.conf")
    write("[hashring]\n" + "".join(f"{name} = 24\n" for name in names[2:]), "more/b.conf")
    write("[hashring]\nttl = 99\n", "more/not-read.txt")
    monkeypatch.setenv("OS_HASHRING__POLL_TIMEOUT", "25")
    monkeypatch.setenv("OS_HASHRING__DRAIN_TIMEOUT", "26")

    settings = load([first, second], [tmp_path / "more"], drain_timeout=27, threads=None)

    assert [getattr(settings, name) for name in names] == [21, 22, 24, 25, 27]
    assert settings.config_files == (first, second)
    assert settings.config_dirs == (tmp_path / "more",)


def test_the_environment_gives_options_of_every_section_unless_it_is_left_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv("OS_COORDINATION__BACKEND_URL", "zookeeper://zk1?timeout=12")
    monkeypatch.setenv("OS_DEFAULT__HOST", "web7")
    monkeypatch.setenv("OS_POLLING__POLLSTERS_DEFINITIONS_DIRS", str(tmp_path))
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/hashring:/var/lib/other")

    settings, without = load(), load(environment=False)

    assert (settings.backend_url, settings.ttl) == ("zookeeper://zk1", 12.0)
    assert settings.host == "web7"
    assert settings.definition_dirs == (tmp_path,)
    assert settings.state_dir == Path("/var/lib/hashring")
    assert without.host == machine.host_id()
    assert options.is_embedded(without.backend_url)
    assert without.state_dir == tmp_path / "state" / "hashring"


def test_what_only_the_command_line_says_is_taken_as_it_is():
    settings = load(cycles=3, only=["a", "b"], patience=2, group="all")

    assert (settings.cycles, settings.only, settings.patience) == (3, ("a", "b"), 2.0)
    assert settings.group == "all"


def test_every_setting_can_be_given_by_the_command_line(write: Write, tmp_path: Path):
    wanted = Settings(
        backend_url="memory://",
        member="agent1",
        host="web1",
        namespaces=("compute",),
        ttl=30.0,
        heartbeat=3.0,
        retry_backoff=2.0,
        max_retry_interval=20.0,
        group="all",
        group_prefix="east",
        allow_overlap=True,
        workload_partitioning=True,
        libvirt_uri="test:///default",
        polling_file=write("", "poll.yaml"),
        pipeline_file=write("", "pipe.yaml"),
        definition_dirs=(tmp_path,),
        interval=3.0,
        output="udp://sink:4952",
        state_dir=tmp_path,
        spool_bytes=1_000_000,
        batch_size=7,
        threads=4,
        max_in_flight=500,
        max_per_host=8,
        scrape_protocols=("OpenMetricsText1.0.0", "PrometheusText0.0.4"),
        poll_timeout=2.5,
        spread=0.25,
        on_crash="skip",
        cycles=3,
        only=("a",),
        status_file=tmp_path / "status",
        listen="127.0.0.1:9465",
        token_file=write("correct-horse-battery", "token"),
        patience=5.0,
        drain_timeout=9.0,
    )
    given = {field.name: getattr(wanted, field.name) for field in dataclasses.fields(wanted)}
    del given["config_files"], given["config_dirs"]
    del given["token"]  # whoever lists processes would see it there

    assert load(**given) == wanted
    for name, value in given.items():
        assert value != getattr(load(backend_url="redis://a", host="b", member="c"), name), name


def test_two_agents_of_one_process_do_not_share_their_configuration(write: Write):
    first = write("[hashring]\nthreads = 3\n", "one.conf")
    second = write("[hashring]\nthreads = 4\n", "two.conf")

    assert [load([file]).threads for file in (first, second, first)] == [3, 4, 3]


def test_sections_and_default_options_of_other_services_are_left_alone(
    write: Write, caplog: pytest.LogCaptureFixture
):
    file = write(
        """
        [DEFAULT]
        transport_url = rabbit://u:p@h
        pollster_list = disk.*
        [keystone_authtoken]
        auth_url = http://keystone
        [publisher]
        telemetry_secret = x
        """
    )

    with caplog.at_level(logging.WARNING):
        load([file])

    assert caplog.records == []


def test_options_of_ceilometers_without_effect_are_named_once_each(
    write: Write, caplog: pytest.LogCaptureFixture
):
    without = [name for name in declared.WITHOUT_EFFECT if name[0] != "coordination"]
    lines = [f"[{section}]\n{name} = 1\n{name} = 2\n" for section, name in without]
    file = write("".join(lines) + "[coordination]\ncheck_watchers = 5\n")

    with caplog.at_level(logging.WARNING):
        load([file])

    said = [record.getMessage() for record in caplog.records]
    assert len(said) == len(declared.WITHOUT_EFFECT) == 16
    assert all("has no effect here: " in one and str(file) in one for one in said)


def test_an_option_of_another_release_is_named_in_the_log_and_ignored(
    write: Write, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    file = write("[polling]\nzzz = sesame\n[compute]\nreport_stopped_instance_metrics = True\n")
    monkeypatch.setenv("OS_COMPUTE__YYY", "sesame")

    with caplog.at_level(logging.WARNING):
        load([file])

    assert f"{file}:2: [polling] zzz is unknown, and is ignored" in caplog.text
    assert "environment: OS_COMPUTE__YYY is unknown, and is ignored" in caplog.text
    assert f"{file}:4: [compute] report_stopped_instance_metrics has no effect here" in caplog.text
    assert "sesame" not in caplog.text


def test_an_overriding_url_is_in_our_spelling_and_the_one_in_the_file_is_not_looked_at(
    write: Write,
):
    file = write("[coordination]\nbackend_url = nonsense\n")

    settings = load([file], backend_url="redis://a?timeout=2&ttl=7")

    assert settings.backend_url == "redis://a?timeout=2&ttl=7"
    assert settings.ttl == 7.0
    assert load([file], backend_url="redis://a", ttl=4).ttl == 4.0


def test_a_default_heartbeat_gives_way_to_a_short_lease_but_one_that_is_set_does_not(write: Write):
    file = write("[coordination]\nheartbeat = 2\n")

    assert load(ttl=2).heartbeat is None
    assert load(ttl=3).heartbeat == 1.0
    assert load([file], ttl=3).heartbeat == 2.0


def test_a_batch_of_none_is_a_batch_of_one_as_in_ceilometer(write: Write):
    assert load([write("[polling]\nbatch_size = 0\n")]).batch_size == 1


@pytest.mark.parametrize(
    ("text", "split"),
    [
        ("workload_partitioning = True", True),
        ("instance_discovery_method = workload_partitioning", True),
        ("instance_discovery_method = libvirt_metadata", False),
        ("instance_discovery_method = naive", False),
    ],
)
def test_partitioning_of_instances_has_two_names(write: Write, text: str, split: bool):
    assert load([write(f"[compute]\n{text}\n")]).workload_partitioning is split


def test_the_namespaces_are_named_once_in_order_and_ipmi_is_left_out(
    write: Write, caplog: pytest.LogCaptureFixture
):
    file = write("[DEFAULT]\npolling_namespaces = ipmi,compute,central,central\n")

    assert load([file]).namespaces == ("central", "compute")
    assert "no pollsters for ipmi" in caplog.text
    assert load([file], namespaces=("compute",)).namespaces == ("compute",)


@pytest.mark.parametrize(
    ("text", "uri"),
    [
        ("", "qemu:///system"),
        ("libvirt_type = xen", "xen:///system"),
        ("libvirt_type = xen\nlibvirt_uri = test:///default", "test:///default"),
    ],
)
def test_the_hypervisor_connection_is_named_or_told_by_its_kind(write: Write, text: str, uri: str):
    assert load([write(f"[DEFAULT]\n{text}\n")]).libvirt_uri == uri


# -- where definitions lie


def test_definitions_are_looked_for_in_folders_then_beside_files_then_in_the_systems(
    write: Write, tmp_path: Path
):
    for name in ("polling.yaml", "pipeline.yaml"):
        write("sources: []", f"system/{name}")
    file = write("", "conf/ceilometer.conf")
    found = [load([file], [tmp_path / "more"]).polling_file for _ in [write("", "more/x.conf")]]
    for folder in ("conf", "more"):
        write("sources: []", f"{folder}/polling.yaml")
        found.append(load([file], [tmp_path / "more"]).polling_file)

    assert found == [tmp_path / folder / "polling.yaml" for folder in ("system", "conf", "more")]
    assert load([file]).pipeline_file == tmp_path / "system" / "pipeline.yaml"


def test_a_definition_in_the_current_folder_is_not_taken_by_chance(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    write("sources: []", "elsewhere/polling.yaml")
    monkeypatch.chdir(tmp_path / "elsewhere")

    assert load().polling_file is None


def test_a_definition_that_is_named_must_be_there_and_an_empty_name_is_none(
    write: Write, tmp_path: Path
):
    write("sources: []", "pipeline.yaml")
    missing = write("[polling]\ncfg_file = polling.yaml\n", "one.conf")
    none = write("[DEFAULT]\npipeline_cfg_file =\n", "two.conf")

    message = refused(missing)

    assert message.startswith(f"{missing}:2: [polling] cfg_file = 'polling.yaml': ")
    assert str(tmp_path / "system" / "polling.yaml") in message
    assert load([none]).pipeline_file is None
    assert "--polling-file" in refused(polling_file="/nowhere/polling.yaml")
    assert load(polling_file=none).polling_file == none


def test_folders_of_pollsters_come_with_commas_too_and_must_be_there_if_named(
    write: Write, tmp_path: Path
):
    file = write(f"[polling]\npollsters_definitions_dirs = {tmp_path},nowhere\n")

    assert "there is no folder 'nowhere'" in refused(file)
    assert load([file], definition_dirs=[tmp_path]).definition_dirs == (tmp_path,)
    assert "--definition-dirs: there is no folder" in refused(definition_dirs=["/nowhere"])
