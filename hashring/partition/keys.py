"""Keys as a user has them: which slot each is in, and the error that says how to name one."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any

from hashring.errors import BadKey
from hashring.ring.ring import Keys, SlotSet

__all__ = ["by_slot", "explained"]

_HINT = (
    "; for other objects say what gives their key, the same in every process: key=str for "
    "numbers, UUIDs and paths, or such as key=lambda found: found.id"
)


def explained(error: BadKey) -> BadKey:
    """Return the error for a key of the wrong type, with what to do about it.

    >>> str(explained(BadKey("the key is of type 'int': keys are str or bytes")))[:62]
    "the key is of type 'int': keys are str or bytes; for other obj"
    """
    text = str(error)
    return BadKey(text + _HINT) if " of type " in text else error


def by_slot(
    keys: Iterable[Any], key: Callable[[Any], str | bytes] | None, universe: int
) -> dict[int, list[Any]]:
    """Return the keys of each slot that has one, as they are now.

    Args:
        keys: ``str`` or ``bytes``, any iterable, or :class:`Keys`.
        key: for other objects: what gives an object's key.
        universe: the number of slots.

    Raises:
        BadKey: a key is neither ``str`` nor ``bytes``.

    >>> found = by_slot(["a", "b"], None, 65536)
    >>> sum(found.values(), []) == ["a", "b"], len(found)
    (True, 2)
    """
    if isinstance(keys, str | bytes):
        raise BadKey(
            f"keys must be a collection of keys, not one {type(keys).__name__}: use a list"
        )
    if isinstance(keys, Keys):
        if key is not None:
            raise BadKey("these Keys are hashed already: give key= when you make them")
        hashed, items = keys, list(keys)
    else:
        items = list(keys)
        try:
            hashed = Keys(items, key=key)
        except BadKey as error:
            raise explained(error) from None
    numbers = [0] * len(items)
    # A set of slots tells of all keys at once whether they are in it: one question a binary digit.
    for digit, slots in enumerate(_digits(universe)):
        for place, is_set in enumerate(slots.mask(hashed)):
            if is_set:
                numbers[place] |= 1 << digit
    found: dict[int, list[Any]] = {}
    for item, number in zip(items, numbers, strict=True):
        found.setdefault(number, []).append(item)
    return found


@functools.lru_cache(maxsize=4)
def _digits(universe: int) -> tuple[SlotSet, ...]:
    """Return, for each binary digit of a slot's number, the slots that have it."""
    return tuple(
        SlotSet.of((slot for slot in range(universe) if slot >> digit & 1), universe)
        for digit in range(universe.bit_length() - 1)
    )
