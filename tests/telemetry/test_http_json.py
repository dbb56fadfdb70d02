import logging
import re
import ssl
import textwrap
import threading
from collections import Counter
from pathlib import Path

import pytest

from hashring.telemetry.errors import BadDefinition, BadResponse, FetchFailed
from hashring.telemetry.model.resource import Resource
from hashring.telemetry.model.sample import Meter, MeterType
from hashring.telemetry.model.settings import Settings
from hashring.telemetry.sources.web import answers, http_fields, http_json
from hashring.telemetry.sources.web.http_json import HTTPDefinitions, HTTPPollster, load_definitions
from hashring.telemetry.sources.web.targets import static_resource
from tests.servers.certificates import Certificates
from tests.servers.http import Answer, HTTPServer

DOCS = Path(__file__).parents[2] / "docs" / "agents"

LOAD = """
- name: web.load
  sample_type: gauge
  unit: "1"
  value_attribute: load
"""


@pytest.fixture
def server():
    with HTTPServer() as found:
        yield found


@pytest.fixture
def settings(tmp_path):
    return Settings(
        backend_url="memory://",
        member="a",
        host="web1",
        definition_dirs=(tmp_path,),
        poll_timeout=60.0,
    )


@pytest.fixture
def define(tmp_path, settings):
    """Write definitions, and return the pollsters that are made of them."""
    made = []

    def written(text, name="a.yaml"):
        (tmp_path / name).write_text(textwrap.dedent(text))
        found = list(HTTPPollster.make(settings))
        made.extend(found)
        return found

    yield written
    for pollster in made:
        pollster.close()


@pytest.fixture
def measure(define, server):
    """Answer with a document what one definition's fields are asked of, and measure it."""

    def measured(document, fields="", name="m", labels=None):
        server.answer("/x", document)
        text = f"- {{name: {name}, sample_type: gauge, unit: u, {fields}}}\n"
        [pollster] = define(text)
        attributes = {"labels": labels} if labels else {}
        found = pollster.poll(Resource(server.url + "/x", "http", attributes))
        measured.pollster = pollster
        return found

    return measured


def volumes(measured):
    return [(found.resource_id, found.volume) for found in measured]


# ---- definitions ----


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


# ---- secrets ----


def test_headers_take_secrets_from_the_environment(define, server, monkeypatch):
    monkeypatch.setenv("API_TOKEN", "t0ken")
    monkeypatch.setenv("API_USER", "agent")
    server.answer("/x", {"load": 1})
    [pollster] = define(
        LOAD
        + "  headers:\n    - X-Version: 2\n    - X-User: user ${API_USER}!\n"
        + '  authentication: {from_env: API_TOKEN, prefix: "Bearer "}\n'
    )

    pollster.poll(static_resource(server.url + "/x"))

    headers = server.log[0].headers
    assert headers["x-version"] == "2"
    assert headers["x-user"] == "user agent!"
    assert headers["authorization"] == "Bearer t0ken"


def test_headers_may_be_one_mapping_and_authentication_any_header(define, server, monkeypatch):
    monkeypatch.setenv("API_TOKEN", "t0ken")
    server.answer("/x", {"load": 1})
    [pollster] = define(
        LOAD
        + "  headers: {X-A: b}\n  authentication: {header: X-Auth-Token, from_env: API_TOKEN}\n"
    )

    pollster.poll(static_resource(server.url + "/x"))

    assert (server.log[0].headers["x-a"], server.log[0].headers["x-auth-token"]) == ("b", "t0ken")


@pytest.mark.parametrize(
    "field", ["headers: {A: '${NO_SUCH}'}", "authentication: {from_env: NO_SUCH}"]
)
def test_a_missing_variable_is_an_error_that_names_it(define, field):
    with pytest.raises(BadDefinition, match=r"'web.load'.* variable NO_SUCH is not set"):
        define(f"{LOAD}  {field}\n")


