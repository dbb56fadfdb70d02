"""The page as a program serves it: paths, forms, headers; and what its JSON says."""

from __future__ import annotations

import gzip
import json
import re
import sys
import uuid
from wsgiref.util import setup_testing_defaults

import jsonschema
import pytest

import hashring
import hashring.metrics.prometheus
import hashring.page
from tests.conftest import TREE
from tests.servers.process import wait_until

TTL = 30.0  # far longer than any of these tests


def ask(app, path, method="GET", **headers):
    """Ask a WSGI application; return the status code, the headers, the body."""
    path, _, query = path.partition("?")
    environ = {"REQUEST_METHOD": method, "PATH_INFO": path, "QUERY_STRING": query}
    environ |= {f"HTTP_{name.upper()}": value for name, value in headers.items()}
    setup_testing_defaults(environ)
    told = []
    body = b"".join(app(environ, lambda *found: told.append(found)))
    status, found = told[0][:2]
    return int(status.split()[0]), dict(found), body


@pytest.fixture(scope="module")
def url():
    return f"memory://{uuid.uuid4().hex}"


def wait_until_calm(a, b):
    """Wait until both have settled, and a page of the first one's readings shows it."""

    def is_calm():
        with hashring.page.Page(a) as page:
            found = status_of(page)["groups"]["pollers"]["description"]
        return (
            b.state == a.state == "settled"
            and found is not None
            and found["is_settled"]
            and len(found["members"]) == 2
        )

    wait_until(is_calm)


@pytest.fixture(scope="module")
def members(url):
    with (
        hashring.join(url, "pollers", "a", ttl=TTL) as a,
        hashring.join(url, "pollers", "b", ttl=TTL) as b,
    ):
        wait_until_calm(a, b)
        yield a, b
        a.leave()
        b.leave()


@pytest.fixture(scope="module")
def page(members):
    with hashring.page.Page(members[0]) as found:
        yield found


def status_of(page):
    return json.loads(ask(page, "/ring")[2])


def test_the_json_says_what_its_schema_says(page):
    schema = hashring.page.schema()
    jsonschema.Draft202012Validator.check_schema(schema)

    wait_until(lambda: status_of(page)["events"])
    found = status_of(page)

    jsonschema.validate(found, schema)
    assert found["state"] == "settled"
    group = found["groups"]["pollers"]
    assert group["members"] == ["a", "b"]
    assert group["slots"] == group["due"] > 0
    assert {one["id"]: one["state"] for one in group["description"]["members"]} == {
        "a": "settled",
        "b": "settled",
    }
    assert group["description"]["memory_age"] is None  # the store never forgets
    assert 0 < group["fence_in"] <= TTL


def test_who_is_waited_for_is_named_with_slots_and_since_when(url, members, page):
    a, b = members
    with b.cycle(), hashring.join(url, "pollers", "c", ttl=TTL) as c:
        wait_until(lambda: "b" in c.waiting_for)

        def waits():
            return status_of(page)["groups"]["pollers"]["description"]["waits"]

        wait_until(lambda: [(one["member"], one["whom"]) for one in waits()] == [("c", "b")])
        (wait,) = waits()
        assert wait["slots"] == len(c.waiting_for["b"])
        assert 0 < len(wait["ranges"]) <= 50
        assert wait["since"] is not None
        c.leave()
    wait_until_calm(a, b)


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "text/html"),
        ("*/*", "application/json"),
        ("", "application/json"),
        ("application/json, text/html;q=0.9", "application/json"),
        ("text/html;q=nonsense", "application/json"),
    ],
)
def test_a_browser_gets_html_and_a_program_json(page, accept, kind):
    code, headers, body = ask(page, "/ring", accept=accept)

    assert code == 200
    assert headers["Content-Type"] == f"{kind}; charset=utf-8"
    assert headers["Vary"] == "Accept"
    assert len(body) == int(headers["Content-Length"])


