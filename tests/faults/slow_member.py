"""A group on a real store in which one member, a process of its own, can be held up.

``python -m tests.faults.slow_member URL TTL`` is that member; `test_slow_member.py` and
``python -m bench.slow_member`` have others join and leave meanwhile.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator

import hashring
from hashring.clock import boottime
from tests.servers.process import wait_until

__all__ = ["KINDS", "Group", "measure"]

GROUP = "slow-member"
SLOW = "slow"
KINDS = ("in a cycle", "stopped")


def be_slow(url: str, ttl: float) -> int:
    """Be the slow member: a cycle begins with each line that is read, and ends with the next."""
    with hashring.join(url, GROUP, SLOW, ttl=ttl) as partition:
        for _ in sys.stdin:
            with partition.cycle() as cycle:
                _say(f"holds {len(cycle.slots)} slots")
                sys.stdin.readline()
            _say("ended")
    return 0


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


class Group:
    """A group with one member in a process that can be held up.

    Args:
        url: the store.
        members: how many, the slow one included.
        ttl: the lease in seconds: longer than the slow one is stopped.
    """

    def __init__(self, url: str, members: int, ttl: float) -> None:
        self.url, self.ttl = url, ttl
        self.others: dict[str, hashring.Partition] = {}
        command = (sys.executable, "-m", "tests.faults.slow_member", url, str(ttl))
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        for number in range(members - 1):
            self.join(f"m{number:02}")

    def close(self) -> None:
        """End the slow one, and leave."""
        self.process.kill()
        self.process.communicate()
        for partition in self.others.values():
            partition.leave()

    def join(self, name: str) -> None:
        self.others[name] = hashring.join(self.url, GROUP, name, ttl=self.ttl)

    def drain(self, name: str) -> None:
        """Begin to leave: what the slow one is to have of it may take longer."""
        partition = self.others.pop(name)
        if not partition.drain(0.0):
            partition.leave()

    def settle(self) -> None:
        """Wait until all are settled, and hold everything that the slow one does not."""
        names = {*self.others, SLOW}
        wait_until(
            lambda: all(
                partition.state == "settled" and set(partition.members) == names
                for partition in self.others.values()
            ),
            within=120,
            what="a settled group",
        )

    def wait_for_all_but_the_slow_one(self, before: str | None) -> bool:
        """Wait until each of the others has what the slow one cannot have.

        Args:
            before: the id of the view that was.

        Returns:
            Whether somebody waits for the slow one.
        """

        def is_done() -> bool:
            return all(
                partition.view_id != before
                and (partition.state == "settled" or set(partition.waiting_for) == {SLOW})
                for partition in self.others.values()
            )

        wait_until(is_done, within=min(50.0, self.ttl * 0.8), what="those not concerned")
        return any(partition.waiting_for for partition in self.others.values())

    def held_twice(self) -> list[int]:
        """Return the slots that two of the others hold."""
        counts = Counter(slot for partition in self.others.values() for slot in partition.held)
        return sorted(slot for slot, count in counts.items() if count > 1)

    @contextlib.contextmanager
    def held_up(self, kind: str) -> Iterator[None]:
        """Keep the slow one in a cycle, or stopped, for the block."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        if kind == "stopped":
            self.process.send_signal(signal.SIGSTOP)
            try:
                yield
            finally:
                self.process.send_signal(signal.SIGCONT)
        else:
            self.process.stdin.write("begin\n")
            self.process.stdout.readline()
            try:
                yield
            finally:
                self.process.stdin.write("end\n")
                self.process.stdout.readline()


def measure(group: Group, kind: str) -> tuple[dict[str, float], set[str]]:
    """Have one join and leave while the slow one is held up.

    Returns:
        The seconds that each change took, and the changes in which the slow one was waited for.

    Raises:
        AssertionError: two members hold one slot.
    """
    found, waited = {}, set()
    for change in ("join", "leave"):
        group.settle()
        before = next(iter(group.others.values())).view_id
        with group.held_up(kind):
            began = boottime()
            if change == "join":
                group.join("newcomer")
            else:
                group.drain("newcomer")
            if group.wait_for_all_but_the_slow_one(before):
                waited.add(change)
            found[change] = boottime() - began
            assert not group.held_twice()
        group.settle()
        assert not group.held_twice()
    return found, waited


if __name__ == "__main__":
    sys.exit(be_slow(sys.argv[1], float(sys.argv[2])))
