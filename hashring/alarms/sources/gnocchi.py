"""Gnocchi: the newest complete granules of a metric, of several, or of a search for resources."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Protocol
from urllib.parse import quote, urlencode

from hashring.alarms.errors import SourceAway
from hashring.alarms.model import GnocchiMetricsRule, GnocchiResourceRule, GnocchiResourcesRule
from hashring.alarms.sources.replies import Asker, Reply, said
from hashring.url import masked

__all__ = ["Access", "Gnocchi", "GnocchiSource", "Place"]

_LOOK_BACK = 1
"""Granules more than the rule wants, for what arrives late; Aodh looks back as far."""

_Rule = GnocchiResourceRule | GnocchiMetricsRule | GnocchiResourcesRule


class Access(Protocol):
    """Who says where Gnocchi is, and what it wants to be shown."""

    def endpoint(self, deadline: float) -> str:
        """Return its URL."""

    def headers(self, deadline: float) -> Mapping[str, str]:
        """Return headers for a request."""

    def refused(self) -> bool:
        """Be told that they were refused; return whether another try may succeed."""

    def project_id(self, name: str, domain: str, deadline: float) -> str | None:
        """Return the id of a project; ``None``: no project is called so."""


class Place:
    """Gnocchi at a URL, without Keystone; a user in it is sent as basic authentication."""

    def __init__(self, url: str) -> None:
        self._url = url

    def endpoint(self, deadline: float) -> str:
        """Return the URL."""
        return self._url

    def headers(self, deadline: float) -> Mapping[str, str]:
        """Return none: the URL has all."""
        return {}

    def refused(self) -> bool:
        """Return that no other try can succeed."""
        return False

    def project_id(self, name: str, domain: str, deadline: float) -> str | None:
        """Return that without a Keystone there are no projects."""
        return None


class Gnocchi:
    """Gnocchi's API. May be used by several threads.

    Args:
        access: where it is.
        threads: connections that are kept.
        ca_file: of authorities; ``None``: the usual ones.
    """

    def __init__(self, access: Access, threads: int, ca_file: str | None = None) -> None:
        self._access = access
        self._asker = Asker(threads, ca_file)

    def ask(self, method: str, path: str, deadline: float, body: Any = None) -> Reply:
        """Return what it answers; credentials that it refuses are fetched anew, once.

        Args:
            method: ``"GET"``, ``"POST"``.
            path: with what is asked for.
            deadline: on the clock of :func:`hashring.clock.boottime`.
            body: JSON types; ``None``: nothing is sent.

        Raises:
            SourceAway: it did not answer.
        """
        reply = self._asked(method, path, deadline, body)
        if reply.status == 401 and self._access.refused():
            reply = self._asked(method, path, deadline, body)
        return reply

    def _asked(self, method: str, path: str, deadline: float, body: Any) -> Reply:
        url = self._access.endpoint(deadline).rstrip("/") + path
        headers = {"Accept": "application/json", **self._access.headers(deadline)}
        sent = None
        if body is not None:
            sent = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        shown = self.shown(deadline)
        return self._asker.ask(method, url, deadline, shown=shown, headers=headers, body=sent)

    def shown(self, deadline: float) -> str:
        """Return its URL without secrets."""
        return masked(self._access.endpoint(deadline))

    def said(self, reply: Reply, deadline: float) -> str:
        """Return what an answer says of an error, without secrets."""
        return said(reply.text, self._access.endpoint(deadline))

    def close(self) -> None:
        """Close the connections."""
        self._asker.close()


class GnocchiSource:
    """Asks Gnocchi for measures. May be used by several threads.

    Args:
        access: where it is.
        threads: connections that are kept.
        ca_file: of authorities; ``None``: the usual ones.
    """

    def __init__(self, access: Access, threads: int, ca_file: str | None = None) -> None:
        self._gnocchi = Gnocchi(access, threads, ca_file)

    def values(self, rule: _Rule, at: float, deadline: float) -> list[float]:
        """Return the aggregates of the newest granules, oldest first: at most as many as wanted.

        What Gnocchi does not know has no values.

        Args:
            rule: which metric, and what is made of it.
            at: granules that end later do not count; in wall-clock seconds.
            deadline: on the clock of :func:`hashring.clock.boottime`.

        Raises:
            SourceAway: it did not answer, or refused the question.
        """
        end = math.floor(at / rule.granularity) * rule.granularity
        start = end - (rule.evaluation_periods + _LOOK_BACK) * rule.granularity
        method, path, query, body = _question(rule)
        query |= {"start": _time(start), "stop": _time(end), "granularity": f"{rule.granularity:g}"}
        reply = self._gnocchi.ask(method, f"{path}?{urlencode(query)}", deadline, body)
        if reply.status == 404:
            return []  # the metric, the resource or the aggregate is not there
        if reply.status != 200:
            raise SourceAway(
                f"{self._gnocchi.shown(deadline)}: answered {reply.status}: "
                f"{self._gnocchi.said(reply, deadline)}",
                answered=400 <= reply.status < 500,
            )
        values = _values(reply.value(), rule.granularity)
        if values is None:
            raise SourceAway(f"{self._gnocchi.shown(deadline)}: its answer is damaged")
        return values[-rule.evaluation_periods :]

    def close(self) -> None:
        """Close the connections."""
        self._gnocchi.close()


def _values(found: Any, granularity: float) -> list[float] | None:
    """Return the values of an answer, oldest first; ``None``: it is not as Gnocchi answers."""
    try:
        if isinstance(found, dict):
            found = found["measures"]["aggregated"]
        points = [(str(when), float(length), value) for when, length, value in found]
    except (ValueError, TypeError, KeyError):
        return None
    return [
        float(value)
        for _, length, value in sorted(points, key=lambda point: point[0])
        if length == granularity and isinstance(value, int | float)
    ]


def _question(rule: _Rule) -> tuple[str, str, dict[str, str], Any]:
    """Return method, path, query and body of what is asked."""
    if isinstance(rule, GnocchiResourceRule):
        of = f"{quote(rule.resource_id, safe='')}/metric/{quote(rule.metric, safe='')}"
        query = {"aggregation": rule.aggregation_method}
        return "GET", f"/v1/resource/generic/{of}/measures", query, None
    # Of a rate, the metrics' own aggregates are those without it.
    plain = rule.aggregation_method.removeprefix("rate:")
    if isinstance(rule, GnocchiMetricsRule):
        of_metrics = [["metric", metric, plain] for metric in rule.metrics]
        body: dict[str, Any] = {"operations": ["aggregate", rule.aggregation_method, *of_metrics]}
    else:
        operations = ["aggregate", rule.aggregation_method, ["metric", rule.metric, plain]]
        search = json.loads(rule.query)
        body = {"operations": operations, "search": search, "resource_type": rule.resource_type}
    # A resource that is gone has no newer points: the others' are enough.
    return "POST", "/v1/aggregates", {"needed_overlap": "0"}, body


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None).isoformat()
