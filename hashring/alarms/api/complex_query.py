"""Complex queries: a filter, an order and a limit, the first two as JSON in a text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from hashring.alarms.api.answers import Refused, of_another
from hashring.alarms.api.fields import Field, fields_of, text, utc, whole
from hashring.alarms.api.identity import Identity
from hashring.alarms.database.conditions import All, AnyOf, Compare, Condition, Not
from hashring.alarms.database.stored import Page
from hashring.alarms.database.tables import ALARM, HISTORY

__all__ = ["OF_ALARMS", "OF_HISTORY", "Asked", "Queryable", "asked"]

_OPERATORS: Mapping[str, str] = {
    **{sign: sign for sign in ("=", "!=", "<", ">", "<=", ">=", "=~")},
    "=<": "<=",
    "=>": ">=",
}

_ALIASES = {"user": "user_id", "project": "project_id"}

_TIMES = frozenset({"timestamp", "state_timestamp", "evaluate_timestamp"})

_DEEPEST, _MOST = 20, 200
"""Levels of a filter, and comparisons in it."""

_LARGEST = 2**31 - 1


class Queryable(NamedTuple):
    """What can be asked for.

    Attributes:
        columns: that a filter may name.
        owner: the column that says whose a row is.
    """

    columns: frozenset[str]
    owner: str


OF_ALARMS = Queryable(frozenset(ALARM.c.keys()), "project_id")
OF_HISTORY = Queryable(frozenset(HISTORY.c.keys()), "on_behalf_of")


class Asked(NamedTuple):
    """A query, read."""

    condition: Condition
    page: Page


_BODY: Mapping[str, Field] = {
    "filter": Field(text),
    "orderby": Field(text),
    "limit": Field(whole(-_LARGEST, _LARGEST)),
}


def asked(body: Any, of: Queryable, identity: Identity) -> Asked:
    """Return what the body of a request asks for.

    Args:
        body: JSON types.
        of: what can be asked for.
        identity: who asks. What is not theirs is left out; to name another's project is refused.

    Raises:
        Refused: it is wrong.
    """
    found = fields_of("body", body, _BODY)
    if found["limit"] is not None and found["limit"] <= 0:
        raise Refused("Limit should be positive")
    condition: Condition = All(())
    if found["filter"] is not None:
        condition = _Reader(of, identity).read(_parsed(found["filter"], "Filter"), 0)
    if not identity.is_admin:
        condition = All((Compare(of.owner, "=", identity.project), condition))
    order = Page().order
    if found["orderby"] is not None:
        order = _order(_parsed(found["orderby"], "Order-by"), of)
    return Asked(condition, Page(order, found["limit"]))


def _parsed(said: str, what: str) -> Any:
    try:
        return json.loads(said)
    except (ValueError, RecursionError) as error:
        raise _invalid(what, str(error)) from None


def _invalid(what: str, why: str) -> Refused:
    return Refused(f"{what} expression not valid: {why:.500}")


class _Reader:
    """Reads one filter."""

    def __init__(self, of: Queryable, identity: Identity) -> None:
        self._of = of
        self._identity = identity
        self._comparisons = 0

    def read(self, value: Any, depth: int) -> Condition:
        if depth > _DEEPEST:
            raise _invalid("Filter", f"it has more than {_DEEPEST} levels")
        if not isinstance(value, dict) or len(value) != 1:
            raise _invalid("Filter", f"{value!r} must have one operator")
        [(sign, operand)] = value.items()
        operator = sign.lower()
        if operator in ("and", "or"):
            if not isinstance(operand, list) or len(operand) < 2:
                raise _invalid("Filter", f"{operator} needs a list of two or more: {operand!r}")
            parts = tuple(self.read(part, depth + 1) for part in operand)
            return All(parts) if operator == "and" else AnyOf(parts)
        if operator == "not":
            return Not(self.read(operand, depth + 1))
        if operator != "in" and operator not in _OPERATORS:
            known = [*_OPERATORS, "in", "and", "or", "not"]
            raise _invalid("Filter", f"{sign!r} is no operator; there are: {', '.join(known)}")
        return self._comparison(operator, operand)

    def _comparison(self, operator: str, operand: Any) -> Compare:
        self._comparisons += 1
        if self._comparisons > _MOST:
            raise _invalid("Filter", f"it has more than {_MOST} comparisons")
        if not isinstance(operand, dict) or len(operand) != 1:
            raise _invalid("Filter", f"{operand!r} must be one field with a value")
        [(name, value)] = operand.items()
        column = _column(name, self._of, "Filter")
        values = value if operator == "in" else [value]
        if not isinstance(values, list) or not values:
            raise _invalid("Filter", f"in needs a list of values: {value!r}")
        for one in values:
            if not isinstance(one, str | int | float | bool):
                raise _invalid("Filter", f"{one!r} must be a text, a number or a boolean")
            if isinstance(one, str):
                text(column, one)
        if column in _TIMES and operator != "=~":
            values = [_time(one) for one in values]
        if column == self._of.owner and not self._identity.is_admin:
            for one in values:
                if one != self._identity.project:
                    raise of_another(one)
        sign = "in" if operator == "in" else _OPERATORS[operator]
        return Compare(column, sign, values if operator == "in" else values[0])


def _column(name: Any, of: Queryable, what: str) -> str:
    column = _ALIASES.get(name, name)
    if column not in of.columns:
        known = [*sorted(of.columns), *_ALIASES]
        raise _invalid(what, f"{name!r} is no field; there are: {', '.join(known)}")
    return str(column)


def _time(value: Any) -> datetime:
    try:
        return utc(str(value))
    except ValueError:
        raise Refused(f"Failed to parse the timestamp value {value!s:.100}") from None


def _order(value: Any, of: Queryable) -> tuple[tuple[str, bool], ...]:
    if not isinstance(value, list) or not value:
        raise _invalid("Order-by", f"{value!r} must be a list of fields")
    order = []
    for one in value:
        if not isinstance(one, dict) or len(one) != 1:
            raise _invalid("Order-by", f"{one!r} must be one field with asc or desc")
        [(name, direction)] = one.items()
        column = _column(name, of, "Order-by")
        if not isinstance(direction, str) or direction.lower() not in ("asc", "desc"):
            raise _invalid("Order-by", f"{direction!r} must be asc or desc")
        order.append((column, direction.lower() == "desc"))
    return tuple(order)
