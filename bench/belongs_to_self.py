"""What one question "is it mine?" costs on tooz's own partitioner and on ours: processor time.

    python -m bench.belongs_to_self

Both are asked with the same members and the same objects, those that are one's own and others.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable

from tooz import coordination, hashring

OBJECTS = [str(uuid.UUID(int=number)) for number in range(4000)]
SIZES = 16, 200, 1000


def seconds(ask: Callable[[str], object]) -> float:
    """Return the least processor time a question, of several rounds."""
    best = float("inf")
    for _ in range(7):
        began = time.process_time()
        for one in OBJECTS:
            ask(one)
        best = min(best, (time.process_time() - began) / len(OBJECTS))
    return best


def main() -> None:
    print("| members | tooz | hashring+memory | all at once, each |")
    print("|---|---|---|---|")
    for size in SIZES:
        ring = hashring.HashRing([f"member-{number}".encode() for number in range(size)])
        theirs = seconds(lambda one: b"member-0" in ring.get_nodes(one.encode()))  # noqa: B023
        # A partition's question does not depend on the number of members, which share a process.
        coordinator = coordination.get_coordinator(f"hashring+memory://{uuid.uuid4().hex}", b"me")
        coordinator.start()
        other = coordination.get_coordinator(coordinator._session.options.url.replace(
            "memory", "hashring+memory"), b"other")  # fmt: skip
        other.start()
        partitioner = coordinator.join_partitioned_group("group")
        other.join_partitioned_group("group", weight=size - 1)
        coordinator.run_watchers()
        ours = seconds(partitioner.belongs_to_self)
        began = time.process_time()
        partitioner.owned_by_self(OBJECTS * 25)
        each = (time.process_time() - began) / len(OBJECTS) / 25
        print(f"| {size:,} | {theirs * 1e6:.2f} us | {ours * 1e6:.2f} us | {each * 1e6:.3f} us |")
        other.stop()
        coordinator.stop()


if __name__ == "__main__":
    main()
