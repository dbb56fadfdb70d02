"""What a member says of itself: its record, parsed from and written as JSON.

Pure values. This module knows the record's fields and nothing of stores, clocks or the hand-off's
rules; what stands in a record is data from strangers, so every field is checked and bounded.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import math
import re
import zlib
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from hashring.errors import BadRecord
from hashring.protocol import strict_json
from hashring.protocol.claims import MAX_CLAIMS, Claim
from hashring.protocol.freezing import Freeze
from hashring.protocol.reading import MAX_RECORD
from hashring.protocol.request import Answer, Request
from hashring.protocol.strict_json import MAX_META, Malformed
from hashring.ring.ring import SlotSet

__all__ = ["MAX_BACK", "MAX_PARKED", "Member", "Parked", "check_meta", "slot_count"]

RECORD_VERSION = 1
_OURS = "hashring"
"""The key in ``meta`` under which the hand-off keeps its own fields."""

_MAX_ID = 4096

MAX_PARKED = 64
"""The most places of members that are away that a record may carry."""

MAX_BACK = 86_400.0
"""Seconds: the longest that a member may ask its place to be kept."""

_MAX_MOMENT = 1e12
"""Seconds: the latest and, negative, the earliest moment that ``through`` may name. It becomes a
number of windows, which must be no infinity."""


def check_meta(meta: Mapping[str, Any]) -> None:
    """Refuse what a member may not publish of its own.

    Raises:
        BadRecord: it is not a JSON object that every reader can take (see
            :mod:`hashring.protocol.strict_json`), is larger than 64 KiB, or has the hand-off's own
            key.

    >>> check_meta({"host": "web1"})
    """
    try:
        strict_json.check_value({"meta": meta})  # as deep as it will stand in the record
        strict_json.check_size(meta)
    except Malformed as error:
        raise BadRecord(f"what meta is to publish {error}") from None
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
class Parked:
    """The place of a member that is away, as another one's record keeps it (`parking.py`).

    Attributes:
        member: its id.
        incarnation: the one that left.
        weight: its share relative to the others'.
        back: for how many seconds its place is kept.
        over: the time has passed, or the member is back: it is no place any more.
        claims: what it had, and nobody is known to have taken over yet.
        until_thaw: it is kept for no longer than the group is frozen.
    """

    member: str
    incarnation: str
    weight: float
    back: float
    over: bool = False
    claims: tuple[Claim, ...] = ()
    until_thaw: bool = False

    @property
    def name(self) -> tuple[str, str]:
        """What tells it from others: member and incarnation."""
        return self.member, self.incarnation


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
        draining: it is leaving with hand-over; or, with :attr:`back`, it holds nothing any more.
        back: it leaves and wants its place to be kept for so many seconds; else ``None``.
        parked: places that it keeps for others.
        holds: it weighs nothing, and may hold slots all the same: what it had before it did.
        handoff: ``"exclusive"`` or ``"eager"``.
        settled: the id of the view, if it has taken over all that it gives it; else ``None``.
        took: slots of :attr:`applied` that it has taken over: all so far, where it waits for
            others; with an ack, those that others claim; else ``None``.
        claims: what it has lost and nobody is known to have taken over yet.
        founded: the wall-clock second at which somebody first took slots over under its ring,
            ttl and mode; ``None``: nobody has yet; ``-inf``: it has acked a view and cannot say.
        speaks_claims: the record carries ``settled`` and ``claims`` at all.
        since: the wall-clock second at which it saw its view of the group change last, for
            people who look on; nothing is decided by it. ``None``: its record does not say.
        request: what an operator asks: then this is no member, and in no view.
        answer: what it has answered to the latest request.
        freeze: the latest word that it knows on whether the group is frozen.
        stays: it is one of those that this freeze keeps in the view.
        until_thaw: it leaves a frozen group: see :attr:`Parked.until_thaw`.
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
    took: SlotSet | None = None
    claims: tuple[Claim, ...] = ()
    founded: float | None = None
    back: float | None = None
    parked: tuple[Parked, ...] = ()
    holds: bool = False
    speaks_claims: bool = True
    since: float | None = None
    request: Request | None = None
    answer: Answer | None = None
    freeze: Freeze | None = None
    stays: bool = False
    until_thaw: bool = False
    meta: Mapping[str, Any] = dataclasses.field(default_factory=lambda: MappingProxyType({}))

    @property
    def all_claims(self) -> tuple[Claim, ...]:
        """Its own claims, and those that it keeps for members that are away."""
        if not self.parked:
            return self.claims
        return self.claims + tuple(claim for place in self.parked for claim in place.claims)

    def to_json(self) -> bytes:
        """Return the record as the store keeps it.

        Raises:
            BadRecord: ``meta`` is not a JSON object, or the record is too large.
        """
        ours: dict[str, Any] = {
            "handoff": self.handoff,
            "settled": self.settled,
            "took": None if self.took is None else _pack(self.took),
            "claims": _packed(self.claims),
        }
        if self.back is not None:
            ours["back"] = self.back
        if self.until_thaw:
            ours["until_thaw"] = True
        if self.parked:
            ours["parked"] = [
                {**dataclasses.asdict(place), "claims": _packed(place.claims)}
                for place in self.parked
            ]
        if self.holds:
            ours["holds"] = True
        if self.founded != -math.inf:
            ours["founded"] = self.founded
        if self.since is not None:
            ours["since"] = self.since
        if self.request is not None:
            ours["request"] = self.request.to_fields()
        if self.freeze is not None:
            ours["freeze"] = {**self.freeze.to_fields(), "stays": self.stays}
        if self.answer is not None:
            ours["answer"] = self.answer.to_fields()
        check_meta(self.meta)
        record = strict_json.dumped(
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
            }
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
            BadRecord: naming the member and the first field that is wrong. Whatever the bytes,
                no other error.
        """
        try:
            strict_json.check_value(id)  # a name that is not valid text has no place on a ring
            return cls._from_json(id, record)
        except Malformed as error:
            raise BadRecord(f"the record of member {id!r:.200} {error}") from error
        except Exception as error:
            # Nothing is known that leads here. Should a stranger find it, one record is a problem
            # with a name, and not the end of everybody's reconciling.
            raise BadRecord(
                f"the record of member {id!r:.200} cannot be read: {type(error).__name__}"
            ) from error

    @classmethod
    def _from_json(cls, id: str, record: bytes) -> Member:
        if not isinstance(record, bytes | bytearray):
            raise Malformed(f"is {type(record).__name__}, not bytes")
        if len(record) > MAX_RECORD:
            raise Malformed(f"has {len(record)} bytes; {MAX_RECORD} is the most")
        found = strict_json.parse(record)
        if not isinstance(found, dict):
            raise Malformed("is not a JSON object")
        if found.get("v") != RECORD_VERSION or isinstance(found["v"], bool):
            raise Malformed(f"has version {found.get('v')!r:.40}; this is version {RECORD_VERSION}")
        fields = _Fields(found)
        meta = found.get("meta", {})
        if not isinstance(meta, dict):
            raise Malformed("has no object for 'meta'")
        ring = fields.text("ring")
        ours = meta.pop(_OURS, None)
        if 3 * len(record) > MAX_META:  # escapes take up to three times what they stand for
            strict_json.check_size(meta)
        applied = fields.optional_text("applied")
        told: dict[str, Any] = {"founded": None if applied is None else -math.inf}
        if ours is not None:
            try:
                told |= _ours(ours, slot_count(ring))
            except (ValueError, TypeError, KeyError, zlib.error, binascii.Error) as error:
                kind = type(error).__name__
                raise Malformed(f"has a malformed meta.{_OURS}: {kind}: {error!s:.100}") from error
        ttl = fields.number("ttl", least=0.0)
        if ttl == 0:
            raise Malformed("has 'ttl' out of range")
        weight = fields.number("weight", least=0.0)
        if weight or applied is not None or told.get("claims") or told.get("parked"):
            told["request"] = None  # what may hold something is a member, whatever it asks
        return cls(
            id=id,
            incarnation=fields.text("incarnation"),
            weight=weight,
            ring=ring,
            ttl=ttl,
            applied=applied,
            through=fields.moment("through"),
            draining=fields.boolean("draining"),
            speaks_claims=ours is not None,
            meta=MappingProxyType(meta),
            **told,
        )


