"""What the conformance suite asks of a driver's URL: options that are known, secrets unseen.

Part of :class:`hashring.testing.DriverSuite`. How these tests stay right on a slow machine is said
in :mod:`hashring.testing.suite.suite`.
"""

# ruff: noqa: D102 - a test's name is its documentation

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest

from hashring.driver import COMMON_OPTIONS, Driver, DriverURL, load
from hashring.errors import BadURL, HashringError
from hashring.testing.suite.base import SuiteBase, record

__all__ = ["OptionTests"]


class OptionTests(SuiteBase):
    """Options are typed and explained; a secret is shown nowhere."""

    def test_an_unknown_option_is_refused_with_the_known_ones(self, url: str) -> None:
        joint = "&" if "?" in url else "?"
        with pytest.raises(BadURL, match="no_such_option") as caught:
            load(f"{url}{joint}no_such_option=1", ttl=self.ttl)
        kind = type(load(url, ttl=self.ttl))
        for option in (*COMMON_OPTIONS, *kind.options):
            assert option.name in str(caught.value)

    def test_the_driver_says_what_it_promises_and_explains_its_options(self, url: str) -> None:
        kind = type(load(url, ttl=self.ttl))
        assert kind.promise
        assert "\n" not in kind.promise
        names = [option.name for option in (*COMMON_OPTIONS, *kind.options)]
        assert len(set(names)) == len(names)
        assert all(option.help and "\n" not in option.help for option in kind.options)

    def test_the_common_options_are_typed_and_known(self, url: str) -> None:
        joint = "&" if "?" in url else "?"
        typed = load(f"{url}{joint}backoff=0.25&retries=3", ttl=self.ttl)
        assert typed.settings["backoff"] == 0.25
        assert typed.settings["retries"] == 3
        with pytest.raises(BadURL, match="retries"):
            load(f"{url}{joint}retries=many", ttl=self.ttl)

    def test_a_secret_is_shown_nowhere(
        self, url: str, driver: Callable[..., Driver], group: str
    ) -> None:
        made, rival = driver(), driver()
        shown = [f"{made.url} {made.url!r} {made.unavailable('x', OSError('y'))}"]
        made.join(group, "a", record("1"))
        refusals: tuple[Callable[[], object], ...] = (
            lambda: rival.join(group, "a", record("2")),
            lambda: rival.publish(group, "b", record("2")),
        )
        for refused in refusals:
            with pytest.raises(HashringError) as caught:
                refused()
            shown.append(str(caught.value))
        self._show_no_secret(url, shown)

    def _show_no_secret(self, url: str, shown: Iterable[object]) -> None:
        parsed = DriverURL.parse(url)
        secrets = [parsed.secret] if parsed.secret else []
        secrets += [
            value
            for name, value in parsed.options.items()
            if any(
                option.name == name and option.secret
                for option in type(load(url, ttl=self.ttl)).options
            )
        ]
        assert not [text for text in map(str, shown) if any(secret in text for secret in secrets)]
