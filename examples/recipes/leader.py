"""Do what only one of all processes may do: one leads, and the next one waits for its end.

python leader.py STORE-URL
"""

import signal
import sys

import hashring


def compact() -> None:
    print(f"compacted by {partition.member}", flush=True)


if __name__ == "__main__":
    with hashring.join(sys.argv[1], "compactors", wait=30) as partition:
        signal.signal(signal.SIGTERM, lambda *_: partition.stop())
        while True:
            with partition.leading("compactor") as term:
                if not term:  # the partition was stopped
                    break
                while not term.wait(0.5):  # true once somebody else is to lead
                    compact()