def test_no_secret_is_shown_anywhere(define, server, monkeypatch, caplog, settings):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("API_TOKEN", "s3cret")
    host = server.url.removeprefix("http://")
    [pollster] = define(
        f"{LOAD}  url_path: http://u:s3cret@{host}/x?token=s3cret\n"
        "  headers: {X-A: '${API_TOKEN}'}\n"
    )
    [resource] = HTTPDefinitions(settings).discover()

    with pytest.raises(FetchFailed) as caught:
        pollster.poll(resource)

    assert server.log[0].headers["x-a"] == "s3cret"
    shown = f"{caught.value} {resource} {pollster.kinds} {load_definitions(settings)}"
    assert "404" in shown
    assert "s3cret" not in shown + caplog.text


@pytest.mark.parametrize("value", ["a\nb", "café", " padded "])
def test_a_secret_that_cannot_be_a_header_is_not_shown(define, monkeypatch, value):
    monkeypatch.setenv("API_TOKEN", value)

    with pytest.raises(BadDefinition) as caught:
        define(LOAD + "  authentication: {from_env: API_TOKEN}\n")
    assert value not in str(caught.value)


# ---- requests ----


def test_definitions_of_one_request_ask_once_a_resource(define, server):
    server.answer("/x/status", {"load": 0.5, "memory": {"used": 7}})
    [pollster] = define(
        """
        - {name: web.load, sample_type: gauge, unit: "1", value_attribute: load, url_path: status,
           response_entries_key: "."}
        - {name: web.memory, sample_type: cumulative, unit: MB, value_attribute: memory.used,
           url_path: status, response_entries_key: "."}
        """
    )

    found = pollster.poll(static_resource(server.url + "/x"))

    assert [(each.meter, each.volume) for each in found] == [
        (Meter("web.load", MeterType.GAUGE, "1"), 0.5),
        (Meter("web.memory", MeterType.CUMULATIVE, "MB"), 7),
    ]
    assert server.counts() == {"/x/status": 1}
    assert pollster.meters == tuple(each.meter for each in found)
    assert (pollster.kinds, pollster.prefix, pollster.default_discovery) == ({"http"}, "", "")


@pytest.mark.parametrize(
    "field",
    [
        "url_path: /other",
        "headers: {A: b}",
        "timeout: 3",
        "verify_ssl: false",
        "response_handlers: [text]",
        "next_sample_url_attribute: next",
        "namespaces: [central, compute]",
    ],
)
def test_definitions_of_different_requests_ask_each(define, field):
    assert len(define(f"{LOAD}{LOAD.replace('web.load', 'b')}  {field}\n")) == 2


def test_an_absolute_url_is_its_own_and_only_resource(define, server, settings):
    server.answer("/a", {"load": 1})
    server.answer("/b", {"load": 2})
    first, second = define(
        f"{LOAD}  url_path: {server.url}/a\n"
        f"{LOAD.replace('web.load', 'b')}  url_path: {server.url}/b\n"
    )

    discovery = HTTPDefinitions(settings)
    resources = discovery.discover()

    assert [resource.id for resource in resources] == [f"{server.url}/a", f"{server.url}/b"]
    assert discovery.discover() is resources
    assert not discovery.is_local
    assert first.default_discovery == second.default_discovery == "http-definitions"
    for pollster, resource in ((first, resources[0]), (second, resources[1])):
        assert pollster.kinds == {resource.kind}
        pollster.poll(resource)
    assert server.counts() == {"/a": 1, "/b": 1}


def test_definitions_are_for_the_namespaces_that_they_name(define, tmp_path, settings):
    text = LOAD + "  namespaces: compute\n  authentication: {from_env: ONLY_THERE}\n"

    assert define(text) == []


