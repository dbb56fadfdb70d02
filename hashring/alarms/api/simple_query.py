"""Simple queries: ``q.field``, ``q.op``, ``q.value``, repeated; ``sort``, ``limit``, ``marker``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from werkzeug.datastructures import MultiDict

from hashring.alarms.api.answers import Refused, invalid, of_another
from hashring.alarms.api.fields import utc
from hashring.alarms.api.identity import Identity
from hashring.alarms.database.conditions import All, Compare, Condition
from hashring.alarms.database.stored import Page

__all__ = ["SORTED_ALARMS", "SORTED_HISTORY", "alarms_asked", "history_asked", "page_of"]

_OF_ALARMS = (
    *("all_projects", "enabled", "name", "project_id", "repeat_actions", "severity", "state"),
    *("timestamp", "type", "user_id"),
)

_OF_HISTORY = ("project", "search_offset", "severity", "timestamp", "type", "user")

_ALIASES = {"user": "user_id", "project": "project_id"}

_TYPES = ("integer", "float", "string", "boolean", "datetime")

_TIMES: Mapping[str, str] = {"lt": "<", "le": "<=", "gt": ">", "ge": ">="}

SORTED_ALARMS = (
    *("alarm_id", "enabled", "name", "type", "severity", "timestamp", "user_id", "project_id"),
    *("state", "repeat_actions", "state_timestamp"),
)
SORTED_HISTORY = (
    *("event_id", "alarm_id", "on_behalf_of", "project_id", "user_id", "type", "timestamp"),
    "severity",
)

_ARGUMENTS = frozenset({"q.field", "q.op", "q.value", "q.type", "sort", "limit", "marker"})


class _Query(NamedTuple):
    field: str
    operator: str
    value: str


def alarms_asked(arguments: MultiDict[str, str], identity: Identity) -> Condition:
    """Return which alarms a request asks for.

    Args:
        arguments: of the request.
        identity: who asks.

    Raises:
        Refused: a query is wrong, or asks for what is not theirs.
    """
    queries = _queries(arguments)
    for query in queries:
        if query.field not in _OF_ALARMS:
            why = f"only fields {_listed(_OF_ALARMS)} are allowed"
            raise invalid("field", _listed([query.field]), why)
        if query.operator != "eq":
            raise invalid("op", _listed([query.operator]), "only operations {'eq'} are allowed")
    asked = {query.field: query.value for query in queries}
    if "all_projects" in asked and _is_true(asked["all_projects"]):
        identity.is_administrator()
    elif "project_id" in asked:
        if not identity.is_admin and asked["project_id"] != identity.project:
            raise of_another(asked["project_id"])
    elif identity.project is not None:
        asked["project_id"] = identity.project
    asked.pop("all_projects", None)
    return All(tuple(Compare(field, "=", value) for field, value in asked.items()))


def _is_true(value: str) -> bool:
    said = value.strip().lower()
    if said in ("true", "t", "yes", "y", "on", "1"):
        return True
    if said in ("false", "f", "no", "n", "off", "0"):
        return False
    raise Refused(f"Unable to convert the value {value:.100} to the expected data type boolean.")


def history_asked(arguments: MultiDict[str, str], identity: Identity, alarm_id: str) -> Condition:
    """Return which changes of an alarm a request asks for.

    Args:
        arguments: of the request.
        identity: who asks.
        alarm_id: of the alarm, which they may see.

    Raises:
        Refused: a query is wrong, or asks for what is not theirs.
    """
    parts = [Compare("alarm_id", "=", alarm_id)]
    if not identity.is_admin:
        parts.append(Compare("on_behalf_of", "=", identity.project))
    offset = timedelta()
    times = []
    for query in _queries(arguments):
        name = _ALIASES.get(query.field, query.field)
        if query.field not in _OF_HISTORY and name not in _ALIASES.values():
            raise Refused(
                f'Unknown argument: "{query.field:.100}": unrecognized field in query, valid keys: '
                f"{list(_OF_HISTORY)}"
            )
        if name == "timestamp":
            if query.operator not in _TIMES:
                raise invalid("op", query.operator, "unimplemented operator for timestamp")
            times.append((_TIMES[query.operator], _time(query.value)))
        elif query.operator != "eq":
            raise invalid("op", query.operator, f"unimplemented operator for {query.field}")
        elif name == "search_offset":
            offset = _minutes(query.value)
        else:
            if name == "project_id" and not identity.is_admin and query.value != identity.project:
                raise of_another(query.value)
            parts.append(Compare(name, "=", query.value))
    if offset and not times:
        raise invalid("field", "search_offset", "search_offset cannot be used without timestamp")
    for operator, at in times:
        shifted = at - offset if operator.startswith(">") else at + offset
        parts.append(Compare("timestamp", operator, shifted))
    return All(tuple(parts))


def _time(value: str) -> datetime:
    try:
        return utc(value)
    except ValueError:
        raise invalid("timestamp", value, "invalid timestamp format") from None


def _minutes(value: str) -> timedelta:
    try:
        return timedelta(minutes=int(value))
    except (ValueError, OverflowError):
        raise invalid("search_offset", value, "must be a number of minutes") from None


def _queries(arguments: MultiDict[str, str]) -> list[_Query]:
    """Return the queries; an operator or type that is missing everywhere has its default."""
    fields, values = arguments.getlist("q.field"), arguments.getlist("q.value")
    operators, types = arguments.getlist("q.op"), arguments.getlist("q.type")
    if len(values) != len(fields):
        raise invalid("q.value", values, "each q.field needs a q.value")
    for name, given in (("q.op", operators), ("q.type", types)):
        if given and len(given) != len(fields):
            raise invalid(name, given, "each q.field needs one, or none has one")
    for number, kind in enumerate(types):
        _check_type(kind, values[number])
    operators = operators or ["eq"] * len(fields)
    return [
        _Query(field, operator or "eq", value)
        for field, operator, value in zip(fields, operators, values, strict=True)
    ]


def _check_type(kind: str, value: str) -> None:
    if not kind:
        return
    if kind not in _TYPES:
        raise Refused(
            f"The data type {kind:.100} is not supported. The supported data type list is: "
            f"{list(_TYPES)}"
        )
    try:
        if kind == "boolean":
            _is_true(value)
        elif kind == "integer":
            int(value)
        elif kind == "float":
            float(value)
        elif kind == "datetime":
            utc(value)
    except ValueError:
        raise Refused(
            f"Unable to convert the value {value:.100} to the expected data type {kind}."
        ) from None


def page_of(arguments: MultiDict[str, str], columns: Sequence[str]) -> Page:
    """Return in which order, and how many rows, a request wants.

    Args:
        arguments: of the request.
        columns: by which rows can be sorted.

    Raises:
        Refused: it names others, or no number.
    """
    for name in arguments:
        if name not in _ARGUMENTS:
            raise Refused(f'Unknown argument: "{name:.100}"')
    order = []
    for asked in arguments.getlist("sort"):
        column, _, direction = asked.partition(":")
        if column not in columns or direction not in ("", "asc", "desc"):
            raise invalid(
                "sort",
                asked,
                "the sort parameter should be a pair of sort key and sort dir combined with ':', "
                "or only sort key specified and sort dir will be default 'asc', the supported sort "
                f"keys are: {tuple(columns)}",
            )
        order.append((column, direction == "desc"))
    return Page(
        tuple(order) or Page().order, _limit(arguments.get("limit")), arguments.get("marker")
    )


def _limit(given: str | None) -> int | None:
    if given is None:
        return None
    try:
        found = int(given)
    except ValueError:
        raise invalid("limit", given, "unable to convert to int.") from None
    if found < 0:
        raise invalid("limit", given, "it should be a positive integer.")
    return min(found, 2**31) or None


def _listed(names: Sequence[str]) -> str:
    return f"{{{', '.join(repr(name) for name in names)}}}"
