"""The engine in plain Python on mmh3: the fallback without a C compiler, and the oracle.

Every name, signature and error here is that of ``hashring.ring._engine``, which is fast where this
is short. This module knows what a key, a slot and a member's number are, and no weights or groups.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import GenericAlias
from typing import Any, Final

import mmh3

from hashring.errors import BadKey, BadRing, EmptyRing, UnknownMember

__all__ = ["Keys", "SlotSet", "Table", "hash_all", "hash_key"]

MAX_SLOTS: Final = 1 << 24
_WORD: Final = (1 << 64) - 1
_KeyOf = Callable[[Any], str | bytes]


def _hashed(key: object, seed: int, index: int) -> int:
    where = "the key" if index < 0 else f"key {index}"
    if isinstance(key, str):
        try:
            data = str.encode(key)
        except UnicodeEncodeError:
            raise BadKey(
                f"{where} has a lone surrogate and no UTF-8 form: {ascii(key)[:80]}"
            ) from None
    elif isinstance(key, bytes):
        data = key
    else:
        raise BadKey(f"{where} is of type {type(key).__name__!r}: keys are str or bytes")
    return mmh3.hash64(data, seed, signed=False)[0]


def hash_key(key: str | bytes, seed: int = 0) -> int:
    """Return a key's 64-bit hash: the low half of MurmurHash3 x64 128 of its UTF-8 bytes."""
    return _hashed(key, seed, -1)


def _listed(keys: Any) -> Any:
    # Arrow's own scalars are no str: pyarrow and Polars can make a list of them.
    for convert in ("to_pylist", "to_list"):
        if hasattr(keys, convert):
            return getattr(keys, convert)()
    return keys


def _pairs(keys: Iterable[Any], key: _KeyOf | None) -> Iterator[tuple[Any, int]]:
    # Each item with the top 32 bits of its key's hash.
    if isinstance(keys, Keys):
        if key is not None:
            raise BadKey("these Keys are hashed already: give key= when you make them")
        return iter(list(zip(keys._items, keys._hashes, strict=True)))
    if isinstance(keys, (str, bytes)):
        raise BadKey(
            f"keys must be a collection of keys, not one {type(keys).__name__}: use a list"
        )
    if key is None and (hasattr(keys, "__arrow_c_array__") or hasattr(keys, "__arrow_c_stream__")):
        keys = _listed(keys)
    try:
        items = iter(keys)
    except TypeError as error:
        raise BadKey(f"keys must be a collection of keys, not {type(keys).__name__!r}") from error
    return (
        (item, _hashed(item if key is None else key(item), 0, index) >> 32)
        for index, item in enumerate(items)
    )


def hash_all(keys: Iterable[Any], *, key: _KeyOf | None = None) -> int:
    """Return the exclusive or of all keys' top 32 hash bits: the floor under a batch check."""
    result = 0
    for _, top in _pairs(keys, key):
        result ^= top
    return result


def _canonical(key: Any) -> bytes:
    return key.encode() if isinstance(key, str) else bytes(key)


class Keys:
    """Keys that are hashed once: pass it wherever ``keys`` stands. Keeps order and repeats.

    Independent of any ring. Costs 4 bytes a key beside the reference to the key. It can be
    changed (:meth:`add`, :meth:`remove`); a batch that runs meanwhile in another thread sees the
    keys of before. Each change copies two arrays: add many keys in one call rather than one each.

    Args:
        keys: any iterable of keys, or of objects if ``key`` is given.
        key: a callable that gives an object's key.

    Raises:
        BadKey: one is neither ``str`` nor ``bytes``, or has a lone surrogate.

    Example:
        >>> from hashring.ring import HashRing, Keys
        >>> keys = Keys(["disk-1", "disk-2"])
        >>> keys.add(["disk-3"])
        >>> keys.remove(["disk-1"])
        1
        >>> HashRing(["a"]).owned("a", keys)
        ['disk-2', 'disk-3']
    """

    __slots__ = ("_hashes", "_items", "_key")
    __class_getitem__: Any = classmethod(GenericAlias)
    _key: _KeyOf | None

    def __init__(self, keys: Iterable[Any] = (), *, key: _KeyOf | None = None) -> None:
        pairs = list(_pairs(keys, key))
        if key is None and isinstance(keys, Keys):
            key = keys._key
        self._items = tuple(item for item, _ in pairs)
        self._hashes = array("I", (top for _, top in pairs))
        self._key = key

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._items)

    def __getitem__(self, index: Any) -> Any:
        return self._items[index]

    def __repr__(self) -> str:
        return f"<Keys: {len(self._items)}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore_keys, (self._items, self._key)

    def add(self, keys: Iterable[Any]) -> None:
        """Append keys (or objects, if these Keys have a ``key=``), in order.

        Raises:
            BadKey: as the constructor; then nothing has been added.
        """
        new = Keys(keys, key=None if isinstance(keys, Keys) else self._key)
        self._items, self._hashes = self._items + new._items, self._hashes + new._hashes

    def remove(self, keys: Iterable[Any]) -> int:
        """Remove every occurrence of these keys (or of objects with the same key).

        Returns:
            The number removed. Keys that are not there are ignored.

        Raises:
            BadKey: as the constructor; then nothing has been removed.
        """
        gone = Keys(keys, key=None if isinstance(keys, Keys) else self._key)
        canonical = {_canonical(k if gone._key is None else gone._key(k)) for k in gone._items}
        while True:
            items = self._items
            pairs = [
                (item, top)
                for item, top in zip(items, self._hashes, strict=True)
                if _canonical(item if self._key is None else self._key(item)) not in canonical
            ]
            left = tuple(item for item, _ in pairs)
            hashes = array("I", (top for _, top in pairs))
            if self._items is items:  # else a key function or another thread came in between
                self._items, self._hashes = left, hashes
                return len(items) - len(left)


def _restore_keys(items: tuple[Any, ...], key: _KeyOf | None) -> Keys:
    return Keys(items, key=key)


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

    def owned(self, keys: Iterable[Any], *, key: _KeyOf | None = None) -> list[Any]:
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
            for item, top in _pairs(keys, key)
            if bitmap[top >> shift >> 3] >> (top >> shift & 7) & 1
        ]

    def mask(self, keys: Iterable[Any], *, key: _KeyOf | None = None) -> bytearray:
        """Return a bytearray with 1 for each key whose slot is in the set, and 0 for the others.

        Arguments and errors are those of :meth:`owned`.
        """
        bitmap, shift = self.tobytes(), 32 - self._bits
        return bytearray(
            bitmap[top >> shift >> 3] >> (top >> shift & 7) & 1 for _, top in _pairs(keys, key)
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

    def shares(self, keys: Iterable[Any], *, key: _KeyOf | None = None) -> list[list[Any]]:
        """Return the keys of each member as lists in the order of :attr:`ids`.

        Raises:
            BadKey: as :meth:`SlotSet.owned`.
            EmptyRing: there are keys, but no member that can own one.
        """
        result: list[list[Any]] = [[] for _ in self.ids]
        shift = 32 - self._bits
        for item, top in _pairs(keys, key):
            if not self.ids:
                raise EmptyRing("the ring has no member of weight above 0: nobody owns a key")
            result[self._table[top >> shift]].append(item)
        return result
