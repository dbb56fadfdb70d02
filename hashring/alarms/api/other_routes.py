"""Complex queries, quotas, capabilities, metrics and versions: what each request does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hashring.alarms.api.answers import Refused
from hashring.alarms.api.complex_query import OF_ALARMS, OF_HISTORY, asked
from hashring.alarms.api.fields import Field, choice, fields_of, identifier, whole
from hashring.alarms.api.identity import Identity
from hashring.alarms.api.settings import APISettings
from hashring.alarms.api.shapes import alarm_shape, change_shape
from hashring.alarms.database.stored import Stored

__all__ = ["OtherRoutes", "versions"]

_RESOURCES = ("alarms",)

_CAPABILITIES: Mapping[str, Mapping[str, bool]] = {
    "api": {
        f"alarms:{part}query:{kind}": True
        for part in ("", "history:")
        for kind in ("simple", "complex")
    },
    "alarm_storage": {"storage:production_ready": True},
}


class OtherRoutes:
    """What the other requests do.

    Args:
        stored: the alarms.
        settings: of the server.
    """

    def __init__(self, stored: Stored, settings: APISettings) -> None:
        self._stored = stored
        self._settings = settings

    def query_alarms(self, identity: Identity, body: Any) -> Any:
        """Return the alarms that a complex query asks for."""
        identity.may_read(identity.project)
        query = asked(body, OF_ALARMS, identity)
        return [alarm_shape(row) for row in self._stored.alarms(query.condition, query.page)]

    def query_history(self, identity: Identity, body: Any) -> Any:
        """Return the changes that a complex query asks for."""
        identity.may_read(identity.project)
        query = asked(body, OF_HISTORY, identity)
        return [change_shape(row) for row in self._stored.history(query.condition, query.page)]

    def capabilities(self) -> Any:
        """Return what the API can do."""
        return _CAPABILITIES

    def metrics(self) -> Any:
        """Refuse: evaluations are counted in the evaluators' own metrics."""
        raise Refused("metrics endpoint is disabled", 403)

    def quotas(self, identity: Identity, project: str | None) -> Any:
        """Return a project's limits: those that are set, or the default."""
        project = project or identity.project
        identity.may_read(project)
        limits = self._stored.quotas(project or "")
        return _quotas(project, limits or {"alarms": self._settings.project_quota})

    def set_quotas(self, identity: Identity, body: Any) -> Any:
        """Set limits of a project; return all of its."""
        found = fields_of(
            "body",
            body,
            {"project_id": Field(identifier, required=True), "quotas": Field(_limits, {})},
        )
        identity.is_administrator()
        return _quotas(
            found["project_id"], self._stored.set_quotas(found["project_id"], found["quotas"])
        )

    def drop_quotas(self, identity: Identity, project: str | None) -> None:
        """Remove the limits of a project."""
        if not project:
            raise Refused('Missing argument: "project_id"')
        identity.is_administrator()
        self._stored.drop_quotas(project)


def _limits(name: str, value: Any) -> dict[str, int]:
    if not isinstance(value, list):
        raise Refused(f"{name} must be a list")
    fields = {
        "resource": Field(choice(_RESOURCES), required=True),
        "limit": Field(whole(-1, 2**31 - 1), required=True),
    }
    found = [fields_of("body.quotas", one, fields) for one in value]
    return {one["resource"]: one["limit"] for one in found}


def _quotas(project: str | None, limits: Mapping[str, int]) -> dict[str, Any]:
    found = [{"resource": name, "limit": limit} for name, limit in limits.items()]
    return {"project_id": project, "quotas": found}


def versions(base: str) -> Any:
    """Return which versions of the API there are.

    Args:
        base: the URL of the server.
    """
    kinds = [
        {
            "base": "application/json",
            "type": "application/vnd.openstack.telemetry-v2+json",
        }
    ]
    v2 = {
        "id": "v2",
        "links": [
            {"href": f"{base.rstrip('/')}/v2", "rel": "self"},
            {"href": "https://docs.openstack.org/", "rel": "describedby", "type": "text/html"},
        ],
        "media-types": kinds,
        "status": "stable",
        "updated": "2013-02-13T00:00:00Z",
    }
    return {"versions": {"values": [v2]}}
