"""Problems: what is wrong with a definition, where in it, and said without secrets.

Knows models as pydantic checks them, and no particular one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from pydantic import ValidationError

from hashring.telemetry.model.suggestions import meant
from hashring.url import bears_secret, looks_secret, masked, shown

__all__ = ["Problem", "Wrong", "said", "unknown"]


class Problem(NamedTuple):
    """What is wrong with an alarm.

    Attributes:
        path: where in it: keys of mappings and numbers in lists, from the outside in.
        text: what is wrong, with the value unless it may be a secret.
    """

    path: tuple[str | int, ...]
    text: str

    def __str__(self) -> str:
        field = ".".join(str(part) for part in self.path)
        return f"{field}: {self.text}" if field else self.text


class Wrong(Exception):
    """Raised where a definition is read, for who tells of it."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


def unknown(
    value: Mapping[Any, Any], known: list[str], path: tuple[str | int, ...] = ()
) -> Problem | None:
    """Return that a mapping has a field that is not known; ``None``: it has none.

    Args:
        value: the mapping.
        known: the names of fields.
        path: where the mapping is.
    """
    for name in value:
        if name not in known:
            hint = meant(name, known) or f"; there are: {', '.join(sorted(known))}"
            return Problem((*path, str(name)), f"unknown field{hint}")
    return None


_SAID = {
    "missing": "is missing",
    "finite_number": "must be a finite number",
}


def said(
    error: ValidationError, value: Any, rule: str, path: tuple[str | int, ...] = ()
) -> Problem:
    """Return the first thing that pydantic has found.

    Args:
        error: what it raised.
        value: what was checked.
        rule: the name by which the user calls the field ``rule``.
        path: where the value is.
    """
    first = error.errors(include_url=False)[0]
    where = tuple(first["loc"])
    if where[:1] == ("rule",) and rule in value:
        where = (rule, *where[1:])
    if first["type"] == "missing":
        return Problem((*path, *where), "is missing")
    text = _SAID.get(first["type"]) or first["msg"].removeprefix("Value error, ")
    text = text[:1].lower() + text[1:]
    return Problem((*path, *where), f"{text}, not {_shown(where, first.get('input'))}")


def _shown(path: tuple[str | int, ...], value: Any) -> str:
    """Return a value for a message, without what may be a secret."""
    if any(looks_secret(str(part)) for part in path):
        return "'***'"
    if isinstance(value, str):
        return repr(masked(value)) if bears_secret(value) or "://" in value else shown(value)
    return shown(value)
