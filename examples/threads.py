"""Poll with sixteen threads, and publish each result as it comes, tagged with whose it is.

SIGTERM hands over to the other processes, then ends this one.

    python threads.py STORE-URL
"""

import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import hashring

hosts = hashring.Keys(f"host-{number}" for number in range(100))


def poll(host):
    time.sleep(0.05)  # what a network does
    return host, len(host)


with (
    hashring.join(sys.argv[1], "pollers") as partition,
    ThreadPoolExecutor(16) as executor,
):
    signal.signal(signal.SIGTERM, lambda *_: partition.stop())
    for cycle in partition.cycles(interval=5):
        for host, value in cycle.map(executor, poll, hosts):
            # A sink that has seen this host and window may drop what comes twice.
            print(host, cycle.window, value, cycle.token.incarnation, flush=True)