def test_an_answer_that_is_an_error_or_not_json_is_an_error(define, server):
    [pollster] = define(LOAD)
    server.answer("/500", {"load": 1}, status=500)
    server.answer("/html", "<html>", content_type="text/html")
    server.answer("/empty", "")

    with pytest.raises(FetchFailed, match="/500: status 500"):
        pollster.poll(static_resource(server.url + "/500"))
    for path in ("/html", "/empty"):
        with pytest.raises(BadResponse, match=f"{path}: the answer cannot be read: it is not JSON"):
            pollster.poll(static_resource(server.url + path))


def test_a_definitions_timeout_and_the_agents_bound_all_pages_together(define, server):
    server.answer_with("/x", lambda asked: Answer({"a": [], "next": f"/x?{id(asked)}"}, delay=0.05))
    [pollster] = define(LOAD + "  timeout: 0.4\n  next_sample_url_attribute: next\n")

    with pytest.raises(FetchFailed, match="in time"):
        pollster.poll(static_resource(server.url + "/x"))


def test_a_text_answer_is_an_entry_of_its_own(define, server):
    server.answer("/x", "load: 17\n", content_type="text/plain")
    [pollster] = define(
        LOAD.replace("value_attribute: load", "value_attribute: \"out | value.split(':')[1]\"")
        + "  response_handlers: [json, text]\n"
    )

    [found] = pollster.poll(static_resource(server.url + "/x"))

    assert found.volume == 17


def test_tls_servers_are_checked_by_the_definitions_certificate_or_not_at_all(define, caplog):
    with Certificates() as certificates:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificates.server, certificates.server_key)
        with HTTPServer(tls=context) as server:
            server.answer("/x", {"load": 1})
            strict, known, careless = define(
                LOAD
                + LOAD.replace("web.load", "b")
                + f"  ssl_certificate: {certificates.ca}\n"
                + LOAD.replace("web.load", "c")
                + "  verify_ssl: false\n"
            )
            resource = static_resource(server.url + "/x")

            with pytest.raises(FetchFailed, match="certificate"):
                strict.poll(resource)
            assert volumes(known.poll(resource)) == volumes(careless.poll(resource)) == [(None, 1)]
    assert "definition 'c': the server's certificate is not checked" in caplog.text


# ---- pages ----

PAGED = LOAD + "  response_entries_key: entries\n  next_sample_url_attribute: next\n"


def test_pages_are_read_to_the_last(define, server):
    server.answer_pages("/x", [[{"load": 1}, {"load": 2}], [{"load": 3}], []])
    [pollster] = define(PAGED)

    found = pollster.poll(static_resource(server.url + "/x"))

    url = server.url + "/x"
    assert volumes(found) == [(f"{url}#0", 1), (f"{url}#1", 2), (f"{url}#2", 3)]
    assert server.counts() == {"/x": 1, "/x?page=1": 1, "/x?page=2": 1}


@pytest.mark.parametrize("link", [None, ""])
def test_a_page_whose_link_is_empty_is_the_last(define, server, link):
    server.answer("/x", {"entries": [{"load": 1}], "next": link})
    [pollster] = define(PAGED)

    assert len(pollster.poll(static_resource(server.url + "/x"))) == 1


def test_links_as_openstack_has_them_are_followed(define, server):
    links = [{"rel": "prev", "href": "/y"}, {"rel": "next", "href": f"{server.url}/x?marker=1"}]
    server.answer_with(
        "/x",
        lambda asked: Answer(
            {"entries": [{"load": 1}], "links": [] if "marker" in asked.path else links}
        ),
    )
    [pollster] = define(
        LOAD
        + "  response_entries_key: entries\n"
        + "  next_sample_url_attribute: \"links | filter(lambda v: v.get('rel') == 'next', value)"
        + " | list(value) | value[0] | value.get('href')\"\n"
    )

    assert len(pollster.poll(static_resource(server.url + "/x"))) == 2


