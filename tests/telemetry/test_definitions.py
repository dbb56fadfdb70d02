"""What polling.yaml and pipeline.yaml may say, what it means, and what is refused how."""

from __future__ import annotations

import os
import re
import tempfile
import textwrap
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashring.errors import HashringError
from hashring.telemetry.config.definitions import (
    Pipeline,
    Polling,
    load_pipeline,
    load_polling,
    polling_of,
    split_discovery,
)
from hashring.telemetry.errors import BadDefinition
from hashring.telemetry.model.meters import MeterFilter

CEILOMETER = Path(__file__).with_name("ceilometer")


def polling(folder: Path, text: str) -> Polling:
    path = folder / "polling.yaml"
    path.write_text(textwrap.dedent(text))
    return load_polling(path)


def pipeline(folder: Path, text: str) -> Pipeline:
    path = folder / "pipeline.yaml"
    path.write_text(textwrap.dedent(text))
    return load_pipeline(path)


def source(**fields: object) -> str:
    """A polling.yaml with one source, legal but for what is given; ``None`` drops a field."""
    written = {"name": "one", "interval": "60", "meters": '["*"]'} | fields
    lines = [f"    {name}: {value}\n" for name, value in written.items() if value is not None]
    return "sources:\n  -\n" + "".join(lines)


# -- the files that Ceilometer ships --------------------------------------------------------------


def test_ceilometers_own_polling_file_loads_with_its_one_source_and_all_its_meters():
    [found] = load_polling(CEILOMETER / "polling.yaml").sources

    assert (found.name, found.interval) == ("some_pollsters", 300)
    assert len(found.meters.patterns) == 21
    assert found.meters.allows("hardware.memory.swap.avail")
    assert not found.meters.allows("hardware.memory.swap.avail.more")
    assert found.resources == found.discovery == ()


def test_ceilometers_file_that_polls_everything_allows_any_meter():
    [found] = load_polling(str(CEILOMETER / "polling_all.yaml")).sources

    assert (found.name, found.interval, found.meters) == ("all_pollsters", 300, MeterFilter(["*"]))
    assert found.meters.allows("whatever.there.is")


def test_a_pipeline_of_today_says_where_samples_go_and_nothing_of_polling():
    found = load_pipeline(CEILOMETER / "pipeline.yaml")

    assert found.publishers_for("cpu") == ("gnocchi://",)
    assert polling_of(found) is None


def test_a_pipeline_of_mitaka_says_what_to_poll_too():
    found = load_pipeline(CEILOMETER / "pipeline_mitaka.yaml")

    implied = polling_of(found)

    assert implied is not None
    assert [(s.name, s.interval, s.resources, s.discovery) for s in implied.sources] == [
        ("meter_source", 600, (), ()),
        ("cpu_source", 60, (), ("local_instances",)),
        ("network_source", 600, ("snmp://10.0.0.1", "snmp://10.0.0.2"), ()),
    ]
    assert found.publishers_for("cpu") == ("notifier://", "udp://10.0.0.9:4952")
    assert found.publishers_for("hardware.load") == ("notifier://",)


