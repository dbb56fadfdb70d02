"""The URL of tooz's backend: what of it is the backend's, and what our driver's."""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

import tooz
from tooz.coordination import Characteristics

from hashring.compat.backend_url import translate
from hashring.driver import DEFAULT_TTL
from hashring.errors import BadURL

__all__ = ["Options", "characteristics", "refuse_green_threads"]

_PREFIX = "hashring+"

_SETTLE = 0.5
"""A tick waits for so many times `hold` for its share, by default. All objects of this process
wait with it; what it does not wait for, waits for the next tick. Half of `hold` makes the longer of
the two as short as it can be."""


@dataclasses.dataclass(frozen=True)
class Options:
    """What a URL says.

    Attributes:
        url: of the store, in our spelling.
        ttl: the lease in seconds.
        hold: for so many seconds an object that was answered for stays this process's.
        settle: for so many seconds at most a tick waits for what others are to hand over.
        lock_ttl: the lease of locks in seconds.
        greenlets: run also where eventlet or gevent has replaced the threads.
    """

    url: str
    ttl: float
    hold: float
    settle: float
    lock_ttl: float
    greenlets: bool = False

    @classmethod
    def of(cls, parsed: Any, options: Mapping[str, Sequence[str]]) -> Options:
        """Read what tooz hands a backend.

        Args:
            parsed: the URL, split.
            options: its options, each with its values, and those of the caller's keywords.

        Raises:
            BadURL: one is unknown, of the wrong type or out of range.
        """
        given = {name: str(values[-1]) for name, values in options.items() if values}
        scheme = parsed.scheme.removeprefix(_PREFIX)
        hold_text, settle_text = given.pop("hold", None), given.pop("settle", None)
        lock_text = given.pop("lock_timeout", None)
        greenlets = _greenlets(scheme, given.pop("greenlets", None))
        # From its parts: some Pythons' geturl() loses two slashes of sqlite:////path.
        text = f"{scheme}://{parsed.netloc}{parsed.path}"
        if given:
            text += "?" + urlencode(given)
        url, lease = translate(text, 0.0, f"the tooz backend {_PREFIX}...", lease_everywhere=True)
        ttl = DEFAULT_TTL if lease is None else lease
        hold = _seconds("hold", hold_text, ttl)
        settle = _seconds("settle", settle_text, hold * _SETTLE)
        return cls(url, ttl, hold, settle, _seconds("lock_timeout", lock_text, ttl), greenlets)


def _seconds(name: str, text: str | None, default: float) -> float:
    if text is None:
        return default
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not 0 < found < math.inf:
        raise BadURL(f"{name} must be a positive number of seconds, not {text!r}")
    return found


_GREEN = ("redis", "rediss", "valkey", "valkeys")
"""The stores whose drivers wait in Python's own sockets alone, which eventlet replaces too.

The tests run Cinder's locks there under eventlet. A call that waits in C stops all greenlets."""


def _greenlets(scheme: str, text: str | None) -> bool:
    if text is None:
        return False
    if text != "allow":
        raise BadURL(f"greenlets can be 'allow', not {text!r}")
    if scheme not in _GREEN:
        raise BadURL(
            f"greenlets=allow is for {', '.join(_GREEN)}: a call to {scheme} stops them all"
        )
    return True


_THREADS = (
    Characteristics.DISTRIBUTED_ACROSS_THREADS,
    # A thread of ours renews the lease, whatever the caller does.
    Characteristics.NON_TIMEOUT_BASED,
    Characteristics.LINEARIZABLE,
)


def characteristics(scheme: str) -> tuple[Characteristics, ...]:
    """Return what a store is shared by.

    >>> Characteristics.DISTRIBUTED_ACROSS_HOSTS in characteristics("hashring+sqlite")
    False
    """
    name = scheme.removeprefix(_PREFIX)
    if name == "memory":
        return _THREADS
    if name == "sqlite":
        return (*_THREADS, Characteristics.DISTRIBUTED_ACROSS_PROCESSES)
    return (
        *_THREADS,
        Characteristics.DISTRIBUTED_ACROSS_PROCESSES,
        Characteristics.DISTRIBUTED_ACROSS_HOSTS,
    )


def refuse_green_threads(options: Options) -> None:
    """Refuse to run where threads are greenlets, unless the URL allows it.

    Raises:
        ToozError: eventlet or gevent has replaced `threading`.
    """
    patched = False
    if "eventlet" in sys.modules:
        patcher = sys.modules.get("eventlet.patcher")
        patched = bool(patcher is not None and patcher.is_monkey_patched("thread"))
    if not patched and "gevent" in sys.modules:
        monkey = sys.modules.get("gevent.monkey")
        patched = bool(monkey is not None and monkey.is_module_patched("threading"))
    if patched and not options.greenlets:
        raise tooz.ToozError(
            "the threads of this process are greenlets: a call that computes, or waits in C, stops "
            "all of them, and the heartbeat with them. Run the service with real threads (Cinder: "
            "OS_CINDER_DISABLE_EVENTLET_PATCHING=true in its environment), or, on "
            f"{', '.join(_GREEN)}, add greenlets=allow to the URL: then what such a call outlasts "
            "is lost when its lease ends"
        )