@pytest.mark.parametrize(
    ("link", "said"),
    [
        ("/x", "the next page is .*/x, again"),
        (7, "the next page is no URL but 7"),
        (
            "http://other.example/x?token=t0ken",
            r"the next page .*token=\*\*\* is at another server",
        ),
    ],
)
def test_pages_that_loop_or_lead_elsewhere_are_errors(define, server, link, said):
    server.answer("/x", {"entries": [{"load": 1}], "next": link})
    [pollster] = define(PAGED)

    with pytest.raises(BadResponse, match=said):
        pollster.poll(static_resource(server.url + "/x"))
    assert len(server.log) == 1


def test_a_redirect_and_its_pages_get_no_secret(define, server, monkeypatch):
    monkeypatch.setenv("API_TOKEN", "s3cret")
    with HTTPServer() as other:
        server.answer("/x", status=302, headers=(("Location", other.url + "/x"),))
        other.answer_pages("/x", [[{"load": 1}], [{"load": 2}]])
        [pollster] = define(PAGED + "  authentication: {from_env: API_TOKEN}\n")

        with pytest.raises(BadResponse, match="is at another server"):
            pollster.poll(static_resource(server.url + "/x"))

        assert server.log[0].headers["authorization"] == "s3cret"
        assert ["authorization" in asked.headers for asked in other.log] == [False]


def test_a_user_and_password_are_sent_for_every_page(define, server):
    server.answer_with(
        "/x",
        lambda asked: Answer({"entries": [{"load": 1}], "next": f"{server.url}/y?page=2"}),
    )
    server.answer("/y", {"entries": []})
    [pollster] = define(PAGED)

    pollster.poll(static_resource(server.url.replace("://", "://u:p@") + "/x"))

    assert [asked.headers["authorization"] for asked in server.log] == ["Basic dTpw"] * 2


@pytest.mark.parametrize("link", ["http://[::1/", "//", "http:///x", "http://h:99999999/"])
def test_a_link_that_is_no_url_is_an_error(define, server, link):
    server.answer("/x", {"entries": [{"load": 1}], "next": link})
    [pollster] = define(PAGED)

    with pytest.raises(BadResponse, match=r"the next page"):
        pollster.poll(static_resource(server.url + "/x"))


def test_pages_without_end_are_an_error(define, server, monkeypatch):
    monkeypatch.setattr(http_json, "_MAX_PAGES", 5)
    server.answer_pages("/x", [[] for _ in range(9)])
    [pollster] = define(PAGED)

    with pytest.raises(BadResponse, match="more than 5 pages"):
        pollster.poll(static_resource(server.url + "/x"))
    assert len(server.log) == 5


def test_pages_are_bounded_in_bytes_together(define, server, monkeypatch):
    monkeypatch.setattr(answers, "MAX_BYTES", 200)
    server.answer_pages("/x", [[{"load": 1, "padding": "x" * 60}] for _ in range(9)])
    [pollster] = define(PAGED)

    with pytest.raises(FetchFailed, match="more than"):
        pollster.poll(static_resource(server.url + "/x"))
    assert len(server.log) < 4


# ---- entries ----


@pytest.mark.parametrize(
    ("document", "fields"),
    [
        ([{"v": 1}, {"v": 2}], ""),
        ([{"v": 1}, {"v": 2}], "response_entries_key: ignored"),
        ({"first": [{"v": 1}, {"v": 2}], "second": [{"v": 3}]}, ""),
        ({"a": 0, "b": {"c": [{"v": 1}, {"v": 2}]}}, "response_entries_key: b.c"),
        ({"a": "[]", "b": [[{"v": 1}, {"v": 2}]]}, "response_entries_key: 'b | value[0]'"),
    ],
)
def test_entries_are_found(measure, document, fields):
    found = measure(document, f"value_attribute: v, {fields}")

    assert [each.volume for each in found] == [1, 2]


