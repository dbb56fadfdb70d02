"""What a URL shows of itself: nothing that could be a secret, wherever it is printed."""

import base64
import dataclasses
from urllib.parse import quote

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from hashring import driver
from hashring.driver import Driver, load
from hashring.errors import BadURL, HashringError
from hashring.telemetry.publishers.base import SinkURL, seconds
from hashring.telemetry.sources.web.targets import BadTargets, static_resource
from hashring.url import (
    DriverURL,
    Option,
    masked,
    secrets_in,
    shown,
    without_secrets,
)

SECRET = "hunter2SECRET"

KNOWN = (Option("timeout", seconds, 5.0, "seconds to wait for an answer"),)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"https://sink/in?api_key={SECRET}", "https://sink/in?api_key=***"),
        (f"https://{SECRET}@sink/", "https://***@sink/"),
        (f"https://{SECRET}:@sink/", "https://***@sink/"),
        (f"redis://h?auth={SECRET}", "redis://h?auth=***"),
        (f"redis://:{SECRET}@h:6379/1", "redis://:***@h:6379/1"),
        (
            f"kazoo://u:{SECRET}@h1:2181/, kazoo://u:{SECRET}@h2:2181/",
            "kazoo://u:***@h1:2181/***",
        ),
        (f"kazoo://h1:2181/,kazoo://{SECRET}@h2", "kazoo://*** (41 characters)"),
        (f"redis://a/b={SECRET}@h:6379/1", "redis://*** (34 characters)"),
        ("https://u:p@h/p?mail=a@b.c", "https://u:***@h/***"),
        ("http://web1/users/@me", "http://web1/users/@me"),
        ("sqlite:///var/lib/agent@host.db", "sqlite:///var/lib/agent@host.db"),
        (f"redis://u:{SECRET}", f"redis://*** ({10 + 13} characters)"),
        (f"redis://password={SECRET}", f"redis://*** ({17 + 13} characters)"),
        (f"u:{SECRET}@h", "*** (17 characters)"),
        (f"https://sink/in#{SECRET}", "https://sink/in#***"),
        (f"https://sink/in?{SECRET}", "https://sink/in?***"),
        (f"https://sink/in?a=1;token={SECRET}", "https://sink/in?a=1;token=***"),
        (f"https://sink/token={SECRET}/in", "https://sink/token=***/in"),
        (f"https://u%3A{SECRET}@sink/", "https://***@sink/"),
        (f"zookeeper://h/u%3A{SECRET}%40h2", "zookeeper://h/***"),
        (f"http://probe?target=http://u%3A{SECRET}%40web1/", "http://probe?target=***"),
        (f"http://probe?target=http%3A%2F%2Fweb1%3Ftoken%3D{SECRET}", "http://probe?target=***"),
        ("http://probe?target=http://web1/&module=x", "http://probe?target=http://web1/&module=x"),
        (f"prometheus+https://u:{SECRET}@[::1]:1/m", "prometheus+https://u:***@[::1]:1/m"),
        (f"qemu+tcp://alice:{SECRET}@h/system", "qemu+tcp://alice:***@h/system"),
        ("redis://a:1,b:2,[::1]:3/0?sentinel=s", "redis://a:1,b:2,[::1]:3/0?sentinel=s"),
        ("discovery", "discovery"),
    ],
)
def test_secrets_are_hidden_and_what_is_clear_is_shown(text, expected):
    assert masked(text) == expected
    assert driver.masked(text) == expected  # the name that outsiders import


@pytest.mark.parametrize("sign", ["/", "?", "#", "@", "%", ":", "[", "&", "=", ",", "%2F", " "])
def test_a_password_that_was_not_percent_encoded_is_shown_neither_whole_nor_in_part(sign):
    for text in (
        f"redis://app:hunter{sign}SECRET@h:6379/0",
        f"redis://:hunter{sign}SECRET@h:6379/0",
        f"redis://hunter{sign}SECRET@h:6379/0".replace("hunter:", "app:"),
    ):
        for show in (masked, lambda text: str(DriverURL.parse(text)), told_by_a_sink):
            try:
                found = show(text)
            except BadURL as error:
                found = f"{error!r}"
            assert "hunter" not in found, text
            assert "SECRET" not in found, text


