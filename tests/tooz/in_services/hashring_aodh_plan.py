"""Beside Aodh's evaluators: the alarms of the plan, and their notifications without a queue.

Runs in Aodh's environment. Imported before `aodh-evaluator`, it hands each notification to Aodh's
own plug-in for http at once: none is lost in a queue, or waits there. All else is Aodh's own.
"""

import datetime
import json
import logging
import sys
import urllib.parse
from pathlib import Path

from aodh import queue, service, storage
from aodh.notifier import rest
from aodh.storage import models

log = logging.getLogger(__name__)


class _AtOnce:
    def __init__(self, conf):
        self._posts = rest.RestAlarmNotifier(conf)

    def notify(self, alarm, previous, reason, reason_data):
        for action in getattr(alarm, models.Alarm.ALARM_ACTIONS_MAP[alarm.state]):
            try:
                self._posts.notify(
                    *(urllib.parse.urlsplit(action), alarm.alarm_id, alarm.name, alarm.severity),
                    *(previous, alarm.state, str(reason), reason_data),
                )
            except Exception:
                log.exception("unable to notify")  # and no more, as aodh-notifier does


queue.AlarmNotifier = _AtOnce


def fill():
    """Make the alarms of a file."""
    configuration, path = sys.argv[1:]
    conf = service.prepare_service(["--config-file", configuration], with_gmr=False)
    connection = storage.get_connection_from_config(conf)
    now = datetime.datetime(2026, 1, 1)
    for number, alarm in enumerate(json.loads(Path(path).read_text())):
        found = models.Alarm(
            alarm_id=f"alarm-{number}",
            enabled=True,
            description="",
            timestamp=now,
            user_id="user",
            project_id="project",
            state="insufficient data",
            state_timestamp=now,
            state_reason="",
            repeat_actions=False,
            time_constraints=[],
            severity="low",
            evaluate_timestamp=now,
            **alarm,
        )
        connection.create_alarm(found)
