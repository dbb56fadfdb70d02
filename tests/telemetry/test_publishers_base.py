import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashring.errors import BadURL
from hashring.telemetry.plugin import Option, Publisher, SinkURL, count, flag, positive, seconds
from hashring.url import masked
from tests.telemetry.publishing import SETTINGS, sample

KNOWN = (
    Option("timeout", seconds, 5.0, "seconds to wait for an answer"),
    Option("retries", count, 2, "further tries"),
    Option("batch", positive, 10, "samples at once"),
    Option("plain", flag, False, "whether it is plain"),
    Option("pin", positive, 0, "what opens it", secret=True),
)


def test_options_are_typed_and_have_defaults():
    url = SinkURL.parse("x://h?timeout=0.5&plain&batch=3", KNOWN)

    assert url.options == {"timeout": 0.5, "retries": 2, "batch": 3, "plain": True, "pin": 0}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("no-scheme", "is not a publisher: write scheme://host:port/path"),
        ("://host", "is not a publisher"),
        ("x://h:port", r"the port \*\*\* is not a number from 0 to 65535"),
        ("x://h:65536", "the port '65536' is not a number"),
        ("x://[::1", "an IPv6 address must stand in"),
        ("x://[::1]80", "an IPv6 address must stand in"),
        ("x://h?timeout=soon", "the option 'timeout' cannot be 'soon': not a number; it is: sec"),
        ("x://h?timeout=0", "must be more than 0 seconds"),
        ("x://h?timeout=inf", "not a finite number"),
        ("x://h?retries=1.5", "not a whole number"),
        ("x://h?batch=0", "must be at least 1"),
        ("x://h?plain=maybe", "not a boolean"),
        ("x://h?pin=abc", r"the option 'pin' cannot be \*\*\*"),
        ("x://h?colour=red", "unknown option 'colour'; known: batch, pin, plain, retries, timeout"),
    ],
)
def test_what_is_wrong_with_a_url_is_said(text, said):
    with pytest.raises(BadURL, match=said):
        SinkURL.parse(text, KNOWN)


def test_a_publisher_without_options_says_so():
    with pytest.raises(BadURL, match="unknown option 'a'; known: it has none"):
        SinkURL.parse("x://h?a=1")


@given(st.text(alphabet="sec/?#@:&=%[]", min_size=1, max_size=12))
def test_no_password_is_ever_shown(noise):
    password = f"xyzzy{noise}plugh"
    text = f"http://app:{password}@sink:80/in?timeout=1&auth_token=xyzzy"

    assert "xyzzy" not in masked(text)
    assert "plugh" not in masked(text)
    try:
        shown = str(SinkURL.parse(text, KNOWN))
    except BadURL as error:
        shown = str(error)
    assert "xyzzy" not in shown
    assert "plugh" not in shown


def test_a_quoted_password_is_what_was_quoted():
    url = SinkURL.parse("http://app:a%2Fb%40c@sink/in")

    assert (url.user, url.password, url.host, url.path) == ("app", "a/b@c", "sink", "/in")


def test_what_is_set_aside_is_counted_and_each_cause_is_logged_once(caplog):
    class Nowhere(Publisher):
        def publish(self, samples):
            self.set_aside(samples, "too odd", "it has no place")

        def close(self):
            """Hold nothing."""

    publisher = Nowhere("nowhere://app:s3cret@there", SETTINGS)

    for n in range(3):
        publisher.publish([sample(n)])
    publisher.set_aside([sample()], "too even", "likewise")

    assert publisher.refused == 4
    assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR"]
    assert sample().id in caplog.text
    assert "tank.level of plant:tank:north" in caplog.text
    assert "s3cret" not in caplog.text
