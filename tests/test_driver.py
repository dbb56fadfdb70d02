"""The driver framework: URLs, options, secrets, and how a scheme finds its driver."""

from __future__ import annotations

import os
import sys
import textwrap
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

import hashring
from hashring.driver import (
    COMMON_OPTIONS,
    MAX_NAME,
    MAX_RECORD,
    Driver,
    DriverURL,
    Option,
    Reading,
    boolean,
    check_names,
    check_record,
    describe,
    driver_class,
    drivers,
    incarnation_of,
    load,
)
from hashring.errors import (
    BadName,
    BadRecord,
    BadURL,
    BrokenDriver,
    HashringError,
    MissingDependency,
    UnknownDriver,
)


class Minimal(Driver):
    """A driver that does nothing, to look at what the base class does."""

    options = (
        Option("depth", int, 3, "how deep"),
        Option("wide", boolean, False, "whether it is wide"),
        Option("credential", int, None, "a secret by declaration, not by name", secret=True),
    )
    promise = "nothing"

    def open(self): ...
    def close(self): ...
    def join(self, group, member, record): ...
    def publish(self, group, member, record): ...
    def heartbeat(self): ...
    def read(self, group):
        return Reading({}, 0.0)

    def wait(self, group, timeout): ...
    def leave(self, group, member): ...


def minimal(url, ttl=10.0):
    return Minimal(DriverURL.parse(url), ttl=ttl)


# -- URLs


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("memory://", ("memory", None, None, (), "")),
        ("SQLite:///var/x.db", ("sqlite", None, None, (), "/var/x.db")),
        ("zoo://a,b:1,c", ("zoo", None, None, (("a", None), ("b", 1), ("c", None)), "")),
        ("redis://:pw@h", ("redis", None, "pw", (("h", None),), "")),
        ("redis://me@h/0", ("redis", "me", None, (("h", None),), "/0")),
        ("redis://m%40e:p%2Fw%3F%23%40@h/0", ("redis", "m@e", "p/w?#@", (("h", None),), "/0")),
        ("redis://me:a:b@h", ("redis", "me", "a:b", (("h", None),), "")),
        ("x://[::1]:9,[fe80::1%25e]", ("x", None, None, (("::1", 9), ("fe80::1%e", None)), "")),
        ("tooz+file:///tmp/a%20b", ("tooz+file", None, None, (), "/tmp/a b")),
    ],
)
def test_a_url_is_taken_apart(text, parts):
    url = DriverURL.parse(text)
    assert (url.scheme, url.user, url.secret, url.hosts, url.path) == parts


def test_options_are_decoded_and_a_repeated_one_is_a_list():
    url = DriverURL.parse("redis://h?sentinel=a:1&x=%26%3D+y&sentinel=b:2&empty=")
    assert dict(url.options) == {"sentinel": "a:1,b:2", "x": "&= y", "empty": ""}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("localhost:6379", "scheme://host:port/path"),
        ("://h", "scheme"),
        ("r edis://h", "scheme"),
        ("redis://h:port", "the port *** is not a number"),
        ("redis://h:0", "from 1 to 65535"),
        ("redis://h:65536", "from 1 to 65535"),
        ("redis://h:\N{SUPERSCRIPT TWO}", "is not a number"),
        ("redis://:6379", "a host is missing"),
        ("redis://[::1", "brackets"),
        ("redis://[::1]6379", "brackets"),
        ("redis://h?timeout", "?name=value"),
        ("redis://h?=3", "?name=value"),
        ("redis://h?a=1&&b=2", "?name=value"),
        ("sqlite:///a#b.db", "%23"),
        (b"redis://h", "bytes"),
        (None, "NoneType"),
    ],
)
def test_a_wrong_url_is_an_error_that_says_what_is_wrong(text, says):
    with pytest.raises(BadURL) as caught:
        DriverURL.parse(text)
    assert says in str(caught.value)


# -- secrets


