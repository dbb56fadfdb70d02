"""Announcements: the groups in which agents announce what they poll, so that overlaps are seen.

All agents of a store announce themselves in groups of their own, as members of weight 0: those
watch and hold nothing. Which announcements are at odds is ``overlap.py``'s to say; this module
joins, reads, refuses and reports. It knows nothing of how anything is polled.

There are two kinds of groups. ``hashring/agents`` has every agent that polls something shared;
``hashring/agents/HOST`` those that poll a host's own resources: no agent of another host can
overlap there, and a thousand compute agents need not read of each other.

When does an agent go on? It joins first, then reads, so of two that start at the same moment at
least one sees the other. An announcement also says whether its agent was *accepted* yet:

- At odds with one that was accepted: refused.
- At odds with one that was not, whose id in the group is less: refused. Otherwise it waits for
  the other, which has then either seen this one (and is refused) or not (and is accepted).

So of two at odds never both go on unseen, and one of two that start together does. Nobody waits
for one that waits for it, because only the lesser id waits; and whoever dies undecided leaves with
its lease.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import threading
import uuid
from collections.abc import Iterator
from typing import Any, Self

from hashring import clock
from hashring.backoff import Backoff
from hashring.driver import DriverURL
from hashring.errors import HashringError, StoreUnavailable
from hashring.partition import outage
from hashring.partition.partition import Partition, join
from hashring.protocol.record import Member
from hashring.telemetry.errors import BadAnnouncement, OverlapRefused
from hashring.telemetry.model.settings import Settings
from hashring.telemetry.overlap.overlap import Announcement, Overlap, compare
from hashring.telemetry.overlap.peer import Peer

__all__ = ["AGENTS", "TTL", "Announcements", "OverlapRefused"]

log = logging.getLogger(__name__)

AGENTS = "hashring/agents"
"""The group of the agents that poll something shared; ``AGENTS/HOST`` is a host's own."""

TTL = 10.0
"""The lease of every announcement in seconds, whatever the agents' own: agents whose ``ttl``
differs could not be in one group. For so long an agent that was killed may still be seen."""

LINGER = 3.0
"""Seconds for which an agent that is refused is still announced: the others look each second, and
their stores tell them of a change within another."""

_LOOK = 0.02
"""Seconds between two looks at what must change in this process's memory."""


_Identity = tuple[str, str, str, frozenset[str]]


@dataclasses.dataclass(frozen=True)
class _Seen:
    """Another agent's announcement, as a group has it."""

    id: str
    announcement: Announcement
    accepted: bool


