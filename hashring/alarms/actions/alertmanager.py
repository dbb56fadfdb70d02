"""alertmanager+http(s): alerts for Alertmanager, which groups, silences and routes them.

Its contract: a client sends an alert again and again while it fires. So this action is told in
every window of the state; an alert that is not sent again ends by itself after four windows.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from hashring import clock
from hashring.alarms.actions.web import WebAction, posted
from hashring.alarms.plugin import Notification

__all__ = ["AlertmanagerAction"]

_PATH = "/api/v2/alerts"

_WINDOWS = 4
"""Windows for which an alert fires that is not sent again: Prometheus's own factor."""

_LEAST = 60.0
"""Seconds that this is at least."""


class AlertmanagerAction(WebAction):
    """Posts to ``alertmanager+http://host:9093``.

    State *alarm* fires the alert, any other state resolves it; so name it in ``alarm_actions`` and
    in ``ok_actions``.
    """

    resends = True

    @classmethod
    def check(cls, url: str) -> None:
        """Check a URL; see :meth:`WebAction.check`."""
        super().check(url.removeprefix("alertmanager+"))

    def deliver(self, notification: Notification, deadline: float) -> None:
        """Post the alert; see :meth:`Action.deliver`."""
        url = notification.url.removeprefix("alertmanager+")
        if urlsplit(url).path in ("", "/"):
            url = urlsplit(url)._replace(path=_PATH).geturl()
        posted(
            self._client,
            url,
            json.dumps([_alert(notification)]).encode(),
            {"Content-Type": "application/json", "Idempotency-Key": f'"{notification.key}"'},
            deadline=deadline,
            verify=self._verify(url),
        )


def _alert(notification: Notification) -> dict[str, Any]:
    body = notification.body
    labels = {
        "alertname": body["alarm_name"],
        "alarm_id": body["alarm_id"],
        "severity": body["severity"],
        "project_id": notification.project_id,
    }
    ends = notification.at
    if body["current"] == "alarm":
        ends = clock.wall() + _WINDOWS * max(notification.interval, _LEAST)
    return {
        "labels": {name: text for name, text in labels.items() if text},
        "annotations": {"summary": body["reason"], "state": body["current"]},
        "startsAt": _time(notification.at),
        "endsAt": _time(ends),
    }


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
