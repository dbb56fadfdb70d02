"""A task for designate-producer that writes down which partitions are its own, once a second.

Runs in Designate's environment, imported before `designate-producer`.
"""

import os
import time

import designate.conf
from designate.producer import tasks
from oslo_config import cfg

RECORD = os.environ.get("RECORDED_FILE", "")

designate.conf.CONF.register_opts([cfg.IntOpt("interval", default=1)], "producer_task:recorded")


class Recorded(tasks.PeriodicTask):
    """Says from which partition to which it is to work on zones."""

    __plugin_name__ = "recorded"

    def __call__(self):
        first, last = self._my_range()
        now = time.clock_gettime(time.CLOCK_BOOTTIME)
        with open(RECORD, "a", encoding="utf-8") as file:  # noqa: PTH123 - one write, O_APPEND
            file.write(f"{now:.4f} {os.getpid()} {first} {last}\n")
