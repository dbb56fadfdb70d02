"""How definitions are read, and what is said of a wrong one."""

import re

import pytest

from hashring.telemetry.errors import BadDefinition
from hashring.telemetry.model.sample import Meter, MeterType
from hashring.telemetry.model.settings import Settings
from hashring.telemetry.sources.web.http_json import HTTPDefinitions, HTTPPollster, load_definitions
from tests.telemetry.http_json.definitions import LOAD


def test_definitions_are_read_from_every_yaml_file_in_order(define, tmp_path, settings):
    (tmp_path / "notes.txt").write_text("not a definition")
    (tmp_path / "empty.yaml").write_text("# nothing\n")
    define(LOAD.replace("web.load", "c"), "b.yaml")
    define(LOAD + LOAD.replace("web.load", "b"), "a.yaml")

    found = load_definitions(settings)

    assert [definition.meter.name for definition in found] == ["web.load", "b", "c"]
    assert found[0].meter == Meter("web.load", MeterType.GAUGE, "1")
    assert found[1].place == f"{tmp_path}/a.yaml, line 7, definition 'b'"


def test_a_folder_that_is_not_there_holds_no_definitions(tmp_path):
    settings = Settings(
        backend_url="memory://", member="a", host="h", definition_dirs=(tmp_path / "none",)
    )

    assert load_definitions(settings) == ()
    assert list(HTTPPollster.make(settings)) == []
    assert HTTPDefinitions(settings).discover() == ()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ("name: ''", r"field 'name' must be a dotted name.*, not ''"),
        ("name: a..b", "field 'name' must be a dotted name"),
        ("name: 'a b'", "field 'name' must be a dotted name"),
        ("sample_type: gage", "'m': field 'sample_type' must be one of gauge, .*, not 'gage'"),
        ("unit: 7", "field 'unit' must be a text, not 7"),
        ("unit: null", "field 'unit' must be a text, not None"),
        ("value_attribute: ''", "field 'value_attribute' must be a text, not ''"),
        ("value_attribute: 'a | open(value)'", "'value_attribute': .*not supported; functions"),
        ("value_attribute: '[a].b'", "'value_attribute' must be .* name ends in .{attribute}"),
        ("name: 'a.{b}'", "'value_attribute' must be .* name ends in .{attribute}"),
        ("value_atribute: a", "field 'value_atribute' is unknown; did you mean 'value_attribute'?"),
        ("module: awsauth", "field 'module' is not supported: no module is loaded"),
        ("host_command: ls", "field 'host_command' is not supported: no command is run"),
        ("extra_metadata_fields: []", "'extra_metadata_fields' is not supported"),
        ("barbican_secret_id: x", "'barbican_secret_id' is not supported: give the secret in an"),
        ("url_path: 'ftp://x/'", "'url_path' must be an http or https URL, or a path"),
        ("url_path: '//x/y'", "'url_path' must be an http or https URL, or a path"),
        ("url_path: 'http:///y'", "'url_path' must be an http or https URL, or a path"),
        ("url_path: 'http://x:y/'", "'url_path' must be a URL or a path"),
        ("url_path: 'a b'", "'url_path' must be a URL or a path, without blanks"),
        ("url_path: 'x?t=${T}'", "'url_path' must be free of .*secrets belong into headers"),
        ("timeout: 0", "'timeout' must be a positive number of seconds, not 0"),
        ("timeout: soon", "'timeout' must be a number"),
        ("headers: 7", "'headers' must be a mapping of names and values"),
        ("headers: {a: [1]}", "'headers' must be a mapping; the value of 'a' is not a text"),
        ("headers: {'a b': c}", "'headers' must be headers whose names are legal"),
        ('headers: {a: "b\\nc: d"}', "'headers' must be headers without control characters"),
        ("headers: {a: '${1}'}", "texts in which variables read"),
        ("authentication: x", "'authentication' must be a mapping of from_env, header, prefix"),
        ("authentication: {header: x}", "'authentication' must be a mapping of from_env"),
        ("authentication: {from_env: 7}", "'authentication' must be a mapping of texts"),
        ("verify_ssl: 'no'", "'verify_ssl' must be true or false, not 'no'"),
        ("ssl_certificate: /none.pem", "'ssl_certificate' must be a file .* that is there"),
        ("ssl_certificate: /x, verify_ssl: false", "'ssl_certificate' must be absent where"),
        ("namespaces: ipmi", "'namespaces' must be one or several of central, compute"),
        ("response_handlers: [xml]", "'response_handlers' must be a list of json and text"),
        ("response_handlers: json", "'response_handlers' must be a list, not 'json'"),
        ("value_mapping: {a: b}", "'value_mapping' must be a number, or numbers, not 'b'"),
        ("value_mapping: [a]", "'value_mapping' must be a mapping"),
        ("default_value: x", "'default_value' must be a number"),
        ("metadata_fields: a", "'metadata_fields' must be a list"),
        ("metadata_fields: [7]", "'metadata_fields': an attribute is a text"),
        ("metadata_mapping: {a: b}", "'metadata_mapping' must be of names in metadata_fields"),
        ("metadata_fields: [a], metadata_mapping: {a: 1}", "'metadata_mapping' must be texts"),
        ("preserve_mapped_metadata: 1", "'preserve_mapped_metadata' must be true or false"),
        ("resource_id_attribute: a..b", "'resource_id_attribute': the path 'a..b' has an empty"),
        ("next_sample_url_attribute: 'a | 1'", "'next_sample_url_attribute': .* must use the var"),
    ],
)
def test_a_wrong_definition_is_an_error_that_names_file_definition_and_field(
    define, tmp_path, fields, said
):
    given = {"name": "m", "sample_type": "gauge", "unit": "u", "value_attribute": "v"}
    rest = ", ".join(
        f"{name}: {value}" for name, value in given.items() if f"{name}: " not in fields
    )

    with pytest.raises(BadDefinition, match=f"^{tmp_path}/a.yaml, line 1.*{said}"):
        define(f"- {{{fields}, {rest}}}")