@pytest.mark.parametrize(
    ("document", "fields"),
    [
        ({"v": 1}, ""),
        ({"x": {"v": 1}}, ""),
        ({"x": {"v": 2}, "v": 1}, "response_entries_key: ."),
        ({"x": {"v": 1}}, "response_entries_key: x"),
    ],
)
def test_one_entry_is_the_resource_itself(measure, document, fields):
    assert volumes(measure(document, f"value_attribute: v, {fields}")) == [(None, 1)]


def test_an_answer_without_entries_is_no_measurement(measure):
    assert measure([], "value_attribute: v") == []
    assert measure({}, "value_attribute: v") == []


def test_an_answer_without_the_entries_key_is_an_error(measure):
    with pytest.raises(BadResponse, match="m: there is no 'servers'"):
        measure({"fault": []}, "value_attribute: v, response_entries_key: servers")


def test_a_definition_that_finds_nothing_costs_its_own_meter_alone(define, server):
    server.answer("/x", {"entries": [{"load": 1}]})
    [pollster] = define(
        PAGED
        + LOAD.replace("web.load", "b")
        + "  response_entries_key: none\n"
        + "  next_sample_url_attribute: next\n"
    )

    found = pollster.poll(static_resource(server.url + "/x"))

    assert [each.meter.name for each in found] == ["web.load"]
    assert pollster.skipped == {("b", "no entries"): 1}


def test_entries_without_a_value_are_skipped_counted_and_logged_once(measure, caplog):
    bad = [{}, {"v": None}, {"v": "high"}, {"v": [1]}, {"v": "1_000"}, {"v": "nan"}, {"v": {}}]

    found = measure([{"v": 1}, *bad, {"v": 10**400}, {"v": 2}], "value_attribute: v")

    assert [each.volume for each in found] == [1, 2]
    assert measure.pollster.skipped == {("m", "no value"): 1, ("m", "unusable value"): 7}
    assert len(caplog.records) == 2
    assert [each.resource_id[-2:] for each in found] == ["#0", "#9"]  # as they stand in the answer


@pytest.mark.parametrize(
    ("value", "volume"),
    [(1, 1), (1.5, 1.5), ("17", 17), ("1e3", 1000.0), (True, 1), (False, 0), (-3, -3)],
)
def test_what_is_a_number_is_a_volume(measure, value, volume):
    [found] = measure({"v": value}, "value_attribute: v")

    assert (found.volume, type(found.volume)) == (volume, type(volume))


def test_values_are_mapped_skipped_and_otherwise_the_default(measure):
    document = [{"id": id_, "v": value} for id_, value in enumerate(["UP", "DOWN", "?", [], True])]

    found = measure(
        document,
        "value_attribute: v, value_mapping: {UP: '1', DOWN: 0.5, true: 7}, "
        "skip_sample_values: ['DOWN']",
    )
    assert volumes(found) == [("0", 1), ("2", -1), ("3", -1), ("4", 7)]
    found = measure(document[2:3], "value_attribute: v, value_mapping: {UP: 1}, default_value: 9")
    assert volumes(found) == [("2", 9)]


def test_ids_come_from_the_entry(measure):
    entry = {"id": "r1", "user_id": "u1", "project_id": "p1", "v": 1}

    [found] = measure(entry, "value_attribute: v, response_entries_key: .")

    assert (found.resource_id, found.user_id, found.project_id) == ("r1", "u1", "p1")
    [found] = measure(
        {"uuid": 7, "owner": {"user": "u$1", "project": None}, "v": 1, "id": "x"},
        "response_entries_key: ., value_attribute: v, resource_id_attribute: uuid, "
        "user_id_attribute: \"owner.user | value.split('$')[0]\", "
        "project_id_attribute: owner.project",
    )
    assert (found.resource_id, found.user_id, found.project_id) == ("7", "u", None)
    [found] = measure(
        entry, "value_attribute: v, response_entries_key: ., resource_id_attribute: ''"
    )
    assert found.resource_id is None


