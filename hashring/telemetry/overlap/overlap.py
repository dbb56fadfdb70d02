"""Announcement, Overlap: what an agent says it polls, and what two agents' words have in common.

Agents with one ``partitioning_group_prefix`` share their work, so they must poll the same meters;
agents with different ones share nothing, so they must not poll the same. Else samples are missing
or come twice. Pure values: this module knows no store, clock, thread or definition file. What
another agent announces is data from a stranger: checked and bounded, never trusted.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import json
import zlib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from hashring.telemetry.errors import BadAnnouncement
from hashring.telemetry.overlap.groups import Groups, differing, groups_from_json
from hashring.telemetry.overlap.patterns import Budget, Pattern, TooMuchWork, is_open, matching
from hashring.telemetry.overlap.peer import MAX_TEXT, is_text

__all__ = ["Announcement", "BadAnnouncement", "Overlap", "compare", "open_meters"]

VERSION = 1
"""Of the announcement's form; an agent that reads another one says so and compares nothing."""

MAX_BYTES = 60 * 1024
"""The largest announcement as JSON: a record's ``meta`` may hold 64 KiB."""

_MAX_NAME = 255
_MAX_METERS = 50_000
_MAX_OPEN = 256
_MAX_INFLATED = 4 * 1024 * 1024

_PLAIN = 512
"""Bytes of JSON up to which names are published as they are, for whoever looks into the store."""

_NAMED = 10
"""Meters that a sentence names before it only counts."""

MAX_STEPS = 500_000
"""Steps of comparing that one other agent's patterns may cost (see ``patterns.py``): some tenths of
a second, once for each announcement."""

_EXCEPT = "!"


def open_meters(include: str, exclude: Iterable[str] = ()) -> str:
    """Return the entry of an announcement that stands for names not known beforehand.

    Args:
        include: a pattern in shell style: ``*``, ``?``, ``[...]``.
        exclude: patterns of what is not polled although ``include`` matches it.

    Example:
        >>> open_meters("prometheus.*")
        'prometheus.*'
        >>> open_meters("prometheus.*", ["prometheus.go_*", "prometheus.up"])
        'prometheus.*!prometheus.go_*!prometheus.up'
    """
    return _EXCEPT.join([include, *sorted(set(exclude))])