def test_fields_that_ceilometer_ignores_are_named_in_the_log_and_ignored(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    found = polling(
        tmp_path,
        """
        common: &meters [cpu, "memory.*"]
        source_defaults: &defaults {interval: 60}
        x-sources: {}
        sources:
          - {<<: *defaults, name: one, meters: *meters, sinks: [a], channels: ["*"], events: ["*"]}
          - {<<: *defaults, name: two, meters: [disk], meter_unit: B}
        """,
    )

    assert [(s.name, s.interval, s.meters.patterns) for s in found.sources] == [
        ("one", 60, ("cpu", "memory.*")),
        ("two", 60, ("disk",)),
    ]
    said = [record.getMessage() for record in caplog.records]
    ignored = [re.search(r"the field '(.*)' is ignored", one)[1] for one in said]
    assert ignored == [
        *("common", "source_defaults", "x-sources"),
        *("sinks", "channels", "events", "meter_unit"),
    ]
    assert all(one.startswith(f"{tmp_path / 'polling.yaml'}: ") for one in said)
    assert "source 'one'" in said[3]


@pytest.mark.parametrize(
    ("fields", "local"),
    [
        ({}, None),
        ({"local": "true"}, True),
        ({"local": "false"}, False),
        ({"group_id_coordination_expression": "socket.gethostname()"}, True),
        ({"group_id_coordination_expression": "self.conf.host"}, True),
        ({"group_id_coordination_expression": "os.uname( ).nodename", "local": "true"}, True),
        ({"group_id_coordination_expression": ""}, None),
        ({"group_id_coordination_expression": "rack()", "resources": '["http://a/"]'}, None),
    ],
)
def test_a_source_may_say_that_its_resources_are_each_hosts_own(tmp_path: Path, fields, local):
    assert polling(tmp_path, source(**fields)).sources[0].local is local


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"local": "maybe"}, "local must be true or false, not 'maybe'"),
        ({"local": "1"}, "local must be true or false, not 1"),
        (
            {"group_id_coordination_expression": "self.conf.host.split('-')[0] + 'x' * 100"},
            "group_id_coordination_expression is \"self.conf.host.split('-')[0] + 'x' * 100\", and "
            "nothing is evaluated here",
        ),
        ({"group_id_coordination_expression": "(("}, "group_id_coordination_expression is '(('"),
        (
            {"group_id_coordination_expression": "self.conf.host", "local": "false"},
            "local is false, which contradicts the host's name",
        ),
    ],
)
def test_what_is_not_this_hosts_name_is_refused_whole_and_by_name(tmp_path: Path, fields, said):
    with pytest.raises(BadDefinition, match=re.escape(f": source 'one': {said}")):
        polling(tmp_path, source(**fields))


def test_a_pipeline_in_the_place_of_a_polling_definition_says_what_to_poll(
    caplog: pytest.LogCaptureFixture,
):
    found = load_polling(CEILOMETER / "pipeline_mitaka.yaml")

    assert [s.name for s in found.sources] == ["meter_source", "cpu_source", "network_source"]
    assert "the field 'sinks' is ignored: where samples go is said by the pipeline" in caplog.text


def test_in_a_mixed_pipeline_only_the_sources_with_an_interval_are_polled(tmp_path: Path):
    found = pipeline(
        tmp_path,
        """
        sources:
          - {name: polled, interval: 5, meters: [cpu], sinks: [out]}
          - {name: heard, meters: [image.size], sinks: [out]}
        sinks: [{name: out, publishers: ["stdout://"]}]
        """,
    )

    implied = polling_of(found)

    assert implied is not None
    assert [s.name for s in implied.sources] == ["polled"]


def test_a_meter_that_no_source_names_goes_nowhere(tmp_path: Path):
    found = pipeline(
        tmp_path,
        """
        sources: [{name: one, meters: [cpu], sinks: [out]}]
        sinks: [{name: out, publishers: ["stdout://"]}]
        """,
    )

    assert found.publishers_for("memory") == ()


def test_a_publisher_by_its_bare_name_is_its_url_and_counters_are_meters(tmp_path: Path):
    found = pipeline(
        tmp_path,
        """
        sources: [{name: one, counters: ["*"], sinks: [out]}]
        sinks: [{name: out, publishers: [notifier, "file:///var/log/samples"]}]
        """,
    )

    assert found.publishers_for("cpu") == ("notifier://", "file:///var/log/samples")


@pytest.mark.parametrize("interval", ["60", "'60'", "60.0"])
def test_an_interval_may_be_written_as_ceilometer_takes_it(tmp_path: Path, interval: str):
    [found] = polling(tmp_path, source(interval=interval)).sources

    assert found.interval == 60


def test_an_interval_may_be_a_part_of_a_second(tmp_path: Path):
    [found] = polling(tmp_path, source(interval=0.25)).sources

    assert found.interval == 0.25


def test_empty_resources_and_discoveries_are_none(tmp_path: Path):
    [found] = polling(tmp_path, source(resources="", discovery="[]")).sources

    assert found.resources == found.discovery == ()


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("interface", ("interface", "")),
        ("http-targets:///etc/t.json", ("http-targets", "/etc/t.json")),
        ("endpoint://orchestration", ("endpoint", "orchestration")),
        ("static://http://a:8080/x", ("static", "http://a:8080/x")),
    ],
)
def test_a_discovery_is_a_name_with_or_without_a_parameter(text: str, parts: tuple[str, str]):
    assert split_discovery(text) == parts