@pytest.mark.parametrize(
    "text",
    [
        "redis://me:hunter2@h:port",
        "redis://me:hunter2@",
        "redis://me:hun/ter2@h",
        "redis://me:hun?ter2@h",
        "redis://me:hun#ter2@h",
        "redis://me:hun@ter2@h:port",
        "redis://me:ter2/hun@h/0?timeout=1",
        "redis://h:port?password=hunter2",
        "redis://h:port?sasl_PASSWORD=hunter2&x=1",
        "redis://h:port?pass%77ord=hunter2",
        "me:hunter2@h",
    ],
)
def test_an_error_about_a_url_shows_no_secret(text):
    try:
        shown = str(DriverURL.parse(text))
    except BadURL as error:
        shown = f"{error} {error!r} {error.__cause__} {error.__context__}"
    assert "hun" not in shown
    assert "ter2" not in shown


def test_a_shown_url_masks_the_secret_and_secret_options_only():
    driver = minimal("x://me:hunter2@h:1/p%20q?credential=4711&depth=2&timeout=5")
    expected = "x://me:***@h:1/p%20q?credential=***&depth=2&timeout=5"
    assert str(driver.url) == expected
    assert expected in repr(driver.url)
    assert expected in str(driver.unavailable("reading", OSError("no route")))


def test_an_ill_typed_secret_option_is_reported_without_its_value():
    with pytest.raises(BadURL, match=r"credential=\*\*\*") as caught:
        minimal("x://h?credential=hunter2")
    assert "hunter2" not in str(caught.value)


@given(
    user=st.none() | st.text(min_size=1),
    secret=st.none() | st.text(min_size=12),
    path=st.text(),
    value=st.text(),
)
def test_what_is_percent_encoded_comes_back_and_secrets_do_not(user, secret, path, value):
    def encoded(text):
        return quote(text, safe="")

    userinfo = "" if user is None else encoded(user)
    if secret is not None:
        userinfo += f":{encoded(secret)}"
    at = "@" if userinfo else ""
    url = DriverURL.parse(f"x://{userinfo}{at}h:1/{encoded(path)}?o={encoded(value)}")
    assert (url.user, url.secret) == (user, secret)
    assert (url.hosts, url.path) == ((("h", 1),), f"/{path}")
    assert dict(url.options) == {"o": value}
    if secret is not None:
        masked = DriverURL.parse(str(url))
        assert masked.secret == "***"
        assert (masked.user, masked.hosts) == (url.user, url.hosts)
        # A path with a login in it, or what could be one, is hidden.
        assert masked.path == url.path or "***" in masked.path


@given(st.text())
def test_any_text_is_a_url_or_a_clear_error(text):
    try:
        url = DriverURL.parse(text)
    except BadURL:
        return
    assert DriverURL.parse(str(url)).scheme == url.scheme


# -- options


def test_options_are_typed_and_have_defaults():
    driver = minimal("x://h?depth=7&wide=on&timeout=0.5&retries=0")
    settings = driver.settings
    assert (settings["depth"], settings["wide"], settings["timeout"]) == (7, True, 0.5)
    assert settings["retries"] == 0
    assert settings["connect_timeout"] == 3.0
    assert settings["credential"] is None


@pytest.mark.parametrize(
    "option",
    [
        "depth=deep",
        "wide=maybe",
        "timeout=0",
        "timeout=-1",
        "timeout=nan",
        "timeout=inf",
        "retries=-1",
        "retries=1.5",
        "jitter=1.1",
        "ttl=soon",
        "timeout=1&timeout=2",
    ],
)
def test_an_ill_typed_option_is_refused_by_name_and_value(option):
    name, _, value = option.partition("=")
    with pytest.raises(BadURL, match=name) as caught:
        minimal(f"x://h?{option}")
    assert value.partition("&")[0] in str(caught.value)


def test_an_unknown_option_is_refused_with_the_known_ones():
    with pytest.raises(BadURL, match="'dept'") as caught:
        minimal("x://h?dept=3")
    for option in (*COMMON_OPTIONS, *Minimal.options):
        assert option.name in str(caught.value)


@pytest.mark.parametrize("ttl", [0, -1, float("nan"), float("inf"), "soon", None])
def test_a_lease_must_be_a_positive_number_of_seconds(ttl):
    with pytest.raises(BadURL, match="ttl must be a positive number"):
        minimal("x://h", ttl=ttl)


def test_further_tries_wait_longer_and_longer_up_to_a_bound():
    driver = minimal("x://h?retries=6&backoff=0.1&backoff_max=1&jitter=0")
    assert list(driver.delays()) == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.0, 1.0])
    driver = minimal("x://h?retries=100&backoff=1&backoff_max=1&jitter=0.5")
    waits = list(driver.delays())
    assert all(0.5 <= wait <= 1.0 for wait in waits)
    assert len(set(waits)) > 1
    assert list(minimal("x://h?retries=0").delays()) == []


