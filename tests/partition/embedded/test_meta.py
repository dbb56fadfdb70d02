"""What a member publishes of itself, and replaces while it holds slots."""

import pytest

from hashring.driver import DriverURL
from hashring.errors import HashringError
from tests.partition.embedded.members import TTL, Flaky, settled, until


def test_meta_is_published_and_must_be_json(join):
    a = join("a", meta={"host": "x1"})
    settled(a)

    assert a.records["a"].meta["host"] == "x1"
    with pytest.raises(HashringError, match="meta"):
        join("b", meta={"host": object()})


def test_meta_can_be_replaced_while_slots_are_held(join):
    a, b = join("a", meta={"polls": 1}), join("b")
    until(lambda: len(a.members) == len(b.members) == 2)
    settled(a, b)
    held = a.held

    a.publish_meta({"polls": 2})

    until(lambda: b.records["a"].meta == {"polls": 2})
    assert a.held == held
    settled(a, b)


def test_a_meta_that_cannot_be_published_is_refused_and_the_old_one_stays(join):
    a = join("a", meta={"polls": 1})
    settled(a)

    for wrong in ({"polls": object()}, {"polls": "x" * 70_000}, {"hashring": 1}, ["polls"]):
        with pytest.raises(HashringError, match="meta"):
            a.publish_meta(wrong)
    a.publish_meta({"polls": 1, "last": True})  # were an earlier one kept, this would not arrive

    until(lambda: a.records["a"].meta == {"polls": 1, "last": True})


def test_a_meta_given_while_the_store_is_away_arrives_when_it_is_back(join, url):
    driver = Flaky(DriverURL.parse(url), ttl=TTL)
    a, b = join("a", url=driver), join("b")
    settled(a, b)
    driver.down = True

    a.publish_meta({"polls": 2})
    driver.down = False

    until(lambda: b.records["a"].meta == {"polls": 2})