@dataclasses.dataclass(frozen=True)
class Announcement:
    """What one agent lets the others know of what it polls.

    A meter is a name, or an entry of :func:`open_meters`.

    Attributes:
        member: the agent's id.
        host: its host's id.
        prefix: its ``partitioning_group_prefix``; may be empty.
        namespaces: which pollsters it runs: ``"central"``, ``"compute"`` or both.
        shared: meters of resources that the agents of every host see.
        local: meters of this host's own resources; agents of other hosts cannot overlap there.
        shared_groups: the groups in which the shared ones are polled, and how often (see
            ``groups.py``); ``None``: not told.
        local_groups: the same of the local ones.

    Example:
        >>> mine = Announcement("a", "web1", "storage", shared=frozenset({"storage.objects"}))
        >>> Announcement.from_meta("a", mine.to_meta()) == mine
        True
    """

    member: str
    host: str
    prefix: str = ""
    namespaces: frozenset[str] = frozenset({"central"})
    shared: frozenset[str] = frozenset()
    local: frozenset[str] = frozenset()
    shared_groups: Groups | None = None
    local_groups: Groups | None = None

    @property
    def identity(self) -> tuple[str, str, str, frozenset[str]]:
        """What an agent that was started again has in common with what it was before."""
        return self.member, self.host, self.prefix, self.namespaces

    def to_meta(self) -> dict[str, Any]:
        """Return the announcement as JSON types, for the ``meta`` of a record.

        Many names are published compressed, which keeps every one of them.

        Raises:
            BadAnnouncement: there are too many even so, or a name cannot be one.
        """
        for text, what in ((self.member, "member"), (self.host, "host"), (self.prefix, "prefix")):
            if not is_text(text):
                raise BadAnnouncement(
                    f"the {what} {text!r:.60} cannot be announced: it needs at most {MAX_TEXT} "
                    "characters, all of them printable"
                )
        for meters in (self.shared, self.local):
            _check(meters)
        meta = {
            "role": "agent",
            "v": VERSION,
            "member": self.member,
            "host": self.host,
            "prefix": self.prefix,
            "namespaces": sorted(self.namespaces),
            "shared": _pack(self.shared),
            "local": _pack(self.local),
        }
        for name in ("shared_groups", "local_groups"):
            found = getattr(self, name)
            if found is not None:
                meta[name] = sorted(found)
        size = len(json.dumps(meta))
        if size > MAX_BYTES:
            raise BadAnnouncement(
                f"agent {self.member!r} polls {len(self.shared) + len(self.local)} meters: their "
                f"names take {size} bytes compressed, and {MAX_BYTES} can be published; give "
                "sources patterns (NAME.*) in place of so many names, or spread them over agents "
                "with different values of partitioning_group_prefix"
            )
        return meta

    @classmethod
    def parse(cls, meta: Mapping[str, Any]) -> Announcement:
        """Return the announcement that a record's ``meta`` holds, trusting nothing in it.

        Raises:
            BadAnnouncement: it holds none; the message says what is wrong with it.
        """
        if meta.get("role") != "agent":
            raise BadAnnouncement(f"its role is {meta.get('role')!r:.60}, not 'agent'")
        if meta.get("v") != VERSION or isinstance(meta["v"], bool):
            raise BadAnnouncement(f"its version is {meta.get('v')!r:.60}; this is {VERSION}")
        texts = {}
        for name in ("member", "host", "prefix"):
            text = meta.get(name)
            # Printable, because it ends up on somebody's terminal.
            if not is_text(text):
                raise BadAnnouncement(f"it has no usable {name!r}")
            texts[name] = str(text)
        namespaces = meta.get("namespaces")
        if not isinstance(namespaces, list) or not all(
            is_text(name) and len(name) <= _MAX_NAME for name in namespaces[:17]
        ):
            raise BadAnnouncement("its 'namespaces' are not a list of names")
        if len(namespaces) > 16:
            raise BadAnnouncement(f"it has {len(namespaces)} namespaces; 16 are the most")
        return cls(
            **texts,
            namespaces=frozenset(namespaces),
            shared=_unpack(meta.get("shared"), "shared"),
            local=_unpack(meta.get("local"), "local"),
            shared_groups=groups_from_json(meta.get("shared_groups"), "shared_groups"),
            local_groups=groups_from_json(meta.get("local_groups"), "local_groups"),
        )

    @classmethod
    def from_meta(cls, member: str, meta: Mapping[str, Any]) -> Announcement | None:
        """Return what :meth:`parse` does, under the name of ``member``; ``None`` for garbage.

        Args:
            member: whose record it is; stands in place of what the announcement itself says.
            meta: the record's ``meta``.

        Example:
            >>> Announcement.from_meta("b", {"role": "a stranger"}) is None
            True
        """
        try:
            return dataclasses.replace(cls.parse(meta), member=member)
        except BadAnnouncement:
            return None


@dataclasses.dataclass(frozen=True)
class Overlap:
    """Why two agents may not poll side by side.

    Attributes:
        mine: what this agent announced.
        theirs: what the other one did.
        only_mine: with one prefix: what only this agent polls; sorted.
        only_theirs: with one prefix: what only the other polls; sorted.
        in_common: with different prefixes: what both poll; sorted.
        my_groups: with one prefix: groups, and how often they are polled, that only this agent
            has; sorted.
        their_groups: the same of the other; sorted.
    """

    mine: Announcement
    theirs: Announcement
    only_mine: tuple[str, ...] = ()
    only_theirs: tuple[str, ...] = ()
    in_common: tuple[str, ...] = ()
    my_groups: tuple[str, ...] = ()
    their_groups: tuple[str, ...] = ()

    @property
    def is_refused(self) -> bool:
        """Whether an agent may not start beside the other: they poll meters that are at odds.

        Where groups alone differ, it may: somebody is changing a list of resources, host by host.
        """
        return bool(self.only_mine or self.only_theirs or self.in_common)

    def describe(self) -> str:
        """Return a sentence for the operator: who, what, and what to do.

        Example:
            >>> a = Announcement("a", "web1", "one", shared=frozenset({"ip.floating", "image"}))
            >>> b = Announcement("b", "web2", "two", shared=frozenset({"image"}))
            >>> print(compare(a, b).describe())  # doctest: +NORMALIZE_WHITESPACE
            agent 'a' on web1 (partitioning_group_prefix 'one') and agent 'b' on web2
            (partitioning_group_prefix 'two') both poll image, so its samples come twice: give
            sub-groups disjoint meters, or both agents the same prefix and the same definitions;
            --allow-overlap starts an agent all the same
        """
        mine, theirs = _shown(self.mine), _shown(self.theirs)
        end = "--allow-overlap starts an agent all the same"
        if self.in_common:
            whose = "its" if len(self.in_common) == 1 else "their"
            return (
                f"{mine} and {theirs} both poll {_listed(self.in_common)}, so {whose} samples "
                "come twice: give sub-groups disjoint meters, or both agents the same prefix and "
                f"the same definitions; {end}"
            )
        if not self.is_refused:
            return self._describe_groups(mine, theirs)
        differences = [
            f"only {announcement.member!r} polls {_listed(meters)}"
            for announcement, meters in (
                (self.mine, self.only_mine),
                (self.theirs, self.only_theirs),
            )
            if meters
        ]
        return (
            f"{mine} and {theirs} share their work and poll different meters: "
            f"{', '.join(differences)}, so samples of those are missing wherever the other one "
            "polls: give agents of one prefix equal definitions, or different prefixes and "
            f"disjoint meters; {end}"
        )

    def _describe_groups(self, mine: str, theirs: str) -> str:
        differences = [
            f"only {announcement.member!r} polls in {_listed(groups)}"
            for announcement, groups in (
                (self.mine, self.my_groups),
                (self.theirs, self.their_groups),
            )
            if groups
        ]
        return (
            f"{mine} and {theirs} share their work and poll in different groups: "
            f"{'; '.join(differences)}. What is in two groups is polled twice, and what is in one "
            "is not shared: give agents of one prefix equal definitions, and reload them"
        )