def told_by_a_sink(text):
    url = SinkURL.parse(text)
    return f"{url} {url!r}"


def test_what_cannot_be_taken_apart_is_shown_as_its_scheme_and_its_length():
    assert masked(f"redis://[{SECRET}") == "redis://*** (22 characters)"
    assert masked(f"re dis://{SECRET}") == "*** (22 characters)"
    with pytest.raises(BadURL) as caught:
        DriverURL.parse(f"{SECRET}@h:6379")
    assert SECRET not in str(caught.value)


TEMPLATES = [
    "redis://app:{}@h:6379/0",
    "redis://{}@h:6379/0",
    "redis://:{}@h:6379/0?timeout=soon",
    "redis://h?auth={}",
    "redis://h/0?timeout=1&sentinel_password={}",
    "zookeeper://app:{0}@h1/, zookeeper://app:{0}@h2/agents",
    "zookeeper://h1/,app:{}@h2",
    "zookeeper://h1,h2/path?auth={}&ttl=-1",
    "memcached://app:{}@h:no_port",
    "sqlite:///var/lib/x.db?access_key={}",
    "https://sink/in?api_key={}&timeout=soon",
    "https://sink/in#{}",
    "https://app:{}@sink/in?next=a@b",
    "https://app:{}",
    "app:{}@sink",
    "prometheus+http://{}@web1:9100/metrics",
    "https://sink/?url=redis://app:{}@h",
]


@settings(deadline=None)
@given(template=st.sampled_from(TEMPLATES), noise=st.text(max_size=8), encoded=st.booleans())
@example(template=TEMPLATES[0], noise="/", encoded=False)
@example(template=TEMPLATES[0], noise="?a=b@c/", encoded=False)
@example(template=TEMPLATES[0], noise="%", encoded=True)
@example(template=TEMPLATES[3], noise="@", encoded=False)
@example(template="https://app:{}", noise="/", encoded=False)
@example(template="https://app:{}", noise="?#/", encoded=False)
@example(template="app:{}@sink", noise="/", encoded=False)
@example(template="memcached://app:{}@h:no_port", noise="/", encoded=False)
def test_a_secret_at_any_place_of_a_url_is_shown_by_nothing_that_prints_one(
    template, noise, encoded
):
    raw = f"xyzzy{noise}plugh"
    try:
        text = template.format(quote(raw, safe="") if encoded else raw)
    except UnicodeEncodeError:
        assume(False)
    told = [masked(text), without_secrets(f"cannot reach {text}: refused", secrets_in(text))]
    for attempt in (_parsed, _loaded, _sink, _target):
        try:
            told += attempt(text)
        except (HashringError, BadTargets) as error:
            told += [str(error), repr(error)]
    # The noise may end one option and begin another, which has nothing to do with the secret.
    pieces = ["xyzzy", "plugh"] if encoded or not set(noise) & set("&;") else ["xyzzy"]
    if "//{}@" in template and ":" in noise and not encoded:
        pieces.remove("xyzzy")  # what stands before a colon is the name of a user, and is shown
    if template == "https://app:{}" and "@" in noise and not encoded:
        pieces = ["xyzzy"]  # what stands behind the last @ is a host
    for found in told:
        for piece in pieces:
            assert piece not in found, (text, found)


def _parsed(text):
    url = DriverURL.parse(text)
    return [str(url), repr(url), f"{dataclasses.replace(url, scheme='x')!r}"]


