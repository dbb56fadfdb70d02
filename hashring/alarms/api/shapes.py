"""Alarms and changes as an answer has them: Aodh's fields, without what is secret."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from hashring.alarms.api import rules
from hashring.alarms.api.actions import ACTIONS, hidden

__all__ = ["alarm_shape", "change_shape", "detail_of"]

_PLAIN = (
    *("alarm_id", "name", "enabled", "repeat_actions", "type", "project_id", "user_id"),
    *("timestamp", "state", "state_timestamp", "state_reason", "severity", "evaluate_timestamp"),
)

_OF_CHANGE = (
    *("event_id", "alarm_id", "type", "detail", "project_id", "user_id", "on_behalf_of"),
    "timestamp",
)


_ORDER = {
    name: number
    for number, name in enumerate(
        (
            *("alarm_id", "type", "enabled", "name", "description", "timestamp", "user_id"),
            *("project_id", "state", "state_timestamp", "state_reason", *ACTIONS),
            *("repeat_actions", "rule", "time_constraints", "severity"),
        )
    )
}
"""In which order Aodh writes the fields of a change."""


def alarm_shape(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return an alarm as an answer has it.

    Args:
        row: of the table.
    """
    found = {name: _json(row[name]) for name in _PLAIN}
    kind = row["type"]
    found["state"] = row["state"] or "insufficient data"
    found["severity"] = row["severity"] or "low"
    found["description"] = row["description"] or rules.described(kind, row["rule"])
    found[f"{kind}_rule"] = rules.shown(row["rule"])
    found["time_constraints"] = row["time_constraints"] or []
    for name in ACTIONS:
        found[name] = hidden(row[name])
    return found


def change_shape(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a change as an answer has it.

    Args:
        row: of the history.
    """
    found = {name: _json(row[name]) for name in _OF_CHANGE}
    found["detail"] = _without_secrets(row["detail"])
    return found


def detail_of(columns: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the history says of columns: URLs without what is secret.

    Args:
        columns: those that have changed, or all of a new alarm.
    """
    ordered = sorted(columns, key=lambda name: _ORDER.get(name, len(_ORDER)))
    return {name: hidden(columns[name]) if name in ACTIONS else columns[name] for name in ordered}


def _without_secrets(detail: Any) -> Any:
    """Hide what an Aodh has written down."""
    if not isinstance(detail, str) or "://" not in detail:
        return detail
    try:
        found = json.loads(detail)
    except (ValueError, RecursionError):
        return detail
    return json.dumps(detail_of(found)) if isinstance(found, dict) else detail


def _json(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value