def test_no_two_drivers_share_an_identity():
    made = [minimal("x://h") for _ in range(100)]
    assert len({driver.token for driver in made}) == 100
    assert made[0].token == made[0].token


# -- ids and records


@pytest.mark.parametrize("name", ["a", "\N{GRINNING FACE}" * 500, "x" * MAX_NAME, "../..", " "])
def test_any_other_text_is_a_legal_id(name):
    check_names(name, name)


@pytest.mark.parametrize("name", ["", "a\0b", "\udcff", "x" * (MAX_NAME + 1), b"a", 1])
def test_an_illegal_id_is_refused_and_shown_shortened(name):
    for arguments in ((name,), ("g", name)):
        with pytest.raises(BadName) as caught:
            check_names(*arguments)
        assert len(str(caught.value)) < 300


def test_a_record_is_bytes_of_bounded_size():
    check_record(b"x" * MAX_RECORD)
    with pytest.raises(BadRecord, match=str(MAX_RECORD)):
        check_record(b"x" * (MAX_RECORD + 1))
    with pytest.raises(BadRecord, match="str"):
        check_record("{}")


@pytest.mark.parametrize("spelled", [b"\\ud800", b"\xed\xa0\x80"], ids=["escape", "bytes"])
def test_an_incarnation_with_half_a_surrogate_pair_is_refused(spelled):
    with pytest.raises(BadRecord, match="incarnation"):
        check_record(b'{"incarnation": "a' + spelled + b'"}')
    check_record(b'{"incarnation": "a", "meta": "' + spelled + b'"}')
    check_record(b'{"incarnation": "\\ud83d\\ude00"}')


@pytest.mark.parametrize(
    "record", [b"", b"[]", b"7", b'{"incarnation": 7}', b"{}", b"\xff", b"[" * 100_000, b"9" * 5000]
)
def test_a_record_without_an_incarnation_has_none(record):
    assert incarnation_of(record) is None


# -- finding drivers


@pytest.fixture
def install(tmp_path, monkeypatch):
    """A function that installs a distribution with driver entry points, for one test."""
    monkeypatch.syspath_prepend(tmp_path)

    def make(distribution, entry_points, **modules):
        info = tmp_path / f"{distribution}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0")
        lines = [f"{scheme} = {target}" for scheme, target in entry_points.items()]
        (info / "entry_points.txt").write_text("\n".join(["[hashring.drivers]", *lines]))
        for name, source in modules.items():
            (tmp_path / f"{name}.py").write_text(textwrap.dedent(source))
            monkeypatch.delitem(sys.modules, name, raising=False)

    return make


def test_ours_are_found_as_anybodys():
    assert {"memory", "sqlite"} <= set(drivers())
    assert hashring.drivers() == drivers()
    assert driver_class("memory").__module__ == "hashring.drivers.memory"


def test_an_unknown_scheme_is_an_error_that_lists_what_is_installed():
    with pytest.raises(UnknownDriver, match="consul://") as caught:
        load("consul://h")
    assert "memory" in str(caught.value)
    assert "sqlite" in str(caught.value)


def test_a_plugin_is_found_by_its_scheme_in_any_case(install):
    install(
        "plug", {"Plug-In": "plug_ok:Plug"}, plug_ok="from tests.test_driver import Minimal as Plug"
    )
    assert load("PLUG-IN://h").settings["depth"] == 3
    assert "plug-in" in drivers()


def test_what_stands_before_a_plus_names_the_driver_unless_the_whole_is_known(install):
    install(
        "plug",
        {"base": "plug_plus:Base", "base+special": "plug_plus:Special"},
        plug_plus="""
            from tests.test_driver import Minimal
            class Base(Minimal): pass
            class Special(Minimal): pass
        """,
    )
    assert driver_class("base+file").__name__ == "Base"
    assert driver_class("base+special").__name__ == "Special"


def test_a_plugin_that_fails_to_import_is_reported_with_its_own_error(install):
    install("plug", {"bad": "plug_bad:Plug"}, plug_bad="import no_such_client_library")
    with pytest.raises(BrokenDriver, match="no_such_client_library") as caught:
        load("bad://h")
    assert "plug 1.0" in str(caught.value)
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)


