"""A paused agent: whatever it owned is another's when it wakes up."""

import os
import signal
import time
from collections import defaultdict
from datetime import datetime

import pytest

TTL = 4.0


@pytest.mark.faults
def test_a_paused_agent_wakes_up_fenced_and_publishes_nothing_of_its_lost_share(agents, until):
    for name in "ab":
        agents.start(name, "--interval", "1", "--ttl", str(TTL))
    agents.settle("a", "b")
    paused = agents.processes["a"].pid
    before = len(agents.windows("a"))
    until(lambda: len(agents.windows("a")) >= before + 2, "a has polled its share")
    share = {s["resource_id"] for s in agents.samples() if s["member"] == "a"}
    tokens = {tuple(s["token"][:2]) for s in agents.samples() if s["member"] == "a"}

    os.kill(paused, signal.SIGSTOP)
    stopped = time.time()
    taken_over = time.monotonic() + 3 * TTL
    until(lambda: time.monotonic() >= taken_over, "three times the ttl has passed")
    lasting = {name for name in share if ":process:" not in name}
    assert lasting

    def slept_through():
        return {s["resource_id"] for s in agents.samples() if s["member"] == "b"}

    until(lambda: lasting <= slept_through(), "b has polled what was a's")
    woken = time.time()
    os.kill(paused, signal.SIGCONT)
    agents.settle("a", "b")
    seen = agents.windows("a")
    until(lambda: agents.windows("a") > seen, "a polls again")

    by_poll = defaultdict(list)
    for sample in agents.samples():
        by_poll[sample["id"]].append(sample)
    assert all(len(found) == 1 for found in by_poll.values())

    after = [
        sample
        for sample in agents.samples()
        if sample["member"] == "a"
        and datetime.fromisoformat(sample["timestamp"]).timestamp() > stopped + 0.1
    ]
    # All that it published since, it published by a new right, for windows from then on.
    assert after
    assert not {tuple(sample["token"][:2]) for sample in after} & tokens
    assert min(sample["window"] for sample in after) >= int(woken)
