"""The page in a browser: drawn, kept up to date, usable by keyboard, screen reader, telephone."""

from __future__ import annotations

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.page.browser import chromium, first_paint, show, violations
from tests.page.scenes import (
    busy_agent,
    evaluator,
    large_group,
    served,
    steered_group,
    waiting_group,
)
from tests.servers.process import wait_until

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def browser():
    with chromium() as found:
        yield found


@pytest.fixture(autouse=True)
def quiet_console(browser):
    """No page says anything in the console: no error, nothing that the policy has refused."""
    browser.get("about:blank")  # the page before may ask a server that has ended
    browser.get_log("browser")
    yield
    assert browser.get_log("browser") == []


def text(browser, id):
    # In one step: the page may draw itself anew between finding an element and reading it.
    return browser.execute_script("return document.getElementById(arguments[0]).innerText", id)


def test_the_one_that_is_waited_for_is_named_and_the_page_follows_the_group(browser):
    show(browser, "desk")
    with waiting_group() as (address, a):
        browser.get(address)
        wait_until(lambda: "web2" in text(browser, "sentence"), what="the wait is told")
        wait_until(lambda: "web3 waits for web2" in text(browser, "flows"), what="it is drawn")
        assert len(browser.find_elements(By.CSS_SELECTOR, "#members tr")) == 3

        browser.find_element(By.ID, "key").send_keys("router-1", Keys.ENTER)
        wait_until(lambda: "Owner" in text(browser, "found"), what="the key is looked up")
        assert a.owner("router-1") in text(browser, "found")
        first = "return document.querySelector('#members th').innerText"
        assert browser.execute_script(first) == "web1 (this one)"
        a.drain(2)
        wait_until(lambda: "left" in text(browser, "state") + text(browser, "sentence"))


@pytest.mark.parametrize("size", ["desk", "telephone"])
def test_contrast_labels_and_roles_are_right(browser, size):
    show(browser, size)
    with served(busy_agent()) as address:
        browser.get(address)
        assert text(browser, "state") == "settling"
        assert violations(browser) == []
        width = "return document.documentElement.scrollWidth - innerWidth"
        assert browser.execute_script(width) <= 0, "the page is wider than its window"


@pytest.mark.parametrize("size", ["desk", "telephone"])
def test_an_evaluators_page_shows_alarms_by_state_what_is_overdue_and_who_was_not_told(
    browser, size
):
    show(browser, size)
    with served(evaluator()) as address:
        browser.get(address)
        told = text(browser, "alarms")
        for words in ("State alarm\n17", "Overdue\n2", "To be told\n5", "Given up\n1"):
            assert words in told
        assert "is tried again: no answer in time" in told
        assert "2 alarms have not been evaluated for two windows" in text(browser, "troubles")
        assert "https://hooks.example.org does not answer" in text(browser, "troubles")
        assert violations(browser) == []
        width = "return document.documentElement.scrollWidth - innerWidth"
        assert browser.execute_script(width) <= 0, "the page is wider than its window"


def test_in_the_dark_it_can_be_read_as_well():
    with chromium(dark=True) as browser, served(busy_agent()) as address:
        browser.get(address)
        assert violations(browser) == []
        assert browser.get_log("browser") == []


def test_all_that_can_be_done_can_be_done_by_keyboard(browser):
    show(browser, "desk")
    with served(busy_agent()) as address:
        browser.get(address)
        reached = []
        for _ in range(12):
            browser.switch_to.active_element.send_keys(Keys.TAB)
            found = browser.switch_to.active_element
            reached.append(found.get_attribute("id") or found.tag_name)
            if found.get_attribute("id") == "pause" and found.text == "Pause":
                found.send_keys(Keys.SPACE)
                assert text(browser, "pause") == "Go on"
        assert {"pause", "events", "key", "button"} <= {*reached}


def test_a_member_is_drained_and_the_group_frozen_by_keyboard_alone(browser):
    show(browser, "desk")
    with steered_group("correct-horse-battery") as (address, a, b):
        browser.get(address)
        wait_until(lambda: "2 members" in text(browser, "sentence"), what="it is drawn")
        assert violations(browser) == []

        def press(*keys):
            browser.switch_to.active_element.send_keys(*keys)

        def focus():
            return browser.switch_to.active_element

        def ask(act):
            browser.execute_script("document.querySelector('[data-act=drain]').focus()")
            while focus().get_attribute("data-act") != act:
                press(Keys.TAB)
            press(Keys.ENTER)

        ask("drain")
        assert "Enter the token first" in text(browser, "steered")
        assert focus().get_attribute("id") == "token"
        press("correct-horse-battery", Keys.TAB)
        assert focus().get_attribute("id") == "whom"
        press("web2")
        ask("drain")
        assert focus().get_attribute("id") == "no"  # whoever presses Enter twice asks for nothing
        assert text(browser, "sure-title") == "Drain web2?"
        assert violations(browser) == []
        press(Keys.ESCAPE)
        assert focus().get_attribute("data-act") == "drain"
        ask("drain")
        press(Keys.SHIFT, Keys.TAB)
        press(Keys.ENTER)
        wait_until(lambda: "drain web2: done" in text(browser, "steered"), what="it is told")
        wait_until(lambda: b.state == "left")

        ask("freeze")
        press(Keys.SHIFT, Keys.TAB)
        press(Keys.ENTER)
        wait_until(lambda: a.frozen is not None)
        wait_until(lambda: "frozen" in text(browser, "state"), what="the page shows it")
        # Who thaws before every member knows has the last word, and the freeze is not done.
        wait_until(
            lambda: "freeze the group: done" in text(browser, "acts"), what="the page says it"
        )
        ask("thaw")
        press(Keys.SHIFT, Keys.TAB)
        press(Keys.ENTER)
        wait_until(lambda: a.frozen is None)
        wait_until(lambda: "thaw the group: done" in text(browser, "acts"), what="the page says it")
        stored = "return JSON.stringify([localStorage, sessionStorage, document.cookie])"
        assert "horse" not in browser.execute_script(stored)
        browser.get("about:blank")  # it would ask a server that has ended


def test_without_a_token_the_page_shows_nothing_to_press(browser):
    show(browser, "desk")
    with served(busy_agent()) as address:
        browser.get(address)
        assert not browser.find_element(By.ID, "steer").is_displayed()
        assert "changes nothing" in text(browser, "changes")


def test_two_hundred_members_are_drawn_before_anything_else_is_loaded(browser):
    """One answer has all of it. How long that takes, `python -m bench.first_paint` measures."""
    show(browser, "desk")
    with served(large_group(200)) as address:
        browser.get(address)
        assert len(browser.find_elements(By.CSS_SELECTOR, "#members tr")) == 200
        loaded = "return performance.getEntriesByType('resource').map((one) => one.name)"
        assert [name for name in browser.execute_script(loaded) if name != address] == []
        assert first_paint(browser) > 0


def test_a_process_that_does_not_answer_is_told_and_the_last_state_stays(browser):
    show(browser, "desk")
    with served(busy_agent()) as address:
        browser.get(address)
    wait_until(lambda: "No answer" in text(browser, "fresh"), what="it is told")
    assert text(browser, "state") == "settling"
    refused = browser.get_log("browser")
    # What was on its way when the server ended may be cut, or get no answer.
    assert all("net::ERR_" in one["message"] for one in refused), refused
