"""Secrets and requests: what is asked, how often, and what nobody is shown."""

import logging
import ssl

import pytest

from hashring.telemetry.errors import BadDefinition, BadResponse, FetchFailed
from hashring.telemetry.model.sample import Meter, MeterType
from hashring.telemetry.sources.web.http_json import HTTPDefinitions, load_definitions
from hashring.telemetry.sources.web.targets import static_resource
from tests.servers.certificates import Certificates
from tests.servers.http import Answer, HTTPServer
from tests.telemetry.http_json.definitions import LOAD, volumes


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
