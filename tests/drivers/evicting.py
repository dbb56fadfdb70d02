"""A member that heartbeats and does not hear is evicted by force, on a store that is given."""

from __future__ import annotations

import threading

import hashring
from hashring.steer import Operator
from tests.servers.process import wait_until

_TTL = 4.0  # longer than a busy machine stands still
_SLOTS = 65536


def evict_who_does_not_hear(url: str) -> list[object]:
    """Evict it while it is in a cycle; return what was held by it and by another at once.

    It comes back as a newcomer in the end, since it lives.
    """
    both: list[object] = []
    over = threading.Event()
    with (
        hashring.join(url, "evicting", "a", ttl=_TTL) as a,
        hashring.join(url, "evicting", "b", ttl=_TTL) as b,
        Operator(url, by="alice") as operator,
    ):
        wait_until(lambda: {a.state, b.state} == {"settled"} and len(a.members) == 2)
        b._worker._requests.look = lambda: None  # type: ignore[method-assign]

        def watch() -> None:
            while not over.wait(0.001):
                if found := a.held & b.held & a.held:  # what moves meanwhile is not in both twice
                    both.append(found)

        watching = threading.Thread(target=watch)
        watching.start()
        evicted = b.incarnation
        try:
            with b.cycle():
                outcome = operator.evict("evicting", "b", force=True)
                assert outcome.done, outcome
                assert outcome.reason == "its lease was ended once it held nothing"
        finally:
            over.set()
            watching.join()
        wait_until(
            lambda: b.incarnation != evicted and len(a.held) + len(b.held) == _SLOTS,
            what="it comes back as a newcomer",
        )
    return both