def test_what_a_stranger_publishes_cannot_leave_the_data_of_the_page(url):
    evil = "</script><script>alert(1)</script>"
    with hashring.join(url, "evil", evil, ttl=TTL) as partition:
        assert partition.wait_settled(60)
        with hashring.page.Page(partition) as page:
            _, headers, body = ask(page, "/ring", accept="text/html")
            found = status_of(page)
        partition.leave()

    assert evil in found["groups"]["evil"]["members"]
    assert b"alert(1)" in body
    assert evil.encode() not in body
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
@pytest.mark.parametrize("path", ["/ring", "/metrics", "/livez", "/readyz"])
def test_nothing_but_reading_is_allowed(page, method, path):
    code, headers, _ = ask(page, path, method)

    assert code == 405
    assert headers["Allow"] == "GET, HEAD"


def test_a_head_request_has_no_body(page):
    code, headers, body = ask(page, "/ring", "HEAD")

    assert (code, body) == (200, b"")
    assert int(headers["Content-Length"]) > 100


def test_a_long_answer_is_compressed_for_whoever_takes_that(page):
    _, headers, body = ask(page, "/ring", accept="text/html", accept_encoding="gzip, br")

    assert headers["Content-Encoding"] == "gzip"
    assert b"<!doctype html>" in gzip.decompress(body)


def test_a_key_is_looked_up(page, members):
    code, _, body = ask(page, "/ring?group=pollers&key=web1")

    assert code == 200
    found = json.loads(body)
    assert found["owner"] == found["holder"] == members[0].owner("web1")
    assert found["reason"] == ""


@pytest.mark.parametrize(
    ("query", "code"),
    [("group=other&key=web1", 404), ("key=web1", 404), (f"group=pollers&key={'x' * 5000}", 400)],
)
def test_a_look_up_that_cannot_be_answered_says_why(page, query, code):
    found, _, body = ask(page, f"/ring?{query}")

    assert found == code
    assert body.strip()


def test_metrics_and_probes_answer(page):
    assert ask(page, "/livez")[0] == 200
    assert ask(page, "/readyz")[0] == 200
    code, _, body = ask(page, "/metrics")
    assert code == 200
    assert b'hashring_slots_held{group="pollers"}' in body
    assert ask(page, "/")[1]["Location"] == "/ring"
    assert ask(page, "/other")[0] == 404


def test_who_has_left_is_not_ready(url):
    partition = hashring.join(url, "leavers", "a", ttl=TTL)
    with hashring.page.Page(partition) as page:
        assert partition.wait_settled(60)
        assert ask(page, "/readyz")[0] == 200
        partition.leave()
        code, _, body = ask(page, "/readyz")
    assert code == 503
    assert b"leavers: left" in body


def test_a_page_asks_the_store_nothing(members):
    """However often it is looked at: all is by the member's own readings."""
    a, _ = members

    def reads():
        return {name: found.timing.count for name, found in a.store_calls.items()}

    before = reads()
    with hashring.page.Page(a) as page:
        for _ in range(300):
            status_of(page)
    after = reads()
    # Its own heartbeats, and the readings that follow from others' acks, go on meanwhile.
    assert sum(after.values()) - sum(before.values()) < 100


def test_without_prometheus_client_the_metrics_say_what_to_install(members, monkeypatch):
    monkeypatch.delattr(hashring.metrics, "prometheus")
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    monkeypatch.delitem(sys.modules, "hashring.metrics.prometheus", raising=False)
    with hashring.page.Page(members[0]) as page:
        code, _, body = ask(page, "/metrics")
        assert ask(page, "/ring")[0] == 200
    assert code == 501
    assert b"pip install 'hashring-ha[metrics]'" in body


def test_the_program_in_the_docs_serves_the_page():
    page = (TREE / "docs" / "operations" / "page.md").read_text("utf-8")
    (program,) = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    asked = "urlopen(f'http://127.0.0.1:{server.server_port}/readyz', timeout=60).read()"
    found = {}
    exec(f"from urllib.request import urlopen\n{program.replace('...', f'said = {asked}')}", found)
    assert found["said"] == b"ready\n"
