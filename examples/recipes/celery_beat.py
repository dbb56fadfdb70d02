"""A beat for Celery that may run in several processes: each sends its share, and each task once.

python celery_beat.py STORE-URL BROKER-URL
"""

import datetime
import signal
import sys
import threading
from collections import defaultdict
from typing import Any

from celery import Celery
from celery.schedules import crontab
from kombu.exceptions import OperationalError

import hashring

store, broker = sys.argv[1:]
app = Celery("beat", broker=broker)
app.conf.beat_schedule = {
    "every-second": {"task": "tasks.tick", "schedule": 1.0},
    "every-two-seconds": {"task": "tasks.tock", "schedule": 2.0},
    "at-night": {"task": "tasks.report", "schedule": crontab(minute=0, hour=3)},
}


def interval_of(schedule: crontab | float) -> float:
    return 60.0 if isinstance(schedule, crontab) else float(schedule)


def is_due(schedule: crontab | float, start: float) -> bool:
    """Whether an entry is to be sent in the window that starts then."""
    if not isinstance(schedule, crontab):
        return True
    at = datetime.datetime.fromtimestamp(start, tz=app.timezone)
    return (
        at.minute in schedule.minute
        and at.hour in schedule.hour
        and at.isoweekday() % 7 in schedule.day_of_week
        and at.day in schedule.day_of_month
        and at.month in schedule.month_of_year
    )


def beat(partition: hashring.Partition, interval: float, names: list[str]) -> None:
    # A window is worked once, by whoever has the entry's name for a key. After a crash nobody knows
    # whether the present one was: it is left out rather than sent twice.
    for cycle in partition.cycles(interval, on_crash="skip"):
        for name in cycle.owned(names):
            entry = app.conf.beat_schedule[name]
            if is_due(entry["schedule"], cycle.start):
                send(name, cycle.window)


def send(name: str, window: int) -> None:
    # The task's id names entry and window, so that whoever takes the task can refuse a second one.
    # What got no answer may have arrived: it is not sent again, and the beat goes on.
    entry: dict[str, Any] = app.conf.beat_schedule[name]
    options = {"task_id": f"{name}-{window}", "retry": False} | entry.get("options", {})
    try:
        app.send_task(entry["task"], entry.get("args", ()), entry.get("kwargs", {}), **options)
        print(name, window, flush=True)
    except OperationalError as error:
        print("perhaps not sent:", name, window, error, file=sys.stderr, flush=True)


if __name__ == "__main__":
    entries = defaultdict(list)
    for name, entry in app.conf.beat_schedule.items():
        entries[interval_of(entry["schedule"])].append(name)
    with hashring.join(store, "beats", wait=30) as partition:
        signal.signal(signal.SIGTERM, lambda *_: partition.stop())
        threads = [
            threading.Thread(target=beat, args=(partition, interval, names))
            for interval, names in entries.items()
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
