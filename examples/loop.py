"""Poll every host once in each minute, in as many processes as you start.

python loop.py            in one terminal, and again in others
"""

import hashring

hosts = [f"host-{number}" for number in range(100)]


def poll(host):
    print("polled", host, flush=True)


with hashring.join("sqlite:////tmp/pollers.db", "pollers") as partition:
    for cycle in partition.cycles(interval=60):
        for host in cycle.owned(hosts):
            poll(host)
