"""Run APScheduler's jobs in one of all processes, on a job store that they share.

python apscheduler_once.py STORE-URL REDIS-HOST REDIS-PORT
"""

import signal
import sys
import time

from apscheduler.jobstores.redis import RedisJobStore
from apscheduler.schedulers.background import BackgroundScheduler

import hashring


def report() -> None:
    print("report", int(time.time()), flush=True)


def make(host: str, port: int) -> BackgroundScheduler:
    # The job store knows when each job is to run next, whoever leads. What fell into a hand-over
    # runs late, once.
    return BackgroundScheduler(
        jobstores={"default": RedisJobStore(host=host, port=port)},
        job_defaults={"coalesce": True, "misfire_grace_time": 60, "max_instances": 1},
    )


if __name__ == "__main__":
    store, host, port = sys.argv[1:]
    with hashring.join(store, "schedulers", wait=30) as partition:
        signal.signal(signal.SIGTERM, lambda *_: partition.stop())
        while True:
            with partition.leading("scheduler") as term:
                if not term:  # the partition was stopped
                    break
                scheduler = make(host, int(port))
                scheduler.start()
                if scheduler.get_job("report") is None:  # a job that is there keeps its next run
                    scheduler.add_job("__main__:report", "interval", seconds=1, id="report")
                term.wait()
                scheduler.shutdown(wait=True)  # the next leader waits for what still runs
