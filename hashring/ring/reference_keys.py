"""The engine in plain Python, first part: a key's hash, a batch of keys, and ``Keys``.

``reference.py`` has the rest, and the names of all. This module knows no slots and no members.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator
from types import GenericAlias
from typing import Any

import mmh3

from hashring.errors import BadKey

KeyOf = Callable[[Any], str | bytes]


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


def hashed_pairs(keys: Iterable[Any], key: KeyOf | None) -> Iterator[tuple[Any, int]]:
    """Return each item with the top 32 bits of its key's hash."""
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


def hash_all(keys: Iterable[Any], *, key: KeyOf | None = None) -> int:
    """Return the exclusive or of all keys' top 32 hash bits: the floor under a batch check."""
    result = 0
    for _, top in hashed_pairs(keys, key):
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
    _key: KeyOf | None

    def __init__(self, keys: Iterable[Any] = (), *, key: KeyOf | None = None) -> None:
        pairs = list(hashed_pairs(keys, key))
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


def _restore_keys(items: tuple[Any, ...], key: KeyOf | None) -> Keys:
    return Keys(items, key=key)