def test_whatever_json_can_spell_any_sink_can_hold(measure):
    [found] = measure(
        b'{"id": "\\ud800", "v": 18446744073709551616, "a": ["\\ude00", "\\ud83d\\ude00"], '
        b'"b": [NaN, -Infinity, 1e999, 1e400], "c": 9' + b"9" * 400 + b"}",
        "value_attribute: v, response_entries_key: ., metadata_fields: [a, b, c]",
    )

    assert (found.resource_id, found.volume, type(found.volume)) == ("\\ud800", 2.0**64, float)
    assert found.metadata == {"a": ["\\ude00", "😀"], "b": [None] * 4, "c": None}


def test_an_id_that_stands_twice_is_measured_once(measure):
    found = measure([{"id": "a", "v": 1}, {"id": "a", "v": 2}], "value_attribute: v")

    assert volumes(found) == [("a", 1)]
    assert measure.pollster.skipped == {("m", "repeated"): 1}


def test_metadata_comes_from_the_entry_and_the_targets_labels(measure):
    entry = {"v": 1, "name": "n", "flavor": {"ram": 2}, "tags": ["a", "b"]}
    fields = (
        "value_attribute: v, response_entries_key: ., "
        "metadata_fields: [name, flavor.ram, \"tags | ','.join(value)\", missing], "
        "metadata_mapping: {name: display_name}"
    )

    [found] = measure(entry, fields, labels={"team": "web", "name": "label"})
    [moved] = measure(entry, fields + ", preserve_mapped_metadata: false")

    mapped = {"display_name": "n", "flavor.ram": 2, "tags | ','.join(value)": "a,b"}
    assert found.metadata == {"team": "web", "name": "n", **mapped}
    assert moved.metadata == mapped


def test_one_definition_may_tell_many_meters(measure):
    document = {
        "summary": [
            {
                "user": "u1",
                "categories": [
                    {"category": "get_obj", "ops": 46},
                    {"category": "put_obj", "ops": 8},
                    {"category": "list", "ops": 0},
                ],
            },
            {"user": "u2", "categories": [{"ops": 1}]},
            {"user": "u3"},
        ]
    }

    found = measure(
        document,
        "value_attribute: '[categories].ops', resource_id_attribute: user, "
        "response_entries_key: summary, skip_sample_values: [list]",
        name="'radosgw.{category}'",
    )

    assert [(each.meter.name, each.resource_id, each.volume) for each in found] == [
        ("radosgw.get_obj", "u1", 46),
        ("radosgw.put_obj", "u1", 8),
    ]
    assert (measure.pollster.prefix, measure.pollster.meters) == ("radosgw.", ())
    assert measure.pollster.skipped == {("radosgw.{category}", "no list"): 2}


def test_many_threads_poll_many_resources_each_once(define, server):
    server.otherwise(lambda asked: Answer({"load": int(asked.path.rpartition("/")[2])}))
    [pollster] = define(LOAD)
    resources = [static_resource(f"{server.url}/{number}") for number in range(120)]
    found = []

    def poll(share):
        for resource in share:
            found.extend(pollster.poll(resource))

    threads = [threading.Thread(target=poll, args=(resources[n::6],)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(each.volume for each in found) == list(range(120))
    assert server.counts() == Counter(f"/{number}" for number in range(120))


# ---- documentation ----


def examples():
    blocks = re.findall(r"```yaml\n(.*?)```", (DOCS / "http.md").read_text(), re.DOTALL)
    return [block for block in blocks if "sample_type" in block]


@pytest.mark.parametrize("example", examples())
def test_every_definition_in_the_docs_can_be_used(define, monkeypatch, example):
    monkeypatch.setenv("API_TOKEN", "t")

    assert define(example)


def test_the_docs_name_every_field():
    table = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", (DOCS / "http.md").read_text(), re.MULTILINE)
    named = [name for row in table for name in re.findall(r"`(\w+)`", row)]

    assert sorted(named) == sorted(http_fields.FIELDS | http_fields.UNSUPPORTED.keys())
