"""What members say of themselves, and the view that follows: records, members, views, view ids.

Pure values. This room knows the record's JSON and nothing of stores, clocks or the hand-off's
rules; what stands in a record is data from strangers, so every field is checked and bounded.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import functools
import hashlib
import json
import math
import re
import zlib
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from hashring.driver import MAX_RECORD
from hashring.errors import BadRecord
from hashring.ring import HashRing, SlotSet

__all__ = ["Claim", "Member", "View", "check_meta", "slot_count"]

RECORD_VERSION = 1
MAX_META = 64 * 1024
"""The largest ``meta`` in bytes of JSON that a member may publish."""

_OURS = "hashring"
"""The key in ``meta`` under which the hand-off keeps its own fields."""

_MAX_CLAIMS = 64
_MAX_ID = 4096


@dataclasses.dataclass(frozen=True, slots=True)
class Claim:
    """A promise about slots that a member has lost: every window before ``through`` is worked.

    Attributes:
        through: seconds on the wall clock, compared with the starts of windows only; ``-inf``
            where the member never worked a window of them, and nothing is promised.
        slots: the slots it speaks of.
    """

    through: float
    slots: SlotSet


def _dumped(value: Mapping[str, Any], what: str) -> bytes:
    try:
        return json.dumps(value, separators=(",", ":"), sort_keys=True, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise BadRecord(f"{what} must be a JSON object: {error}") from error


def check_meta(meta: Mapping[str, Any]) -> None:
    """Refuse what a member may not publish of its own.

    Raises:
        BadRecord: it is no JSON object, is larger than 64 KiB, or has the hand-off's own key.

    >>> check_meta({"host": "web1"})
    """
    size = len(_dumped({**meta}, "meta"))
    if size > MAX_META:
        raise BadRecord(f"meta of {size} bytes; {MAX_META} is the most")
    if _OURS in meta:
        raise BadRecord(f"meta: the key {_OURS!r} is the hand-off's own; choose another name")


def _pack(slots: SlotSet) -> str:
    return base64.b64encode(zlib.compress(slots.tobytes(), 6)).decode("ascii")


def _unpack(text: str, slots: int) -> SlotSet:
    size = max(1, slots // 8)
    inflate = zlib.decompressobj()
    # Bounded: a stranger's few bytes must not inflate to gigabytes.
    data = inflate.decompress(base64.b64decode(text, validate=True), size + 1)
    if len(data) != size:
        raise ValueError(f"{len(data)} bytes where {size} belong")
    return SlotSet.frombytes(data, slots)


@dataclasses.dataclass(frozen=True, slots=True)
class Member:
    """One member's record, parsed ("What is shared" in ``docs/protocol.md``).

    Attributes:
        id: the member's id.
        incarnation: one unbroken membership; a member that was expired comes back with a new one.
        weight: its share relative to the others', 0 or more.
        ring: the ring's parameters (:attr:`HashRing.spec`).
        ttl: the lease in seconds.
        applied: the id of the view it has acked; ``None``: it holds nothing.
        through: every window that starts before this wall-clock second is its own; or ``None``.
        draining: it is leaving with hand-over.
        handoff: ``"exclusive"`` or ``"eager"``.
        settled: the id of the last view under which it took its slots over; ``None`` before.
        claims: what it has lost and nobody is known to have taken over yet.
        speaks_claims: the record carries ``settled`` and ``claims`` at all.
        meta: what the user published.
    """

    id: str
    incarnation: str
    weight: float
    ring: str
    ttl: float
    applied: str | None = None
    through: float | None = None
    draining: bool = False
    handoff: str = "exclusive"
    settled: str | None = None
    claims: tuple[Claim, ...] = ()
    speaks_claims: bool = True
    meta: Mapping[str, Any] = dataclasses.field(default_factory=lambda: MappingProxyType({}))

    def to_json(self) -> bytes:
        """Return the record as the store keeps it.

        Raises:
            BadRecord: ``meta`` is no JSON object, or the record is too large.
        """
        ours = {
            "handoff": self.handoff,
            "settled": self.settled,
            "claims": [
                [claim.through if claim.through > -math.inf else None, _pack(claim.slots)]
                for claim in self.claims
            ],
        }
        check_meta(self.meta)
        record = _dumped(
            {
                "v": RECORD_VERSION,
                "incarnation": self.incarnation,
                "weight": self.weight,
                "ring": self.ring,
                "ttl": self.ttl,
                "applied": self.applied,
                "through": self.through,
                "draining": self.draining,
                "meta": {**self.meta, _OURS: ours},
            },
            "meta",
        )
        if len(record) > MAX_RECORD:
            raise BadRecord(
                f"a record of {len(record)} bytes; {MAX_RECORD} is the most: use less meta"
            )
        return record

    @classmethod
    def from_json(cls, id: str, record: bytes) -> Member:
        """Parse a record, trusting nothing in it.

        Raises:
            BadRecord: naming the member and the first field that is wrong.
        """

        def bad(reason: str) -> BadRecord:
            return BadRecord(f"the record of member {id!r:.200} {reason}")

        if not isinstance(record, bytes | bytearray):
            raise bad(f"is {type(record).__name__}, not bytes")
        if len(record) > MAX_RECORD:
            raise bad(f"has {len(record)} bytes; {MAX_RECORD} is the most")
        try:
            fields = json.loads(record)
        except (ValueError, RecursionError) as error:
            raise bad(f"is no JSON: {type(error).__name__}") from error
        if not isinstance(fields, dict):
            raise bad("is no JSON object")
        if fields.get("v") != RECORD_VERSION or isinstance(fields["v"], bool):
            raise bad(f"has version {fields.get('v')!r:.40}; this is version {RECORD_VERSION}")

        def text(name: str, *, optional: bool = False) -> Any:
            value = fields.get(name)
            if value is None and optional:
                return None
            if not isinstance(value, str) or not value or len(value) > _MAX_ID:
                raise bad(f"has no usable {name!r}")
            return value

        def number(name: str, *, least: float, optional: bool = False) -> Any:
            value = fields.get(name)
            if value is None and optional:
                return None
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise bad(f"has no number for {name!r}")
            try:
                value = float(value)
            except OverflowError:
                value = math.inf
            if not least <= value < math.inf:
                raise bad(f"has {name!r} out of range")
            return value

        draining = fields.get("draining", False)
        meta = fields.get("meta", {})
        if not isinstance(draining, bool):
            raise bad("has no boolean for 'draining'")
        if not isinstance(meta, dict):
            raise bad("has no object for 'meta'")
        ring = text("ring")
        ours = meta.pop(_OURS, None)
        handoff = "exclusive"
        settled: str | None = None
        claims: tuple[Claim, ...] = ()
        if ours is not None:
            try:
                handoff, settled, claims = _ours(ours, slot_count(ring))
            except (ValueError, TypeError, KeyError, zlib.error, binascii.Error) as error:
                raise bad(f"has a malformed meta.{_OURS}: {type(error).__name__}") from error
        ttl = number("ttl", least=0.0)
        if ttl == 0:
            raise bad("has 'ttl' out of range")
        return cls(
            id=id,
            incarnation=text("incarnation"),
            weight=number("weight", least=0.0),
            ring=ring,
            ttl=ttl,
            applied=text("applied", optional=True),
            through=number("through", least=-math.inf, optional=True),
            draining=draining,
            handoff=handoff,
            settled=settled,
            claims=claims,
            speaks_claims=ours is not None,
            meta=MappingProxyType(meta),
        )


def slot_count(spec: str) -> int | None:
    """Return the number of slots that a ring's parameters name; ``None`` for another format's.

    >>> slot_count(HashRing(slots=256).spec)
    256
    """
    match = re.search(r"/slots=(\d{1,8})/", spec)
    count = int(match[1]) if match is not None else 0
    return count if 1 < count <= 1 << 24 and count & (count - 1) == 0 else None


def _ours(ours: Any, slots: int | None) -> tuple[str, str | None, tuple[Claim, ...]]:
    handoff, settled, packed = ours["handoff"], ours["settled"], ours["claims"]
    if handoff not in {"exclusive", "eager"}:
        raise ValueError("handoff")
    if settled is not None and not isinstance(settled, str):
        raise TypeError("settled")
    if not isinstance(packed, list) or len(packed) > _MAX_CLAIMS:
        raise ValueError("claims")
    claims = []
    for through, encoded in packed:
        if through is None:
            through = -math.inf
        elif isinstance(through, bool) or not isinstance(through, int | float):
            raise TypeError("through")
        elif not math.isfinite(through):
            raise ValueError("through")
        if slots is not None:
            claims.append(Claim(float(through), _unpack(encoded, slots)))
    return handoff, settled, tuple(claims)


@functools.lru_cache(maxsize=16)
def _ring(members: tuple[tuple[str, float], ...], spec: str) -> HashRing:
    return HashRing.from_spec(dict(members), spec)


@dataclasses.dataclass(frozen=True, slots=True)
class View:
    """The members that own something, at one reading; every member computes the same from it.

    Attributes:
        members: ``(member, incarnation, weight)``, sorted.
        spec: the ring's parameters.
        ttl: the lease in seconds.
        id: 32 hex digits: a hash of all the others.
    """

    members: tuple[tuple[str, str, float], ...]
    spec: str
    ttl: float
    id: str = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        text = json.dumps([self.members, self.spec, self.ttl], separators=(",", ":"))
        object.__setattr__(self, "id", hashlib.sha256(text.encode()).hexdigest()[:32])

    @classmethod
    def of(cls, members: Iterable[Member], spec: str, ttl: float) -> View:
        """Return the view of these live members: less those that drain, weigh 0, or differ in
        ring or ttl (they never hold a slot of this group's).
        """
        owning = sorted(
            (member.id, member.incarnation, member.weight)
            for member in members
            if member.weight > 0
            and not member.draining
            and member.ring == spec
            and member.ttl == ttl
        )
        return cls(tuple(owning), spec, ttl)

    @property
    def weights(self) -> dict[str, float]:
        """The weight of each member by id."""
        return {id: weight for id, _, weight in self.members}

    @property
    def ring(self) -> HashRing:
        """The ring of this view (the last few are cached)."""
        return _ring(tuple((id, weight) for id, _, weight in self.members), self.spec)

    def slots(self, member: str) -> SlotSet:
        """Return ``table(view)[member]``: empty where the view does not have the member."""
        ring = self.ring
        if member in ring.members:
            return ring.slots(member)
        return SlotSet.empty(ring.universe)
