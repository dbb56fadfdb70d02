"""Any sequence of calls does to a spool what it does to lists."""

import tempfile
from pathlib import Path

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from hashring.telemetry.delivery.spool import Spool
from tests.properties import examples
from tests.telemetry.spool.holding import FIRST, MEMORY, MIB, A, B, C, samples, size_of_one


class AgainstLists(RuleBasedStateMachine):
    """A spool behaves as one list for each publisher, however often its process ends."""

    def __init__(self):
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(dir=MEMORY)
        self.lists = {url: [] for url in (A, B, C)}
        self.count = 0
        self.open()

    def open(self):
        self.spool = Spool(Path(self.folder.name), max_bytes=MIB)
        self.spool.adopt()

    @rule(
        destinations=st.lists(
            st.sets(st.sampled_from([A, B, C]), max_size=3).map(tuple), min_size=1, max_size=6
        )
    )
    def put(self, destinations):
        items = []
        for urls in destinations:
            (sample,) = samples(1, FIRST + self.count)
            self.count += 1
            items.append((sample, urls))
            for url in urls:
                self.lists[url].append(sample)
        self.spool.put(items)

    @rule(url=st.sampled_from([A, B, C]), limit=st.integers(1, 5))
    def take(self, url, limit):
        batch = self.spool.take(url, limit)
        if batch is None:
            assert not self.lists[url]
        else:
            # A batch ends where a file does.
            count = len(batch.samples)
            assert 1 <= count <= limit
            assert list(batch.samples) == self.lists[url][:count]
            self.spool.done(batch)
            del self.lists[url][:count]

    @precondition(lambda self: self.count > 5)
    @rule(url=st.sampled_from([A, B, C]))
    def drop(self, url):
        assert self.spool.drop(url) == len(self.lists[url])
        self.lists[url].clear()

    @rule()
    def end_and_start_anew(self):
        self.spool.close()
        self.open()

    @invariant()
    def holds_what_the_lists_hold(self):
        assert self.spool.waiting == {url: len(found) for url, found in self.lists.items() if found}
        kept = {sample.window for found in self.lists.values() for sample in found}
        assert self.spool.bytes == len(kept) * size_of_one()

    def teardown(self):
        self.spool.close()
        self.folder.cleanup()


AgainstLists.TestCase.settings = examples(30, stateful_step_count=25)


test_a_spool_behaves_as_lists_do = AgainstLists.TestCase
