"""An alarm as a request defines it: every field checked, defaults filled in, the owner decided.

What the server alone knows (ids, times, reasons) is taken from a request in one place: the time of
the state that a client has read tells whether the state in it is still the alarm's.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from hashring.alarms.api import rules
from hashring.alarms.api.actions import ACTIONS, accepted
from hashring.alarms.api.answers import Refused, invalid, of_another
from hashring.alarms.api.asked_rules import Asked
from hashring.alarms.api.fields import (
    Field,
    boolean,
    choice,
    fields_of,
    identifier,
    mapping,
    text,
    texts,
    utc,
    whole,
)
from hashring.alarms.api.identity import Identity
from hashring.alarms.model import Problem, Severity, State, problem_of

__all__ = ["Draft", "Limits", "draft_of"]

_DURATION = whole(0, 10 * 366 * 86_400)

_CONSTRAINT: Mapping[str, Field] = {
    "name": Field(text, required=True),
    "description": Field(text, ""),
    "start": Field(text, required=True),
    "duration": Field(_DURATION, required=True),
    "timezone": Field(text, ""),
}


def _given(name: str, value: Any) -> Any:
    return value


def _time(name: str, value: Any) -> datetime.datetime:
    try:
        return utc(text(name, value))
    except ValueError:
        raise invalid(name, value, "must be a time such as 2026-01-31T12:00:00") from None


_FIELDS: Mapping[str, Field] = {
    "name": Field(text, required=True),
    "type": Field(choice(rules.TYPES), required=True),
    "description": Field(text, ""),
    "enabled": Field(boolean, True),
    "repeat_actions": Field(boolean, False),
    "severity": Field(choice([str(one) for one in Severity]), str(Severity.LOW)),
    **{name: Field(texts) for name in ACTIONS},
    "time_constraints": Field(_given, []),
    "project_id": Field(identifier),
    "user_id": Field(identifier),
    "state": Field(choice([str(one) for one in State])),
    "state_timestamp": Field(_time),
    # What the server alone knows.
    **{name: Field(_given) for name in ("alarm_id", "timestamp", "evaluate_timestamp")},
    "state_reason": Field(_given),
    **{f"{kind}_rule": Field(_given) for kind in rules.TYPES},
}


class Limits(NamedTuple):
    """What bounds an alarm.

    Attributes:
        most_actions: URLs in each of the three lists; 0 or less: any number.
        check_action: checks the URL of an action; raises BadAlarm.
        asked: the sources that are asked about rules.
    """

    most_actions: int
    check_action: Callable[[str], None]
    asked: Asked = Asked()


class Draft(NamedTuple):
    """What a request wants an alarm to be.

    Attributes:
        columns: the columns that are the user's.
        state: that it is to have; ``None``: it says nothing of it.
        read_at: the time of the state that the client has read, if it says one.
    """

    columns: dict[str, Any]
    state: str | None
    read_at: datetime.datetime | None


def draft_of(
    value: Any, identity: Identity, limits: Limits, kept: Mapping[str, Any] | None = None
) -> Draft:
    """Return what a request's body wants.

    Args:
        value: JSON types.
        identity: who asks.
        limits: what bounds an alarm.
        kept: the alarm's row as it is; ``None``: it is to be made.

    Raises:
        Refused: something is wrong with it; the message names the field.
    """
    found = fields_of("data", mapping("data", value), _FIELDS)
    kind = found["type"]
    if not found["name"]:
        raise invalid("name", found["name"], "must have a character")
    _check_type(kind, kept)
    project, user = _owner(found, identity, kept)
    columns = {
        name: found[name] for name in ("name", "type", "enabled", "repeat_actions", "severity")
    }
    rule = _rule(value, kind, identity.scope(project))
    if kept is None or (kept["type"], kept["project_id"], kept["rule"]) != (kind, project, rule):
        # One that stays as it is can be switched off while Gnocchi is away.
        rule = limits.asked.checked(kind, rule, identity.scope(project))
    columns["rule"] = rule
    columns["description"] = found["description"] or rules.described(kind, columns["rule"])
    columns["time_constraints"] = _constraints(found["time_constraints"])
    for name in ACTIONS:
        urls = found[name]
        columns[name] = (
            ([] if name not in value else None)
            if urls is None
            else accepted(
                name,
                urls,
                kept=kept or {},
                is_admin=identity.is_admin,
                most=limits.most_actions,
                check=limits.check_action,
            )
        )
    columns |= {"project_id": project, "user_id": user}
    if kind in rules.EVALUATED:
        _check_as_evaluated(columns)
    return Draft(columns, found["state"], found["state_timestamp"])


def _check_type(kind: str, kept: Mapping[str, Any] | None) -> None:
    if kind in rules.EVALUATED or (kept is not None and kept["type"] == kind):
        return
    raise invalid(
        "type",
        kind,
        f"No alarm of it can be made here. Value should be one of: {', '.join(rules.EVALUATED)}",
    )


def _owner(
    found: Mapping[str, Any], identity: Identity, kept: Mapping[str, Any] | None
) -> tuple[str, str]:
    """Return project and user of the alarm.

    Whoever is no administrator makes alarms for nobody else; what they change becomes theirs.
    """
    owner = []
    for aspect, own in (("project", identity.project), ("user", identity.user)):
        asked = found[f"{aspect}_id"]
        if not identity.is_admin:
            if kept is None and asked is not None and asked != own:
                raise of_another(asked, aspect)
            owner.append(own or "")
        elif asked is not None:
            owner.append(asked)
        else:
            owner.append((own if kept is None else kept[f"{aspect}_id"]) or "")
    return owner[0], owner[1]


def _rule(value: Mapping[str, Any], kind: str, scope: str | None) -> dict[str, Any]:
    own = f"{kind}_rule"
    given = [f"{one}_rule" for one in rules.TYPES if value.get(f"{one}_rule") is not None]
    if own not in given:
        raise Refused(f"{own} must be set for {kind} type alarm")
    if len(given) > 1:
        raise Refused(f"{given[0]} and {given[1]} cannot be set at the same time")
    return rules.checked(kind, value[own], scope)


def _constraints(value: Any) -> list[dict[str, Any]]:
    if not isinstance(value, list):
        raise invalid("time_constraints", value, "must be a list")
    found = [fields_of("data.time_constraints", one, _CONSTRAINT) for one in value]
    names = [one["name"] for one in found]
    if len(set(names)) < len(names):
        raise Refused("Time constraint names must be unique for a given alarm.")
    for one in found:
        if not one["description"]:
            one["description"] = (
                f"Time constraint at {one['start']} lasting for {one['duration']} seconds"
            )
    return found


def _check_as_evaluated(columns: Mapping[str, Any]) -> None:
    """Refuse what the evaluator would: it has bounds of its own."""
    kind = columns["type"]
    definition = {
        name: one
        for name, one in columns.items()
        if name not in ("project_id", "user_id") and one is not None
    }
    if kind == "event":  # its rule is checked where it is read
        definition |= {"type": "prometheus", "rule": {"query": "up", "threshold": 0}}
    problem = problem_of(definition)
    if problem is not None:
        raise _of_problem(problem, kind)


def _of_problem(problem: Problem, kind: str) -> Refused:
    path = list(problem.path)
    if path[:1] == ["rule"]:
        path[0] = f"{kind}_rule"
    return Refused(
        f"Invalid input for field/attribute {'.'.join(str(part) for part in path)}. {problem.text}"
    )
