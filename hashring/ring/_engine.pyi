"""Types of the engine; ``hashring.ring.reference`` has the same names and signatures."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, Generic, SupportsIndex, TypeVar, final, overload

__all__ = ["Keys", "SlotSet", "Table", "hash_all", "hash_key"]

MAX_SLOTS: Final[int]

_T = TypeVar("_T")

def hash_key(key: str | bytes, seed: int = 0) -> int:
    """Return a key's 64-bit hash: the low half of MurmurHash3 x64 128 of its UTF-8 bytes."""

def hash_all(keys: Iterable[Any], *, key: Callable[[Any], str | bytes] | None = None) -> int:
    """Return the exclusive or of all keys' top 32 hash bits: the floor under a batch check."""

class Keys(Generic[_T]):
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

    def __init__(
        self, keys: Iterable[_T] = (), *, key: Callable[[_T], str | bytes] | None = None
    ) -> None: ...
    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[_T]: ...
    @overload
    def __getitem__(self, index: SupportsIndex) -> _T: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[_T, ...]: ...
    def add(self, keys: Iterable[_T]) -> None:
        """Append keys (or objects, if these Keys have a ``key=``), in order.

        Raises:
            BadKey: as the constructor; then nothing has been added.
        """
    def remove(self, keys: Iterable[_T]) -> int:
        """Remove every occurrence of these keys (or of objects with the same key).

        Returns:
            The number removed. Keys that are not there are ignored.

        Raises:
            BadKey: as the constructor; then nothing has been removed.
        """

@final
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

    def __new__(cls, slots: int = 65536) -> SlotSet: ...
    @property
    def slots(self) -> int:
        """The size of the universe."""
    @staticmethod
    def empty(slots: int = 65536) -> SlotSet:
        """Return the set of no slots."""
    @staticmethod
    def full(slots: int = 65536) -> SlotSet:
        """Return the set of all slots."""
    @staticmethod
    def of(members: Iterable[int], slots: int = 65536) -> SlotSet:
        """Return the set of these slots. Raises BadRing for one outside the universe."""
    @staticmethod
    def frombytes(data: bytes, slots: int = 65536) -> SlotSet:
        """Return the set whose bitmap is ``data``: see :meth:`tobytes`."""
    def tobytes(self) -> bytes:
        """Return the bitmap: slot s is bit ``s % 8`` of byte ``s // 8``."""
    def __len__(self) -> int: ...
    def __bool__(self) -> bool: ...
    def __contains__(self, slot: object) -> bool: ...
    def __iter__(self) -> Iterator[int]: ...
    def __hash__(self) -> int: ...
    def __eq__(self, other: object) -> bool: ...
    def __and__(self, other: SlotSet) -> SlotSet: ...
    def __or__(self, other: SlotSet) -> SlotSet: ...
    def __sub__(self, other: SlotSet) -> SlotSet: ...
    def __xor__(self, other: SlotSet) -> SlotSet: ...
    def __le__(self, other: SlotSet) -> bool: ...
    def __lt__(self, other: SlotSet) -> bool: ...
    def __ge__(self, other: SlotSet) -> bool: ...
    def __gt__(self, other: SlotSet) -> bool: ...
    def isdisjoint(self, other: SlotSet) -> bool:
        """Return whether the two sets have no slot in common."""
    def owns(self, key: str | bytes) -> bool:
        """Return whether a key's slot is in the set.

        Raises:
            BadKey: it is neither ``str`` nor ``bytes``, or has a lone surrogate.
        """
    def owned(
        self, keys: Iterable[_T], *, key: Callable[[_T], str | bytes] | None = None
    ) -> list[_T]:
        """Return those of ``keys`` whose slot is in the set, in order, as a list.

        Args:
            keys: :class:`Keys`, or any iterable of keys, or of objects if ``key`` is given.
            key: a callable that gives an object's key.

        Raises:
            BadKey: one is neither ``str`` nor ``bytes``, or has a lone surrogate.
        """
    def mask(
        self, keys: Iterable[_T], *, key: Callable[[_T], str | bytes] | None = None
    ) -> bytearray:
        """Return a bytearray with 1 for each key whose slot is in the set, and 0 for the others.

        Arguments and errors are those of :meth:`owned`.
        """

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
    ) -> None: ...
    @property
    def ids(self) -> tuple[str, ...]:
        """The members that can own something, sorted; the numbers of :attr:`table` index it."""
    @property
    def universe(self) -> int:
        """The number of slots."""
    @property
    def table(self) -> memoryview:
        """Slot -> index in :attr:`ids`, as a read-only memoryview of native uint32.

        Empty where no member can own a key.
        """
    def slot(self, key: str | bytes) -> int:
        """Return a key's slot."""
    def owner(self, key: str | bytes) -> str:
        """Return the id of the member that owns a key.

        Raises:
            BadKey: it is neither ``str`` nor ``bytes``, or has a lone surrogate.
            EmptyRing: the ring has no member that can own a key.
        """
    def owners(self, key: str | bytes, n: int) -> list[str]:
        """Return up to ``n`` distinct members by preference; the first one owns the key.

        The others follow clockwise. Fewer come back where fewer can own something.

        Raises:
            BadKey, EmptyRing: as :meth:`owner`.
            BadRing: ``n`` is less than 1.
        """
    def slots_of(self, member: int) -> SlotSet:
        """Return the slots of the member at an index of :attr:`ids`."""
    def shares(
        self, keys: Iterable[_T], *, key: Callable[[_T], str | bytes] | None = None
    ) -> list[list[_T]]:
        """Return the keys of each member as lists in the order of :attr:`ids`.

        Raises:
            BadKey: as :meth:`SlotSet.owned`.
            EmptyRing: there are keys, but no member that can own one.
        """
