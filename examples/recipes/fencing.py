"""Write to a table that refuses who comes late: each row keeps its writer's epoch.

python fencing.py STORE-URL CONNECTION
"""

import signal
import sys
import time

import psycopg

import hashring

KEYS = [f"meter-{number}" for number in range(16)]
WRITE = """
INSERT INTO meters AS row VALUES (%s, %s, %s)
ON CONFLICT (key) DO UPDATE SET value = excluded.value, epoch = excluded.epoch
WHERE row.epoch <= excluded.epoch
"""


def read(key: str) -> float:
    time.sleep(0.06)  # however long this takes, and whatever happens to this process meanwhile
    return time.time()


if __name__ == "__main__":
    with (
        psycopg.connect(sys.argv[2], autocommit=True) as database,
        hashring.join(sys.argv[1], "meters", wait=30) as partition,
    ):
        signal.signal(signal.SIGTERM, lambda *_: partition.stop())
        for cycle in partition.cycles(interval=1):
            epoch = cycle.token.epoch
            for key in cycle.owned(KEYS):
                print("reads", key, epoch, flush=True)
                value = read(key)
                print("writes", key, epoch, flush=True)
                written = database.execute(WRITE, [key, value, epoch]).rowcount
                print("wrote" if written else "refused", key, epoch, flush=True)
