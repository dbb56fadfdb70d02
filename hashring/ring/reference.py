"""The engine in plain Python on mmh3: the fallback without a C compiler, and the oracle.

Every name, signature and error here is that of ``hashring.ring._engine``, which is fast where this
is short. This module knows what a key, a slot and a member's number are, and no weights or groups.
Hashes and ``Keys`` are in ``reference_keys.py``.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from hashring.errors import BadRing, EmptyRing, UnknownMember
from hashring.ring.reference_keys import KeyOf, Keys, hash_all, hash_key, hashed_pairs

__all__ = ["Keys", "SlotSet", "Table", "hash_all", "hash_key"]

MAX_SLOTS: Final = 1 << 24
_WORD: Final = (1 << 64) - 1


def _bits_of(slots: object) -> int:
    if isinstance(slots, bool) or not isinstance(slots, int):
        raise BadRing(f"slots must be an int, not {type(slots).__name__!r}")
    if not 1 <= slots <= MAX_SLOTS or slots & (slots - 1):
        raise BadRing(f"slots must be a power of two from 1 to {MAX_SLOTS}, not {slots}")
    return slots.bit_length() - 1


class SlotSet:
    """An immutable set of slots out of ``slots``: set operators, and checks of keys against it.

    ``&``, ``|``, ``-``, ``^``, ``<=``, ``<``, ``>=``, ``>`` and ``==`` work between sets of one
    universe. A key is in a set if the top bits of its hash name one of its slots.

    Attributes:
        slots: the size of the universe, a power of two.

    Example:
        >>> from hashring.ring import SlotSet
        >>> held = SlotSet.of([1, 2, 3], 64) & SlotSet.of([2, 3, 4], 64)
        >>> list(held), 2 in held, held <= SlotSet.full(64)
        ([2, 3], True, True)
    """

    # Long because it has the operators of a set: they alone are ten methods.

    __slots__ = ("_bitmap", "_bits", "_number", "_slots")

    def __init__(self, slots: int = 65536) -> None:
        self._bits = _bits_of(slots)
        self._slots = slots
        self._number = 0
        self._bitmap: bytes | None = None

    @property
    def slots(self) -> int:
        """The size of the universe."""
        return self._slots

    def _sibling(self, number: int) -> SlotSet:
        result = SlotSet.__new__(SlotSet)
        result._bits, result._slots = self._bits, self._slots
        result._number, result._bitmap = number, None
        return result

    def _other(self, other: SlotSet) -> int:
        if self.slots != other.slots:
            raise BadRing(f"sets of {self.slots} and of {other.slots} slots cannot be combined")
        return other._number

    @staticmethod
    def empty(slots: int = 65536) -> SlotSet:
        """Return the set of no slots."""
        return SlotSet(slots)

    @staticmethod
    def full(slots: int = 65536) -> SlotSet:
        """Return the set of all slots."""
        return SlotSet(slots)._sibling((1 << slots) - 1)

    @staticmethod
    def of(members: Iterable[int], slots: int = 65536) -> SlotSet:
        """Return the set of these slots. Raises BadRing for one outside the universe."""
        result = SlotSet(slots)
        bitmap = bytearray((slots + 7) >> 3)
        for slot in members:
            if isinstance(slot, bool) or not isinstance(slot, int):
                raise BadRing(f"a slot is an int, not {type(slot).__name__!r}")
            if not 0 <= slot < slots:
                raise BadRing(f"slot {slot} does not exist: there are {slots}")
            bitmap[slot >> 3] |= 1 << (slot & 7)
        return result._sibling(int.from_bytes(bitmap, "little"))

    @staticmethod
    def frombytes(data: bytes, slots: int = 65536) -> SlotSet:
        """Return the set whose bitmap is ``data``: see :meth:`tobytes`."""
        result = SlotSet(slots)
        size = (slots + 7) >> 3
        if len(data) != size:
            raise BadRing(f"a bitmap of {slots} slots has {size} bytes, not {len(data)}")
        number = int.from_bytes(data, "little")
        if number >> slots:
            raise BadRing(f"the bitmap has slots beyond the {slots} that exist")
        return result._sibling(number)

    def tobytes(self) -> bytes:
        """Return the bitmap: slot s is bit ``s % 8`` of byte ``s // 8``."""
        if self._bitmap is None:
            self._bitmap = self._number.to_bytes((self.slots + 7) >> 3, "little")
        return self._bitmap

    def __reduce__(self) -> tuple[Any, ...]:
        return SlotSet.frombytes, (self.tobytes(), self.slots)

    def __len__(self) -> int:
        return self._number.bit_count()

    def __bool__(self) -> bool:
        return self._number != 0

    def __contains__(self, slot: object) -> bool:
        if not isinstance(slot, int) or not 0 <= slot < self.slots:
            return False
        return bool(self.tobytes()[slot >> 3] >> (slot & 7) & 1)

    def __iter__(self) -> Iterator[int]:
        return iter(
            [
                index << 3 | bit
                for index, byte in enumerate(self.tobytes())
                if byte
                for bit in range(8)
                if byte >> bit & 1
            ]
        )

    def __hash__(self) -> int:
        return hash((self._number, self.slots))

    def __repr__(self) -> str:
        return f"<SlotSet: {len(self)} of {self.slots} slots>"

    def __and__(self, other: SlotSet) -> SlotSet:
        if not isinstance(other, SlotSet):
            return NotImplemented
        return self._sibling(self._number & self._other(other))

    def __or__(self, other: SlotSet) -> SlotSet:
        if not isinstance(other, SlotSet):
            return NotImplemented
        return self._sibling(self._number | self._other(other))

    def __sub__(self, other: SlotSet) -> SlotSet:
        if not isinstance(other, SlotSet):
            return NotImplemented
        return self._sibling(self._number & ~self._other(other))

    def __xor__(self, other: SlotSet) -> SlotSet:
        if not isinstance(other, SlotSet):
            return NotImplemented
        return self._sibling(self._number ^ self._other(other))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SlotSet):
            return NotImplemented
        return self.slots == other.slots and self._number == other._number

    def __le__(self, other: SlotSet) -> bool:
        if not isinstance(other, SlotSet):
            return NotImplemented
        return self._number & ~self._other(other) == 0

    def __lt__(self, other: SlotSet) -> bool:
        if not isinstance(other, SlotSet):
            return NotImplemented
        return self <= other and self._number != other._number

    def __ge__(self, other: SlotSet) -> bool:
        if not isinstance(other, SlotSet):
            return NotImplemented
        return other <= self

    def __gt__(self, other: SlotSet) -> bool:
        if not isinstance(other, SlotSet):
            return NotImplemented
        return other < self

    def isdisjoint(self, other: SlotSet) -> bool:
        """Return whether the two sets have no slot in common."""
        if not isinstance(other, SlotSet):
            raise TypeError(f"a SlotSet is needed, not {type(other).__name__!r}")
        return self._number & self._other(other) == 0

    def owns(self, key: str | bytes) -> bool:
        """Return whether a key's slot is in the set.

        Raises:
            BadKey: it is neither ``str`` nor ``bytes``, or has a lone surrogate.
        """
        return (hash_key(key) >> (64 - self._bits)) in self

    def owned(self, keys: Iterable[Any], *, key: KeyOf | None = None) -> list[Any]:
        """Return those of ``keys`` whose slot is in the set, in order, as a list.

        Args:
            keys: :class:`Keys`, or any iterable of keys, or of objects if ``key`` is given.
            key: a callable that gives an object's key.

        Raises:
            BadKey: one is neither ``str`` nor ``bytes``, or has a lone surrogate.
        """
        bitmap, shift = self.tobytes(), 32 - self._bits
        return [
            item
            for item, top in hashed_pairs(keys, key)
            if bitmap[top >> shift >> 3] >> (top >> shift & 7) & 1
        ]

    def mask(self, keys: Iterable[Any], *, key: KeyOf | None = None) -> bytearray:
        """Return a bytearray with 1 for each key whose slot is in the set, and 0 for the others.

        Arguments and errors are those of :meth:`owned`.
        """
        bitmap, shift = self.tobytes(), 32 - self._bits
        return bytearray(
            bitmap[top >> shift >> 3] >> (top >> shift & 7) & 1
            for _, top in hashed_pairs(keys, key)
        )


