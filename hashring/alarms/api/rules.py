"""Rules as the API has them, by the type of their alarm: Aodh's seven, and ours.

A type that nothing here evaluates is known, so that alarms of an Aodh can be read, switched off and
removed; none can be made.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from hashring.alarms.api.answers import Refused, invalid, missing
from hashring.alarms.api.fields import Field, choice, fields_of, number, text, texts, whole
from hashring.alarms.errors import BadQuery
from hashring.alarms.sources.promql import narrowed

__all__ = ["EVALUATED", "TYPES", "checked", "described", "shown"]

_OPERATORS = ("lt", "le", "eq", "ne", "ge", "gt")
_PERIODS = whole(1, 100)

_THRESHOLD: Mapping[str, Field] = {
    "comparison_operator": Field(choice(_OPERATORS), "eq"),
    "threshold": Field(number, required=True),
}

_GNOCCHI: Mapping[str, Field] = {
    "granularity": Field(whole(1, 3600 * 24 * 365), 60),
    **_THRESHOLD,
    "aggregation_method": Field(text, required=True),
    "evaluation_periods": Field(_PERIODS, 1),
}

_REQUIRED = Field(text, required=True)

_LEAVES: Mapping[str, Mapping[str, Field]] = {
    "prometheus": {**_THRESHOLD, "query": _REQUIRED, "evaluation_periods": Field(_PERIODS)},
    "hashring_threshold": {
        **_THRESHOLD,
        "meter": _REQUIRED,
        "resource": Field(text, "*"),
        "aggregation": Field(choice(("avg", "min", "max", "sum", "count")), "avg"),
        "granularity": Field(number, 60.0),
        "evaluation_periods": Field(_PERIODS, 1),
    },
    "gnocchi_resources_threshold": {
        **_GNOCCHI,
        "metric": _REQUIRED,
        "resource_id": _REQUIRED,
        "resource_type": _REQUIRED,
    },
    "gnocchi_aggregation_by_metrics_threshold": {
        **_GNOCCHI,
        "metrics": Field(texts, required=True),
    },
    "gnocchi_aggregation_by_resources_threshold": {
        **_GNOCCHI,
        "metric": _REQUIRED,
        "query": _REQUIRED,
        "resource_type": _REQUIRED,
    },
}

_HEALTH: Mapping[str, Field] = dict.fromkeys(
    ("pool_id", "stack_id", "autoscaling_group_id"), _REQUIRED
)

TYPES = (*_LEAVES, "event", "composite", "loadbalancer_member_health")
"""All types that the API knows."""

EVALUATED = (*_LEAVES, "composite", "event")
"""The types that an alarm can be made of."""

_LEFT_OUT = frozenset({"scope_to_project"})
"""What the server adds to rules: not shown, and not taken from requests."""

_DEEPEST = 20
"""Levels of a composite rule."""


def checked(kind: str, value: Any, scope: str | None) -> dict[str, Any]:
    """Return the rule of a type, as the table has it.

    Args:
        kind: a name in :data:`TYPES`.
        value: JSON types, as the request has them.
        scope: the project that queries are narrowed to; ``None``: they are not.

    Raises:
        Refused: it is wrong; the message names the field.
    """
    where = f"data.{kind}_rule"
    if kind == "composite":
        return _expression(value, scope, 0)
    if kind == "event":
        return _event(where, value)
    if kind == "loadbalancer_member_health":
        return fields_of(where, value, _HEALTH)
    return _leaf(where, kind, value, scope)


def _leaf(where: str, kind: str, value: Any, scope: str | None) -> dict[str, Any]:
    if isinstance(value, dict):
        value = {name: one for name, one in value.items() if name not in _LEFT_OUT}
    found = fields_of(where, value, _LEAVES[kind])
    if kind == "prometheus":
        if found["evaluation_periods"] is None:  # Aodh has no such field
            del found["evaluation_periods"]
        found["scope_to_project"] = scope
        if scope is not None:
            _check_narrowed(found["query"], scope)
    return found


def _check_narrowed(query: str, scope: str) -> None:
    """Refuse a query that the evaluator could not narrow to a project."""
    try:
        narrowed(query, "project", scope)
    except BadQuery as error:
        raise invalid(error.field, error.value, error.why) from None


def _expression(value: Any, scope: str | None, depth: int) -> dict[str, Any]:
    if not isinstance(value, dict) or depth > _DEEPEST:
        raise _no_composite(value)
    if len(value) == 1:
        [(operator, parts)] = value.items()
        if operator not in ("and", "or"):
            raise Refused('Threshold rules should be combined with "and" or "or"')
        if not isinstance(parts, list):
            raise _no_composite(value)
        return {operator: [_expression(part, scope, depth + 1) for part in parts]}
    kind = value.get("type")
    if not kind:
        raise Refused("type must be set in every rule")
    known = [*_LEAVES]
    if kind not in known:
        raise Refused(
            f"Unsupported sub-rule type :{kind!s:.100} in composite rule, should be one of: {known}"
        )
    leaf = {name: one for name, one in value.items() if name != "type"}
    return {"type": kind, **_leaf("data.composite_rule", kind, leaf, scope)}


def _no_composite(value: Any) -> Refused:
    return Refused(
        f'Invalid input composite rule: {value!s:.200}, it should be a dict with an "and" or '
        '"or" as key, and the value of dict should be a list of basic threshold rules or sub '
        "composite rules, can be nested."
    )


_TRAIT = re.compile(r"[a-zA-Z.',0-9_-]*")

_CONDITION: Mapping[str, Field] = {
    "field": _REQUIRED,
    "op": Field(choice(_OPERATORS), "eq"),
    "value": _REQUIRED,
    "type": Field(choice(("string", "integer", "float", "boolean", "")), ""),
}


def _event(where: str, value: Any) -> dict[str, Any]:
    fields = {"event_type": Field(text, "*"), "query": Field(_conditions, [])}
    return fields_of(where, value, fields)


def _conditions(name: str, value: Any) -> list[dict[str, Any]]:
    if not isinstance(value, list):
        raise invalid(name, value, "must be a list of conditions")
    return [_condition(one) for one in value]


def _condition(value: Any) -> dict[str, Any]:
    found = fields_of("data.event_rule.query", value, _CONDITION)
    if not found["field"]:
        raise missing("field")
    if not _TRAIT.fullmatch(found["field"]):
        raise invalid("field", found["field"], "must be the name of a trait: traits.instance_id")
    kind = found["type"]
    if kind and not _converts(found["value"], kind):
        raise Refused(
            f"Unable to convert the value {found['value']:.200} to the expected data type {kind}."
        )
    return found


def _converts(value: str, kind: str) -> bool:
    if kind == "boolean":
        return value.strip().lower() in {
            *("true", "t", "yes", "y", "on", "1"),
            *("false", "f", "no", "n", "off", "0"),
        }
    try:
        {"integer": int, "float": float, "string": str}[kind](value)
    except ValueError:
        return False
    return True


def shown(value: Any) -> Any:
    """Return a rule as an answer has it: without what the server has added."""
    if isinstance(value, dict):
        return {name: shown(one) for name, one in value.items() if name not in _LEFT_OUT}
    if isinstance(value, list):
        return [shown(one) for one in value]
    return value


def described(kind: str, rule: Any) -> str:
    """Return the description of an alarm whose user has written none."""
    if kind == "event" and isinstance(rule, dict):
        return f"Alarm when {rule.get('event_type') or '*'} event occurred."
    return f"{kind} alarm rule"
