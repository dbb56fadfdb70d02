"""Beside Aodh's evaluators: who evaluated which alarm and when, and what was notified of.

Runs in Aodh's environment. Imported before `aodh-evaluator`, it is the source of the metrics, a
square wave for each alarm, and the queue of the notifications. All else is Aodh's own.
"""

import datetime
import os
import sys
import time
import uuid
import zlib

from aodh import queue, service, storage
from aodh.evaluator import gnocchi
from aodh.storage import models

RECORD = os.environ.get("RECORDED_FILE", "")
HALF = 12.0  # seconds for which an alarm is on, and then off

_Evaluator = gnocchi.GnocchiResourceThresholdEvaluator
_evaluate = _Evaluator.evaluate


def _note(*fields):
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    with open(RECORD, "a", encoding="utf-8") as file:  # noqa: PTH123 - one write, O_APPEND
        file.write(" ".join([f"{now:.4f}", str(os.getpid()), *fields]) + "\n")


def _recorded(self, alarm):
    _note(alarm.alarm_id)
    _evaluate(self, alarm)


def _wave(self, rule, start, end):
    phase = zlib.crc32(rule["resource_id"].encode()) % 1000 / 1000
    value = int(time.time() / HALF + 2 * phase) % 2
    return [(end, rule["granularity"], float(value))]


def _notified(self, alarm, previous, reason, reason_data):
    _note(alarm.alarm_id, alarm.state.replace(" ", "-"))


if RECORD:
    _Evaluator.evaluate, _Evaluator._statistics = _recorded, _wave
    queue.AlarmNotifier.notify = _notified


def fill():
    """Make so many alarms."""
    configuration, count = sys.argv[1:]
    conf = service.prepare_service(["--config-file", configuration], with_gmr=False)
    connection = storage.get_connection_from_config(conf)
    now = datetime.datetime(2026, 1, 1)
    rule = {
        "metric": "cpu",
        "granularity": 60,
        "evaluation_periods": 1,
        "aggregation_method": "mean",
        "comparison_operator": "gt",
        "threshold": 0.5,
        "resource_type": "instance",
    }
    for number in range(int(count)):
        name = str(uuid.uuid4())
        alarm = models.Alarm(
            alarm_id=name,
            type="gnocchi_resources_threshold",
            enabled=True,
            name=f"alarm-{number}",
            description="",
            timestamp=now,
            user_id="user",
            project_id="project",
            state="ok",
            state_timestamp=now,
            state_reason="",
            ok_actions=["log://"],
            alarm_actions=["log://"],
            insufficient_data_actions=[],
            repeat_actions=False,
            rule={**rule, "resource_id": name},
            time_constraints=[],
            severity="low",
            evaluate_timestamp=now,
        )
        connection.create_alarm(alarm)
