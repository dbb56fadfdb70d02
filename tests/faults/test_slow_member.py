"""One member in a long cycle, or stopped: nobody but who needs its slots waits for it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.slow_member import KINDS, Group, measure
from tests.servers.redis import RedisServer


@pytest.fixture(scope="module")
def group() -> Iterator[Group]:
    with RedisServer() as server:
        found = Group(server.url, members=10, ttl=20.0)
        try:
            yield found
        finally:
            found.close()


@pytest.mark.faults
@pytest.mark.parametrize(
    "kind", [KINDS[0], *(pytest.param(kind, marks=pytest.mark.long) for kind in KINDS[1:])]
)
def test_a_join_and_a_leave_settle_all_whom_the_slow_member_does_not_concern(group, kind):
    # While it is held up, the others settle; if they did not, `measure` would wait in vain.
    seconds, waited = measure(group, kind)

    assert seconds.keys() == {"join", "leave"}
    assert "join" in waited, "the newcomer is to have some of its slots, and says whom it waits for"