# -- which meters ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("patterns", "allowed", "denied"),
    [
        (["cpu", "memory.*"], ["cpu", "memory.usage"], ["cpu.util", "memory", "Cpu"]),
        (["*"], ["cpu", "disk.read"], []),
        (["!cpu"], ["memory", "cpu.util"], ["cpu"]),
        (["!disk.*", "!cpu"], ["memory"], ["disk.read.bytes", "cpu"]),
        (["*", "!disk.*"], ["cpu"], ["disk.read.bytes"]),
        (["*.bytes", "!disk.*"], ["network.bytes"], ["disk.bytes", "cpu"]),
        (["disk.?da", "disk.[xv]db"], ["disk.sda", "disk.vdb"], ["disk.sdb", "disk.ssda"]),
    ],
)
def test_meters_are_allowed_by_name_and_wildcard_and_exclusions_win(
    patterns: list[str], allowed: list[str], denied: list[str]
):
    meters = MeterFilter(patterns)

    assert [name for name in allowed + denied if meters.allows(name)] == allowed


@pytest.mark.parametrize(
    ("patterns", "prefix", "possible"),
    [
        (["snmp.load.*"], "snmp.", True),
        (["snmp.load.*"], "snmp.load.1min", True),
        (["snmp.load.*"], "snmp.disk", False),
        (["s*"], "snmp.", True),
        (["*.bytes"], "snmp.", True),
        (["snmp"], "snmp.", False),
        (["snm[pq].x"], "snmp.", True),
        (["snm[!p].x"], "snmp.", False),
        (["[s"], "[s", True),
        (["!snmp.*"], "snmp.", False),
        (["!snmp.*"], "snmp", True),
        (["!snmp.load"], "snmp.", True),
        (["*", "!s*"], "snmp.", False),
        (["!*"], "", False),
        (["cpu"], "", True),
    ],
)
def test_a_filter_tells_whether_names_with_a_prefix_could_be_allowed(
    patterns: list[str], prefix: str, possible: bool
):
    assert MeterFilter(patterns).may_allow_prefix(prefix) is possible


_LETTERS = st.text(alphabet="ab.[]*?!", min_size=1, max_size=6)


@given(
    st.lists(_LETTERS.map(lambda text: text.lstrip("!") or "a"), min_size=1, max_size=3),
    st.lists(_LETTERS.map(lambda text: "!" + text), max_size=3),
    st.text(alphabet="ab.[]", max_size=4),
    st.text(alphabet="ab.[]", max_size=4),
)
def test_a_prefix_is_never_ruled_out_for_a_name_that_is_allowed(
    included: list[str], excluded: list[str], prefix: str, rest: str
):
    patterns = ["*", *excluded] if excluded else included
    for one in (patterns, included):
        try:
            meters = MeterFilter(one)
        except BadDefinition:
            continue
        if meters.allows(prefix + rest):
            assert meters.may_allow_prefix(prefix)


def test_filters_of_the_same_patterns_are_equal():
    assert len({MeterFilter(["a"]), MeterFilter(["a"]), MeterFilter(["b"])}) == 2
    assert repr(MeterFilter(["a"])) == "MeterFilter(['a'])"


