"""A pollster and its discovery that write down each poll. Runs in Ceilometer's environment."""

import os
import random
import time

from ceilometer.polling import plugin_base

RESOURCES = int(os.environ.get("RECORDED_RESOURCES", "0"))
SECONDS = float(os.environ.get("RECORDED_SECONDS", "0.005"))
FILE = os.environ.get("RECORDED_FILE", "")


class Discovery(plugin_base.DiscoveryBase):
    """So many resources."""

    group_id = "recorded"

    def discover(self, manager, param=None):
        # In no order, as what an API lists: who polls from an old list meets others at any place.
        return random.sample([f"resource-{number}" for number in range(RESOURCES)], RESOURCES)


class Pollster(plugin_base.PollsterBase):
    """Takes its time for each, and says when it began, on the clock that all processes share."""

    default_discovery = "recorded"

    def get_samples(self, manager, cache, resources):
        for resource in resources:
            with open(FILE, "a", encoding="utf-8") as file:  # noqa: PTH123 - one write, O_APPEND
                file.write(
                    f"{time.clock_gettime(time.CLOCK_BOOTTIME):.4f} {os.getpid()} {resource}\n"
                )
            time.sleep(SECONDS)
        return []
