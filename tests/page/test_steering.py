"""What the page changes: for whoever has its token, by POST alone, and never for another site."""

from __future__ import annotations

import io
import json
import logging
import uuid

import pytest

import hashring
import hashring.page
from hashring.errors import BadArgument
from hashring.observe import Observer
from hashring.page import Token
from tests.page.test_wsgi import ask
from tests.servers.process import wait_until

TTL = 30.0  # far longer than any of these tests
TOKEN = "correct-horse-battery"


@pytest.fixture(scope="module")
def url():
    return f"memory://{uuid.uuid4().hex}"


@pytest.fixture(scope="module")
def member(url):
    with hashring.join(url, "pollers", "a", ttl=TTL, heartbeat=2.0) as found:
        yield found
        found.leave()


@pytest.fixture(scope="module")
def page(member):
    with hashring.page.Page(member, token=Token(TOKEN)) as found:
        yield found


def post(app, what, body, token=TOKEN, **more):
    """Ask a page to do something; return the status code, and what it says."""
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    environ = {
        "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": str(len(text)),
        "wsgi.input": io.BytesIO(text),
        "HTTP_HOST": "web1:9465",
        "REMOTE_ADDR": "192.0.2.7",
        **({} if token is None else {"HTTP_AUTHORIZATION": f"Bearer {token}"}),
        **more,
    }
    environ = {name: value for name, value in environ.items() if value is not None}
    environ |= {"REQUEST_METHOD": "POST", "PATH_INFO": f"/ring/acts/{what}"}
    told = []
    said = b"".join(app(environ, lambda *found: told.append(found)))
    code, headers = int(told[0][0].split()[0]), dict(told[0][1])
    return code, json.loads(said) if "json" in headers["Content-Type"] else said.decode()


def acts(page):
    return json.loads(ask(page, "/ring/acts")[2])["acts"]


def until_over(page, id):
    """Wait until an act is over; return it."""

    def found():
        return next(one for one in acts(page) if one["id"] == id)

    wait_until(lambda: found()["state"] != "running", what="the act is over")
    return found()


def test_a_member_is_drained_by_who_has_the_token_and_the_log_says_by_whom(url, page, caplog):
    caplog.set_level(logging.INFO, "hashring")
    with hashring.join(url, "pollers", "b", ttl=TTL) as b:
        wait_until(lambda: b.state == "settled" and len(b.members) == 2)

        code, act = post(page, "drain", {"group": "pollers", "member": "b", "by": "alice"})

        assert code in (200, 202)
        over = until_over(page, act["id"])
        assert (over["state"], over["what"], over["member"]) == ("done", "drain", "b")
        wait_until(lambda: b.state == "left")
        (request,) = b.requests
        assert request.by == "alice, by the page from 192.0.2.7"
    assert any("is asked to drain b by 'alice" in line for line in caplog.messages)
    assert TOKEN not in caplog.text


def test_a_group_is_frozen_and_thawed(url, page, member):
    with Observer(url) as observer:
        for what, is_frozen in (("freeze", True), ("thaw", False)):
            _, act = post(page, what, {"group": "pollers"})
            assert until_over(page, act["id"])["state"] == "done"
            wait_until(lambda is_frozen=is_frozen: (member.frozen is not None) == is_frozen)
            wait_until(
                lambda is_frozen=is_frozen: (
                    (observer.describe("pollers").frozen is not None) == is_frozen
                )
            )


def test_a_member_that_heartbeats_is_evicted_by_force_alone(url, page):
    with hashring.join(url, "pollers", "c", ttl=TTL, heartbeat=1.0) as c:
        wait_until(lambda: c.state == "settled")
        order = {"group": "pollers", "member": "c"}

        _, act = post(page, "evict", order)
        refused = until_over(page, act["id"])
        assert (refused["state"], refused["reason"].split(":")[0]) == ("not done", "it heartbeats")
        assert c.state == "settled"

        _, act = post(page, "evict", {**order, "force": True})
        assert until_over(page, act["id"])["state"] == "done"
        wait_until(lambda: c.state == "left")


def test_a_member_that_is_not_there_is_not_done_and_says_who_is(page):
    _, act = post(page, "drain", {"group": "pollers", "member": "nobody"})

    over = until_over(page, act["id"])

    assert over["state"] == "not done"
    assert "no member 'nobody'" in over["reason"]


