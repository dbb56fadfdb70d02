"""A group that one agent polls for."""

import itertools

import pytest

from hashring.telemetry.polling.runner import Runner
from hashring.telemetry.polling.shared import Shared
from tests.telemetry.plant import Levels, Shelf, Tanks, plan, settings

stores = (f"memory://runner-{number}" for number in itertools.count())


class Group:
    """A runner on a store of its own, with the tanks and whatever polls them."""

    def __init__(self, given, *pollsters, outlet=None, **discoveries):
        self.settings = given
        self.shelf = Shelf() if outlet is None else outlet
        self.pollsters = pollsters or (Levels(given),)
        self.levels = self.pollsters[0]
        self.discoveries = discoveries or {"tanks": Tanks(given)}
        self.plan = plan(given, *self.pollsters, **self.discoveries)
        self.closed = []
        self.shared = Shared(given, self.plan, self.shelf, self.close)
        self.runner = Runner(given, self.plan.groups[0], self.shared, lambda: None)

    def close(self, why):
        self.closed.append(why)
        self.runner.stop()

    def start(self):
        self.runner.start()
        return self

    def end(self):
        """Wait for its end; it has worked its cycles, or was stopped."""
        assert self.runner.wait(60)
        if self.runner.error is not None:
            raise self.runner.error
        return self

    def ids(self):
        return {sample.resource_id for sample in self.shelf.taken()}

    def warnings(self, caplog):
        """What was logged of failures; of the machine's own lateness, others may log something."""
        module = "hashring.telemetry.polling.failures"
        return [record for record in caplog.records if record.name == module]

    @property
    def failures(self):
        return self.shared.failures.counts


@pytest.fixture
def group():
    """Make groups that end with the test, whatever it leaves hanging."""
    made = []

    def make(*pollsters, outlet=None, discoveries=None, **changes):
        given = settings(**{"backend_url": next(stores)} | changes)
        found = Group(
            given,
            *(kind(given) for kind in pollsters),
            outlet=outlet,
            **{name: kind(given) for name, kind in (discoveries or {}).items()},
        )
        made.append(found)
        return found

    yield make
    for found in made:
        found.runner.stop()
        if found.runner._thread.ident is not None:
            assert found.runner.wait(60)
        found.shared.close()
