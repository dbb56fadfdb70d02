"""Rules on Gnocchi, as the API takes them: asked of Gnocchi, and narrowed to a project.

Gnocchi itself says which aggregation methods there are, and whether it understands a search. A
tenant's search sees resources alone that the tenant's project has made, or that a service
(``gnocchi_external_project_owner``, Ceilometer's) has made for it: the evaluators ask with rights
of their own. The filter is Aodh's, and stands in the rule, where Aodh has it.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

from hashring import clock
from hashring.alarms.api.answers import Refused, invalid
from hashring.alarms.api.asked_rules import Rule
from hashring.alarms.errors import SourceAway
from hashring.alarms.sources.gnocchi import Gnocchi
from hashring.alarms.sources.replies import Reply

__all__ = ["GnocchiRules"]

_KEPT = 3600.0
"""Seconds for which what Gnocchi and Keystone say of themselves is believed; Aodh's number."""

_SEARCH = "gnocchi_aggregation_by_resources_threshold"


class GnocchiRules:
    """Checks rules on Gnocchi. It may be used by several threads.

    Args:
        gnocchi: it.
        owner: returns, by a deadline, the project that makes resources for others; ``None``: none.
        timeout: seconds for all that is asked for one rule.
    """

    def __init__(
        self, gnocchi: Gnocchi, owner: Callable[[float], str | None], timeout: float
    ) -> None:
        self._gnocchi = gnocchi
        self._methods = _Kept(self._asked_for_methods)
        self._owner = _Kept(owner)
        self._timeout = timeout

    def checked(self, kind: str, rule: Rule, scope: str | None) -> dict[str, Any]:
        """Return a rule: Gnocchi knows its method and its search, which is narrowed.

        Args:
            kind: a type of rules on Gnocchi.
            rule: its fields are in order.
            scope: the project that a search is narrowed to; ``None``: it is not.

        Raises:
            Refused: Gnocchi refuses it, or it or Keystone does not answer (503).
        """
        deadline = clock.boottime() + self._timeout
        try:
            methods = self._methods.value(deadline)
            if rule["aggregation_method"] not in methods:
                raise Refused(
                    f"aggregation_method should be in {methods} not "
                    f"{rule['aggregation_method']:.200}"
                )
            if kind != _SEARCH:
                return dict(rule)
            search = _search(rule["query"])
            query = rule["query"]
            if scope is not None:
                seen = _seen_by(scope, self._owner.value(deadline))
                if not _is_narrowed(search, seen):
                    search = {"and": [seen, search]}
                    query = json.dumps(search)
            self._try(rule, search, deadline)
        except SourceAway as error:
            raise Refused(str(error), 503) from None
        return {**rule, "query": query}

    def close(self) -> None:
        """Close the connections."""
        self._gnocchi.close()

    def _asked_for_methods(self, deadline: float) -> list[str]:
        reply = self._gnocchi.ask("GET", "/v1/capabilities", deadline)
        found = reply.value() if reply.status == 200 else None
        methods = found.get("aggregation_methods") if isinstance(found, dict) else None
        if not isinstance(methods, list):
            raise self._away(reply, deadline)
        return [str(method) for method in methods]

    def _try(self, rule: Rule, search: Any, deadline: float) -> None:
        """Have Gnocchi search: what it does not understand is refused now, not in each window."""
        method = rule["aggregation_method"]
        of_one = ["metric", rule["metric"], method.removeprefix("rate:")]
        body = {
            "operations": ["aggregate", method, of_one],
            "search": search,
            "resource_type": rule["resource_type"],
        }
        query = urlencode({"needed_overlap": "0", "start": "-1 day", "stop": "now"})
        reply = self._gnocchi.ask("POST", f"/v1/aggregates?{query}", deadline, body)
        if reply.status in (200, 404):  # what is not there may come
            return
        said = self._gnocchi.said(reply, deadline)
        if reply.status != 400:
            raise self._away(reply, deadline)
        if "Metrics not found" not in said:  # as releases before 4.5 say it
            raise invalid("query", rule["query"], f"Gnocchi refuses it: {said}")

    def _away(self, reply: Reply, deadline: float) -> SourceAway:
        return SourceAway(
            f"{self._gnocchi.shown(deadline)}: answered {reply.status}: "
            f"{self._gnocchi.said(reply, deadline)}"
        )


class _Kept:
    """An answer that is asked for anew when it is old."""

    def __init__(self, ask: Callable[[float], Any]) -> None:
        self._ask = ask
        self._lock = threading.Lock()
        self._until = 0.0
        self._found: Any = None

    def value(self, deadline: float) -> Any:
        with self._lock:
            if self._until > clock.boottime():
                return self._found
        found = self._ask(deadline)  # two at once ask twice: nobody waits for another's timeout
        with self._lock:
            self._found, self._until = found, clock.boottime() + _KEPT
        return found


def _search(text: str) -> Any:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise invalid("query", text, 'must be a search as Gnocchi takes it: JSON, {"=": {...}}')
    return found


def _seen_by(project: str, owner: str | None) -> dict[str, Any]:
    """Return the search for what a project may see."""
    made = {"=": {"created_by_project_id": project}}
    if owner is None:
        return made
    theirs = [{"=": {"created_by_project_id": owner}}, {"=": {"project_id": project}}]
    return {"or": [made, {"and": theirs}]}


def _is_narrowed(search: Any, seen: Rule) -> bool:
    """Return whether a search was narrowed before: a client writes back what it has read."""
    parts = search.get("and")
    return len(search) == 1 and isinstance(parts, list) and len(parts) == 2 and parts[0] == seen
