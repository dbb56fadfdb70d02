"""Points on tooz's circle in plain Python: any hash function, no compiler, and the oracle.

The twin of ``_toozring.pyx``: both offer :class:`PointIndex`, and one test suite runs over both.
Knows points and positions; which node a point belongs to is :mod:`hashring.compat.tooz`'s matter.
"""

from __future__ import annotations

import bisect
import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from hashring.errors import BadKey

__all__ = ["PointIndex", "key_bytes"]


def key_bytes(key: object) -> bytes:
    r"""Return the bytes that a key is hashed as: a ``str`` as UTF-8, bytes as they are.

    Raises:
        BadKey: the key is neither ``str`` nor bytes-like, or has no UTF-8 form.

    >>> key_bytes("é"), key_bytes(bytearray(b"raw"))
    (b'\xc3\xa9', b'raw')
    """
    if isinstance(key, str):
        try:
            return key.encode("utf-8")
        except UnicodeEncodeError as error:
            raise BadKey(
                f"the key {key!r} has no UTF-8 form (a lone surrogate at index {error.start}): "
                "give bytes instead, for example os.fsencode(key)"
            ) from None
    if isinstance(key, (bytes, bytearray, memoryview)):
        return bytes(key)
    raise BadKey(f"a key must be str or bytes, not {type(key).__name__}: {key!r}")


class PointIndex:
    r"""Sorted points, searched as tooz does: the first point beyond a key's hash, else the first.

    Args:
        points: digests in ascending order, each one once.
        hash_function: a name that :func:`hashlib.new` knows; digests have its length.

    Example:
        >>> points = sorted(hashlib.md5(name).digest() for name in (b"a", b"b", b"c"))
        >>> index = PointIndex(points)
        >>> index.position(b"some key"), index.owned(["some key", "other"], b"\1\0\0")
        (0, ['some key'])
    """

    def __init__(self, points: Sequence[bytes], hash_function: str = "md5") -> None:
        self._points = list(points)
        self._hash_function = hash_function

    def __len__(self) -> int:
        return len(self._points)

    def position(self, data: bytes | bytearray | memoryview) -> int:
        """Return the position of the point that owns one key; 0 where there are no points."""
        if self._hash_function == "md5":
            digest = hashlib.md5(data, usedforsecurity=False).digest()
        else:
            digest = hashlib.new(self._hash_function, data).digest()
        position = bisect.bisect(self._points, digest)
        return position if position < len(self._points) else 0

    def mask(
        self,
        keys: Iterable[Any],
        flags: bytes,
        form: Callable[[Any], bytes] = key_bytes,
    ) -> bytearray:
        """Return for each key the flag (0 or 1) of its position.

        Args:
            keys: ``str``, or what ``form`` takes.
            flags: one byte a point.
            form: gives the bytes of a key that is not exactly a ``str``.

        Raises:
            BadKey: see :func:`key_bytes`.
        """
        self._check_length("flags", len(flags))
        flags = bytes(flags) + b"\0"  # without points every key finds position 0
        return bytearray(
            flags[self.position(key_bytes(key) if type(key) is str else form(key))] for key in keys
        )

    def owned(
        self,
        keys: Iterable[Any],
        flags: bytes,
        form: Callable[[Any], bytes] = key_bytes,
    ) -> list[Any]:
        """Return, in order, the keys whose position has a flag that is not 0."""
        keys = list(keys)
        mask = self.mask(keys, flags, form)
        return [key for key, flag in zip(keys, mask, strict=True) if flag]

    def deal(self, keys: Iterable[Any], piles: Sequence[list[Any]]) -> None:
        """Append each key to the pile at its position.

        Args:
            keys: ``str`` or bytes.
            piles: one list a point, at least one; points may share a list.
        """
        self._check_length("piles", len(piles))
        if not piles:
            raise ValueError("there are no points, so no pile can take a key")
        for key in keys:
            piles[self.position(key_bytes(key))].append(key)

    def _check_length(self, what: str, length: int) -> None:
        if length != len(self._points):
            raise ValueError(f"{length} {what} for {len(self._points)} points")