# -- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"meters": '[cpu, "!disk.*"]'}, ["included ('cpu') and excluded ('!disk.*')"]),
        ({"meters": '["*", cpu]'}, ["'*'", "'cpu'"]),
        ({"meters": "[]"}, ["meters is empty"]),
        ({"meters": ""}, ["meters is empty"]),
        ({"meters": None}, ["meters is missing"]),
        ({"meters": "cpu"}, ["meters must be a list, not the text 'cpu'"]),
        ({"meters": "[on]"}, ["meters, entry 1", "the boolean True", "quotes"]),
        ({"meters": "['!']"}, ["without a name"]),
        ({"meters": "['']"}, ["must not be empty"]),
        ({"resources": "snmp://10.0.0.1"}, ["resources must be a list"]),
        ({"discovery": "{a: b}"}, ["discovery must be a list, not a mapping"]),
        ({"discovery": "[1]"}, ["discovery, entry 1 must be text, not the int 1"]),
        ({"interval": None}, ["interval is missing"]),
        ({"interval": "0"}, ["interval", "positive", "0"]),
        ({"interval": "-5"}, ["interval", "-5"]),
        ({"interval": "soon"}, ["interval", "'soon'"]),
        ({"interval": "true"}, ["interval", "True"]),
        ({"interval": ".inf"}, ["interval", "inf"]),
        ({"interval": ".nan"}, ["interval", "nan"]),
        ({"interval": "[60]"}, ["interval", "[60]"]),
        ({"intervall": "60"}, ["unknown field 'intervall'", "did you mean 'interval'?"]),
        ({"discovry": "[a]"}, ["unknown field 'discovry'", "did you mean 'discovery'?"]),
    ],
)
def test_a_bad_field_is_refused_with_file_source_field_and_value(
    tmp_path: Path, fields: dict[str, str | None], said: list[str]
):
    with pytest.raises(BadDefinition) as caught:
        polling(tmp_path, source(**fields))

    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'polling.yaml'}: source 'one': ")
    assert [part for part in said if part not in message] == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the file is empty"),
        ("---\n# nothing\n", "the file is empty"),
        ("sources:\n", "sources is missing"),
        ("{}\n", "sources is missing"),
        ("sources: []\n", "sources is empty"),
        ("sources: {a: b}\n", "sources must be a list, not a mapping"),
        ("sources: [cpu]\n", "source number 1: a source must be a mapping"),
        ("sources: [{interval: 5}]\n", "source number 1: name is missing"),
        ("sources: [{name: 5}]\n", "source number 1: name must be text, not the int 5"),
        ("sources: [{name: ' '}]\n", "source number 1: name must not be empty"),
        ("[1, 2]\n", "must be a mapping of fields to values, not a list"),
        ("just text\n", "must be a mapping of fields to values, not the text"),
        ("sorces: []\n", "unknown field 'sorces' (did you mean 'sources'?)"),
        (f"{source()}{source().partition(chr(10))[2]}", "two sources are called 'one'"),
        ("sources:\n  - name: a\n    name: b\n", "line 3, column 5"),
        ("sources: []\nsources: []\n", "'sources' stands twice in one mapping (first in line 1)"),
        ("sources: [\n", "line 2, column 1"),
        ("sources:\n\t- name: a\n", "line 2, column 1"),
        ("sources: [{name: a, meters: [!disk.*]}]\n", "line 1"),
        ("sources:\n  - name: a\n    meters:\n    - !disk.*\n", "must be put in quotes"),
        ("sources:\n  - name: a\n    meters:\n    - *\n", "must be put in quotes"),
        ("--- {a: b}\n--- {c: d}\n", "line 2"),
        ("sources: !!python/object/apply:os.getcwd []\n", "line 1"),
        ("? [a, b]\n: c\n", "not the YAML of a definition"),
        ("[" * 5000, "nesting depth"),
        ("sources: 2026-99-99\n", "not YAML"),
    ],
)
def test_a_file_that_is_no_definition_is_refused_with_what_is_wrong(
    tmp_path: Path, text: str, said: str
):
    with pytest.raises(BadDefinition) as caught:
        polling(tmp_path, text)

    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'polling.yaml'}")
    assert said in message


def test_a_missing_file_a_folder_and_bytes_are_refused(tmp_path: Path):
    (tmp_path / "latin").write_bytes(b"sources: \xe4\n")

    with pytest.raises(BadDefinition, match=r"nowhere: cannot be read: No such file"):
        load_polling(tmp_path / "nowhere")
    with pytest.raises(BadDefinition, match="cannot be read: Is a directory"):
        load_pipeline(tmp_path)
    with pytest.raises(BadDefinition, match="not UTF-8 at byte 9"):
        load_polling(tmp_path / "latin")


def test_a_file_that_must_not_be_read_is_refused(tmp_path: Path):
    path = tmp_path / "secret.yaml"
    path.write_text(source())
    path.chmod(0)

    if os.access(path, os.R_OK):  # root reads whatever it likes
        assert load_polling(path).sources
    else:
        with pytest.raises(BadDefinition, match="Permission denied"):
            load_polling(path)


def test_a_secret_in_a_url_is_masked_in_messages(tmp_path: Path):
    with pytest.raises(BadDefinition) as caught:
        polling(tmp_path, source(resources="http://user:sesame@host/"))

    assert "sesame" not in str(caught.value)
    assert "***" in str(caught.value)


def test_every_error_is_one_of_ours_and_a_value_error():
    assert issubclass(BadDefinition, HashringError)
    assert issubclass(BadDefinition, ValueError)


@given(st.binary(max_size=200))
def test_no_file_whatever_it_holds_raises_anything_else(data: bytes):
    with tempfile.NamedTemporaryFile() as file:
        Path(file.name).write_bytes(data)
        for load in (load_polling, load_pipeline):
            with pytest.raises(BadDefinition):
                load(file.name)
