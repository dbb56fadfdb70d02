"""Members and weights in, ownership out: the ring as a pure, immutable value.

:class:`HashRing` turns {member: weight} and the ring's parameters into a table slot -> member, by
consistent hashing with virtual nodes and bounded loads (Mirrokni, Thorup, Zadimoghaddam 2016).
Everybody with the same members and the same :attr:`HashRing.spec` computes the same table, for
ever and on every platform: see ``docs/engine.md``. All arithmetic here is on exact integers.

This module knows no store, no lease and no clock. The work is done by ``hashring.ring._engine`` (C)
or, where that is not built or ``HASHRING_PURE_PYTHON`` is set, by ``hashring.ring.reference``.
"""

from __future__ import annotations

import math
import numbers
import os
import re
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, TypeVar

from hashring.errors import BadRing, UnknownMember

if TYPE_CHECKING:
    from hashring.ring._engine import Keys, SlotSet, Table
elif os.environ.get("HASHRING_PURE_PYTHON"):
    from hashring.ring.reference import Keys, SlotSet, Table
else:
    try:
        from hashring.ring._engine import Keys, SlotSet, Table
    except ImportError:
        from hashring.ring.reference import Keys, SlotSet, Table

__all__ = ["LAYOUT", "LOAD_BOUND", "SLOTS", "VNODES", "HashRing", "Keys", "SlotSet"]

SLOTS: Final = 65536
"""The default number of slots."""

VNODES: Final = 512
"""The default number of virtual nodes of a member of weight 1; ``docs/balance.md`` says why."""

LOAD_BOUND: Final = 1.1
"""The default bound of a member's slots over its fair share; ``docs/balance.md`` says why."""

LAYOUT: Final = 1
"""The version of the placement. Any change to what a ring computes makes it another."""

MAX_VNODES: Final = 1 << 16
MAX_POINTS: Final = 1 << 28
_SPEC: Final = re.compile(
    r"murmur3/slots=(\d{1,9})/vnodes=(\d{1,9})/bound=(\d{1,20}(?:\.\d{1,20})?(?:e\+?\d{1,3})?|inf)"
    r"/seed=(\d{1,10})/layout=(\d{1,9})",
    re.ASCII,
)
_T = TypeVar("_T")


def _weight(id: str, weight: object) -> float:
    if isinstance(weight, bool) or not isinstance(weight, numbers.Real):
        raise BadRing(
            f"the weight of member {id!r} must be a number, not {type(weight).__name__!r}"
        )
    try:
        value = float(weight)
    except OverflowError:
        value = math.inf
    if not 0 <= value < math.inf:
        raise BadRing(f"the weight of member {id!r} must be finite and not negative, not {weight}")
    return value + 0.0  # 0.0 in place of -0.0


def _checked_id(id: object) -> str:
    if not isinstance(id, str):
        raise BadRing(f"a member's id must be a str, not {type(id).__name__!r} ({ascii(id)[:80]})")
    if not id:
        raise BadRing("a member's id must not be empty")
    if not id.isascii():
        try:
            id.encode()
        except UnicodeEncodeError:
            raise BadRing(
                f"member id {ascii(id)[:80]} has a lone surrogate and no UTF-8 form"
            ) from None
    return str(id)


def _checked_members(members: Mapping[str, float] | Iterable[str]) -> dict[str, float]:
    if isinstance(members, Mapping):
        found = {_checked_id(id): _weight(id, weight) for id, weight in members.items()}
    elif isinstance(members, (str, bytes)):
        raise BadRing(
            f"members must be a mapping or a collection of ids, not one {type(members).__name__}"
        )
    else:
        try:
            found = {_checked_id(id): 1.0 for id in members}
        except TypeError as error:
            raise BadRing(
                f"members must be a mapping or a collection of ids, not {type(members).__name__!r}"
            ) from error
    return {id: found[id] for id in sorted(found)}


