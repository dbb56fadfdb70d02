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
from hashring.telemetry.http import FAILURES, Client, is_timeout, reason_of
from hashring.url import masked, secrets_in, without_secrets

__all__ = ["Access", "GnocchiSource", "Place"]

_MOST = 16 * 1024 * 1024
"""Bytes of an answer, at most."""

_SAID = 300
"""Characters of an error that a message shows."""

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


class GnocchiSource:
    """Asks Gnocchi's API. May be used by several threads.

    Args:
        access: where it is.
        threads: connections that are kept.
        ca_file: of authorities; ``None``: the usual ones.
    """

    def __init__(self, access: Access, threads: int, ca_file: str | None = None) -> None:
        self._access = access
        self._verify: bool | str = ca_file or True
        self._client = Client(connections=threads)

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
        status, text = self._asked(method, f"{path}?{urlencode(query)}", body, deadline)
        if status == 401 and self._access.refused():
            status, text = self._asked(method, f"{path}?{urlencode(query)}", body, deadline)
        if status == 404:
            return []  # the metric, the resource or the aggregate is not there
        if status != 200:
            raise SourceAway(
                f"{self._shown(deadline)}: answered {status}: {self._said(text, deadline)}",
                answered=400 <= status < 500,
            )
        return self._read(text, rule, deadline)[-rule.evaluation_periods :]

    def _asked(self, method: str, path: str, body: Any, deadline: float) -> tuple[int, bytes]:
        url = self._access.endpoint(deadline).rstrip("/") + path
        headers = {"Accept": "application/json", **self._access.headers(deadline)}
        sent = None
        if body is not None:
            sent = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        text = bytearray()
        try:
            with self._client.exchange(
                method, url, deadline=deadline, headers=headers, body=sent, verify=self._verify
            ) as answer:
                for chunk in answer.chunks():
                    text += chunk
                    if len(text) > _MOST:
                        raise SourceAway(
                            f"{masked(url)}: its answer has more than {_MOST} bytes", answered=True
                        )
                return answer.status, bytes(text)
        except FAILURES as error:
            why = "no answer in time" if is_timeout(error, deadline) else reason_of(error)
            raise SourceAway(f"{self._shown(deadline)}: {why}") from None

    def _read(self, text: bytes, rule: _Rule, deadline: float) -> list[float]:
        try:
            found = json.loads(text)
            if isinstance(found, dict):
                found = found["measures"]["aggregated"]
            points = [(str(when), float(length), value) for when, length, value in found]
        except (ValueError, TypeError, KeyError, RecursionError):
            raise SourceAway(f"{self._shown(deadline)}: its answer is damaged") from None
        return [
            float(value)
            for _, length, value in sorted(points, key=lambda point: point[0])
            if length == rule.granularity and isinstance(value, int | float)
        ]

    def _shown(self, deadline: float) -> str:
        return masked(self._access.endpoint(deadline))

    def _said(self, text: bytes, deadline: float) -> str:
        said = " ".join(text.decode("utf-8", "replace").split())
        return without_secrets(said, secrets_in(self._access.endpoint(deadline)))[:_SAID]

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


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
