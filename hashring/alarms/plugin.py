"""Action: what the author of a kind of notification subclasses.

A plug-in is a subclass under the entry-point group ``hashring.alarm_actions``, named by the scheme
of the URLs that it serves. Imports models, settings and errors alone.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import Any, NamedTuple

from hashring.alarms.errors import ActionFailed, ActionRefused, BadAlarm
from hashring.alarms.settings import Settings

__all__ = [
    "ACTIONS",
    "Action",
    "ActionFailed",
    "ActionRefused",
    "BadAlarm",
    "Notification",
    "Settings",
]

ACTIONS = "hashring.alarm_actions"
"""The entry-point group."""


class Notification(NamedTuple):
    """What somebody is to be told.

    Attributes:
        key: its identity: the same whenever it is sent again, by whomever.
        url: the action, whole.
        body: what Aodh sends: alarm_name, alarm_id, severity, previous, current, reason,
        reason_data. at: the start of the window that it comes from, in wall-clock seconds.
        interval: the length of that window in seconds. project_id: whose alarm it is; may be empty.
    """

    key: str
    url: str
    body: Mapping[str, Any]
    at: float
    interval: float
    project_id: str


class Action(abc.ABC):
    """Tells somebody of alarms.

    Args:
        settings: of the program.

    Attributes:
        resends: it wants to be told in every window while an alarm is in the state, not on the
            change alone.
    """

    resends: bool = False

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @classmethod
    def check(cls, url: str) -> None:
        """Check a URL without going there, so that a wrong one is told when an alarm is made.

        Raises:
            BadAlarm: it is wrong; without its secrets.
        """
        return

    @abc.abstractmethod
    def deliver(self, notification: Notification, deadline: float) -> None:
        """Tell; return once it was accepted. May be called by several threads at once.

        Args:
            notification: what to tell.
            deadline: on the clock of :func:`hashring.clock.boottime`; it must be back by then.

        Raises:
            ActionFailed: it was not accepted; it will be tried again.
            ActionRefused: it never will be.
        """

    def close(self) -> None:
        """Let go of what is open."""
        return
