"""Fields: a mapping from a file, written by a person; each value is checked as it is taken.

Every error says file, entry, field and value, without secrets, and what would be right. Libraries
of typed models were considered (msgspec, pydantic). They say which type was expected. Here a field
may be ignored, a typo is an error that names what was meant, a number may stand in quotes, a value
may be a secret: nearly every check would be a hook of ours, and every message be rewritten.

This module knows no file's meaning, and reads none.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Iterator, Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from hashring.telemetry.errors import BadDefinition
from hashring.telemetry.model.suggestions import closest, meant
from hashring.url import shown

__all__ = ["Fields", "described", "kind"]

log = logging.getLogger(__name__)

_ARTICLES: Mapping[type, str] = {
    dict: "a mapping",
    list: "a list",
    str: "the text",
    bool: "the boolean",
}


def kind(value: object) -> str:
    """Return what type a value has, in words that the value itself may follow.

    >>> kind({}), kind("x"), kind(12), kind(None)
    ('a mapping', 'the text', 'the int', 'nothing,')
    """
    return _ARTICLES.get(
        type(value), "nothing," if value is None else f"the {type(value).__name__}"
    )


def described(value: object) -> str:
    """Return what a value is, for a message; itself only where it can hold no secret.

    >>> described("s3cret"), described(12), described(True), described(None)
    ('a text', 'the number 12', 'the boolean True', 'nothing')
    """
    if isinstance(value, bool):
        return f"the boolean {value}"
    if isinstance(value, int | float):
        return f"the number {value}"
    if isinstance(value, str):
        return "a text"
    return _ARTICLES.get(type(value), "nothing")


class Fields:
    """A mapping of a file, and where it stands: what is taken out of it is checked.

    Args:
        value: what should be a mapping.
        place: file and entry, for messages.
        what: what it is, for messages: ``"source"``.
        known: the fields that there may be; ``None``: see :meth:`check`.

    Attributes:
        place: file and entry; may be made more exact, once the entry's name is known.
        what: what it is.
        name: the entry's own; empty where it has none, as at the top of a file.
        ignored: why a field that is known elsewhere is not read here, by its name.
        spelled: how a message names a field.

    Raises:
        BadDefinition: it is no mapping, or has a field that looks like a typo.

    Example:
        >>> source = Fields({"name": "disks", "interval": "60"}, "a.yaml", "source")
        >>> source.text("name"), source.seconds("interval"), source.texts("meters", optional=True)
        ('disks', 60.0, ())
        >>> source.check({"name", "intervals"})
        Traceback (most recent call last):
        ...
        hashring.telemetry.errors.BadDefinition: a.yaml: unknown field 'interval' (did you mean ...
    """

    ignored: Mapping[Any, str] = MappingProxyType({})
    spelled: ClassVar[str] = "{}"

    def __init__(
        self,
        value: Any,
        place: str,
        what: str,
        known: Collection[str] | None = None,
        ignored: Mapping[Any, str] | None = None,
    ) -> None:
        self.place = place
        self.what = what
        self.name = ""
        if ignored is not None:
            self.ignored = ignored
        if not isinstance(value, dict):
            raise BadDefinition(
                f"{place}: a {what} must be a mapping of fields to values, not {kind(value)} "
                f"{shown(value)}"
            )
        self._value: Mapping[Any, Any] = value
        if known is not None:
            self.check(known)

    def __contains__(self, field: str) -> bool:
        return field in self._value

    def __iter__(self) -> Iterator[Any]:
        return iter(self._value)

    def get(self, field: str, default: Any = None) -> Any:
        """Return a field's value as it was written, or the default where it is not given."""
        return self._value.get(field, default)

    def bad(self, field: str, problem: str) -> BadDefinition:
        """Return the error that something is wrong with a field."""
        return BadDefinition(f"{self.place}: {self.spelled.format(field)} {problem}")

    def check(self, known: Collection[str]) -> None:
        """Refuse what looks like a typo; name in the log what else nobody will read.

        Raises:
            BadDefinition: a field is unknown, and much like one that is known.
        """
        for field in self:
            if field in known:
                continue
            # At the top, where anchors stand, what is given is not what was meant.
            candidates = known if self.name else [one for one in known if one not in self]
            if field not in self.ignored and closest(field, candidates):
                raise BadDefinition(
                    f"{self.place}: unknown field {shown(field)}{meant(field, candidates)}; a "
                    f"{self.what} has: {', '.join(sorted(known))}"
                )
            why = self.ignored.get(field, f"a {self.what} has: {', '.join(sorted(known))}")
            log.warning("%s: the field %s is ignored: %s", self.place, shown(field), why)

    def text(self, field: str) -> str:
        """Return a text that must be given, and must not be empty."""
        if self.get(field) is None:
            raise self.bad(field, "is missing")
        return self._text(field, self.get(field))

    def _text(self, field: str, value: Any) -> str:
        if not isinstance(value, str):
            raise self.bad(
                field,
                f"must be text, not {kind(value)} {shown(value)}"
                + ("" if isinstance(value, dict | list) else ": put it in quotes"),
            )
        if not value.strip():
            raise self.bad(field, f"must not be empty: {shown(value)}")
        return value

    def texts(self, field: str, *, optional: bool = False) -> tuple[str, ...]:
        """Return the texts of a list.

        Args:
            field: its name.
            optional: it may be absent or empty.
        """
        value = self.get(field)
        if not isinstance(value, list | None):
            raise self.bad(field, f"must be a list, not {kind(value)} {shown(value)}")
        if not value and not optional:
            raise self.bad(
                field, "is missing" if field not in self else "is empty: at least one is needed"
            )
        return tuple(self._text(f"{field}, entry {n}", one) for n, one in enumerate(value or [], 1))

    def seconds(self, field: str) -> float:
        """Return a positive number of seconds, which may stand in quotes, as Ceilometer's may."""
        value = self.get(field)
        number: float | None = None
        if isinstance(value, int | float | str) and not isinstance(value, bool):
            try:
                number = float(value)
            except (ValueError, OverflowError):
                number = None
        if number is None or not 0 < number < math.inf:
            raise self.bad(field, f"must be a positive number of seconds, not {shown(value)}")
        return number