def compare(mine: Announcement, other: Announcement) -> Overlap | None:
    """Return what is wrong between two agents; ``None``: nothing is.

    With different prefixes, no meter may be polled by both. With the same, both must poll the
    same meters, in the same groups: that is judged for those resources of which both poll
    something (shared ones, and those of one host), and of agents whose namespaces differ as far as
    it can be told: where one runs the other's namespaces and more, it must poll all that the other
    does.

    Open entries are judged by what they could match: an overlap may be told that no name ever
    makes true, but never the other way round.

    Raises:
        BadAnnouncement: the patterns of the two take too long to compare (:data:`MAX_STEPS`).

    Example:
        >>> a = Announcement("a", "web1", shared=frozenset({"image.size", "ip.floating"}))
        >>> b = Announcement("b", "web2", shared=frozenset({"image.size"}))
        >>> compare(a, b).only_mine
        ('ip.floating',)
        >>> compare(a, a) is None
        True
    """
    scopes = [(mine.shared, other.shared)]
    if mine.host == other.host:
        scopes.append((mine.local, other.local))
    if mine.prefix != other.prefix:
        budget = Budget(MAX_STEPS)
        try:
            common = {name for ours, theirs in scopes for name in _in_common(ours, theirs, budget)}
        except TooMuchWork:
            raise BadAnnouncement(
                f"to compare its {_count(other)} takes more than {MAX_STEPS} steps against the "
                f"{_count(mine)} here: whether both poll the same is not told"
            ) from None
        return Overlap(mine, other, in_common=tuple(sorted(common))) if common else None
    only_mine: set[str] = set()
    only_theirs: set[str] = set()
    for ours, theirs in scopes:
        if ours and theirs:
            # What a namespace that only one of them runs adds to its meters is not a difference.
            if mine.namespaces <= other.namespaces:
                only_mine |= ours - theirs
            if other.namespaces <= mine.namespaces:
                only_theirs |= theirs - ours
    my_groups, their_groups = _groups_at_odds(mine, other)
    if not (only_mine or only_theirs or my_groups or their_groups):
        return None
    return Overlap(
        mine,
        other,
        only_mine=tuple(sorted(only_mine)),
        only_theirs=tuple(sorted(only_theirs)),
        my_groups=tuple(sorted(my_groups)),
        their_groups=tuple(sorted(their_groups)),
    )


def _groups_at_odds(mine: Announcement, other: Announcement) -> tuple[set[str], set[str]]:
    """Return the groups that only one of the two has, where both poll something that meets."""
    scopes = [(mine.shared & other.shared, mine.shared_groups, other.shared_groups)]
    if mine.host == other.host:
        scopes.append((mine.local & other.local, mine.local_groups, other.local_groups))
    only_mine: set[str] = set()
    only_theirs: set[str] = set()
    for common, ours, theirs in scopes:
        if common:
            one, two = differing(
                ours,
                theirs,
                i_may_lack=not other.namespaces <= mine.namespaces,
                they_may_lack=not mine.namespaces <= other.namespaces,
            )
            only_mine |= one
            only_theirs |= two
    return only_mine, only_theirs


