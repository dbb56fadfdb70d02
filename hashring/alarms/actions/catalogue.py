"""Which actions are installed, made when first needed; and whether a URL is one of theirs."""

from __future__ import annotations

import threading
from urllib.parse import urlsplit

from hashring import plugins
from hashring.alarms.errors import BadAlarm
from hashring.alarms.plugin import ACTIONS, Action, Settings
from hashring.errors import HashringError
from hashring.telemetry.model.suggestions import meant
from hashring.url import masked

__all__ = ["Catalogue"]


class Catalogue:
    """The actions by the schemes of their URLs. May be used by several threads.

    Args:
        settings: of the program.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._made: dict[str, Action] = {}

    def check(self, url: str) -> None:
        """Check the URL of an action.

        Raises:
            BadAlarm: no such action is installed, or the URL is wrong.
        """
        scheme = _scheme(url)
        known = plugins.names(ACTIONS)
        if scheme not in known:
            raise BadAlarm(
                f"{masked(url)!r}: no action {scheme!r} is installed{meant(scheme, known)}; there "
                f"are: {', '.join(f'{name}://' for name in known)}"
            )
        self._kind(scheme).check(url)

    def action(self, url: str) -> Action:
        """Return the action that serves a URL.

        Raises:
            HashringError: none does, or it cannot be made.
        """
        scheme = _scheme(url)
        with self._lock:
            found = self._made.get(scheme)
            if found is None:
                kind = self._kind(scheme)
                found = self._made[scheme] = plugins.made(scheme, lambda: kind(self._settings))
        return found

    @staticmethod
    def _kind(scheme: str) -> type[Action]:
        return plugins.load(ACTIONS, scheme, Action)  # type: ignore[type-abstract]

    def resends(self, url: str) -> bool:
        """Return whether an action is told in every window."""
        try:
            return self.action(url).resends
        except HashringError:
            return False  # who delivers will say so

    def close(self) -> None:
        """Close those that were made."""
        with self._lock:
            made = list(self._made.values())
            self._made.clear()
        for action in made:
            action.close()


def _scheme(url: str) -> str:
    try:
        return urlsplit(url).scheme.lower()
    except ValueError:
        return url.partition(":")[0].lower()