def _loaded(text):
    made = Talkative(DriverURL.parse(text), ttl=10.0)
    failed = made.unavailable("reading", OSError(f"no route for {made.url.spelled}"))
    return [str(made.url), repr(made), str(failed)]


def _sink(text):
    return [repr(SinkURL.parse(text, KNOWN))]


def _target(text):
    return [static_resource(text).id]


# -- what others say of a URL


def test_an_error_of_a_library_is_shown_without_the_secrets_of_the_url_it_was_given():
    url = DriverURL.parse("redis://app:s3cret%21x@h?sentinel_password=watch%2Fme")
    login = base64.b64encode(b"app:s3cret!x").decode()

    told = url.hide(
        f"AUTH app s3cret!x at redis://app:s3cret%21x@h with {login}, {'watch/me'!r} and "
        "https://proxy/?token=hush"
    )

    for secret in ("s3cret", login, "watch", "hush"):
        assert secret not in told
    assert "AUTH app *** at redis://" in told


class Talkative(Driver):
    """A driver whose library shows what it was given."""

    options = (Option("credential", str, None, "a secret by declaration", secret=True),)

    def open(self): ...
    def close(self): ...
    def join(self, group, member, record): ...
    def heartbeat(self): ...
    def publish(self, group, member, record): ...
    def read(self, group): ...
    def wait(self, group, timeout): ...
    def leave(self, group, member): ...


def test_a_driver_tells_of_a_failure_without_the_secrets_in_it():
    made = Talkative(DriverURL.parse("x://me:s3cret@h?credential=hush%2Fhush"), ttl=10.0)

    told = str(made.unavailable("reading", OSError("me:s3cret and hush/hush were refused")))

    assert "s3cret" not in told
    assert "hush" not in told
    assert "OSError: me:*** and *** were refused" in told


def test_the_secrets_of_a_url_are_found_as_they_are_written_and_as_they_are_meant():
    found = secrets_in("https://me:a%2Fb+c@h/in?token=d%20e&limit=5#frag")

    assert {"a%2Fb+c", "a/b+c", "d%20e", "d e", "frag"} <= found
    assert "5" not in found
    assert without_secrets("a/b+c d+e 5", found) == "*** *** 5"


def test_a_value_from_a_file_is_shown_shortened_and_without_its_secrets():
    found = shown(
        {
            "0": f"redis://h?auth={SECRET}",
            "1": [{"Authorization": f"Bearer {SECRET}"}, f"X-Token: {SECRET}"],
            "a": ["x" * 1000] * 1000,
        }
    )

    assert SECRET not in found
    assert "redis://h?auth=***" in found
    assert len(found) <= 200


# -- what is taken for a place in the store


@pytest.mark.parametrize("scheme", ["zookeeper", "tooz+zookeeper", "tooz+etcd3+http"])
@pytest.mark.parametrize(
    "path",
    [
        f"/,app:{SECRET}@h2:2181",
        f"/agents,h2/{SECRET}",
        f"/http://{SECRET}",
        f"/app%3A{SECRET}%40h2",
        f"/agents%2C{SECRET}",
        f"/app/{SECRET}@h2",
    ],
)
def test_a_second_address_behind_the_path_is_refused_and_never_becomes_a_name(scheme, path):
    with pytest.raises(BadURL, match=r"must name one node|must be written %40") as caught:
        load(f"{scheme}://h1{path}", ttl=10.0)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "url", [f"redis://a/b={SECRET}@h:6379/1", f"memcached://a/b={SECRET}@h:11211"]
)
def test_a_password_with_a_raw_slash_is_refused_with_the_way_to_write_it(url):
    with pytest.raises(BadURL, match="%2F") as caught:
        load(url, ttl=10.0)
    assert SECRET not in str(caught.value)


def test_a_file_may_have_any_name(tmp_path):
    made = load(f"sqlite://{tmp_path}/agents@host,1.db", ttl=10.0)

    assert made.url.path.endswith("/agents@host,1.db")
