"""Prometheus: the values of a PromQL query at a time, one for each series."""

from __future__ import annotations

import math
from typing import Any
from urllib.parse import quote, urlencode

from hashring import clock
from hashring.alarms.errors import BadQuery, SourceAway
from hashring.alarms.model import PrometheusRule
from hashring.alarms.sources.promql import narrowed
from hashring.alarms.sources.replies import Asker, Reply, said
from hashring.url import masked, shown

__all__ = ["PrometheusSource"]

_LONG = 1_500
"""Bytes of a query from which on it is posted: servers bound the length of a URL."""


class PrometheusSource:
    """Asks a server's API. May be used by several threads.

    Args:
        url: of the server; a user and password in it are sent as basic authentication.
        threads: connections that are kept.
        ca_file: of authorities; ``None``: the usual ones.
        project_label: the label that says whose a series is.
    """

    def __init__(
        self,
        url: str,
        threads: int,
        ca_file: str | None = None,
        project_label: str = "project",
    ) -> None:
        self._url = f"{url.rstrip('/')}/api/v1/query"
        self.shown = masked(url)
        self._project_label = project_label
        self._asker = Asker(threads, ca_file)

    def values(self, rule: PrometheusRule, at: float, deadline: float) -> list[float]:
        """Return the values of the series of a rule's query, in the order of their labels.

        Args:
            rule: whose query is asked.
            at: about which time, in wall-clock seconds.
            deadline: on the clock of :func:`hashring.clock.boottime`.

        Raises:
            SourceAway: it did not answer, or refused the query.
        """
        found = self._answer(rule, at, deadline)
        if found["status"] == "error":
            raise SourceAway(f"{self.shown}: refuses the query: {self._why(found)}", answered=True)
        data = found.get("data")
        if (wrong := _wrong_kind(data)) is not None:
            raise SourceAway(f"{self.shown}: {wrong}", answered=True)
        return self._read(data)

    def problem(self, rule: PrometheusRule, deadline: float) -> str | None:
        """Return why a rule's query can never give values; ``None``: nobody says that it cannot.

        Args:
            rule: whose query is asked, about now.
            deadline: on the clock of :func:`hashring.clock.boottime`.

        Raises:
            SourceAway: it did not answer.
        """
        found = self._answer(rule, clock.wall(), deadline)
        if found["status"] == "success":
            return _wrong_kind(found.get("data"))
        # Other errors, of time and of memory, may be gone the next time.
        return self._why(found) if found.get("errorType") == "bad_data" else None

    def _answer(self, rule: PrometheusRule, at: float, deadline: float) -> dict[str, Any]:
        query = rule.query
        if rule.scope_to_project:
            try:
                query = narrowed(query, self._project_label, rule.scope_to_project)
            except BadQuery as error:
                raise SourceAway(str(error), answered=True) from None
        reply = self._asked(query, at, deadline)
        found = reply.value()
        if not isinstance(found, dict) or found.get("status") not in ("success", "error"):
            raise SourceAway(f"{self.shown}: answered {reply.status}, and not as Prometheus does")
        return found

    def _why(self, found: dict[str, Any]) -> str:
        return said(str(found.get("error")), self._url)

    def _asked(self, query: str, at: float, deadline: float) -> Reply:
        form = urlencode({"query": query, "time": f"{at:.3f}"}, quote_via=quote)
        if len(form) <= _LONG:
            return self._asker.ask("GET", f"{self._url}?{form}", deadline, shown=self.shown)
        return self._asker.ask(
            "POST",
            self._url,
            deadline,
            shown=self.shown,
            headers={"Content-Type": "application/x-www-form-urlencoded"},
            body=form.encode(),
        )

    def _read(self, data: Any) -> list[float]:
        try:
            kind, result = data["resultType"], data["result"]
            if kind == "scalar":
                return [_number(result)]
            if kind == "vector":
                series = [(sorted(one["metric"].items()), _number(one["value"])) for one in result]
                return [value for _, value in sorted(series, key=lambda one: one[0])]
        except (TypeError, KeyError, ValueError, IndexError, AttributeError):
            pass
        raise SourceAway(f"{self.shown}: its answer is damaged")

    def close(self) -> None:
        """Close the connections."""
        self._asker.close()


def _wrong_kind(data: Any) -> str | None:
    """Return what is wrong with the type of an answer that says one."""
    kind = data.get("resultType") if isinstance(data, dict) else None
    if kind is None or kind in ("scalar", "vector"):
        return None
    return (
        f"the query gives a {shown(kind)}; a rule needs an instant vector or a scalar: aggregate "
        "over the range"
    )


def _number(pair: Any) -> float:
    _, text = pair
    return math.nan if text == "NaN" else float(text)
