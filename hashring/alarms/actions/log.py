"""log: a line in the evaluator's log, for who tries things out, or reads logs anyway."""

from __future__ import annotations

import logging

from hashring.alarms.plugin import Action, Notification

__all__ = ["LogAction"]

log = logging.getLogger("hashring.alarms.notifications")


class LogAction(Action):
    """Writes ``log://`` notifications to the log, as warnings."""

    def deliver(self, notification: Notification, deadline: float) -> None:
        """Write it; see :meth:`Action.deliver`."""
        body = notification.body
        log.warning(
            "%s (%s, %s) went from %s to %s: %s [%s]",
            body["alarm_name"],
            body["alarm_id"],
            body["severity"],
            body["previous"],
            body["current"],
            body["reason"],
            notification.key,
        )
