"""`joined`: from what `join` was given to a member that has joined."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from hashring.driver import Driver, DriverURL
from hashring.partition import arguments
from hashring.partition.joining import tried
from hashring.partition.literals import HandoffMode
from hashring.partition.requests import OnRequest
from hashring.protocol.handoff import Handoff
from hashring.ring.ring import HashRing

if TYPE_CHECKING:
    from hashring.partition.partition import Partition

__all__ = ["joined"]

P = TypeVar("P", bound="Partition")


def joined(
    make: Callable[..., P],
    rest: Callable[[float], object],
    caller: str,
    url: str | DriverURL | Driver,
    group: str,
    *,
    member: str | None,
    weight: float,
    ttl: float | None,
    handoff: HandoffMode,
    meta: Mapping[str, Any] | None,
    ring: HashRing | str | None,
    heartbeat: float | None,
    wait: float,
    gather: float | None,
    resume: float | None,
    on_request: OnRequest | None,
) -> P:
    """Join, for both faces of a partition. All but the first three arguments are `join`'s.

    ``make`` makes the partition; ``rest`` sleeps for so many seconds, and returns true to let the
    waiting end; ``caller`` is the file and line of the user's call.
    """
    driver = arguments.loaded(url, ttl)
    arguments.check_names(group, member, handoff, meta)
    if heartbeat is not None:
        heartbeat = arguments.checked_number("heartbeat", heartbeat, least=0.001)
    keeps_for = arguments.resume(driver, resume, member)
    rules = arguments.rules(member, weight, driver.ttl, handoff, meta, ring, gather)

    def attempt() -> P:
        core = Handoff(incarnations=arguments.incarnations(), **rules)
        partition = make(
            driver, group, core, heartbeat=heartbeat, caller=caller, on_request=on_request
        )
        partition._membership.resume = keeps_for
        partition._worker.begin()
        return partition

    return tried(
        attempt,
        rest,
        wait=arguments.checked_number("wait", wait),
        ttl=driver.ttl,
        name=f"{group}: {rules['member']}",
    )
