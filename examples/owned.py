"""Ask what is this process's own, now and then, without windows.

python owned.py STORE-URL [SECONDS]
"""

import sys
import time

import hashring

seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 3600.0
hosts = [f"host-{number}" for number in range(100)]

with hashring.join(sys.argv[1], "owners") as partition:
    partition.wait_settled(30)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        # While this block runs, nobody else gets what it holds.
        with partition.cycle() as cycle:
            mine = list(cycle.owned(hosts))
        print(f"{partition.state}: {len(mine)} of {len(hosts)} hosts", flush=True)
        time.sleep(0.2)
