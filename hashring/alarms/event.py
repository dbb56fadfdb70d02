"""Events, and whether one hits the rule of an event alarm. Pure: no clock, no database.

Events have the shape of Ceilometer's: ``message_id``, ``event_type``, and ``traits``, a list of
name, type and value. What is decided is what Aodh decides, but for what it cannot: see
:func:`hits`.
"""

from __future__ import annotations

import fnmatch
import json
import operator
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from hashring.alarms.errors import BadEvents
from hashring.alarms.model import Comparison, EventRule
from hashring.url import shown

__all__ = ["Event", "events_of", "hits", "reason_of"]

_LONGEST = 255
"""Characters of an id, a type, and a project."""

_MOST = 48 * 1024
"""Bytes of an event as JSON: what is told of it must fit into a column of text of MySQL's."""

_COMPARED: Mapping[Comparison, Callable[[Any, Any], bool]] = {
    Comparison.LT: operator.lt,
    Comparison.LE: operator.le,
    Comparison.EQ: operator.eq,
    Comparison.NE: operator.ne,
    Comparison.GE: operator.ge,
    Comparison.GT: operator.gt,
}

_TRAIT_TYPES: Mapping[Any, str] = {2: "integer", 3: "float", 4: "datetime"}
"""The numbers that Ceilometer writes for types; all others are texts."""


class Event(NamedTuple):
    """Something that has happened.

    Attributes:
        message_id: its identity: one that comes again is the same.
        event_type: such as ``compute.instance.create.end``.
        project_id: whose it is, by its traits; empty where they do not say.
        body: all of it, as it came.
    """

    message_id: str
    event_type: str
    project_id: str
    body: Mapping[str, Any]


def events_of(value: Any) -> list[Event]:
    """Return what a request's JSON has: a list of events, or one.

    Raises:
        BadEvents: something is wrong; the message says in which one.

    Example:
        >>> [found] = events_of({"message_id": "1", "event_type": "x", "traits": []})
        >>> found.event_type, found.project_id
        ('x', '')
    """
    found = value if isinstance(value, list) else [value]
    return [_event(one, number) for number, one in enumerate(found, 1)]


def _event(value: Any, number: int) -> Event:
    if not isinstance(value, dict):
        raise BadEvents(f"event {number} must be a mapping, not {shown(value)}")
    for field in ("message_id", "event_type"):
        text = value.get(field)
        if not isinstance(text, str) or not 0 < len(text) <= _LONGEST or "\x00" in text:
            raise BadEvents(
                f"event {number}: {field} must be a text of 1 to {_LONGEST} characters, "
                f"not {shown(text)}"
            )
    traits = value.get("traits", [])
    if not isinstance(traits, list) or not all(
        isinstance(one, list) and len(one) == 3 and isinstance(one[0], str) for one in traits
    ):
        raise BadEvents(f"event {number}: traits must be a list of [name, type, value]")
    if len(json.dumps(value)) > _MOST:
        raise BadEvents(f"event {number} has more than {_MOST} bytes as JSON")
    project = ""
    for name, _, text in traits:
        if name in ("tenant_id", "project_id"):
            project = str(text)[:_LONGEST]
    return Event(value["message_id"], value["event_type"], project, value)


def hits(rule: EventRule, event: Event) -> bool:
    """Return whether an event hits a rule: its type, and each of the conditions.

    A condition on what the event does not have holds for ``ne`` alone, and so does one that
    compares what cannot be compared. (Aodh evaluates conditions on traits alone, and gives up on
    the rest.)

    Example:
        >>> [event] = events_of({"message_id": "1", "event_type": "a.b", "traits": [["n", 2, "7"]]})
        >>> condition = {"field": "traits.n", "op": "gt", "value": "6", "type": "integer"}
        >>> hits(EventRule(event_type="a.*", query=[condition]), event)
        True
    """
    if not fnmatch.fnmatch(event.event_type, rule.event_type):
        return False
    traits = {name: (kind, value) for name, kind, value in event.body.get("traits", [])}
    return all(
        _holds(condition.op, _found(condition.field, event, traits), _cast(condition))
        for condition in rule.query
    )


def _holds(compared: Comparison, found: Any, wanted: Any) -> bool:
    if found is None:
        return compared is Comparison.NE
    try:
        return bool(_COMPARED[compared](found, wanted))
    except TypeError:
        return compared is Comparison.NE


def _found(field: str, event: Event, traits: Mapping[str, tuple[Any, Any]]) -> Any:
    if field.startswith("traits."):
        kind, value = traits.get(field.partition(".")[2], (None, None))
        return None if value is None else _typed(value, _TRAIT_TYPES.get(kind, str(kind)))
    found: Any = event.body
    for part in field.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return str(found) if isinstance(found, list | dict) else found


def _cast(condition: Any) -> Any:
    return _typed(condition.value, condition.type or "string")


def _typed(value: Any, kind: str) -> Any:
    """Return a value as one of a type; one that is not of the type becomes a text."""
    try:
        if kind == "integer":
            return int(value)
        if kind == "float":
            return float(value)
        if kind == "boolean":
            return str(value).lower() in ("true", "1", "yes", "on")
        if kind == "datetime":
            return _moment(str(value))
    except (ValueError, TypeError, OverflowError):
        pass
    return str(value)


def _moment(text: str) -> datetime:
    found = datetime.fromisoformat(text)
    return found if found.tzinfo is None else found.astimezone(UTC).replace(tzinfo=None)


def reason_of(rule: Mapping[str, Any], event: Event) -> tuple[str, dict[str, Any]]:
    """Return why an alarm fires, for people and for programs; text and fields are Aodh's."""
    query = json.dumps(rule.get("query", []), sort_keys=True)
    text = (
        f"Event <id={event.message_id},event_type={event.event_type}> hits the query "
        f"<query={query}>."
    )
    return text, {"type": "event", "event": dict(event.body)}
