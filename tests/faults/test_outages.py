"""A store that was away, and forgot, for less than the lease leaves: not a poll is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from hashring.testing.faults.faults import Step
from tests.faults.plans import judged
from tests.faults.stores import STORES

pytestmark = pytest.mark.faults

TTL = 5.0

LEFT = (0.9 - 1 / 3) * TTL - 1.0
"""Seconds that a store may be away. The last heartbeat may have begun a third of the ttl before it
went, the fence comes at 0.9 ttl, and tries are up to a second apart."""


@pytest.mark.parametrize("outages", [1, pytest.param(5, marks=pytest.mark.long)])
@pytest.mark.parametrize("name", ["memcached", "redis"])
def test_an_outage_shorter_than_the_lease_leaves_costs_no_poll(
    tmp_path: Path, name: str, outages: int
) -> None:
    plan = [Step("start", ("m0", "m1", "m2")), Step("rest", wait=1.0)]
    plan += [Step("store stopped", wait=3.3, seconds=0.6)] * outages
    plan.append(Step("rest", wait=TTL))
    for attempt in range(5):
        with STORES[name]() as store:
            history, verdict = judged(plan, store, tmp_path / str(attempt), ttl=TTL)
        away = [e.end - e.begin for e in history.events if e.kind == "store stopped"]
        assert len(away) == outages
        if max(away) < LEFT:  # a busy machine may take longer to start a server again
            break
    assert max(away) < LEFT
    assert (verdict.missed - verdict.late, verdict.repeated) == (0, 0)
    assert verdict.holds_checked > 500
