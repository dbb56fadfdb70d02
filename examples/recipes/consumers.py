"""Consume each queue of a Redis server by one thread of one process.

python consumers.py STORE-URL REDIS-URL QUEUE...
"""

import signal
import sys

import redis

import hashring

store, server, *queues = sys.argv[1:]


def consume(queue: str, stop: hashring.Stop) -> None:
    with redis.Redis.from_url(server, decode_responses=True) as client:
        while not stop.is_set():
            # Not for long: until this thread has ended, nobody else may have the queue.
            found = client.blpop([queue], timeout=1)
            if found:
                print(queue, found[1], flush=True)


if __name__ == "__main__":
    with hashring.join(store, "consumers", wait=30) as partition:
        signal.signal(signal.SIGTERM, lambda *_: partition.stop())
        with partition.keep(consume, queues) as workers:
            workers.wait()