def _count(announcement: Announcement) -> str:
    meters = announcement.shared | announcement.local
    opens = sum(map(is_open, meters))
    return f"{opens} patterns and {len(meters) - opens} names of meters"


def _shown(announcement: Announcement) -> str:
    return (
        f"agent {announcement.member!r} on {announcement.host} "
        f"(partitioning_group_prefix {announcement.prefix!r})"
    )


def _listed(meters: tuple[str, ...]) -> str:
    more = len(meters) - _NAMED
    return ", ".join(meters[:_NAMED]) + (f" and {more} more" if more > 0 else "")


# ---- names and patterns ------------------------------------------------------------------------


def _in_common(ours: frozenset[str], theirs: frozenset[str], budget: Budget) -> Iterable[str]:
    yield from ours & theirs
    our_open, our_names = _parted(ours, budget)
    their_open, their_names = _parted(theirs, budget)
    for entries, names in ((our_open, their_names), (their_open, our_names)):
        for entry in entries if names else ():
            excluded = [narrow.text for narrow in entry.exclude]
            yield from matching(entry.include.text, excluded, names, budget)
    for entry in our_open:
        for other in their_open:
            if entry.text != other.text and _can_meet(entry, other, budget):
                first, second = sorted((entry, other), key=lambda each: each.text)
                yield _meeting(first, second, budget)


class _Entry(NamedTuple):
    """An open entry, taken apart."""

    text: str
    include: Pattern
    exclude: tuple[Pattern, ...]


def _parted(entries: frozenset[str], budget: Budget) -> tuple[list[_Entry], list[str]]:
    """Return the open ones and the names, sorted."""
    opens = []
    for text in sorted(filter(is_open, entries)):
        budget.spend(2 * len(text))
        include, *exclude = map(Pattern, text.split(_EXCEPT))
        opens.append(_Entry(text, include, tuple(exclude)))
    return opens, sorted(text for text in entries if not is_open(text))


def _meeting(entry: _Entry, other: _Entry, budget: Budget) -> str:
    """Say what both match: the narrower of the two says it best; else it takes both."""
    if other.include.covers(entry.include, budget):
        return entry.text
    if entry.include.covers(other.include, budget):
        return other.text
    return f"{entry.text} and {other.text}"


def _can_meet(entry: _Entry, other: _Entry, budget: Budget) -> bool:
    """Whether a name may be matched by both; errs to yes."""
    if not entry.include.meets(other.include, budget):
        return False
    return not any(wide.covers(other.include, budget) for wide in entry.exclude) and not any(
        wide.covers(entry.include, budget) for wide in other.exclude
    )


# ---- the published form ------------------------------------------------------------------------


def _check(meters: frozenset[str]) -> None:
    if len(meters) > _MAX_METERS:
        raise BadAnnouncement(f"{len(meters)} meters; {_MAX_METERS} are the most")
    opens = 0
    for name in meters:
        if not 0 < len(name) <= _MAX_NAME or not name.isprintable():
            raise BadAnnouncement(
                f"{name!r:.80} cannot be the name of a meter: it needs 1 to {_MAX_NAME} "
                "printable characters"
            )
        opens += is_open(name)
    if opens > _MAX_OPEN:
        raise BadAnnouncement(f"{opens} open patterns of meters; {_MAX_OPEN} are the most")


def _pack(meters: frozenset[str]) -> list[str] | str:
    names = sorted(meters)
    if len(json.dumps(names)) <= _PLAIN:
        return names
    return base64.b64encode(zlib.compress("\n".join(names).encode(), 9)).decode("ascii")


def _unpack(packed: Any, scope: str) -> frozenset[str]:
    if isinstance(packed, str):
        try:
            inflate = zlib.decompressobj()
            # Bounded: a stranger's few bytes must not inflate to gigabytes.
            text = inflate.decompress(base64.b64decode(packed, validate=True), _MAX_INFLATED)
            packed = text.decode().split("\n")
        except (ValueError, binascii.Error, zlib.error) as error:
            raise BadAnnouncement(f"its {scope!r} is malformed: {error}") from error
        if not inflate.eof:
            raise BadAnnouncement(f"its {scope!r} is cut off or larger than {_MAX_INFLATED} bytes")
    if not isinstance(packed, list) or not all(isinstance(name, str) for name in packed):
        raise BadAnnouncement(f"its {scope!r} is not a list of names")
    try:
        found = frozenset(packed)
        _check(found)
    except BadAnnouncement as error:
        raise BadAnnouncement(f"its {scope!r}: {error}") from error
    return found
