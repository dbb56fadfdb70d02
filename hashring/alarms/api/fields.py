"""Single fields of a request: each is checked and returned, or refused by its name."""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from hashring.alarms.api.answers import invalid, missing, one_of, unknown_attribute

__all__ = [
    "Field",
    "boolean",
    "choice",
    "fields_of",
    "identifier",
    "mapping",
    "number",
    "text",
    "texts",
    "utc",
    "whole",
]

_TRUE = frozenset({"true", "t", "yes", "y", "on", "1"})
_FALSE = frozenset({"false", "f", "no", "n", "off", "0"})

_LONGEST = 10_000
"""Characters of a text."""

_LONGEST_ID = 128
"""Characters of an id of a project or a user."""

_MOST = 1000
"""Entries of a list."""

Check = Callable[[str, Any], Any]
"""From a field's name and value to the value that counts."""


class Field(NamedTuple):
    """A field of an object.

    Attributes:
        check: its value.
        default: where it is not given, or null.
        required: it must be given.
    """

    check: Check
    default: Any = None
    required: bool = False


def fields_of(where: str, value: Any, fields: Mapping[str, Field]) -> dict[str, Any]:
    """Return the fields of an object, checked, with defaults for those that are missing.

    Args:
        where: the object's place in the request, for messages.
        value: JSON types.
        fields: all that there may be.

    Raises:
        Refused: a field is wrong, unknown or missing.
    """
    given = mapping(where, value)
    for name in given:
        if name not in fields:
            raise unknown_attribute(where, name)
    found = {}
    for name, field in fields.items():
        one = given.get(name)
        if one is None:
            if field.required:
                raise missing(name)
            found[name] = field.default
        else:
            found[name] = field.check(name, one)
    return found


def mapping(name: str, value: Any) -> Mapping[str, Any]:
    """Return a value that must be an object."""
    if not isinstance(value, dict):
        raise invalid(name, value, "must be an object of fields and values")
    return value


def text(name: str, value: Any) -> str:
    """Return a value that must be a text."""
    if not isinstance(value, str):
        raise invalid(name, value, "must be a text")
    if len(value) > _LONGEST:
        raise invalid(name, value, f"may have {_LONGEST} characters at most")
    if "\0" in value or value != value.encode("utf-8", "ignore").decode():
        raise invalid(name, ascii(value), "may have neither NUL nor half of a character")
    return value


def identifier(name: str, value: Any) -> str:
    """Return a value that must be an id, as short as the tables want it."""
    if len(found := text(name, value)) > _LONGEST_ID:
        raise invalid(name, value, f"may have {_LONGEST_ID} characters at most")
    return found


def texts(name: str, value: Any) -> list[str]:
    """Return a value that must be a list of texts."""
    if not isinstance(value, list) or len(value) > _MOST:
        raise invalid(name, value, f"must be a list of texts, {_MOST} at most")
    return [text(name, one) for one in value]


def boolean(name: str, value: Any) -> bool:
    """Return a value that must be true or false; the usual texts for them will do."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str | int) and (said := str(value).strip().lower()) in _TRUE | _FALSE:
        return said in _TRUE
    raise invalid(name, value, "must be true or false")


def number(name: str, value: Any) -> float:
    """Return a value that must be a finite number; a text that spells one will do."""
    try:
        found = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        found = math.nan
    if not math.isfinite(found):
        raise invalid(name, value, "must be a finite number")
    return found


def whole(minimum: int, maximum: int) -> Check:
    """Return a check that a value is a whole number in a range; a text that spells one will do."""

    def check(name: str, value: Any) -> int:
        try:
            found = int(value)
        except (TypeError, ValueError, OverflowError):
            raise invalid(name, value, "must be a whole number") from None
        if isinstance(value, bool) or (isinstance(value, float) and value != found):
            raise invalid(name, value, "must be a whole number")
        if found < minimum:
            raise invalid(name, value, f"Value should be greater or equal to {minimum}")
        if found > maximum:
            raise invalid(name, value, f"Value should be lower or equal to {maximum}")
        return found

    return check


def utc(value: str) -> datetime.datetime:
    """Return the time that a text spells, as the tables have it: UTC, without a zone.

    Raises:
        ValueError: it spells none.

    Example:
        >>> utc("2026-01-31T12:00:00+01:00")
        datetime.datetime(2026, 1, 31, 11, 0)
    """
    found = datetime.datetime.fromisoformat(value)
    if found.tzinfo is None:
        return found
    try:
        return found.astimezone(datetime.UTC).replace(tzinfo=None)
    except OverflowError:
        raise ValueError(value) from None


def choice(known: Sequence[str]) -> Check:
    """Return a check that a value is one of those that there are."""

    def check(name: str, value: Any) -> str:
        if not isinstance(value, str) or value not in known:
            raise one_of(name, value, known)
        return value

    return check