@pytest.mark.parametrize("field", ["name", "sample_type", "unit", "value_attribute"])
def test_what_every_definition_needs_is_missed(define, field):
    given = {"name": "m", "sample_type": "gauge", "unit": "u", "value_attribute": "v"}
    del given[field]

    with pytest.raises(BadDefinition, match=f"field '{field}'"):
        define(str([given]))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: m", "line 1: it must be a list of definitions"),
        ("- a\n", "line 1: a definition must be a mapping of fields to values, not the text 'a'"),
        ("- name: m\n  unit: u\n  unit: v\n", "line 3: .* the key 'unit' stands twice"),
        ("- name: [", "line 1: it is not usable YAML"),
        ("- !!python/name:os.system x\n", "it is not usable YAML"),
    ],
)
def test_a_file_that_holds_no_definitions_is_an_error(define, tmp_path, text, said):
    with pytest.raises(BadDefinition, match=f"{tmp_path}/a.yaml, .*{said}|{said}"):
        define(text)


def test_a_name_stands_for_one_definition(define, settings, caplog):
    define(LOAD + "  url_path: status\n", "a.yaml")
    define(LOAD + "  url_path: other\n", "b.yaml")

    said = r"b.yaml.*'web.load' is defined already, in .*a.yaml"
    with pytest.raises(BadDefinition, match=said):
        load_definitions(settings)
    [pollster] = HTTPPollster.make(settings)
    assert pollster._request.url == "status"
    assert re.search(said, caplog.text)


@pytest.mark.parametrize(
    "bad",
    [
        "- name: [",
        LOAD.replace("web.load", "web.b").replace("gauge", "gage"),
        LOAD.replace("web.load", "web.b") + "  authentication: {from_env: NO_SUCH_VARIABLE}\n",
        LOAD.replace("web.load", "web.b") + "  host_command: ls\n",
    ],
)
def test_a_bad_definition_costs_itself_and_not_those_beside_it(define, settings, caplog, bad):
    define(LOAD, "a.yaml")
    define(LOAD.replace("web.load", "web.c").replace("status", "c"), "c.yaml")
    define(bad, "b.yaml")

    made = list(HTTPPollster.make(settings))

    assert {meter.name for pollster in made for meter in pollster.meters} == {"web.load", "web.c"}
    error, _ = [record for record in caplog.records if record.levelname == "ERROR"]  # made twice
    assert "/b.yaml, line " in error.getMessage()
    assert "the other definitions are used" in error.getMessage()


def test_a_field_that_is_like_no_other_is_named_in_the_log_and_ignored(define, caplog):
    define(LOAD + "  colour: red\n")

    assert "definition 'web.load': field 'colour' is unknown, and is ignored" in caplog.text


def test_ceilometers_endpoint_type_is_accepted_and_said_not_to_be_looked_up(define, caplog):
    define(LOAD + "  endpoint_type: compute\n")

    assert "endpoint_type 'compute' is not looked up" in caplog.text
