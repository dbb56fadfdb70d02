"""A live group moves from one real store to another, as docs/operations/running/changes.md says."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections import Counter, defaultdict

import pytest

import hashring
from hashring.cli import main
from tests.servers.memcached import MemcachedServer
from tests.servers.process import wait_until
from tests.servers.redis import RedisServer

pytestmark = pytest.mark.slow

TTL = 4.0
INTERVAL = 0.5
KEYS = [str(number) for number in range(20)]


class Fleet:
    """Members of one group, on whatever store they are told; what they work is noted."""

    def __init__(self):
        self.spans = []  # key, window, URL, member, and when the work on it began and ended
        self.missed = Counter()  # windows that a member skipped, being late itself

    def start(self, url, stop):
        """Start all members on a store; return their threads."""
        found = [threading.Thread(target=self._work, args=(url, name, stop)) for name in "abc"]
        for thread in found:
            thread.start()
        return found

    def _work(self, url, member, stop):
        with hashring.join(url, "moved", member, ttl=TTL, wait=60) as partition:
            loop = partition.cycles(INTERVAL)
            for cycle in loop:
                began = time.monotonic()
                owned = list(cycle.owned(KEYS))
                stop.wait(0.05)
                ended = time.monotonic()
                if cycle.valid:  # else the rest was not this one's any more
                    self.spans += [(key, cycle.window, url, member, began, ended) for key in owned]
                self.missed[url] += loop.missed
                if stop.is_set():
                    return

    def windows(self, url):
        """Return how often each key was worked on a store, by window."""
        found = defaultdict(Counter)
        for key, window, where, *_ in list(self.spans):
            if where == url:
                found[window][key] += 1
        return found

    def whole(self, url):
        """Return the windows in which every key was worked on a store."""
        return sorted(window for window, keys in self.windows(url).items() if len(keys) == 20)

    def overlaps(self):
        """Return what two members worked at once."""
        by_key = defaultdict(list)
        for key, _, url, member, began, ended in self.spans:
            by_key[key].append((began, ended, url, member))
        return [
            (key, one, other)
            for key, spans in by_key.items()
            for one, other in itertools.pairwise(sorted(spans))
            if other[0] < one[1]
        ]


def all_keys_once(windows, first, last):
    return [window for window in range(first, last + 1) if windows[window] != Counter(KEYS)]


@pytest.fixture(scope="module")
def stores():
    with RedisServer() as old, MemcachedServer() as new:
        old.wait_ready()
        new.wait_ready()
        yield old.url, f"{new.url}?timeout=3"


def test_a_group_moves_to_another_store_without_an_overlap_and_misses_what_lies_between(
    stores, capsys
):
    old, new = stores
    fleet, first, second = Fleet(), threading.Event(), threading.Event()
    members = fleet.start(old, first)
    wait_until(lambda: len(fleet.whole(old)) > 4, what="all is worked on the old store")
    begun, told = fleet.whole(old)[0], time.time()

    first.set()  # stop all
    for thread in members:
        thread.join(60)
    gone = time.time()
    assert main(["group", "describe", old, "moved", "--json"]) in (0, 1)  # look
    assert json.loads(capsys.readouterr().out)["members"] == []
    members = fleet.start(new, second)  # start all
    wait_until(lambda: len(fleet.whole(new)) > 3, what="all is worked on the new store")
    back, last = fleet.whole(new)[0], fleet.whole(new)[-1]
    second.set()
    for thread in members:
        thread.join(60)

    assert fleet.overlaps() == []
    before, after = fleet.windows(old), fleet.windows(new)
    if not fleet.missed.total():  # by a machine that stood still
        assert all_keys_once(before, begun, int(told // INTERVAL) - 1) == []
        assert all_keys_once(after, back, last) == []
        # Nothing is worked on both stores but of the windows in which the members were stopped.
        stopping = range(int(told // INTERVAL), int(gone // INTERVAL) + 1)
        assert {*before} & {*after} <= {*stopping}
        # What was missed lies between, and nowhere else.
        missed = [one for one in range(begun, last + 1) if not before[one] and not after[one]]
        assert all(int(told // INTERVAL) <= one <= back for one in missed)
        assert missed == list(range(missed[0], missed[-1] + 1)) if missed else True
