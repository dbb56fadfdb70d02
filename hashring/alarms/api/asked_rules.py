"""Rules that their source is asked about when they are made: what it refuses is refused then.

Gnocchi must answer, since a tenant's search is narrowed by what it says. Prometheus need not: while
it is away a query is taken as it is, and refused by the evaluators if it is wrong.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, Self

from hashring import clock
from hashring.alarms.api.answers import invalid
from hashring.alarms.errors import SourceAway
from hashring.alarms.model import PrometheusRule
from hashring.alarms.sources.prometheus import PrometheusSource

__all__ = ["Asked", "PrometheusRules", "Rule", "Rules"]

log = logging.getLogger(__name__)

Rule = Mapping[str, Any]

_PATIENCE = 3.0
"""Seconds for Prometheus to say what it thinks of a query."""

_REST = 10.0
"""Seconds for which a Prometheus that did not answer is not asked: a rule may have many parts."""


class Rules(Protocol):
    """Who knows a source."""

    def checked(self, kind: str, rule: Rule, scope: str | None) -> dict[str, Any]:
        """Return a rule, checked and narrowed; raise Refused."""

    def close(self) -> None:
        """Let go of what is open."""


class Asked(NamedTuple):
    """Who is asked about rules.

    Attributes:
        gnocchi: about those on Gnocchi; ``None``: none can be made.
        prometheus: about PromQL; ``None``: nobody is.
    """

    gnocchi: Rules | None = None
    prometheus: Rules | None = None

    def checked(self, kind: str, rule: Rule, scope: str | None) -> dict[str, Any]:
        """Return a rule of which all parts are checked, and those on Gnocchi narrowed.

        Args:
            kind: the type of the alarm.
            rule: its fields are in order.
            scope: the project that searches are narrowed to; ``None``: they are not.

        Raises:
            Refused: a source refuses it; Gnocchi is not known, or does not answer.
        """
        if kind == "composite":
            return self._expression(rule, scope)
        if kind == "prometheus" and self.prometheus is not None:
            return self.prometheus.checked(kind, rule, scope)
        if not kind.startswith("gnocchi_"):
            return dict(rule)
        if self.gnocchi is None:
            raise invalid(
                "type",
                kind,
                "No Gnocchi is known here: set [alarm] gnocchi_url or [service_credentials]",
            )
        return self.gnocchi.checked(kind, rule, scope)

    def _expression(self, rule: Rule, scope: str | None) -> dict[str, Any]:
        if "type" not in rule:
            return {
                operator: [self._expression(part, scope) for part in parts]
                for operator, parts in rule.items()
            }
        leaf = {name: value for name, value in rule.items() if name != "type"}
        return {"type": rule["type"], **self.checked(rule["type"], leaf, scope)}

    def remembered(self) -> Self:
        """Return the same for one request: each rule is asked about once."""
        return type(self)(*(None if one is None else _Remembered(one) for one in self))

    def close(self) -> None:
        """Close the connections to all of them."""
        for one in self:
            if one is not None:
                one.close()


class PrometheusRules:
    """Asks Prometheus about queries. It may be used by several threads.

    Args:
        source: it.
    """

    def __init__(self, source: PrometheusSource) -> None:
        self._source = source
        self._not_before = 0.0  # on CLOCK_BOOTTIME

    def checked(self, kind: str, rule: Rule, scope: str | None) -> dict[str, Any]:
        """Return a rule as it is.

        Raises:
            Refused: Prometheus says that the query is wrong.
        """
        now = clock.boottime()
        if now < self._not_before:
            return dict(rule)
        asked = PrometheusRule(query=rule["query"], threshold=0.0, scope_to_project=scope)
        try:
            why = self._source.problem(asked, now + _PATIENCE)
        except SourceAway as error:
            log.warning("a query is not checked: %s", error)
            if not error.answered:
                self._not_before = clock.boottime() + _REST
            return dict(rule)
        if why is not None:
            raise invalid("query", rule["query"], f"Prometheus refuses it: {why}")
        return dict(rule)

    def close(self) -> None:
        """Close the connections."""
        self._source.close()


class _Remembered:
    """Asks about each rule once: for a request that is decided again while a row is locked."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._known: dict[tuple[str, str, str | None], dict[str, Any]] = {}

    def checked(self, kind: str, rule: Rule, scope: str | None) -> dict[str, Any]:
        key = kind, json.dumps(rule, sort_keys=True), scope
        if key not in self._known:
            self._known[key] = self._rules.checked(kind, rule, scope)
        return self._known[key]

    def close(self) -> None:
        """Close nothing: who made the others does."""