def test_a_plugin_that_lacks_its_class_is_reported(install):
    install("plug", {"bad": "plug_lacking:Plug"}, plug_lacking="")
    with pytest.raises(BrokenDriver, match="Plug"):
        load("bad://h")


def test_a_missing_extra_is_an_error_with_the_pip_command(install):
    source = """
        from hashring.errors import MissingDependency
        raise MissingDependency("the needy:// driver", "client-library", "redis")
    """
    install("plug", {"needy": "plug_needy:Plug"}, plug_needy=source)
    with pytest.raises(MissingDependency, match=r"pip install 'hashring-ha\[redis\]'"):
        load("needy://h")


def test_what_is_no_driver_is_refused(install):
    install("plug", {"none": "plug_none:Plug"}, plug_none="class Plug: pass")
    with pytest.raises(BrokenDriver, match=r"is not a subclass of hashring\.driver\.Driver"):
        load("none://h")


def test_a_driver_that_lacks_methods_is_refused_by_their_names(install):
    source = """
        from tests.test_driver import Minimal
        from hashring.driver import Driver
        class Plug(Driver):
            open = Minimal.open
            close = Minimal.close
    """
    install("plug", {"half": "plug_half:Plug"}, plug_half=source)
    with pytest.raises(BrokenDriver, match="heartbeat, join, leave, publish, read, wait"):
        load("half://h")


def test_two_distributions_that_claim_one_scheme_are_both_named(install):
    install(
        "plug",
        {"memory": "plug_rival:Plug"},
        plug_rival="from tests.test_driver import Minimal as Plug",
    )
    with pytest.raises(BrokenDriver, match="uninstall all but one") as caught:
        load("memory://")
    assert "plug 1.0" in str(caught.value)
    assert "hashring-ha" in str(caught.value)


def test_the_lease_is_the_arguments_then_the_urls_then_the_default():
    assert load("memory://?ttl=5", ttl=3).ttl == 3.0
    assert load("memory://?ttl=5").ttl == 5.0
    assert load("memory://").ttl == 10.0
    assert load(DriverURL.parse("memory://x"), ttl=2).ttl == 2.0
    with pytest.raises(BadURL, match="ttl"):
        load("memory://?ttl=never")


def test_the_description_shows_what_is_installed_and_why_something_cannot_load(install):
    install(
        "plug",
        {"bad": "plug_told:Plug", "good": "plug_fine:Plug"},
        plug_told="1 / 0",
        plug_fine="from tests.test_driver import Minimal as Plug",
    )
    found = {description.scheme: description for description in describe()}
    assert list(found) == sorted(found)
    sqlite = found["sqlite"]
    assert sqlite.distribution.startswith("hashring-ha ")
    assert sqlite.target == "hashring.drivers.sqlite:SQLiteDriver"
    assert "one host" in sqlite.promise
    assert sqlite.problem is None
    assert found["good"].options == Minimal.options
    assert found["good"].distribution == "plug 1.0"
    assert "ZeroDivisionError" in found["bad"].problem


def test_every_error_of_the_framework_is_a_hashring_error():
    for text in ("nowhere", "consul://h", "memory://?x=1", "memory://?ttl=0"):
        with pytest.raises(HashringError):
            load(text)


def test_the_errors_of_every_store_are_in_the_same_words_and_show_no_secret():
    driver = minimal("x://app:s3cret@h")
    said = [
        driver.member_exists("g", "a", "c0ffee", "its lease runs for 2.5 s more"),
        driver.member_exists("g", "a"),
        driver.lease_lost(("g", "a"), ("g", "b")),
        driver.not_open(),
        driver.forked(17),
    ]
    assert [str(error) for error in said] == [
        "x://app:***@h: member 'a' of group 'g' is alive in another incarnation (c0ffee); "
        "its lease runs for 2.5 s more",
        "x://app:***@h: member 'a' of group 'g' is alive in another incarnation",
        "x://app:***@h: the lease of 'a' in group 'g', 'b' in group 'g' is gone",
        "x://app:***@h is not open: call open() first",
        f"x://app:***@h was opened in process 17, and this is its fork {os.getpid()}: "
        "open a driver of its own there",
    ]
