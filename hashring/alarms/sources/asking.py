"""Asking: the sources in one window. Equal questions are asked once, the dead not time and again.

A source that has not answered several questions in a row is left alone until the next window: the
others' alarms must not wait for each of its timeouts.
"""

from __future__ import annotations

import threading
from collections.abc import Hashable, Mapping
from concurrent.futures import Future
from typing import Any, Protocol

from hashring import clock
from hashring.alarms.errors import SourceAway
from hashring.alarms.machine import Judgement, insufficient, judged
from hashring.alarms.model import Leaf

__all__ = ["Asking", "Source"]

_ENOUGH = 8
"""Questions in a row without an answer after which a source is not asked again in the window."""


class Source(Protocol):
    """What gives values: see :mod:`hashring.alarms.sources`."""

    def values(self, rule: Any, at: float, deadline: float) -> list[float]:
        """Return the values of a rule at a time."""

    def close(self) -> None:
        """Let go of what is open."""


class Asking:
    """The sources, asked about one time. May be used by several threads.

    Args:
        sources: by the types of rules.
        at: the time, in wall-clock seconds.
        timeout: seconds for one answer.
    """

    def __init__(self, sources: Mapping[str, Source], at: float, timeout: float) -> None:
        self._sources = sources
        self._at = at
        self._timeout = timeout
        self._lock = threading.Lock()
        self._asked: dict[Hashable, Future[list[float]]] = {}
        self._silent: dict[str, int] = {}
        self.questions = 0

    def judgement(self, leaf: Leaf) -> Judgement:
        """Return what the values of a rule say now; a source that is away is said by ``away``."""
        try:
            values = self._values(leaf)
        except SourceAway as error:
            return Judgement(None, away=str(error))
        wanted = 0 if leaf.type == "prometheus" else leaf.rule.evaluation_periods
        if len(values) < max(wanted, 1):
            return insufficient(values, wanted)
        return judged(values, leaf.rule.comparison_operator, leaf.rule.threshold)

    def _values(self, leaf: Leaf) -> list[float]:
        left_out = {"comparison_operator", "threshold"}
        if leaf.type == "prometheus":
            left_out.add("evaluation_periods")  # counted in windows, here
        question = (leaf.type, leaf.rule.model_dump_json(exclude=left_out))
        with self._lock:
            answer = self._asked.get(question)
            if is_first := answer is None:
                answer = self._asked[question] = Future()
        if is_first:
            try:
                answer.set_result(self._ask(leaf))
            except BaseException as error:
                answer.set_exception(error)
        return answer.result()

    def _ask(self, leaf: Leaf) -> list[float]:
        source = self._sources.get(leaf.type)
        if source is None:
            raise SourceAway(
                f"there is no source for rules of type {leaf.type}: for prometheus, set "
                "[alarm] prometheus_url; for gnocchi, [alarm] gnocchi_url or [service_credentials]"
            )
        with self._lock:
            if self._silent.get(leaf.type, 0) >= _ENOUGH:
                raise SourceAway("its source has answered nobody in this window")
            self.questions += 1
        deadline = clock.boottime() + self._timeout
        try:
            found = source.values(leaf.rule, self._at, deadline)
        except SourceAway as error:
            with self._lock:
                if not error.answered:
                    self._silent[leaf.type] = self._silent.get(leaf.type, 0) + 1
            raise
        with self._lock:
            self._silent[leaf.type] = 0
        return found
