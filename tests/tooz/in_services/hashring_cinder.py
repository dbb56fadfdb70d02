"""Cinder's own locks: threads that take them round, and what they did under which and when.

Runs in Cinder's environment. The decorator and the coordinator are Cinder's.
"""

import os
import random
import sys
import threading
import time

import tooz
from cinder import monkey_patch

RECORD = os.environ.get("RECORDED_FILE", "")


def hold():
    """Take locks from three threads until the time is over, and write down for how long each."""
    url, seconds = sys.argv[1:]
    monkey_patch.patch()  # as each of Cinder's programs does, first of all

    from cinder import coordination
    from oslo_config import cfg

    cfg.CONF.set_override("backend_url", url, "coordination")
    coordination.COORDINATOR.start()
    until = time.monotonic() + float(seconds)

    @coordination.synchronized("{volume}-{f_name}")
    def attach(volume):
        began = time.clock_gettime(time.CLOCK_BOOTTIME)
        time.sleep(random.choice([0.01, 0.02, 0.3]))
        ended = time.clock_gettime(time.CLOCK_BOOTTIME)
        with open(RECORD, "a", encoding="utf-8") as file:  # noqa: PTH123 - one write, O_APPEND
            file.write(f"{began:.4f} {ended:.4f} {os.getpid()} {volume}\n")

    def work(number):
        turn = number
        while time.monotonic() < until:
            turn += 1
            try:
                attach(f"volume-{turn % 4}")
            except tooz.ToozError:
                time.sleep(0.1)  # the store is away: Cinder's call fails, and is made again

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    coordination.COORDINATOR.stop()