def _mix(value: int) -> int:
    # SplitMix64's finalizer (Steele, Lea, Flood 2014).
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9 & _WORD
    value = (value ^ (value >> 27)) * 0x94D049BB133111EB & _WORD
    return value ^ (value >> 31)


def _make_points(streams: Sequence[int], counts: Sequence[int]) -> list[int]:
    # Every member's vnodes, as point << 32 | member, sorted.
    return sorted(
        _mix(stream + (j + 1) * 0x9E3779B97F4A7C15 & _WORD) >> 32 << 32 | member
        for member, (stream, count) in enumerate(zip(streams, counts, strict=True))
        for j in range(count)
    )


def _first_at(points: Sequence[int], slot: int, bits: int) -> int:
    # The index of the first point at or after the slot's position, clockwise.
    index = bisect_left(points, slot << 32 >> bits << 32)
    return index if index < len(points) else 0


def _place(points: Sequence[int], bits: int, capacities: Sequence[int]) -> array[int]:
    # Consistent hashing with bounded loads: each slot, in bit-reversed order, goes to the next
    # point clockwise whose member has room. `skip[i]` leads from point i, once its member is
    # full, to a later one: members stay full, so that paths can be shortened as they are walked.
    table = array("I", bytes(4 << bits))
    owners = [point & 0xFFFFFFFF for point in points]
    room = list(capacities)
    skip = [*range(1, len(points)), 0]
    for k in range(1 << bits):
        slot = int(f"{k:0{bits}b}"[::-1], 2) if bits else 0
        first = at = _first_at(points, slot, bits)
        while not room[owners[at]]:
            at = skip[at]
        while first != at:
            skip[first], first = at, skip[first]
        room[owners[at]] -= 1
        table[slot] = owners[at]
    return table