def _integer(name: str, value: object, least: int, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise BadRing(f"{name} must be an int, not {type(value).__name__!r}")
    if not least <= value <= most:
        raise BadRing(f"{name} must lie between {least} and {most}, not {value}")
    return int(value)


def _bound(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise BadRing(f"load_bound must be a number, not {type(value).__name__!r}")
    bound = float(value)
    if not bound >= 1:
        raise BadRing(f"load_bound must be at least 1 (or math.inf for none), not {value}")
    return bound


def _exact(weights: Iterable[float]) -> tuple[list[int], int]:
    # The weights as integers in one common unit, a power of two: nothing is rounded.
    ratios = [weight.as_integer_ratio() for weight in weights]
    unit = max((denominator for _, denominator in ratios), default=1)
    return [numerator * (unit // denominator) for numerator, denominator in ratios], unit


def _vnode_unit(total: int, members: int, unit: int) -> tuple[int, int]:
    """Return the weight, as a fraction, that gets ``vnodes`` points: 16**k, and 1 if it can be.

    While the mean weight lies in [1/4, 4) the count of a member depends on its own weight alone;
    beyond, the unit follows in steps of 16 so that the number of points stays bounded.
    """
    mean, one = total, members * unit
    log2 = mean.bit_length() - one.bit_length()
    if (mean << max(0, -log2)) < (one << max(0, log2)):
        log2 -= 1
    exponent = 4 * ((log2 + 2) // 4)
    return 1 << max(0, exponent), 1 << max(0, -exponent)


def _counts(weights: list[int], unit: int, vnodes: int) -> list[int]:
    # vnodes * weight / (16**k), rounded half up, and at least one point for whoever may own.
    scale, divisor = _vnode_unit(sum(weights), len(weights), unit)
    half = unit * scale
    factor = 2 * vnodes * divisor
    return [max(1, (factor * weight + half) // (2 * half)) for weight in weights]


def _capacities(weights: list[int], slots: int, bound: float) -> list[int]:
    # ceil(bound * slots * weight / total), and never more than there are.
    if bound == math.inf:
        return [slots] * len(weights)
    numerator, denominator = bound.as_integer_ratio()
    factor, total = numerator * slots, denominator * sum(weights)
    return [min(slots, -(-factor * weight // total)) for weight in weights]


class HashRing(Table):
    """Who owns which key: an immutable function of the members and the ring's parameters.

    Each key has a slot, the top bits of its hash; each slot has an owner. A change of the members
    moves few slots beyond those that must move, and no member owns more than ``load_bound`` times
    its share of the slots, rounded up.

    Args:
        members: a mapping of ids to weights, or any iterable of ids, each then of weight 1. A
            member of weight 0 is listed and owns nothing.
        slots: the number of slots, a power of two up to 2**24. Take at least 64 for each member.
        vnodes: the virtual nodes of a member of weight 1.
        load_bound: at least 1; ``math.inf`` for a plain ring.
        seed: another seed, another placement.

    Raises:
        BadRing: an invalid id, weight or parameter; the message names it.

    Attributes:
        members: a read-only mapping of ids to weights, sorted by id.
        spec: the parameters as text; rings that shall agree must have the same.
        ids: the members of weight above 0, sorted.
        universe: the number of slots.

    Example:
        >>> ring = HashRing({"a": 1, "b": 2})
        >>> ring.owner("host-17/cpu") in ring.members
        True
        >>> keys = [f"host-{i}" for i in range(6)]
        >>> ring.owned("a", keys) + ring.owned("b", keys) == sum(ring.assign(keys).values(), [])
        True
        >>> ring.spec
        'murmur3/slots=65536/vnodes=512/bound=1.1/seed=0/layout=1'
    """

    def __init__(
        self,
        members: Mapping[str, float] | Iterable[str] = (),
        *,
        slots: int = SLOTS,
        vnodes: int = VNODES,
        load_bound: float = LOAD_BOUND,
        seed: int = 0,
    ) -> None:
        found = _checked_members(members)
        empty = SlotSet(slots)  # checks the number of slots
        vnodes = _integer("vnodes", vnodes, 1, MAX_VNODES)
        seed = _integer("seed", seed, 0, 0xFFFFFFFF)
        bound = _bound(load_bound)
        owners = {id: weight for id, weight in found.items() if weight}
        weights, unit = _exact(owners.values())
        counts = _counts(weights, unit, vnodes) if owners else []
        if sum(counts) > MAX_POINTS:
            raise BadRing(
                f"{len(owners)} members of {vnodes} vnodes make more than {MAX_POINTS} points: "
                "use fewer vnodes"
            )
        super().__init__(tuple(owners), counts, _capacities(weights, slots, bound), slots, seed)
        self._members = MappingProxyType(found)
        self._parameters = {"slots": slots, "vnodes": vnodes, "load_bound": bound, "seed": seed}
        self._spec = (
            f"murmur3/slots={slots}/vnodes={vnodes}/bound={bound!r}/seed={seed}/layout={LAYOUT}"
        )
        self._slots_by_member = dict.fromkeys(found, empty)
        for id in owners:
            del self._slots_by_member[id]

    @classmethod
    def from_spec(cls, members: Mapping[str, float] | Iterable[str], spec: str) -> HashRing:
        """Return the ring of these members whose :attr:`spec` is ``spec``.

        Raises:
            BadRing: an invalid spec, or one of a layout that this version does not compute.

        Example:
            >>> HashRing.from_spec(["a"], HashRing(["b"], slots=256).spec).spec
            'murmur3/slots=256/vnodes=512/bound=1.1/seed=0/layout=1'
        """
        match = _SPEC.fullmatch(spec) if isinstance(spec, str) else None
        if match is None:
            raise BadRing(
                f"{ascii(spec)[:120]} is not a ring spec: it reads like {HashRing().spec!r}"
            )
        slots, vnodes, bound, seed, layout = match.groups()
        if int(layout) != LAYOUT:
            raise BadRing(f"this version computes ring layout {LAYOUT}, not {layout}")
        return cls(
            members,
            slots=int(slots),
            vnodes=int(vnodes),
            load_bound=float(bound),
            seed=int(seed),
        )

    @property
    def members(self) -> Mapping[str, float]:
        """The members' weights by id, sorted by id; read-only."""
        return self._members

    @property
    def spec(self) -> str:
        """The hash, the parameters and the layout version as one line of text."""
        return self._spec

    def slots(self, member: str) -> SlotSet:
        """Return the slots that a member owns.

        Raises:
            UnknownMember: the ring does not list it.

        Example:
            >>> ring = HashRing(["a", "b"])
            >>> len(ring.slots("a") | ring.slots("b"))
            65536
        """
        try:
            return self._slots_by_member[member]
        except KeyError:
            self._known(member)
        found = self.slots_of(self.ids.index(member))
        self._slots_by_member[member] = found
        return found

    def _known(self, member: str) -> None:
        if member not in self._members:
            raise UnknownMember(
                f"the ring has no member {ascii(member)[:80]}; it has {len(self._members)}"
            )

    def owned(
        self,
        member: str,
        keys: Iterable[_T],
        *,
        key: Callable[[_T], str | bytes] | None = None,
    ) -> list[_T]:
        """Return those of ``keys`` that a member owns, in order.

        Args:
            member: one of :attr:`members`.
            keys: :class:`Keys`, or any iterable of ``str`` and ``bytes``, or of objects if ``key``
                is given. A ``str`` and its UTF-8 bytes are the same key.
            key: a callable that gives an object's key.

        Raises:
            UnknownMember: the ring does not list the member.
            BadKey: a key is neither ``str`` nor ``bytes``, or has a lone surrogate.
        """
        return self.slots(member).owned(keys, key=key)

    def mask(
        self,
        member: str,
        keys: Iterable[_T],
        *,
        key: Callable[[_T], str | bytes] | None = None,
    ) -> bytearray:
        """Return a bytearray with 1 where the member owns the key, and 0 where it does not.

        Arguments and errors are those of :meth:`owned`.
        """
        return self.slots(member).mask(keys, key=key)

    def assign(
        self, keys: Iterable[_T], *, key: Callable[[_T], str | bytes] | None = None
    ) -> dict[str, list[_T]]:
        """Return each member's keys in order; every member is present.

        Arguments are those of :meth:`owned`.

        Raises:
            BadKey: as :meth:`owned`.
            EmptyRing: there are keys, but no member that can own one.
        """
        shares = dict(zip(self.ids, self.shares(keys, key=key), strict=True))
        return {id: shares.get(id, []) for id in self._members}

    def with_member(self, id: str, weight: float = 1.0) -> HashRing:
        """Return the ring with one member more, or with this weight for one that is there."""
        return self._with({**self._members, id: weight})

    def without_member(self, id: str) -> HashRing:
        """Return the ring without a member.

        Raises:
            UnknownMember: the ring does not list it.
        """
        self._known(id)
        return self._with({name: w for name, w in self._members.items() if name != id})

    def _with(self, members: Mapping[str, float]) -> HashRing:
        return type(self)(members, **self._parameters)  # type: ignore[arg-type]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, HashRing):
            return NotImplemented
        return self._spec == other._spec and self._members == other._members

    def __hash__(self) -> int:
        return hash((self._spec, tuple(self._members.items())))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).from_spec, (dict(self._members), self._spec)

    def __repr__(self) -> str:
        return f"<HashRing: {len(self._members)} members, {self._spec}>"
