"""What `join` was given: checked, and with its defaults filled in."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from hashring.driver import Driver, DriverURL, load
from hashring.errors import BadArgument, BadURL
from hashring.protocol.gathering import DEFAULT_GATHER
from hashring.protocol.record import MAX_BACK
from hashring.ring.ring import HashRing

__all__ = [
    "check_names",
    "checked_number",
    "incarnations",
    "loaded",
    "resume",
    "rules",
]

_MOST = 1e9
"""The largest number that an argument may be, in its unit."""

_GATHER_TTL = 0.05
"""The most of a ttl for which changes are gathered by default."""

_LEAST_TTL = 0.01
"""The shortest lease in seconds."""


def checked_number(name: str, value: float, *, least: float = 0.0, most: float = _MOST) -> float:
    """Return a number in range as a float, or raise :class:`BadArgument`."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise BadArgument(f"{name} must be a number from {least:g} to {most:g}, not {value!r:.100}")
    return float(value)


def check_names(group: str, member: str | None, handoff: str, meta: object) -> None:
    """Refuse what no member can be called, or can be of."""
    if not isinstance(group, str) or not group:
        raise BadArgument(f"group must be a non-empty str, not {group!r}")
    if member is not None and (not isinstance(member, str) or not member):
        raise BadArgument(f"member must be a non-empty str, not {member!r}")
    if handoff not in ("exclusive", "eager"):
        raise BadArgument(f"handoff must be 'exclusive' or 'eager', not {handoff!r}")
    if meta is not None and not isinstance(meta, Mapping):
        raise BadArgument(f"meta must be a mapping, not {meta!r:.200}")


def _default_member() -> str:
    """Return an id for a member that was given none: host, process and a random part."""
    return f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"


def incarnations() -> Iterator[str]:
    """Yield names of incarnations, each another."""
    while True:
        yield uuid.uuid4().hex


def loaded(url: str | DriverURL | Driver, ttl: float | None) -> Driver:
    """Return the driver for a URL, with its lease.

    Args:
        url: the store's URL, or its driver, which is returned.
        ttl: the lease in seconds; ``None``: as the URL or the driver says.

    Raises:
        BadArgument: the ttl is out of range, or the driver has another one.
        BadURL: the URL says another ttl; or see :func:`hashring.driver.load`.
    """
    if ttl is not None:
        ttl = checked_number("ttl", ttl, least=_LEAST_TTL)
    if isinstance(url, Driver):
        if ttl not in (None, url.ttl):
            raise BadArgument(f"the driver has ttl={url.ttl} and the argument is {ttl!r}")
        return url
    parsed = url if isinstance(url, DriverURL) else DriverURL.parse(url)
    return load(parsed, ttl=_lease(parsed, ttl))


def _lease(url: DriverURL, ttl: float | None) -> float | None:
    """Return the lease that both the URL and the argument agree on; ``None``: neither says."""
    text = url.options.get("ttl")
    if text is None:
        return ttl
    try:
        in_url = float(text)
    except ValueError:
        raise BadURL(f"{url.scheme}:// option ttl={text!r} is not a number of seconds") from None
    if ttl not in (None, in_url):
        raise BadURL(f"the URL says ttl={text} and the argument ttl={ttl}: give one of them")
    return in_url


def resume(driver: Driver, seconds: float | None, member: str | None) -> float:
    """Return for how many seconds a member that leaves keeps its share.

    Args:
        driver: whose URL may say so.
        seconds: the argument; ``None``: as the URL says, else not at all.
        member: the id that it was given.

    Raises:
        BadArgument: out of range; or the member has no id of its own to come back under.
        BadURL: the URL says something else.
    """
    in_url: float | None = driver.settings.get("resume")
    if seconds is not None:
        seconds = checked_number("resume", seconds, most=MAX_BACK)
    if None not in (in_url, seconds) and in_url != seconds:
        raise BadURL(
            f"the URL says resume={in_url:g} and the argument resume={seconds:g}: give one of them"
        )
    found = checked_number("resume", seconds or in_url or 0.0, most=MAX_BACK)
    if found and member is None:
        raise BadArgument(
            f"resume={found:g} needs a member: give join the id under which it comes back, "
            'such as member="web1"'
        )
    return found


def rules(
    member: str | None,
    weight: float,
    ttl: float,
    handoff: str,
    meta: Mapping[str, Any] | None,
    ring: HashRing | str | None,
    gather: float | None = None,
) -> dict[str, Any]:
    """Return the arguments of a :class:`Handoff` but for its incarnations, which no two share."""
    return {
        "member": member if member is not None else _default_member(),
        "spec": _spec(ring),
        "ttl": ttl,
        "weight": checked_number("weight", weight),
        "mode": handoff,
        "meta": MappingProxyType(dict(meta or {})),
        "gather": _gather(gather, ttl),
    }


def _gather(gather: float | None, ttl: float) -> float:
    """Return for how many seconds changes are gathered."""
    if gather is None:
        return min(DEFAULT_GATHER, _GATHER_TTL * ttl)
    return checked_number("gather", gather, most=ttl)


def _spec(ring: HashRing | str | None) -> str:
    """Return the parameters of a ring, of the spec of one, or the default ones."""
    if ring is None:
        return HashRing({}).spec
    return ring.spec if isinstance(ring, HashRing) else HashRing.from_spec({}, ring).spec