class _Fields:
    """The fields of an object that a stranger wrote, each typed and bounded or a ``ValueError``."""

    def __init__(self, found: Mapping[str, Any]) -> None:
        self._found = found

    def text(self, name: str, *, most: int = _MAX_ID) -> str:
        value = self._found.get(name)
        if not isinstance(value, str) or not value or len(value) > most:
            raise Malformed(f"has no usable {name!r}")
        return value

    def optional_text(self, name: str, *, most: int = _MAX_ID) -> str | None:
        return None if self._found.get(name) is None else self.text(name, most=most)

    def number(self, name: str, *, least: float, most: float = math.inf) -> float:
        value = self._found.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise Malformed(f"has no number for {name!r}")
        if not least <= value <= most or not math.isfinite(value):
            raise Malformed(f"has {name!r} out of range")
        return float(value)

    def moment(self, name: str) -> float | None:
        if self._found.get(name) is None:
            return None
        return self.number(name, least=-_MAX_MOMENT, most=_MAX_MOMENT)

    def boolean(self, name: str) -> bool:
        value = self._found.get(name, False)
        if not isinstance(value, bool):
            raise Malformed(f"has no boolean for {name!r}")
        return value


def slot_count(spec: str) -> int | None:
    """Return the number of slots that a ring's parameters name; ``None`` for another format's.

    >>> from hashring import HashRing
    >>> slot_count(HashRing(slots=256).spec)
    256
    """
    match = re.search(r"/slots=(\d{1,8})/", spec)
    count = int(match[1]) if match is not None else 0
    return count if 1 < count <= 1 << 24 and count & (count - 1) == 0 else None


