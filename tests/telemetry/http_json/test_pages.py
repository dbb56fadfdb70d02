"""Answers in pages: read to the last, bounded together."""

import pytest

from hashring.telemetry.errors import BadResponse, FetchFailed
from hashring.telemetry.sources.web import answers, http_json
from hashring.telemetry.sources.web.targets import static_resource
from tests.servers.http import Answer, HTTPServer
from tests.telemetry.http_json.definitions import LOAD, PAGED, volumes


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
