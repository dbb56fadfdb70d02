"""A store that was away, and forgot, for less than the lease leaves: not a poll is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from hashring.testing.faults.faults import Step
from hashring.testing.faults.history import History
from hashring.testing.faults.verdict import Verdict
from tests.faults.plans import TRIES, judged, on

pytestmark = pytest.mark.faults

TTL = 6.0

LEFT = {"redis": (0.9 - 1 / 3 - 0.1) * TTL, "memcached": (0.9 - 1 / 3 - 0.1) * TTL - 1.0}
"""Seconds that a store may be away. The last heartbeat may have begun a third of the ttl before it
went, the fence comes at 0.9 ttl, and tries are a tenth of it apart. Memcached's first reading may
have to await a tick of the server's clock."""


@pytest.mark.parametrize("outages", [1, pytest.param(5, marks=pytest.mark.long)])
@pytest.mark.parametrize("name", [pytest.param("memcached", marks=pytest.mark.long), "redis"])
def test_an_outage_shorter_than_the_lease_leaves_costs_no_poll(
    tmp_path: Path, name: str, outages: int
) -> None:
    plan = [Step("start", ("m0", "m1", "m2")), Step("rest", wait=1.0)]
    plan += [Step("store stopped", wait=3.3, seconds=0.4)] * outages
    plan.append(Step("rest", wait=TTL))
    run = on(name, plan, ttl=TTL)

    def short(logs: Path) -> History:
        for number in range(TRIES):
            history = run(logs / str(number))
            if max(away(history)) < LEFT[name]:
                break  # a busy machine may take longer to start a server again
        return history

    def judge(history: History, verdict: Verdict) -> None:
        assert len(away(history)) == outages
        assert max(away(history)) < LEFT[name]
        assert (verdict.missed - verdict.late, verdict.repeated) == (0, 0)
        assert verdict.holds_checked > 500

    judged(short, tmp_path, judge)


def away(history: History) -> list[float]:
    """For how many seconds the store was away, each time."""
    return [event.end - event.begin for event in history.events if event.kind == "store stopped"]