def _ours(ours: Any, slots: int | None) -> dict[str, Any]:
    """Return the fields of a :class:`Member` that stand under the hand-off's own key."""
    if not isinstance(ours, dict):
        raise TypeError("it is no object")
    fields = _Fields(ours)
    handoff, settled, packed = fields.text("handoff"), ours["settled"], ours["claims"]
    took = fields.optional_text("took", most=MAX_RECORD)  # the first protocol has no such field
    if handoff not in {"exclusive", "eager"}:
        raise ValueError("handoff")
    back, parked = _parking(ours, slots)
    found = {
        "handoff": handoff,
        "settled": None if settled is None else fields.text("settled"),
        "took": None if took is None or slots is None else _unpack(took, slots),
        "claims": _claims(packed, slots),
        "back": back,
        "parked": parked,
        "since": fields.moment("since"),
        "request": Request.from_fields(ours.get("request")),
        "answer": Answer.from_fields(ours.get("answer")),
        "freeze": Freeze.from_fields(ours.get("freeze")),
        "until_thaw": fields.boolean("until_thaw"),
        "holds": fields.boolean("holds"),
    }
    if found["freeze"] is not None:
        found["stays"] = ours["freeze"].get("stays") is True
    if "founded" in ours:
        found["founded"] = fields.moment("founded")
    return found


def _packed(claims: Iterable[Claim]) -> list[Any]:
    return [
        [claim.through if claim.through > -math.inf else None, _pack(claim.slots)]
        for claim in claims
    ]


def _claims(packed: Any, slots: int | None) -> tuple[Claim, ...]:
    if not isinstance(packed, list) or len(packed) > MAX_CLAIMS:
        raise ValueError("claims")
    claims = []
    for through, encoded in packed:
        moment = _Fields({"through": through}).moment("through")
        if not isinstance(encoded, str):
            raise TypeError("claims")
        if slots is not None:
            claims.append(Claim(-math.inf if moment is None else moment, _unpack(encoded, slots)))
    return tuple(claims)


def _parking(ours: Any, slots: int | None) -> tuple[float | None, tuple[Parked, ...]]:
    """Return for how long the author wants its place kept, and the places that it keeps."""
    back = None
    if ours.get("back") is not None:
        back = _Fields(ours).number("back", least=0.0, most=MAX_BACK)
    found = ours.get("parked", [])
    if not isinstance(found, list) or len(found) > MAX_PARKED:
        raise ValueError("parked")
    places = []
    for entry in found:
        if not isinstance(entry, dict):
            raise TypeError("parked")
        fields = _Fields(entry)
        place = Parked(
            member=fields.text("member"),
            incarnation=fields.text("incarnation"),
            weight=fields.number("weight", least=0.0),
            back=fields.number("back", least=0.0, most=MAX_BACK),
            over=fields.boolean("over"),
            claims=_claims(entry.get("claims"), slots),
            until_thaw=fields.boolean("until_thaw"),
        )
        places.append(place)
    return back, tuple(places)
