"""Copies and canonical values of protocol objects, so that a search can branch and compare.

``copy.deepcopy`` is too slow for millions of branches, and what the protocol shares is immutable:
:func:`copied` copies only what can change. :func:`frozen` turns an object's state into a hashable
value; two objects that are equal there behave alike. Neither knows the name of any field.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Hashable, Mapping
from types import MappingProxyType
from typing import Any

from hashring.protocol.reading import Reading
from hashring.protocol.view import View
from hashring.ring.ring import SlotSet

__all__ = ["copied", "frozen"]

_IMMUTABLE = frozenset(
    {type(None), bool, int, float, str, bytes, frozenset, SlotSet, View, MappingProxyType, Reading}
)


def _is_immutable(kind: type) -> bool:
    if kind in _IMMUTABLE or issubclass(kind, type):
        return True
    parameters = getattr(kind, "__dataclass_params__", None)
    return parameters is not None and bool(parameters.frozen)


_copiers: dict[type, Callable[[Any], Any]] = {
    list: lambda value: [copied(item) for item in value],
    tuple: lambda value: tuple([copied(item) for item in value]),
    dict: lambda value: {key: copied(item) for key, item in value.items()},
    set: set,
}


def copied(value: Any) -> Any:
    """Return a copy of a protocol object that shares with it only what can never change.

    Example:
        >>> one = {"held": [1, 2]}
        >>> other = copied(one)
        >>> other["held"].append(3)
        >>> one
        {'held': [1, 2]}
    """
    kind = type(value)
    copier = _copiers.get(kind)
    if copier is None:
        copier = _copiers[kind] = _same if _is_immutable(kind) else _copied_object
    return copier(value)


def _same(value: Any) -> Any:
    return value


def _copied_object(value: Any) -> Any:
    made = copy.copy(value)
    for name, item in _state(value):
        setattr(made, name, copied(item))
    return made


def _state(value: Any) -> list[tuple[str, Any]]:
    """Return an object's attributes; those of slots as well."""
    if dataclasses.is_dataclass(value):
        return [(field.name, getattr(value, field.name)) for field in dataclasses.fields(value)]
    if hasattr(value, "__dict__"):
        return list(vars(value).items())
    raise TypeError(f"a {type(value).__name__} can be neither copied nor compared here")


def frozen(value: Any, without: frozenset[str] = frozenset()) -> Hashable:
    """Return the state of a protocol object as a hashable value.

    Args:
        value: the object.
        without: names of attributes that are left out, of the object and of those in it.

    Raises:
        TypeError: it holds something whose state cannot be told.

    Example:
        >>> frozen({"b": [2], "a": {1}}) == frozen({"a": {1}, "b": [2]})
        True
    """
    kind = type(value)
    if kind in (int, str, float, bool, bytes, type(None)):
        return value  # type: ignore[no-any-return]
    if kind is SlotSet:
        return bytes(value.tobytes())
    if kind is View:
        return str(value.id)
    if isinstance(value, Mapping):
        return tuple(sorted((str(key), frozen(item, without)) for key, item in value.items()))
    if kind in (set, frozenset):
        return frozenset(frozen(item, without) for item in value)
    if isinstance(value, list | tuple):
        return tuple([frozen(item, without) for item in value])
    state = sorted(_state(value))
    return tuple([frozen(item, without) for name, item in state if name not in without])
