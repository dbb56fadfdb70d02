"""Alarms, their state and their history: what each request does."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from typing import Any

from werkzeug.datastructures import MultiDict

from hashring import clock
from hashring.alarms.api.answers import Refused, not_found
from hashring.alarms.api.drafts import Draft, Limits, draft_of
from hashring.alarms.api.identity import Identity
from hashring.alarms.api.settings import APISettings
from hashring.alarms.api.shapes import alarm_shape, change_shape, detail_of
from hashring.alarms.api.simple_query import (
    SORTED_ALARMS,
    SORTED_HISTORY,
    alarms_asked,
    history_asked,
    page_of,
)
from hashring.alarms.database.evaluations import utc
from hashring.alarms.database.stored import Change, Stored
from hashring.alarms.model import State

__all__ = ["AlarmRoutes", "parsed"]

Row = Mapping[str, Any]

_NEW = "Not evaluated yet"
_BY_HAND = "Manually set via API"

_TIMES = frozenset({"timestamp", "state_timestamp"})
"""Columns of which the history says nothing: it has times of its own."""


class AlarmRoutes:
    """What the requests on alarms do.

    Args:
        stored: the alarms.
        settings: of the server.
        limits: what bounds an alarm.
    """

    def __init__(self, stored: Stored, settings: APISettings, limits: Limits) -> None:
        self._stored = stored
        self._settings = settings
        self._limits = limits

    # ---- reading

    def list(self, identity: Identity, arguments: MultiDict[str, str]) -> Any:
        """Return the alarms that a simple query asks for."""
        identity.may_read(identity.project)
        page = page_of(arguments, SORTED_ALARMS)
        rows = self._stored.alarms(alarms_asked(arguments, identity), page)
        return [alarm_shape(row) for row in rows]

    def show(self, identity: Identity, alarm_id: str) -> Any:
        """Return an alarm."""
        return alarm_shape(self._readable(identity, alarm_id))

    def state(self, identity: Identity, alarm_id: str) -> Any:
        """Return an alarm's state."""
        return self._readable(identity, alarm_id)["state"] or str(State.UNKNOWN)

    def history(self, identity: Identity, arguments: MultiDict[str, str], alarm_id: str) -> Any:
        """Return the changes of an alarm that a simple query asks for."""
        self._readable(identity, alarm_id)
        page = page_of(arguments, SORTED_HISTORY)
        rows = self._stored.history(history_asked(arguments, identity, alarm_id), page)
        return [change_shape(row) for row in rows]

    def _readable(self, identity: Identity, alarm_id: str) -> Row:
        row = self._stored.alarm(alarm_id)
        if row is None or not _is_seen(identity, row):
            raise not_found(alarm_id)
        identity.may_read(row["project_id"])
        return row

    # ---- changing

    def create(self, identity: Identity, body: Any) -> Any:
        """Make an alarm; return it."""
        identity.may_change(identity.project)
        draft = draft_of(body, identity, self._limits)
        now = utc(clock.wall())
        columns = {
            "alarm_id": str(uuid.uuid4()),
            **draft.columns,
            "timestamp": now,
            "state": draft.state or str(State.UNKNOWN),
            "state_timestamp": now,
            "state_reason": _NEW,
        }
        change = self._change(identity, "creation", columns, identity.project)
        row = {**columns, "evaluate_timestamp": now.replace(microsecond=0)}
        if not self._stored.create(row, change, self._is_allowed):
            raise Refused(
                f"Alarm quota exceeded for user {row['user_id']} on project {row['project_id']}",
                403,
            )
        return alarm_shape(row)

    def _is_allowed(self, of_project: int, of_user: int, limit: int | None) -> bool:
        most = self._settings.project_quota if limit is None else limit
        return (most < 0 or of_project < most) and (
            self._settings.user_quota < 0 or of_user < self._settings.user_quota
        )

    def change(self, identity: Identity, alarm_id: str, body: Any) -> Any:
        """Let an alarm be what a request wants; return it.

        Only what the user defines is written. The state is, if the request names another one, and
        if it is the state that the client has read: what an evaluator has found meanwhile stays.
        """

        limits = self._limits
        if any(limits.asked):
            # They are asked before, not while the row is locked.
            limits = limits._replace(asked=limits.asked.remembered())
            if (before := self._stored.alarm(alarm_id)) is not None:
                self._check(identity, before, alarm_id, False)
                draft_of(body, identity, limits, before)

        def decide(row: Row, is_of_file: bool) -> tuple[Row, Change | None]:
            self._check(identity, row, alarm_id, is_of_file)
            draft = draft_of(body, identity, limits, row)
            now = utc(clock.wall())
            columns = {**draft.columns, "timestamp": now, **_state(draft, row, now)}
            news = {
                name: value
                for name, value in columns.items()
                if value != row[name] and name not in _TIMES
            }
            change = self._change(identity, "rule change", news, columns["project_id"])
            return columns, change if news else None

        row = self._stored.update(alarm_id, decide)
        if row is None:
            raise not_found(alarm_id)
        return alarm_shape(row)

    def set_state(self, identity: Identity, alarm_id: str, body: Any) -> Any:
        """Set the state of an alarm; return it."""
        if body not in [str(state) for state in State]:
            raise Refused("state invalid")

        def decide(row: Row, is_of_file: bool) -> tuple[Row, Change | None]:
            self._check(identity, row, alarm_id, False)
            columns = {
                "state": body,
                "state_timestamp": utc(clock.wall()),
                "state_reason": _BY_HAND,
            }
            detail = {"state": body, "state_reason": _BY_HAND}
            return columns, self._change(identity, "state transition", detail, row["project_id"])

        if self._stored.update(alarm_id, decide) is None:
            raise not_found(alarm_id)
        return body

    def delete(self, identity: Identity, alarm_id: str) -> None:
        """Remove an alarm with its history."""

        def decide(row: Row, is_of_file: bool) -> None:
            self._check(identity, row, alarm_id, is_of_file)

        if not self._stored.delete(alarm_id, decide):
            raise not_found(alarm_id)

    def _check(self, identity: Identity, row: Row, alarm_id: str, is_of_file: bool) -> None:
        if not _is_seen(identity, row):
            raise not_found(alarm_id)
        identity.may_change(row["project_id"])
        if is_of_file:
            raise Refused(
                f"Alarm {alarm_id} comes from a file in definitions_dirs: change it there", 409
            )

    def _change(
        self, identity: Identity, kind: str, columns: Row, on_behalf_of: str | None
    ) -> Change | None:
        if not self._settings.record_history:
            return None
        return Change(kind, detail_of(columns), identity.user, identity.project, on_behalf_of)


def _is_seen(identity: Identity, row: Row) -> bool:
    return identity.is_admin or row["project_id"] == identity.project


def _state(draft: Draft, row: Row, now: Any) -> Row:
    """Return the columns of the state that a change writes."""
    is_stale = draft.read_at is not None and draft.read_at != row["state_timestamp"]
    if draft.state is None or is_stale or draft.state == row["state"]:
        return {}
    return {"state": draft.state, "state_timestamp": now, "state_reason": _BY_HAND}


def parsed(body: bytes, argument: str) -> Any:
    """Return a request's body, which must be JSON.

    Args:
        body: of the request.
        argument: what it is called, for messages.

    Raises:
        Refused: it is missing, or no JSON.
    """
    if not body.strip():
        raise Refused(f'Missing argument: "{argument}"')
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise Refused("Request is not in valid JSON format") from None
