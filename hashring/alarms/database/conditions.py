"""Conditions on rows, as values: what users ask for, checked, and then as SQL.

Whoever reads a query makes a condition, and knows no SQL; here it becomes a clause of the database
at hand. Values have the type of their column before anything is sent.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

import sqlalchemy as sa

from hashring.alarms.errors import BadQuery

__all__ = ["All", "AnyOf", "Compare", "Condition", "Not", "clause", "rank"]

_LONGEST_PATTERN = 200
"""Characters of a regular expression: a long one can keep a database busy."""

_TRUE = frozenset({"true", "t", "yes", "y", "on", "1"})
_FALSE = frozenset({"false", "f", "no", "n", "off", "0"})


class Compare(NamedTuple):
    """A column's value beside another.

    Attributes:
        column: its name.
        operator: ``=``, ``!=``, ``<``, ``<=``, ``>``, ``>=``, ``=~`` (a regular expression), or
            ``in`` (a list of values).
        value: JSON types, or a time.
    """

    column: str
    operator: str
    value: Any


class All(NamedTuple):
    """All parts hold."""

    parts: tuple[Condition, ...]


class AnyOf(NamedTuple):
    """One of the parts holds, or several."""

    parts: tuple[Condition, ...]


class Not(NamedTuple):
    """The part does not hold."""

    part: Condition


Condition: TypeAlias = Compare | All | AnyOf | Not

_OPERATORS: Mapping[str, Callable[[Any, Any], Any]] = {
    "=": lambda column, value: column == value,
    "!=": lambda column, value: column != value,
    "<": lambda column, value: column < value,
    "<=": lambda column, value: column <= value,
    ">": lambda column, value: column > value,
    ">=": lambda column, value: column >= value,
}


def clause(table: sa.Table, condition: Condition) -> sa.ColumnElement[bool]:
    """Return a condition on a table as SQL.

    Raises:
        BadQuery: a value is not of its column's type, or an operator cannot be used on it.
    """
    if isinstance(condition, All):
        return sa.and_(sa.true(), *(clause(table, part) for part in condition.parts))
    if isinstance(condition, AnyOf):
        return sa.or_(sa.false(), *(clause(table, part) for part in condition.parts))
    if isinstance(condition, Not):
        return sa.not_(clause(table, condition.part))
    return _compared(table.c[condition.column], condition)


def _compared(column: sa.Column[Any], asked: Compare) -> sa.ColumnElement[bool]:
    kind = type(column.type)
    if issubclass(kind, sa.Boolean):
        if asked.operator == "=~":
            raise BadQuery(asked.column, asked.value, "a boolean has no pattern")
        found: Any = column
        if asked.operator not in ("=", "!=", "in"):
            found = sa.case((column.is_(True), 1), else_=0)
            return _applied(found, asked, lambda value: int(_boolean(asked.column, value)))
        return _applied(found, asked, lambda value: _boolean(asked.column, value))
    if issubclass(kind, sa.DateTime):
        if asked.operator == "=~":
            raise BadQuery(asked.column, asked.value, "a time has no pattern")
        return _applied(column, asked, lambda value: _time(asked.column, value))
    # Lists and rules are compared as the text that they are kept as.
    found = column if issubclass(kind, sa.String) else sa.type_coerce(column, sa.Text)
    if asked.operator == "=~":
        pattern = _pattern(asked)
        return sa.and_(found.is_not(None), found.regexp_match(pattern))
    return _applied(found, asked, _text)


def _applied(column: Any, asked: Compare, convert: Callable[[Any], Any]) -> sa.ColumnElement[bool]:
    if asked.operator == "in":
        found: sa.ColumnElement[bool] = column.in_([convert(value) for value in asked.value])
        return found
    compared: sa.ColumnElement[bool] = _OPERATORS[asked.operator](column, convert(asked.value))
    return compared


def _boolean(name: str, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    text = _text(value).lower()
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    raise BadQuery(name, value, "must be true or false")


def _time(name: str, value: Any) -> datetime.datetime:
    if isinstance(value, datetime.datetime):
        return value
    try:
        found = datetime.datetime.fromisoformat(str(value))
        if found.tzinfo is not None:
            found = found.astimezone(datetime.UTC).replace(tzinfo=None)
    except (ValueError, OverflowError):
        raise BadQuery(name, value, "must be a time such as 2026-01-31T12:00:00") from None
    return found


def _pattern(asked: Compare) -> str:
    pattern = _text(asked.value)
    if len(pattern) > _LONGEST_PATTERN:
        raise BadQuery(
            asked.column, pattern, f"a pattern may have {_LONGEST_PATTERN} characters at most"
        )
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError):
        raise BadQuery(asked.column, pattern, "must be a regular expression") from None
    return pattern


def _text(value: Any) -> str:
    """Return a value as a column of text has it: the number 5.0 is written 5.

    >>> _text(5.0), _text(True), _text("x")
    ('5', 'True', 'x')
    """
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return str(value)


def rank(column: sa.Column[Any]) -> sa.ColumnElement[Any]:
    """Return what a column is sorted by, never NULL: severities by how bad they are."""
    if column.name == "severity":
        return sa.case({"low": 1, "moderate": 2, "critical": 3}, value=column, else_=0)
    if isinstance(column.type, sa.Boolean):
        return sa.case((column.is_(True), 1), else_=0)
    if isinstance(column.type, sa.DateTime):
        return sa.func.coalesce(column, sa.literal(datetime.datetime(1970, 1, 1), sa.DateTime()))
    return sa.func.coalesce(sa.type_coerce(column, sa.Text), "")