class Announcements:
    """An agent's place among all agents of the store.

    The loop, all of it in one thread but :meth:`stop`::

        with Announcements(settings, announcement) as announcements:  # start(), and check()
            while polling:
                announcements.look()           # each few seconds
                ...                            # on a reload: announcements.update(new)

    Args:
        settings: what the agent is told to do.
        announcement: what it polls.

    Example:
        >>> settings = Settings(backend_url="memory://doc-announcements", member="a", host="web1")
        >>> mine = Announcement("a", "web1", "one", shared=frozenset({"cpu"}))
        >>> other = Announcement("b", "web1", "two", shared=frozenset({"cpu"}))
        >>> with Announcements(settings, mine) as announcements:
        ...     try:
        ...         with Announcements(dataclasses.replace(settings, member="b"), other):
        ...             pass
        ...     except OverlapRefused as error:
        ...         print(error.overlaps[0].in_common)
        ('cpu',)
    """

    def __init__(self, settings: Settings, announcement: Announcement) -> None:
        self._settings = settings
        self._announcement = announcement
        # A random part: an agent that was killed and started again need not wait for the lease of
        # what it was before. Two live agents of one id are refused where they share their work.
        self._id = f"{announcement.member[:200]}#{uuid.uuid4().hex}"
        self._groups: dict[str, Partition] = {}
        self._accepted = settings.allow_overlap
        self._stopping = threading.Event()
        self._known: dict[tuple[str, _Identity], Overlap] = {}
        # By group and id: the record that was read, and what it says; what comparing it with ours
        # gave; and why it cannot be read.
        self._read: dict[tuple[str, str], tuple[Member, _Seen | None]] = {}
        self._compared: dict[tuple[str, str], tuple[Member, Announcement, Overlap | None]] = {}
        self._unreadable: dict[tuple[str, str], str] = {}
        self._joining = outage.Outage(
            f"the agents at {DriverURL.parse(settings.backend_url)}",
            "overlaps are not seen, and it is tried again",
            "overlaps are seen again",
        )

    @property
    def announcement(self) -> Announcement:
        """What is announced now."""
        return self._announcement

    def stop(self) -> None:
        """Let :meth:`start`, :meth:`check` and what they wait for end soon. From any thread."""
        self._stopping.set()

    def start(self) -> bool:
        """Join, and wait until all who joined before are known.

        A store that is away is tried again, after ``retry_backoff`` seconds and then less often,
        until it is back or :meth:`stop` is called; without a ``retry_backoff`` it is an error.

        Returns:
            Whether it has joined; ``False`` after :meth:`stop`.

        Raises:
            HashringError: the store can never be used, or the announcement is too large.
        """
        self._meta(self._announcement)  # too large a one is told of before anything is joined
        for group, part in self._parts(self._announcement).items():
            partition = self._join(group, part)
            if partition is None:
                return False
            self._groups[group] = partition
        return all(self._has_read(partition) for partition in self._groups.values())

    def overlaps(self) -> list[Overlap]:
        """Return what is at odds with other agents now, as of the latest reading."""
        return [overlap for _, _, overlap in self._found()]

    def check(self) -> None:
        """Let this agent go on, or refuse it. Called once, after :meth:`start`.

        Groups alone that differ are no reason to refuse it: :meth:`look` reports them.

        With ``settings.allow_overlap`` it always goes on. Otherwise this waits where that may
        help: ``settings.patience`` seconds for agents that have died and whose leases have not,
        and for agents that start at this very moment.

        Raises:
            OverlapRefused: naming all that is at odds; another agent was here first. It has had
                the time to see this one, and tells of it as well.
        """
        if self._settings.allow_overlap:
            return
        started = clock.boottime()
        # An undecided agent that died is gone after its lease; a little more is for its expiry
        # to be seen.
        longest = max(self._settings.patience, 1.5 * TTL)
        while not self._stopping.is_set():
            found = [one for one in self._found() if one[2].is_refused]
            if not found:
                self._accept()
                return
            waited = clock.boottime() - started
            refused = [
                overlap
                for _, seen, overlap in found
                if waited >= self._worth_waiting_for(seen, longest)
            ]
            if refused:
                # The others are to tell of it too: who left at once would not be seen.
                self._stopping.wait(LINGER)
                raise OverlapRefused(refused)
            self._stopping.wait(_LOOK)

    def look(self) -> list[Overlap]:
        """Report, at error level and once each, the overlaps that are new; and those that ended.

        Call it each few seconds: an overlap with an agent that starts later, or that a reload
        makes, is thus told on this side as well as on the other.

        Returns:
            All overlaps that there are now.
        """
        self._join_missing()
        found = {(group, overlap.theirs.identity): overlap for group, _, overlap in self._found()}
        for key, overlap in found.items():
            if self._known.get(key) != overlap:
                log.error("%s", overlap.describe())
        for key, overlap in self._known.items():
            if key not in found:
                theirs = overlap.theirs
                log.warning(
                    "agents %r and %r (partitioning_group_prefix %r and %r) are no longer at odds",
                    overlap.mine.member,
                    theirs.member,
                    overlap.mine.prefix,
                    theirs.prefix,
                )
        self._known = found
        return list(found.values())

    def update(self, announcement: Announcement) -> None:
        """Announce something else from now on: the agent has reloaded its configuration.

        Never refused: :meth:`look` reports what is at odds now. The others see it once the store
        has it; a store that is away gets it when it is back.

        Raises:
            BadAnnouncement: it is too large; the one before stays.
        """
        self._meta(announcement)
        self._announcement = announcement
        parts = self._parts(announcement)
        for group, partition in self._groups.items():
            # A group that is needed no more is told so, and left with the agent.
            empty = dataclasses.replace(
                announcement,
                shared=frozenset(),
                local=frozenset(),
                shared_groups=None,
                local_groups=None,
            )
            partition.publish_meta(self._meta(parts.get(group, empty)))
        self._join_missing()

    def close(self) -> None:
        """Leave; every thread ends. Idempotent."""
        self.stop()
        groups, self._groups = self._groups, {}
        for partition in groups.values():
            partition.leave()

    def __enter__(self) -> Self:
        try:
            if self.start():
                self.check()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- joining ---------------------------------------------------------------------------

    def _parts(self, announcement: Announcement) -> dict[str, Announcement]:
        """Return what is announced in which group."""
        parts = {}
        if announcement.shared:
            parts[AGENTS] = dataclasses.replace(announcement, local=frozenset(), local_groups=None)
        if announcement.local:
            host = announcement.host
            if len(host) > 200:
                host = hashlib.sha256(host.encode()).hexdigest()
            parts[f"{AGENTS}/{host}"] = dataclasses.replace(
                announcement, shared=frozenset(), shared_groups=None
            )
        return parts

    def _meta(self, part: Announcement) -> dict[str, Any]:
        return {**part.to_meta(), "accepted": self._accepted}

    def _join_now(self, group: str, part: Announcement) -> Partition:
        url = DriverURL.parse(self._settings.backend_url)
        options = {name: value for name, value in url.options.items() if name != "ttl"}
        return join(
            dataclasses.replace(url, options=options),
            group,
            member=self._id,
            weight=0.0,
            ttl=TTL,
            meta=self._meta(part),
        )

    def _join(self, group: str, part: Announcement) -> Partition | None:
        pauses = Backoff(self._settings.retry_backoff, self._settings.max_retry_interval)
        while not self._stopping.is_set():
            try:
                partition = self._join_now(group, part)
            except StoreUnavailable as error:
                if not self._settings.retry_backoff:
                    raise
                self._joining.failed(f"joining {group!r}", error)
                self._stopping.wait(next(pauses))
            else:
                self._joining.worked(f"joining {group!r}")
                return partition
        return None

    def _join_missing(self) -> None:
        """Join the groups that a reload made necessary, or whose partition gave up."""
        for group, part in self._parts(self._announcement).items():
            partition = self._groups.get(group)
            if self._stopping.is_set() or (partition is not None and partition.state != "left"):
                continue
            try:
                joined = self._join_now(group, part)
            except HashringError as error:
                # The agent goes on: it polls what it polled. The next look tries again.
                self._joining.failed(f"joining {group!r}", error)
                continue
            self._joining.worked(f"joining {group!r}")
            if partition is not None:
                partition.leave()
            self._groups[group] = joined

    def _has_read(self, partition: Partition) -> bool:
        """Wait for the first reading. The partition reads for nobody before its join is through,
        so whoever joined before this agent is in that reading.
        """
        while not partition.records:
            partition.wait_settled(0)  # raises what keeps it from taking part
            if self._stopping.wait(_LOOK):
                return False
        return True

    def _accept(self) -> None:
        self._accepted = True
        parts = self._parts(self._announcement)
        for group, partition in self._groups.items():
            partition.publish_meta(self._meta(parts[group]))

    def _worth_waiting_for(self, seen: _Seen, longest: float) -> float:
        """Return the seconds after which being at odds with this one is a refusal."""
        if seen.announcement.identity == self._announcement.identity:
            return longest  # this very agent, before it died: its lease has yet to end
        if seen.accepted:
            return self._settings.patience
        return longest if self._id < seen.id else 0.0

    # ---- looking ---------------------------------------------------------------------------

    def _others(self, group: str) -> Iterator[tuple[_Seen, Member]]:
        records = self._groups[group].records
        for key in [key for key in self._read if key[0] == group and key[1] not in records]:
            del self._read[key]
            self._compared.pop(key, None)
            self._unreadable.pop(key, None)
        for id, record in sorted(records.items()):
            if id == self._id:
                continue
            known = self._read.get((group, id))
            if known is None or known[0] is not record:
                # A record that stays the same is the same object: it is parsed once.
                known = self._read[group, id] = (record, self._parsed(group, id, record))
            if known[1] is not None:
                yield known[1], record

    def _parsed(self, group: str, id: str, record: Member) -> _Seen | None:
        try:
            announcement = Announcement.parse(record.meta)
        except BadAnnouncement as error:
            self._say_unreadable(group, id, error)
            return None
        return _Seen(id, announcement, Peer.of(record.meta).accepted)

    def _say_unreadable(self, group: str, id: str, error: BadAnnouncement) -> None:
        if self._unreadable.get((group, id)) != str(error):
            log.warning("the announcement of %r cannot be read: %s", id[:200], error)
            self._unreadable[group, id] = str(error)

    def _found(self) -> Iterator[tuple[str, _Seen, Overlap]]:
        parts = self._parts(self._announcement)
        for group in self._groups:
            mine = parts.get(group)
            if mine is None:
                continue
            for seen, record in self._others(group):
                overlap = self._overlap(group, mine, seen, record)
                if overlap is not None:
                    yield group, seen, overlap

    def _overlap(
        self, group: str, mine: Announcement, seen: _Seen, record: Member
    ) -> Overlap | None:
        """Compare, once for each two announcements: what a stranger's costs is bounded."""
        key = (group, seen.id)
        known = self._compared.get(key)
        if known is None or known[0] is not record or known[1] != mine:
            overlap = None
            try:
                overlap = compare(mine, seen.announcement)
            except BadAnnouncement as error:
                self._say_unreadable(group, seen.id, error)
            known = self._compared[key] = (record, mine, overlap)
        return known[2]
