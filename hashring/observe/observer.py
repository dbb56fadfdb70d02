"""`Observer`: reads the groups of a store and joins none, with two requests a second at most."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Self

from hashring import clock
from hashring.driver import Driver, DriverURL, check_names, load
from hashring.observe import describe, owner, preview, stopping
from hashring.observe.description import GroupDescription, Ownership, Preview, StopAdvice
from hashring.observe.records import Records
from hashring.protocol.view import View

__all__ = ["Observer"]

_PAUSE = 1.0
"""Seconds between two readings, at least."""

_LEASES = 2 * _PAUSE
"""Seconds between two looks at the leases while a group is watched, about: a look costs some stores
two requests, and a reading one, so that there are two a second at most."""

_KNOWN = 256
"""Views that an observer remembers, to tell what a member holds that still shows one of them."""


class Observer:
    """Looks at the groups of a store. It is no member, and delays no hand-over.

    The loop::

        with hashring.observe.Observer("redis://host/0") as observer:
            for group in observer.watch("pollers"):
                print(group.is_settled, group.waits)

    Not for several threads at once.

    Args:
        url: the store's URL, or a driver that is not yet open.

    Raises:
        BadURL, UnknownDriver, MissingDependency: the URL has no driver.

    Example:
        >>> import hashring
        >>> with (
        ...     hashring.join("memory://doc-observer", "pollers", "a") as partition,
        ...     Observer("memory://doc-observer") as observer,
        ... ):
        ...     _ = partition.wait_settled(10)
        ...     found = observer.describe("pollers")
        >>> found.is_settled, [(member.id, member.due) for member in found.members]
        (True, [('a', 65536)])
    """

    def __init__(self, url: str | DriverURL | Driver) -> None:
        self._driver = url if isinstance(url, Driver) else load(url)
        self._known: dict[str, dict[str, View]] = {}
        self._seen: dict[str, dict[tuple[str, str], float]] = {}
        self._leases: dict[str, tuple[float, Mapping[str, float]]] = {}  # when they were looked at

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def open(self) -> None:
        """Connect.

        Raises:
            StoreUnavailable, StoreUnusable: see :meth:`hashring.driver.Driver.open`.
        """
        self._driver.open_to_look()

    def close(self) -> None:
        """End the connections."""
        self._driver.close()

    @property
    def url(self) -> str:
        """The store's URL, secrets masked."""
        return str(self._driver.url)

    def groups(self) -> list[str]:
        """Return the ids of the groups that have members, sorted.

        Raises:
            NotOffered: the store cannot list them.
            StoreUnavailable: it did not answer.
        """
        return sorted(self._driver.groups())

    def records(self, group: str) -> Records:
        """Read a group.

        Raises:
            BadName: the group's id is invalid.
            StoreUnavailable: the store did not answer.
        """
        check_names(group)
        known = self._known.setdefault(group, {})
        found = Records(self._driver.read(group), known)
        while len(known) > _KNOWN:
            del known[next(iter(known))]
        return found

    def describe(self, group: str) -> GroupDescription:
        """Read a group, and describe it.

        Raises:
            BadName, StoreUnavailable: see :meth:`records`.
        """
        return self._described(group, self.records(group))

    def watch(self, group: str, pause: float = _PAUSE) -> Iterator[GroupDescription]:
        """Yield the group now, and whenever it may have changed, for ever.

        Args:
            group: the group's id.
            pause: seconds between two readings, at least; no less than one second.

        Raises:
            BadName, StoreUnavailable: see :meth:`records`. It can be called again then.
        """
        pause = max(_PAUSE, pause)
        while True:
            began = clock.boottime()
            yield self._described(group, self.records(group), leases=self._recent_leases(group))
            self._driver.wait(group, pause)
            time.sleep(max(0.0, pause - (clock.boottime() - began)))

    def owner(self, group: str, keys: Iterable[str]) -> list[Ownership]:
        """Read a group, and say whose some keys are.

        Raises:
            BadKey: a key cannot be encoded as UTF-8.
            BadName, StoreUnavailable: see :meth:`records`.
        """
        records = self.records(group)
        return [owner.owner(records, key) for key in keys]

    def preview(
        self,
        group: str,
        *,
        add: Mapping[str, float] | None = None,
        remove: Iterable[str] = (),
        keys: Iterable[str] | None = None,
    ) -> Preview:
        """Read a group, and say what would move if members came or went.

        Args:
            group: the group's id.
            add: the weights of those who would come, by id.
            remove: the ids of those who would go.
            keys: keys of which to count those that would move.

        Raises:
            BadArgument, BadRing: see :func:`hashring.observe.preview.preview`.
            BadName, StoreUnavailable: see :meth:`records`.
        """
        return preview.preview(self.records(group), add=add, remove=remove, keys=keys)

    def can_stop(self, group: str, member: str) -> StopAdvice:
        """Read a group, and say whether a member may be stopped now.

        Raises:
            UnknownMember: it is not in the group.
            BadName, StoreUnavailable: see :meth:`records`.
        """
        return stopping.can_stop(self.describe(group), member)

    def _recent_leases(self, group: str) -> Mapping[str, float]:
        """Return the leases as of the present or the previous look, less the time since."""
        now = clock.boottime()
        at, found = self._leases.get(group, (-math.inf, {}))
        if now - at < _LEASES - _PAUSE / 2:
            return {id: max(0.0, left - (now - at)) for id, left in found.items()}
        found = self._driver.leases(group)
        self._leases[group] = now, found
        return found

    def _described(
        self, group: str, records: Records, leases: Mapping[str, float] | None = None
    ) -> GroupDescription:
        return describe.describe(
            records,
            url=self.url,
            group=group,
            wall=time.time(),
            leases=self._driver.leases(group) if leases is None else leases,
            seen=self._seen.setdefault(group, {}),
        )
