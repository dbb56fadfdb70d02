"""Several processes' worth of lock owners on one server that is killed, and comes back empty.

Each owner has a connection of its own and notes when it was seen to own the lock. The judge looks
for two who did at one moment.
"""

from __future__ import annotations

import dataclasses
import random
import threading
import time

import hashring
from hashring import clock
from hashring.errors import HashringError
from hashring.leases.lock import Lock
from tests.servers.process import Server

TTL = 1.0
OWNERS = 3


@dataclasses.dataclass
class Holding:
    """One owner had the lock, surely, from the one moment to the other."""

    owner: int
    token: str
    since: float
    until: float


class History:
    """All holdings of a run."""

    def __init__(self) -> None:
        self.holdings: list[Holding] = []

    def watch(self, owner: int, lock: Lock, seconds: float) -> None:
        """Look at a lock that was acquired until it is lost, or for so long."""
        began = clock.boottime()
        if not lock.owned:
            return
        holding = Holding(owner, lock.token or "", began, began)
        self.holdings.append(holding)
        while True:
            now = clock.boottime()
            # It was owned at a moment that is not before `now`.
            if now - began > seconds or not lock.owned:
                return
            holding.until = now
            time.sleep(0.002)

    def overlaps(self) -> list[str]:
        """Return what is wrong: two owners at one moment."""
        found = []
        held = sorted(self.holdings, key=lambda one: one.since)
        for place, one in enumerate(held):
            for other in held[place + 1 :]:
                if other.since < one.until and other.owner != one.owner:
                    found.append(
                        f"{other.owner} had it from {other.since:.3f} on, "
                        f"{one.owner} until {one.until:.3f}"
                    )
        return found


def play(server: Server, seed: int, name: str, *, kills: int = 2) -> History:
    """Let owners take turns while the server is killed and comes back."""
    chance = random.Random(seed)
    history, over = History(), threading.Event()
    seeds = [chance.random() for _ in range(OWNERS)]

    def own(owner: int) -> None:
        mine = random.Random(seeds[owner])
        lock = hashring.lock(server.url, name, TTL)
        try:
            while not over.is_set():
                try:
                    if lock.acquire(1.0):
                        history.watch(owner, lock, mine.choice((0.05, 0.5, 2.0)) * TTL)
                except HashringError:
                    over.wait(0.05)
                lock.release()
        finally:
            lock.close()

    threads = [threading.Thread(target=own, args=(owner,)) for owner in range(OWNERS)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(kills):
            seen = len(history.holdings)
            deadline = time.monotonic() + 6 * TTL
            while len(history.holdings) == seen and time.monotonic() < deadline:
                time.sleep(0.01)  # somebody is to have it
            time.sleep(chance.uniform(0.0, 0.6) * TTL)
            server.kill()
            time.sleep(chance.choice((0.0, chance.uniform(0.0, 1.5))) * TTL)
            server.start()
        deadline, seen = time.monotonic() + 90 * TTL, len(history.holdings)
        while len(history.holdings) == seen and time.monotonic() < deadline:
            time.sleep(0.01)
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert len(history.holdings) > seen, "nobody got the lock after the last restart"
    return history
