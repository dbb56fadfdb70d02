"""From an operator's ceilometer.conf to an agent's settings, and what is refused on the way."""

from __future__ import annotations

import dataclasses
import logging
import os
import pickle
import re
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hashring.telemetry.config import declared, options
from hashring.telemetry.config.definitions import load_pipeline, load_polling
from hashring.telemetry.config.options import list_opts, load
from hashring.telemetry.errors import BadOption
from hashring.telemetry.model.settings import Settings
from hashring.telemetry.sources.host import machine

REPOSITORY = Path(__file__).parents[2]
PAGE = REPOSITORY / "docs" / "agents" / "configuration.md"

Write = Callable[..., Path]


@pytest.fixture(autouse=True)
def _this_machine_has_no_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("OS_")]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(options, "SYSTEM_FOLDER", tmp_path / "system")


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def file(text: str, name: str = "ceilometer.conf") -> Path:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(text))
        return path

    return file


def refused(*files: Path, **overrides: Any) -> str:
    with pytest.raises(BadOption) as caught:
        load(files, **overrides)
    return str(caught.value)


# -- what is told ---------------------------------------------------------------------------------


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


def test_every_option_of_a_file_reaches_the_settings(write: Write, tmp_path: Path):
    write("sources: []", "poll.yaml")
    write("sources: []", "pipe.yaml")
    (tmp_path / "one.d").mkdir()
    (tmp_path / "two.d").mkdir()
    file = write(
        """
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
    )

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
        poll_timeout=2.5,
        spread=0.25,
        on_crash="skip",
        cycles=3,
        only=("a",),
        status_file=tmp_path / "status",
        listen="127.0.0.1:9465",
        patience=5.0,
        drain_timeout=9.0,
    )
    given = {field.name: getattr(wanted, field.name) for field in dataclasses.fields(wanted)}
    del given["config_files"], given["config_dirs"]

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


# -- where definitions lie ------------------------------------------------------------------------


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


# -- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("section", "line", "said"),
    [
        ("coordination", "heartbeat = often", "[coordination] heartbeat = 'often': "),
        ("coordination", "heartbeat = 0", "heartbeat = '0': "),
        ("coordination", "heartbeat = nan", "must be a number of seconds"),
        ("coordination", "heartbeat =", "must be a number of seconds"),
        ("coordination", "retry_backoff = -1", "retry_backoff = '-1': "),
        ("coordination", "retry_backoff = 60", "must not be greater than [coordination]"),
        ("coordination", "max_retry_interval = 0.5", "must not be less than [coordination]"),
        ("coordination", "backend_ulr = redis://u:sesame@a", "did you mean 'backend_url'?"),
        ("coordination", "backend_url = redis://u:sesame@a?timeout=1", "heartbeat = 1 s"),
        ("coordination", "backend_url = redis://u:$sesame@a", "a dollar sign is written $$"),
        ("coordination", "backend_url = redis://a?tiemout=1", "did you mean 'timeout'?"),
        ("polling", "batch_size = many", "batch_size = 'many': "),
        ("polling", "batch_size =", "must be a whole number"),
        ("polling", "backend_url = redis://a", "did you mean [coordination] backend_url?"),
        ("compute", "report_stoped_instance_metrics = 1", "'report_stopped_instance_metrics'?"),
        ("hashring", "zzz = 1", "unknown option; [hashring] has: allow_overlap, drain_timeout, "),
        ("central", "partitioning_prefix = a", "did you mean 'partitioning_group_prefix'?"),
        ("compute", "workload_partitioning = maybe", "workload_partitioning = 'maybe': "),
        ("compute", "instance_discovery_method = nova", "'nova': "),
        ("hashring", "ttl = 0", "ttl = '0': Should be greater than or equal to 0.1"),
        ("hashring", "ttl = inf", "ttl = 'inf': Should be less than or equal to"),
        ("hashring", "spread = 1.5", "spread = '1.5': "),
        ("hashring", "spread = nan", "must be a number from 0 to 1"),
        ("hashring", "threads = 0", "threads = '0': "),
        ("hashring", "threads = 2.5", "threads = '2.5': "),
        ("hashring", "spool_bytes = 1", "spool_bytes = '1': "),
        ("hashring", "on_crash = cry", "on_crash = 'cry': "),
        ("hashring", "member =", "must not be empty"),
        ("hashring", "tll = 5", "did you mean 'ttl'?"),
        ("Hashring", "sesame_token = sesame", "unknown option"),
        ("DEFAULT", "polling_namespaces = centrl", "polling_namespaces = 'centrl': "),
        ("DEFAULT", "polling_namespaces =", "name central, compute or both"),
        ("DEFAULT", "polling_namespaces = ipmi", "name central, compute or both"),
        ("DEFAULT", "pipeline_cfg_file = ~nobody-of-this-name/x", "there is no such file"),
        ("DEFAULT", "host = $nobody", "a dollar sign is written $$"),
        ("DEFAULT", "libvirt_type = vmware", "libvirt_type = 'vmware': "),
    ],
)
def test_a_bad_option_is_refused_with_file_line_section_option_and_value(
    write: Write, section: str, line: str, said: str
):
    file = write(f"# a comment\n\n[{section}]\n{line}\n")

    message = refused(file)

    assert message.startswith(f"{file}:4: "), message
    assert line.partition(" ")[0] in message
    assert f"[{section if section == 'DEFAULT' else section.lower()}]" in message
    assert said in message
    assert "u:sesame" not in message
    assert "'sesame'" not in message


def test_a_bad_variable_is_refused_by_its_name(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OS_HASHRING__TTL", "forever")
    assert refused().startswith("environment: OS_HASHRING__TTL = 'forever': ")
    monkeypatch.delenv("OS_HASHRING__TTL")

    monkeypatch.setenv("OS_COORDINATION__BACKEND_ULR", "redis://u:sesame@a")
    message = refused()
    assert "OS_COORDINATION__BACKEND_ULR = 'redis://u:***@a'" in message
    assert "did you mean 'backend_url'?" in message
    monkeypatch.delenv("OS_COORDINATION__BACKEND_ULR")

    monkeypatch.setenv("OS_COORDINATION__BACKEND_URL", "redis://a?timeout=1")
    assert refused().startswith("environment: OS_COORDINATION__BACKEND_URL: [coordination] ")
    monkeypatch.delenv("OS_COORDINATION__BACKEND_URL")

    monkeypatch.setenv("OS_CENTRAL__PARTITIONING_GROUP_PREFIX", "east")
    assert "set OS_POLLING__PARTITIONING_GROUP_PREFIX" in refused()


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"ttl": 0}, "--ttl = 0: "),
        ({"threads": 2.5}, "--threads = 2.5: must be a whole number"),
        ({"threads": "many"}, "--threads = 'many': must be a whole number"),
        ({"ttl": "soon"}, "--ttl = 'soon': must be a number of seconds"),
        ({"spread": "wide"}, "--spread = 'wide': must be a number from 0 to 1"),
        ({"on_crash": "cry"}, "--on-crash = 'cry': "),
        ({"host": ""}, "--host = '': must not be empty"),
        ({"cycles": 0}, "--cycles = 0: "),
        ({"patience": -1}, "--patience = -1: "),
        ({"namespaces": ("moon",)}, "--namespaces = 'moon'"),
        ({"namespaces": ("ipmi",)}, "name central, compute or both"),
        (
            {"backend_url": "redis://a?x=1"},
            "--backend-url: redis://a?x=1: unknown option 'x'",
        ),
        ({"backend_url": "nope://a"}, "--backend-url: no driver serves nope://"),
        ({"retry_backoff": 31}, "--retry-backoff = 31: must not be greater than [coordination]"),
        ({"max_retry_interval": 0}, "--max-retry-interval = 0: must not be less than"),
        ({"ttl": 5, "heartbeat": 5}, "--ttl = 5 s must be longer than --heartbeat = 5 s"),
    ],
)
def test_a_bad_override_is_refused_by_its_flag(overrides: dict[str, Any], said: str):
    assert said in refused(**overrides)


def test_a_setting_that_does_not_exist_is_a_mistake_of_the_program():
    with pytest.raises(TypeError, match="no such settings: tll"):
        load(tll=5)


def test_a_lease_that_does_not_exceed_the_heartbeat_is_refused_with_both(write: Write):
    file = write("[coordination]\nheartbeat = 10\n[hashring]\nttl = 10\n")
    cache = write("[coordination]\nheartbeat=30\nbackend_url=memcached://m?timeout=30\n", "m.conf")

    assert (
        f"{file}:4: [hashring] ttl = 10 s must be longer than "
        f"{file}:2: [coordination] heartbeat = 10 s" in refused(file)
    )
    assert "timeout = 30 s" in refused(cache)
    assert "[coordination] heartbeat = 30 s" in refused(cache)
    assert refused(cache).startswith(f"{cache}:3: ")


def test_the_lease_may_be_said_twice_but_only_if_it_is_the_same(write: Write):
    text = "[coordination]\nbackend_url = redis://a?timeout=20\n[hashring]\nttl = {}\n"
    same, other = write(text.format(20), "a.conf"), write(text.format(15), "b.conf")

    assert load([same]).ttl == 20.0
    assert f"{other}:4: [hashring] ttl = '15' contradicts the 20 s in {other}:2: " in refused(other)
    assert load([other], ttl=5).ttl == 5.0


def test_the_prefix_works_in_its_old_section_but_the_two_must_agree(write: Write):
    text = "[{}]\npartitioning_group_prefix = {}\n"
    old = write(text.format("central", "east"), "old.conf")
    same = write(text.format("polling", "east"), "same.conf")
    other = write(text.format("polling", "west"), "other.conf")

    assert load([old]).group_prefix == "east"
    assert load([old, same]).group_prefix == "east"
    for files in ((old, other), (other, old)):
        message = refused(*files)
        assert f"{other}:2: [polling] partitioning_group_prefix = 'west'" in message
        assert f"{old}:2: [central] partitioning_group_prefix = 'east'" in message


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("host = a\n", 1, "no section has begun"),
        ("[DEFAULT\n", 1, "must end with ]"),
        ("[DEFAULT]\nsesame\n", 2, "No ':' or '='"),
        ("[]\n", 1, "Empty section name"),
        ("[DEFAULT]\n  more\n", 2, "continuation"),
    ],
)
def test_a_file_that_is_no_configuration_is_refused_by_line(
    write: Write, text: str, line: int, said: str
):
    file = write(text)

    message = refused(file)

    assert message.startswith(f"{file}:{line}: ")
    assert said in message
    assert "sesame" not in message


def test_a_missing_file_folder_and_bytes_are_refused(tmp_path: Path):
    (tmp_path / "latin.conf").write_bytes(b"[DEFAULT]\nhost = \xe4\n")

    assert "nowhere.conf: cannot be read: No such file" in refused(tmp_path / "nowhere.conf")
    assert "not UTF-8 at byte 17" in refused(tmp_path / "latin.conf")
    with pytest.raises(BadOption, match=r"--config-dir .*nowhere: cannot be read: No such file"):
        load([], [tmp_path / "nowhere"])


# -- the generator and the page -------------------------------------------------------------------


def test_every_option_has_a_help_that_is_a_sentence():
    for section, opts in list_opts():
        for opt in opts:
            assert opt.help, f"[{section}] {opt.name}"
            assert opt.help[0].isupper(), f"[{section}] {opt.name}"
            assert opt.help.endswith("."), f"[{section}] {opt.name}"


def test_oslo_config_generator_writes_a_sample_that_is_the_defaults(tmp_path: Path):
    declared = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    point = declared["entry-points"]["oslo.config.opts"]["hashring"]
    installed = tmp_path / "site" / "sample-1.0.dist-info"
    installed.mkdir(parents=True)
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: sample\nVersion: 1.0\n")
    (installed / "entry_points.txt").write_text(f"[oslo.config.opts]\nhashring-sample = {point}\n")
    sample = tmp_path / "sample.conf"

    subprocess.run(
        [
            *(sys.executable, "-m", "oslo_config.generator"),
            *("--namespace", "hashring-sample", "--output-file", str(sample)),
        ],
        check=True,
        timeout=60,
        env=os.environ | {"PYTHONPATH": str(installed.parent), "XDG_CACHE_HOME": str(tmp_path)},
    )

    text = sample.read_text()
    for section, opts in list_opts():
        assert f"[{section}]\n" in text
        for opt in opts:
            assert f"\n#{opt.name} = " in text or f"\n#{opt.name} =\n" in text
    assert "# Deprecated group/name - [central]/partitioning_group_prefix" in text
    assert "# Minimum value: 0.1" in text
    assert "unknown value" not in text
    # As it is, all of it is commented out; its defaults, written out, are the same.
    settings = load([sample], member="a")
    assert dataclasses.replace(settings, config_files=()) == load(member="a")
    written = re.sub(r"(?m)^#(?=\w+ =(?! <| /etc/| \w+\.yaml))", "", text)
    assert "\nheartbeat = 1.0\n" in written
    sample.write_text(written)
    assert load([sample], member="a") == settings


def test_the_page_lists_every_option_with_its_default():
    rows: dict[tuple[str, str], str] = {}
    section = ""
    for line in PAGE.read_text().splitlines():
        if heading := re.fullmatch(r"### \[(\w+)\]", line):
            section = heading[1]
        elif line.startswith("#"):
            section = ""
        elif section and (row := re.match(r"\| `(\w+)` \| `(.*?)` \| \S", line)):
            rows[section, row[1]] = row[2]

    assert rows == {
        (section, opt.name): shown(opt) for section, opts in list_opts() for opt in opts
    }


def shown(opt: Any) -> str:
    default = opt.default if opt.sample_default is None else opt.sample_default
    return ",".join(default) if isinstance(default, list) else str(default)


def test_the_page_names_every_option_without_effect():
    [listed] = re.findall(
        r"### Ceilometer's options without effect\n(.*?)\n## ", PAGE.read_text(), re.S
    )

    assert set(re.findall(r"`(\w+)`", listed)) == {name for _, name in declared.WITHOUT_EFFECT}


def test_the_examples_of_the_page_load(write: Write):
    [conf] = re.findall(r"```ini\n(.*?)```", PAGE.read_text(), re.S)
    polling, pipeline = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.S)
    write(polling, "polling.yaml")
    write(pipeline, "pipeline.yaml")

    settings = load([write(conf)])

    assert (settings.host, settings.namespaces, settings.ttl) == ("web1", ("central",), 15.0)
    assert (settings.heartbeat, settings.group_prefix, settings.batch_size) == (2.0, "east", 100)
    assert settings.polling_file is not None
    assert [s.interval for s in load_polling(settings.polling_file).sources] == [60, 300]
    assert settings.pipeline_file is not None
    assert load_pipeline(settings.pipeline_file).publishers_for("cpu") == (
        "file:///var/log/samples.jsonl",
        "udp://10.0.0.9:4952",
    )