@pytest.mark.parametrize(
    ("what", "body", "more", "code"),
    [
        ("drain", {"group": "pollers", "member": "a"}, {"token": None}, 401),
        ("drain", {"group": "pollers", "member": "a"}, {"token": "wrong-horse-battery"}, 401),
        ("drain", {"group": "pollers", "member": "a"}, {"token": "\udcff"}, 401),
        ("freeze", {"group": "pollers"}, {"HTTP_ORIGIN": "http://evil.example"}, 403),
        ("freeze", {"group": "pollers"}, {"HTTP_ORIGIN": "null"}, 403),
        ("freeze", {"group": "pollers"}, {"HTTP_SEC_FETCH_SITE": "cross-site"}, 403),
        ("freeze", b"group=pollers", {"CONTENT_TYPE": "application/x-www-form-urlencoded"}, 415),
        ("freeze", {"group": "pollers"}, {"CONTENT_LENGTH": None}, 411),
        ("freeze", {"group": "x" * 20_000}, {}, 413),
        ("freeze", b"{", {}, 400),
        ("freeze", b"[" * 5000, {}, 400),
        ("freeze", [], {}, 400),
        ("freeze", {"group": "pollers", "member": "a"}, {}, 400),
        ("drain", {"group": "pollers"}, {}, 400),
        ("evict", {"group": "pollers", "member": "a", "force": "yes"}, {}, 400),
        ("drain", {"group": "pollers", "member": 1}, {}, 400),
        ("drain", {"group": "pollers", "member": "a", "why": "x"}, {}, 400),
        ("freeze", {"group": "other"}, {}, 404),
        ("destroy", {"group": "pollers"}, {}, 404),
    ],
)
def test_what_is_not_right_is_refused_and_nothing_changes(page, member, what, body, more, code):
    before = acts(page)

    found, said = post(page, what, body, **more)

    assert found == code
    assert said.strip()
    assert TOKEN not in said
    assert acts(page) == before
    assert member.state == "settled"
    assert member.frozen is None


def test_the_pages_own_origin_may_ask(page):
    own = {"HTTP_ORIGIN": "http://web1:9465", "HTTP_SEC_FETCH_SITE": "same-origin"}
    code, act = post(page, "thaw", {"group": "pollers"}, **own)
    assert code in (200, 202)
    assert until_over(page, act["id"])["reason"] == "it was not frozen"


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
def test_nothing_is_changed_but_by_a_post(page, method):
    code, headers, _ = ask(page, "/ring/acts/freeze", method)
    assert (code, headers["Allow"]) == (405, "POST")
    assert "Access-Control-Allow-Origin" not in headers


def test_without_a_token_nothing_can_be_changed(member):
    with hashring.page.Page(member) as page:
        assert post(page, "freeze", {"group": "pollers"})[0] == 405
        assert ask(page, "/ring/acts")[0] == 404
        assert b'data-steer="off"' in ask(page, "/ring", accept="text/html")[2]


def test_who_guesses_is_told_of_in_the_log_once_a_minute(page, member, caplog):
    with hashring.page.Page(member, token=Token(TOKEN)) as fresh:
        for _ in range(20):
            assert post(fresh, "freeze", {"group": "pollers"}, token="a-guess-of-mine-1")[0] == 401
    lines = [line for line in caplog.messages if "without the right token" in line]
    assert len(lines) == 1
    assert "192.0.2.7" in lines[0]
    assert "a-guess" not in lines[0]


def test_a_file_with_the_token_is_read_anew_each_time(tmp_path, member):
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    with hashring.page.Page(member, token=Token(file=file)) as page:
        thaw = {"group": "pollers"}
        assert post(page, "thaw", thaw)[0] in (200, 202)
        file.write_text("another-horse-battery\n")
        assert post(page, "thaw", thaw)[0] == 401
        assert post(page, "thaw", thaw, token="another-horse-battery")[0] in (200, 202)
        file.unlink()
        code, said = post(page, "thaw", thaw)
        assert (code, str(file) in said) == (503, False)


@pytest.mark.parametrize(
    "text", ["", "short", "with a space in it", "umlaut-\xe4-is-not-ascii", "x\n" * 9]
)
def test_a_token_that_anybody_guesses_or_no_header_can_bear_is_refused(tmp_path, text):
    with pytest.raises(BadArgument):
        Token(text)
    file = tmp_path / "token"
    file.write_text(text)
    with pytest.raises(BadArgument, match="token"):
        Token(file=file)


def test_what_is_under_way_ends_with_the_page_and_no_more_is_begun(url, member):
    with hashring.join(url, "pollers", "d", ttl=TTL) as d:
        wait_until(lambda: d.state == "settled")
        with d.cycle():  # so it cannot hand over
            with hashring.page.Page(member, token=Token(TOKEN)) as page:
                code, act = post(page, "drain", {"group": "pollers", "member": "d"})
                assert (code, act["state"]) == (202, "running")
            assert until_over(page, act["id"])["state"] == "not done"
            assert post(page, "thaw", {"group": "pollers"})[0] == 503