class Table:
    """Slot -> member, and what can be asked of it. ``HashRing`` is one that knows its members.

    Args:
        ids: the members that can own something, sorted.
        counts: each member's number of vnodes.
        capacities: the most slots that each member may own.
        slots: a power of two.
        seed: moves the vnodes.
    """

    def __init__(
        self,
        ids: tuple[str, ...],
        counts: Sequence[int],
        capacities: Sequence[int],
        slots: int,
        seed: int,
    ) -> None:
        if hasattr(self, "ids"):
            raise TypeError("a ring does not change: make another")
        self._bits = _bits_of(slots)
        self.ids = ids
        self.universe = slots
        if len(counts) != len(ids) or len(capacities) != len(ids):
            raise ValueError("ids, counts and capacities must be of one length")
        self._streams = [hash_key(id, seed) for id in ids]
        self._counts = list(counts)
        self._points: list[int] = []
        self._table = array("I")
        if ids:
            if sum(capacities) < slots or min(counts) < 1:
                raise ValueError("counts or capacities are out of range")
            self._table = _place(_make_points(self._streams, self._counts), self._bits, capacities)

    @property
    def table(self) -> memoryview:
        """Slot -> index in :attr:`ids`, as a read-only memoryview of native uint32.

        Empty where no member can own a key.
        """
        return memoryview(self._table).toreadonly()

    def slot(self, key: str | bytes) -> int:
        """Return a key's slot."""
        return hash_key(key) >> (64 - self._bits)

    def owner(self, key: str | bytes) -> str:
        """Return the id of the member that owns a key.

        Raises:
            BadKey: it is neither ``str`` nor ``bytes``, or has a lone surrogate.
            EmptyRing: the ring has no member that can own a key.
        """
        slot = self.slot(key)
        if not self.ids:
            raise EmptyRing("the ring has no member of weight above 0: nobody owns a key")
        return self.ids[self._table[slot]]

    def owners(self, key: str | bytes, n: int) -> list[str]:
        """Return up to ``n`` distinct members by preference; the first one owns the key.

        The others follow clockwise. Fewer come back where fewer can own something.

        Raises:
            BadKey, EmptyRing: as :meth:`owner`.
            BadRing: ``n`` is less than 1.
        """
        slot = self.slot(key)
        if n < 1:
            raise BadRing(f"owners() needs n of at least 1, not {n}")
        found = {self.owner(key): None}
        if not self._points:
            self._points = _make_points(self._streams, self._counts)
        first = _first_at(self._points, slot, self._bits)
        while len(found) < min(n, len(self.ids)):  # each member has a point: one round at most
            found[self.ids[self._points[first] & 0xFFFFFFFF]] = None
            first = (first + 1) % len(self._points)
        return list(found)

    def slots_of(self, member: int) -> SlotSet:
        """Return the slots of the member at an index of :attr:`ids`."""
        if not 0 <= member < len(self.ids):
            raise UnknownMember(f"there is no member at index {member}")
        return SlotSet.of(
            (slot for slot, owner in enumerate(self._table) if owner == member), self.universe
        )

    def shares(self, keys: Iterable[Any], *, key: KeyOf | None = None) -> list[list[Any]]:
        """Return the keys of each member as lists in the order of :attr:`ids`.

        Raises:
            BadKey: as :meth:`SlotSet.owned`.
            EmptyRing: there are keys, but no member that can own one.
        """
        result: list[list[Any]] = [[] for _ in self.ids]
        shift = 32 - self._bits
        for item, top in hashed_pairs(keys, key):
            if not self.ids:
                raise EmptyRing("the ring has no member of weight above 0: nobody owns a key")
            result[self._table[top >> shift]].append(item)
        return result
